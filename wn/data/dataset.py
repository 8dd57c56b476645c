"""A data set in memory: images as stored, labels, and batches of it as network inputs."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from wn.basics.errors import DataError, WnError
from wn.basics.numbers import is_integer
from wn.data.arrays import (
    check_channels,
    check_classes,
    check_samples,
    check_scale,
    checked_images,
    checked_labels,
)
from wn.data.recipes import Preprocessing, Recipe


class Draw(NamedTuple):
    """The key of an augmentation's draws, besides the sample id: the network's seed and the epoch."""

    seed: int
    epoch: int


@dataclass(frozen=True, eq=False)
class Split:
    """One part of a data set: images (N, C, H, W) as stored (uint8, or float32 features), labels int64 (N,).

    Vectors are (N, F): a network takes them as (F,).
    The place of a sample in its split is its sample id, to which all random draws belong.
    Labels of other integer types become int64, other places in memory (strides, byte order) contiguous ones;
    no value changes. Raises WnError for all else: other shapes and types, NaN and infinities, negative
    labels, counts that differ, no samples.
    """

    images: NDArray[Any]
    labels: NDArray[np.int64]

    def __post_init__(self) -> None:
        images = checked_images(self.images)
        object.__setattr__(self, "images", images)
        object.__setattr__(self, "labels", checked_labels(self.labels, len(images)))

    def __len__(self) -> int:
        return len(self.labels)

    def on(self, be: Any) -> "Split":
        """The same split in the memory of a `wn.engine.backends.Backend`, where it stays for others."""
        split = object.__new__(Split)  # checked already, and on a device no more to be looked at
        object.__setattr__(split, "images", be.resident(self.images))
        object.__setattr__(split, "labels", be.resident(self.labels))
        return split

    def none(self) -> "Split":
        """A split of no samples, of images like these: what a data set without training images has."""
        split = object.__new__(Split)
        object.__setattr__(split, "images", self.images[:0])
        object.__setattr__(split, "labels", self.labels[:0])
        return split

    def take(self, indices: NDArray[np.int64]) -> "Split":
        """The samples at `indices`, in that order; they are numbered anew."""
        return Split(self.images[indices], self.labels[indices])


LARGEST, EQUAL = "largest", "equal"  # what chance is, see `Dataset.chance`


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Training and test images with their class names, the study's recipe, and where the files came from.

    `train` may have no samples (`Split.none`) where nothing is trained. `guess`: which guess `chance` is of.
    Raises WnError unless there are at least two classes, all labels are in 0 … classes − 1, and the recipe
    fits the images: mean and std for one channel or for all, and pixels above a tenth of its scale.
    """

    name: str
    classes: tuple[str, ...]
    train: Split
    test: Split
    recipe: Recipe
    source: str = ""
    guess: str = LARGEST

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", _checked_classes(self.name, self.classes))
        for part, split in (("training", self.train), ("test", self.test)):
            if not isinstance(split, Split):
                raise WnError(f"{self.name}: {part} is {type(split).__name__}: a Split is needed")
        if not isinstance(self.recipe, Recipe):
            raise WnError(f"{self.name}: recipe is {type(self.recipe).__name__}: a Recipe is needed")
        if self.guess not in (LARGEST, EQUAL):
            raise WnError(f"{self.name}: guess is {self.guess!r}: allowed are {LARGEST}, {EQUAL}")
        if not len(self.test):
            raise WnError(f"{self.name}: there are no test images: accuracy is counted on them")
        for split in (self.train, self.test):
            check_channels(self.name, split.images.shape[1], self.recipe.preprocessing)
        if len(self.image_shape) == 1 and self.recipe.preprocessing.augments:
            raise WnError(f"{self.name}: vectors are neither cropped nor flipped: leave both out")
        for part, split in (("training", self.train), ("test", self.test)):
            check_classes(f"{self.name}: {part}", split.labels, len(self.classes))
            check_scale(f"{self.name}: {part}", split.images, self.recipe.preprocessing)

    def check_alike(self) -> None:
        """Raise WnError unless training and test images have one shape and type, as every network needs."""
        train, test = self.train.images, self.test.images
        if (train.shape[1:], train.dtype) != (test.shape[1:], test.dtype):
            raise WnError(
                f"{self.name}: training images are {train.dtype} {train.shape[1:]}, test images "
                f"{test.dtype} {test.shape[1:]}: they must have one shape and type"
            )

    def check_trainable(self) -> None:
        """Raise WnError unless there are training images."""
        if not len(self.train):
            raise WnError(
                f"{self.name} has no training images: they are needed to train a network (x_train, y_train); "
                "with a network that is trained already, walk at inference"
            )

    @property
    def image_shape(self) -> tuple[int, ...]:
        """(C, H, W) of one image, (F,) of a vector."""
        return tuple(int(size) for size in self.train.images.shape[1:])

    @property
    def chance(self) -> float:
        """The accuracy on the test images of the best guess that does not look at them.

        max_k π_k, the share of the largest class, at least 1/K, and 1/K where all K classes are equal. Of the
        data sets of the catalogue it is 1/K, as published. Derived in docs/midpoint.md.
        """
        if self.guess == EQUAL:
            return 1 / len(self.classes)
        return int(np.bincount(self.test.labels).max()) / len(self.test)

    @property
    def even(self) -> bool:
        """Whether chance is 1/K: then it is what any constant or random answer gets."""
        return self.chance == 1 / len(self.classes)

    def __repr__(self) -> str:
        shape = " × ".join(map(str, self.image_shape))
        counts = f"{len(self.train)} training and {len(self.test)} test samples"
        how = self.recipe.preprocessing
        return (
            f"Dataset({self.name}: {len(self.classes)} classes, chance {self.chance:.4g}, {counts} "
            f"of {shape} {self.test.images.dtype}, scale {how.scale:g}, mean {_numbers(how.mean)}, "
            f"std {_numbers(how.std)})"
        )

    def limited(self, train_samples: int | None = None, test_samples: int | None = None) -> "Dataset":
        """The data set with fewer samples, as many of each class as possible; None keeps a split whole.

        Samples are taken class by class in turn (the first of each class, then the second of each class, …)
        until n are chosen, and stay in file order. So the choice is deterministic, class counts differ by at
        most one until a class is used up, and a smaller choice is always part of a larger one.
        Raises WnError where n is not an integer in 1 … the number of samples.
        """
        return replace(
            self,
            train=_limited(self.train, train_samples, f"{self.name}: training samples"),
            test=_limited(self.test, test_samples, f"{self.name}: test samples"),
        )


