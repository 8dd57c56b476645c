"""Choose fashion-mini from FashionMNIST: `python -m wn.data.make_fashion_mini SOURCE_DIR OUT_DIR`."""

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wn.basics.errors import DataError, WnError
from wn.data.dataset import Split
from wn.data.formats.idx import write_idx
from wn.data.locate import look_into
from wn.data.sets.entries import entry_of
from wn.random import Purpose, permutation

SEED = 20170828
TRAIN_PER_CLASS = 1_000
TEST_PER_CLASS = 200


def make(source: Path, out: Path) -> None:
    """Write fashion-mini's four files to `out` from the four files of FashionMNIST in `source`.

    The samples of each split are put in the order of permutation(SEED, n, epoch, SUBSET), epoch 0 for
    training and 1 for test; the first 1,000 (200) of each class are taken, in the order of the source.
    Raises DataError for missing or wrong files.
    """
    entry = entry_of("fashion-mnist")
    located = look_into(source, entry)
    if located is None or not located.complete:
        raise DataError(f"{source}: does not hold the four files of fashion-mnist")
    train, test = entry.read(entry, located.found)
    out.mkdir(parents=True, exist_ok=True)
    _write(out, "train", _chosen(train, TRAIN_PER_CLASS, epoch=0))
    _write(out, "t10k", _chosen(test, TEST_PER_CLASS, epoch=1))


def _chosen(split: Split, per_class: int, epoch: int) -> Split:
    order = permutation(SEED, len(split), epoch, Purpose.SUBSET)
    labels = split.labels[order]
    first = [np.flatnonzero(labels == label)[:per_class] for label in range(10)]
    indices: NDArray[np.int64] = np.sort(order[np.concatenate(first)]).astype(np.int64)
    return split.take(indices)


def _write(out: Path, prefix: str, split: Split) -> None:
    write_idx(out / f"{prefix}-images-idx3-ubyte.gz", split.images[:, 0])
    write_idx(out / f"{prefix}-labels-idx1-ubyte.gz", split.labels.astype(np.uint8))


def main(arguments: list[str]) -> int:
    """Run from the command line; the exit status is 0 on success."""
    if len(arguments) != 2:
        print("usage: python -m wn.data.make_fashion_mini SOURCE_DIR OUT_DIR", file=sys.stderr)
        return 2
    try:
        make(Path(arguments[0]), Path(arguments[1]))
    except WnError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
