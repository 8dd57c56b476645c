"""Checks of a data set's arrays, which come from users' own code as well as from files."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from wn.basics.errors import WnError
from wn.data.recipes import Preprocessing

_IMAGE_TYPES = (np.dtype(np.uint8), np.dtype(np.float32))
_FEW = (1, 3, 4)  # channels of pictures: grey, colours, colours with transparency
_FAINT = 0.1  # of the scale: pixels that are all below it were scaled before, or have another range


def checked_images(images: Any, what: str = "images") -> NDArray[Any]:
    """Images (N, C, H, W) or vectors (N, F), uint8 or float32, contiguous, writable, in native byte order.

    Only the place in memory changes, never a value. Raises WnError for all else.
    """
    array = _array(what, images)
    shape = array.shape
    if array.ndim == 3:
        raise WnError(f"{what} have shape {shape}: (N, C, H, W) is needed; for grey images: {what}[:, None]")
    if array.ndim not in (2, 4):
        raise WnError(
            f"{what} have shape {shape}: (N, C, H, W) is needed: samples, channels, height, width; or (N, F) "
            "for vectors"
        )
    if 0 in shape:
        raise WnError(f"{what} have shape {shape}: there must be at least one image, of at least one pixel")
    if array.ndim == 4 and _channels_last(shape):
        raise WnError(
            f"{what} have shape {shape}, channels last: (N, C, H, W) is needed: {what}.transpose(0, 3, 1, 2)"
        )
    native = array.dtype.newbyteorder("=")
    if native not in _IMAGE_TYPES:
        hint = "uint8 for pixels of 0 … 255, float32 for others"
        raise WnError(f"{what} are {array.dtype}: allowed are uint8 and float32; convert them: {hint}")
    array = np.require(array, native, ["C", "W"])  # kernels are compiled for arrays that may be written
    if native == np.float32 and not np.isfinite(array).all():
        sample = int(np.flatnonzero(~np.isfinite(array).reshape(len(array), -1).all(axis=1))[0])
        raise WnError(f"{what} have NaN or infinite values, first in sample {sample}; all must be finite")
    return array


def checked_labels(labels: Any, images: int, what: str = "labels") -> NDArray[np.int64]:
    """Labels (N,) of any integer type as int64, one per image and none negative; or WnError."""
    array = _array(what, labels)
    if array.ndim == 2 and array.shape[1] > 1:
        raise WnError(
            f"{what} have shape {array.shape}: (N,) is needed, a class number per image; "
            f"for one-hot labels: {what}.argmax(axis=1)"
        )
    if array.ndim == 2:
        raise WnError(f"{what} have shape {array.shape}: (N,) is needed: {what}[:, 0]")
    if array.ndim != 1:
        raise WnError(f"{what} have shape {array.shape}: (N,) is needed: a class number per image")
    if array.dtype.kind not in "iu":
        raise WnError(
            f"{what} are {array.dtype}: integers are needed, class numbers from 0 on; "
            f"whole numbers of another type: {what}.astype(np.int64)"
        )
    if len(array) != images:
        raise WnError(f"there are {images} images, but {len(array)} labels")
    if array.min() < 0 or array.max() > np.iinfo(np.int64).max:
        sample = int(np.flatnonzero((array < 0) | (array > np.iinfo(np.int64).max))[0])
        raise WnError(f"label {array[sample]} of sample {sample} is out of range: class numbers start at 0")
    return np.require(array, np.int64, ["C", "W"])


def check_classes(what: str, labels: NDArray[np.int64], classes: int) -> None:
    """Raise WnError unless all labels are in 0 … classes − 1."""
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if wrong.size:
        hint = f"; for labels from 1 to {classes}: labels - 1" if int(labels.min()) == 1 else ""
        raise WnError(
            f"{what}: label {labels[wrong[0]]} of sample {wrong[0]} is out of range; "
            f"allowed are 0 to {classes - 1}{hint}"
        )


def check_scale(what: str, images: NDArray[Any], preprocessing: Preprocessing) -> None:
    """Raise WnError if the scale is not that of the images: divided by it, they would be all but constant.

    Images that are constant, or single numbers, are no pictures and may be anything.
    """
    if not len(images):
        return
    low, high = float(images.min()), float(images.max())
    if images[0].size > 1 and low != high and max(abs(low), abs(high)) < _FAINT * preprocessing.scale:
        raise WnError(
            f"{what}: pixels are from {low:g} to {high:g}, and the recipe divides them by "
            f"{preprocessing.scale:g}: use Preprocessing(scale=…) with the range that they have, 1.0 if they "
            "are scaled already"
        )


def check_channels(what: str, channels: int, preprocessing: Preprocessing) -> None:
    """Raise WnError unless mean and std are one for all channels, or one for each."""
    if len(preprocessing.mean) not in (1, channels):
        allowed = " or ".join(str(count) for count in sorted({1, channels}))
        raise WnError(
            f"{what}: the recipe has means of {len(preprocessing.mean)} channels, images have {channels}: "
            f"allowed are {allowed}"
        )


def check_samples(samples: Any, count: int) -> None:
    """Raise WnError unless sample ids in the host's memory are integers (B,) in 0 … count − 1."""
    if not isinstance(samples, np.ndarray):
        return  # on a device, which would have to be waited for; those come from a permutation
    if samples.ndim != 1 or samples.dtype.kind not in "iu":
        raise WnError(f"sample ids are {samples.dtype} of shape {samples.shape}: integers (B,) are needed")
    if samples.size and not (samples.min() >= 0 and samples.max() < count):
        raise WnError(f"sample ids are from {samples.min()} to {samples.max()}: allowed are 0 to {count - 1}")


def _array(what: str, values: Any) -> NDArray[Any]:
    """`values`, which must be a NumPy array; a masked one would lose its mask silently."""
    if not isinstance(values, np.ndarray):
        raise WnError(
            f"{what} are of type {type(values).__name__}: a NumPy array is needed: np.asarray({what})"
        )
    if isinstance(values, np.ma.MaskedArray):
        raise WnError(f"{what} are a masked array: fill it first: {what}.filled(…)")
    return values


def _channels_last(shape: tuple[int, ...]) -> bool:
    """Whether a shape is (N, H, W, C) beyond doubt: few channels at the end, and a square or colours."""
    _, first, second, last = shape
    return last in _FEW and min(first, second) > max(_FEW) and (first == second or last > 1)