def make_split(
    images: NDArray[Any], labels: NDArray[Any], classes: int, images_name: object, labels_name: object
) -> Split:
    """Join images (N, C, H, W) and labels (N,) into a split, after checking that they fit.

    `images_name` and `labels_name` say in errors which files are meant.
    Raises DataError where the counts disagree or a label is not in 0 … classes − 1.
    """
    if len(images) != len(labels):
        raise DataError(f"{images_name} has {len(images)} images, but {labels_name} has {len(labels)} labels")
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if wrong.size:
        first = int(wrong[0])
        raise DataError(
            f"{labels_name}: label {labels[first]} of sample {first} (images: {images_name}) "
            f"is out of range; allowed are 0 to {classes - 1}"
        )
    return Split(images, labels.astype(np.int64))


def _checked_classes(name: str, classes: Any) -> tuple[str, ...]:
    """The names of the classes as a tuple; WnError unless they are at least two different names."""
    allowed = "a tuple of at least two different names is needed"
    if isinstance(classes, str) or not isinstance(classes, Sequence):
        raise WnError(f"{name}: classes are {classes!r}: {allowed}")
    if not all(isinstance(label, str) for label in classes) or len(classes) < 2:
        raise WnError(f"{name}: classes are {tuple(classes)!r}: {allowed}")
    if len(set(classes)) < len(classes):
        raise WnError(f"{name}: a class name comes twice: {allowed}")
    return tuple(classes)


def checksum(dataset: Dataset) -> str:
    """SHA-256 over the types, shapes and contents of all images and labels."""
    digest = hashlib.sha256()
    for split in (dataset.train, dataset.test):
        for array in (split.images, split.labels):
            digest.update(f"{array.dtype.str}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def identity(dataset: Dataset) -> str:
    """SHA-256 over what numbers depend on: `checksum`, the number of classes, chance and recipe."""
    content = (checksum(dataset), len(dataset.classes), dataset.guess, repr(dataset.recipe))
    return hashlib.sha256("\n".join(map(str, content)).encode()).hexdigest()


def batch(
    be: Any,
    split: Split,
    indices: NDArray[np.integer[Any]],
    preprocessing: Preprocessing,
    dtype: DTypeLike = np.float32,
    draw: Draw | None = None,
) -> Any:
    """The samples at `indices` (B,) as a network input: (1, C, H, W, B), the leading 1 shared by all members.

    Vectors are (1, F, B), each feature a channel.

    Formula: (x / scale − mean) / std with mean and std per channel, each step rounded to `dtype`.
    With `draw` (training) the images are first cropped and flipped as the preprocessing asks; without
    (evaluation) they never are. `be` is the backend; `split` must live in the memory of its arrays:
    `split.on(be)`. Raises WnError for sample ids that the split does not have.
    """
    check_samples(indices, len(split))
    samples = be.asarray(indices)
    standard = (preprocessing.scale, preprocessing.mean, preprocessing.std, dtype)
    if split.images.ndim == 2:
        count, features = split.images.shape
        x = be.gather(split.images.reshape(count, features, 1, 1), samples, *standard)  # (1, F, 1, 1, B)
        return x.reshape(1, features, x.shape[-1])
    if draw is None or not preprocessing.augments:
        return be.gather(split.images, samples, *standard)
    crops = (preprocessing.crop_padding, preprocessing.flip, *draw)
    return be.gather_augmented(split.images, samples, *standard, *crops)


def _numbers(values: Sequence[float]) -> str:
    """A number for all channels, or those of the first few."""
    shown = ", ".join(f"{value:g}" for value in values[:3])
    return shown if len(values) == 1 else f"({shown}{', …' if len(values) > 3 else ''})"


def _limited(split: Split, count: int | None, what: str) -> Split:
    if count is None:
        return split
    if not len(split):
        raise WnError(f"{what}: {count} of none: there are none")
    if not is_integer(count) or not 1 <= count <= len(split):
        raise WnError(f"{what}: {count} is not in 1 to {len(split)}")
    order = np.lexsort((split.labels, _rank_within_class(split.labels)))  # by rank first, then by class
    return split.take(np.sort(order[:count]))


def _rank_within_class(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """The rank of each sample within its class, from 0, in the order of the data set."""
    by_class = np.argsort(labels, kind="stable")
    counts = np.bincount(labels)
    starts = np.repeat(np.cumsum(counts) - counts, counts)
    rank = np.empty(len(labels), dtype=np.int64)
    rank[by_class] = np.arange(len(labels)) - starts
    return rank
