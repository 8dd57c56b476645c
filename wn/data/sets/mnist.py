"""MNIST and its kin: four IDX files, images and labels of the training and the test split."""

from pathlib import Path

from wn.basics.errors import DataError
from wn.data.dataset import Split, make_split
from wn.data.formats.idx import read_idx
from wn.data.sets.entry import DataFile, Entry

_STEMS = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")


def read(entry: Entry, paths: tuple[Path, ...]) -> tuple[Split, Split]:
    """Training and test split from the four IDX files, in the order of the layout; raises DataError."""
    return _read_pair(entry, paths[0], paths[1]), _read_pair(entry, paths[2], paths[3])


def layout(*checksums: tuple[str, str]) -> tuple[DataFile, ...]:
    """The four files under the names in use for them, with (md5 of the .gz, sha256 of the content) each."""
    return tuple(
        DataFile(_names(stem), md5, sha256) for stem, (md5, sha256) in zip(_STEMS, checksums, strict=True)
    )


def _read_pair(entry: Entry, images: Path, labels: Path) -> Split:
    x = read_idx(images, dimensions=3)[:, None]  # (N, 1, H, W)
    if x.shape[1:] != entry.image_shape:
        height, width = entry.image_shape[1:]
        raise DataError(
            f"{images}: images of {x.shape[2]} × {x.shape[3]} pixels; {entry.name} has {height} × {width}"
        )
    return make_split(x, read_idx(labels, dimensions=1), len(entry.classes), images, labels)


def _names(stem: str) -> tuple[str, ...]:
    dotted = stem.replace("-idx", ".idx")
    return (f"{stem}-ubyte.gz", f"{stem}-ubyte", f"{dotted}-ubyte", f"{dotted}-ubyte.gz")
