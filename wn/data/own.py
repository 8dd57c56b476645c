"""Data of the user's own: arrays, or a .npz file with arrays of the same names, to a checked `Dataset`.

The rules are in docs/own-data.md.
"""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wn.basics.errors import DataError, WnError
from wn.basics.numbers import is_integer, is_number
from wn.data.arrays import checked_images, checked_labels
from wn.data.dataset import LARGEST, Dataset, Split
from wn.data.formats.npz import read_npz
from wn.data.recipes import Preprocessing, Recipe
from wn.data.sets.entries import ENTRIES
from wn.files.whole import StrPath, as_path

log = logging.getLogger("wn")

_GIVE = "give classes, the number or the names of all there are, at least 2"
_MOST_CLASSES = 65_535
LONGEST = 32  # characters of a name: the width of that column in tables
EPOCHS, BATCH_SIZE, LR = 20, 128, 1e-3  # unless the user says otherwise: docs/own-data.md
_PIXEL = 255.0
_FLOATS = (np.dtype(np.float16), np.dtype(np.float64))
_TOO_LARGE = 16.0  # float images beyond it were hardly meant to go into a network as they are
ARRAYS = ("x_train", "y_train", "x_test", "y_test")
NUMBERS = ("epochs", "batch_size", "lr", "crop_padding", "flip", "scale")
KEYS = (*ARRAYS, "mean", "std", "classes", "name", *NUMBERS)  # of `dataset`, and of .npz files

PerChannel = float | Sequence[float] | NDArray[Any]


def dataset(
    x_train: NDArray[Any] | None = None,
    y_train: NDArray[Any] | None = None,
    x_test: NDArray[Any] | None = None,
    y_test: NDArray[Any] | None = None,
    *,
    mean: PerChannel = 0.0,
    std: PerChannel = 1.0,
    scale: float | None = None,
    classes: int | Sequence[str] | None = None,
    name: str = "data",
    epochs: int = EPOCHS,
    batch_size: int = BATCH_SIZE,
    lr: float = LR,
    crop_padding: int = 0,
    flip: bool = False,
) -> Dataset:
    """Data of your own for `wn.walk(data=…)` and its like, checked.

    x: images (N, C, H, W) or (N, H, W), or vectors (N, F), which networks of input shape (F,) take; uint8,
    float32, or float16 and float64, which are rounded to float32. y: integer labels (N,), 0 … K − 1. A
    network sees (x/scale − mean)/std: `scale` is 255 for uint8 and 1 for floats unless it is given; mean and
    std are a number, or one for each channel (of vectors: each feature), in units of x/scale.

    `classes`: their names, or their number K. Without it K is the largest label + 1, and each class must have
    a sample. The training part can be left out: a walk at inference needs the test part alone.
    epochs, batch_size and lr (Adam's learning rate) are the defaults of trainings on these data; crop_padding
    and flip augment training images. `name`: at most 32 characters, in tables and records.

    Raises WnError, which names the array, for shapes, types and labels that do not fit, NaN and infinities.
    """
    _check_name(name)
    if (x_train is None) != (y_train is None):
        raise WnError("x_train and y_train go together: give both, or none of them")
    if x_test is None or y_test is None:
        raise WnError(
            "x_test and y_test are needed: accuracy is counted on them; x_train and y_train are needed only "
            "where networks are trained"
        )
    test = _split("test", x_test, y_test)
    train = test.none() if x_train is None else _split("train", x_train, y_train)
    if train.images.dtype != test.images.dtype:
        raise WnError("x_train and x_test are of two types, uint8 and floats: convert one of them")
    means, stds = _per_channel("mean", mean), _per_channel("std", std)
    preprocessing = Preprocessing(
        scale=_scale(scale, test),
        mean=means * len(stds) if len(means) == 1 else means,
        std=stds * len(means) if len(stds) == 1 else stds,
        crop_padding=crop_padding,
        flip=flip,
    )
    found = Dataset(
        name,
        _class_names(classes, train, test),
        train,
        test,
        _recipe(epochs, batch_size, lr, preprocessing),
        guess=LARGEST,
    )
    if len(train):
        found.check_alike()
    _say_large(found, scale)
    return found


def load_dataset(path: StrPath) -> Dataset:
    """The data set of a .npz file: `wn.dataset` of its arrays; its name is the file's unless it has one.

    Raises DataError, which names the file, for a file that is none, and for what `wn.dataset` refuses.
    """
    place = as_path(path)
    arrays = read_npz(place)
    unknown = sorted(set(arrays) - set(KEYS))
    if unknown:
        raise DataError(f"{place}: unknown array {unknown[0]!r}: allowed are {', '.join(KEYS)}")
    try:
        given = {key: _from_file(key, array) for key, array in arrays.items()}
        return dataset(**({"name": _stem(place.stem)} | given))
    except WnError as error:
        raise DataError(f"{place}: {error}") from None


def save_dataset(data: Dataset, path: StrPath) -> None:
    """Write a data set as a .npz file that `load_dataset` reads, whole or not at all."""
    from wn.files.whole import whole_file

    recipe, how = data.recipe, data.recipe.preprocessing
    arrays: dict[str, Any] = {"x_test": data.test.images, "y_test": data.test.labels}
    if len(data.train):
        arrays |= {"x_train": data.train.images, "y_train": data.train.labels}
    arrays |= {"mean": how.mean, "std": how.std, "scale": how.scale}
    arrays |= {"classes": data.classes, "name": data.name}
    arrays |= {"epochs": recipe.epochs_mlp, "batch_size": recipe.batch_size, "lr": recipe.lr}
    arrays |= {"crop_padding": how.crop_padding, "flip": how.flip}
    with whole_file(as_path(path)) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)


def _split(part: str, x: Any, y: Any) -> Split:
    """A checked part; errors name the arrays as the user has them."""
    images = checked_images(_images(f"x_{part}", x), f"x_{part}")
    return Split(images, checked_labels(y, len(images), f"y_{part}"))


def _images(what: str, x: Any) -> Any:
    """Images as `Split` takes them: grey ones with their channel, floats as float32."""
    if not isinstance(x, np.ndarray) or isinstance(x, np.ma.MaskedArray):
        return x  # `Split` says what to do
    if x.ndim == 3:
        x = x[:, None]
    native = x.dtype.newbyteorder("=")
    if native.kind in "iu" and native != np.uint8:
        low, high = (int(x.min()), int(x.max())) if x.size else (0, 0)
        to = "np.uint8) for pixels" if low >= 0 and high <= _PIXEL else "np.float32)"
        raise WnError(f"{what} is {x.dtype}, from {low} to {high}: convert it: {what}.astype({to}")
    if native not in _FLOATS:
        return x
    with np.errstate(over="ignore"):
        rounded = x.astype(np.float32)
    if not np.array_equal(np.isfinite(x), np.isfinite(rounded)):
        raise WnError(f"{what} is {x.dtype} with values beyond float32's range: scale it first")
    return rounded


def _scale(asked: Any, split: Split) -> float:
    """The divisor of images: as given, or 255 for bytes and 1 for floats."""
    if asked is not None:
        if not is_number(asked):
            raise WnError(f"scale is {asked!r}: it must be a number above 0")
        return float(asked)
    return _PIXEL if split.images.dtype == np.uint8 else 1.0


def _say_large(found: Dataset, asked: float | None) -> None:
    """Say that floats of a wide range are taken as they are, which is not always meant."""
    x, how = found.test.images, found.recipe.preprocessing
    if asked is None and x.dtype != np.uint8 and how == Preprocessing(scale=1.0):
        low, high = float(x.min()), float(x.max())
        if max(abs(low), abs(high)) > _TOO_LARGE:
            log.warning(
                "%s: float images from %g to %g go into networks as they are; scale=… would divide them",
                found.name,
                low,
                high,
            )


def _per_channel(what: str, values: Any) -> tuple[float, ...]:
    if is_number(values):
        return (float(values),)
    if isinstance(values, np.ndarray):
        values = values.ravel().tolist() if sum(size > 1 for size in values.shape) <= 1 else values
    if not isinstance(values, list | tuple) or not values or not all(map(is_number, values)):
        raise WnError(f"{what} must be a number, or one for each channel")
    return tuple(map(float, values))


def _class_names(classes: Any, train: Split, test: Split) -> tuple[str, ...]:
    """The names of the classes: given, or their numbers."""
    labels = np.concatenate([train.labels, test.labels])
    if classes is None:
        count = int(labels.max()) + 1
        if count > len(labels):
            raise WnError(f"the largest label is {count - 1}, of {len(labels)} samples: {_GIVE}")
        missing = np.flatnonzero(np.bincount(labels) == 0)
        if missing.size:
            hint = "; for labels from 1 on: y - 1" if missing[0] == 0 else ""
            raise WnError(f"class {missing[0]} of 0 to {count - 1} has no sample: {_GIVE}{hint}")
        if count < 2:
            raise WnError(f"all labels are 0: {_GIVE}")
        return tuple(map(str, range(count)))
    if is_integer(classes):
        if not 2 <= classes <= _MOST_CLASSES:
            raise WnError(f"classes is {classes}: it must be in 2 to {_MOST_CLASSES}")
        return tuple(map(str, range(int(classes))))
    if isinstance(classes, np.ndarray):
        classes = classes.tolist()
    if isinstance(classes, str) or not isinstance(classes, list | tuple):
        raise WnError(f"classes is {classes!r}: it must be the number of classes, or a list of their names")
    return tuple(classes)


def _recipe(epochs: Any, batch_size: Any, lr: Any, preprocessing: Preprocessing) -> Recipe:
    for what, value in (("epochs", epochs), ("batch_size", batch_size)):
        if not is_integer(value) or value < 1:
            raise WnError(f"{what} is {value!r}: it must be a whole number of 1 or more")
    if not is_number(lr) or not 0 < lr < np.inf:
        raise WnError(f"lr is {lr!r}: it must be above 0 and finite")
    return Recipe(int(epochs), int(epochs), int(batch_size), float(lr), preprocessing)


def _check_name(name: Any) -> None:
    fits = isinstance(name, str) and 1 <= len(name) <= LONGEST and name.isprintable() and name == name.strip()
    if not fits or "," in name:
        raise WnError(f"name is {name!r}: it must be a text of 1 to {LONGEST} characters, without commas")
    if name in ENTRIES:
        raise WnError(f"name is {name!r}, a data set of the catalogue: choose another")


def _stem(stem: str) -> str:
    """The name of a file as that of its data."""
    letters = "".join(letter for letter in stem if letter.isprintable() and letter != ",")
    fits = letters.strip()[:LONGEST].strip()
    return f"my-{fits}"[:LONGEST] if fits in ENTRIES else fits or "data"


def _from_file(key: str, array: NDArray[Any]) -> Any:
    """A keyword of `dataset` from its array in a file: texts and single numbers are arrays there."""
    if key in ARRAYS or array.ndim:
        return array
    return array.item()
