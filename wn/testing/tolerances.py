"""The one place for tolerances: how far two results may differ, and why. Derived in docs/testing.md.

A sum of n rounded terms is off by about u·√n times the size of the terms when the rounding errors are
independent (u = eps/2, the unit roundoff). So two orders of the same computation may differ by

    tolerance = GUARD · eps · √n · scale,      relative to the largest value of the member,

n being the longest sum behind an element (the reduction length). Relative to the *largest* value, because
an element that is a small difference of large terms carries the rounding errors of the terms.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wn.basics.errors import WnError

GUARD = 8.0  # room above the expected rounding error: its spread, and a few operations besides the sum

Z_LIMIT = 6.0  # standard deviations that a sample statistic may lie off: 2e-9 by chance

# A hand-written gradient against differences in float64: half of the digits. Differences are good to 1e-10
# and better, and tell by how much they may be wrong; what is left is room for the gradient's own rounding.
GRADIENT = math.sqrt(np.finfo(np.float64).eps)  # 1.5e-8

# An error of a gradient element beyond this part of its terms is reported, or the check says that it cannot
# decide.
RESOLUTION = 5e-7

# A gradient element whose terms are hidden by the rounding of y counts as nothing if rounding hides no more
# than this part of dy, and no more than this part of what other inputs do.
NEGLIGIBLE = 1e-9


def tolerance(dtype: Any, reduction_length: int, *, scale: float = 1.0, reason: str | None = None) -> float:
    """The largest difference of two computations of the same value, relative to its size.

    GUARD · eps(dtype) · √reduction_length · scale.

    dtype: a floating dtype; reduction_length ≥ 1: terms of the longest sum behind an element; scale > 0:
    below 1 tightens, above 1 loosens, and then `reason` has to say why. Raises WnError for values out of
    range and for a loosened tolerance without a reason. Derived in docs/testing.md.
    """
    _check(dtype, reduction_length, scale, reason)
    return float(GUARD * np.finfo(dtype).eps * math.sqrt(reduction_length) * scale)


def assert_close(
    actual: Any,
    expected: Any,
    *,
    reduction_length: int,
    dtype: Any = None,
    scale: float = 1.0,
    reason: str | None = None,
    magnitude: Any = None,
    name: str = "result",
) -> None:
    """Raise AssertionError unless |actual − expected| ≤ tolerance · magnitude for every element.

    actual, expected: arrays of the same shape (nothing broadcasts), population first; dtype: default the
    coarser floating dtype of the two; magnitude: the size of the terms (a number or an array that fits
    expected), default the largest finite |expected| of the same member (of the whole array if it has one
    axis or none); reduction_length, scale and reason: see `tolerance`. NaN is close to nothing, an infinity
    only to itself. The message shows the worst element. Raises WnError for arguments out of range, for arrays
    without elements and for other than real numbers (compare real and imaginary parts one by one).
    """
    __tracebackhide__ = True  # understood by pytest
    actual, expected = _numbers(actual, name), _numbers(expected, f"the expected {name}")
    dtype = _coarser(actual.dtype, expected.dtype) if dtype is None else np.dtype(dtype)
    relative = tolerance(dtype, reduction_length, scale=scale, reason=reason)
    if actual.shape != expected.shape:
        raise AssertionError(f"{name} has shape {actual.shape}, expected is {expected.shape}")
    if actual.size == 0:
        raise WnError(f"{name} is empty, of shape {actual.shape}: there is nothing to compare")
    difference = _difference(actual, expected)
    allowed = relative * _magnitudes(expected, magnitude) + float(np.finfo(dtype).tiny)
    if np.all(difference <= allowed):  # a NaN in the difference is not ≤ anything
        return
    excess = np.where(np.isnan(difference), np.inf, difference / allowed)
    worst = np.unravel_index(int(np.argmax(excess)), excess.shape)
    origin = f"{GUARD:g} · eps({dtype}) · √{reduction_length} · scale {scale:g}"
    raise AssertionError(
        f"{name} is wrong in {int(np.sum(~(difference <= allowed)))} of {actual.size} elements; the worst is "
        f"{name}[{', '.join(str(int(i)) for i in worst)}] = {float(actual[worst])!r}, expected "
        f"{float(expected[worst])!r}: they differ by {float(difference[worst]):.3g}, allowed is "
        f"{float(allowed[worst]):.3g} (tolerance {relative:.3g} = {origin}, times the size of the values"
        f"{'; loosened because ' + reason if reason else ''})"
    )


def _numbers(values: Any, name: str) -> NDArray[Any]:
    """Return an array of real numbers; anything else cannot be compared so."""
    array = np.asarray(values)
    if array.dtype.kind == "c":
        raise WnError(f"{name} is {array.dtype}: compare its real and its imaginary parts one by one")
    if array.dtype.kind not in "biuf":
        raise WnError(f"{name} is {array.dtype}: only real numbers can be compared")
    return array


def _check(dtype: Any, reduction_length: int, scale: float, reason: str | None) -> None:
    if not np.issubdtype(np.dtype(dtype), np.floating):
        raise WnError(f"a tolerance is for floating dtypes, not {np.dtype(dtype)}")
    if reduction_length != int(reduction_length) or reduction_length < 1:
        raise WnError(f"reduction_length is {reduction_length!r}: it must be an integer of at least 1")
    if not 0 < scale < math.inf:
        raise WnError(f"scale is {scale!r}: it must be positive and finite")
    if scale > 1 and not (reason and reason.strip()):
        raise WnError(f"a tolerance loosened by {scale:g} needs its reason: pass reason='…'")


def _coarser(first: np.dtype[Any], second: np.dtype[Any]) -> np.dtype[Any]:
    floating = [dtype for dtype in (first, second) if np.issubdtype(dtype, np.floating)]
    if not floating:
        return np.dtype(np.float64)
    return max(floating, key=lambda dtype: float(np.finfo(dtype).eps))


def _difference(actual: NDArray[Any], expected: NDArray[Any]) -> NDArray[np.float64]:
    """Return |actual − expected| in float64, 0 where both are the same infinity."""
    a, e = actual.astype(np.float64), expected.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        return np.where(a == e, 0.0, np.abs(a - e))


def _magnitudes(expected: NDArray[Any], magnitude: Any) -> NDArray[np.float64]:
    """Return the size of the terms of each element, in the shape of `expected`."""
    if magnitude is not None:
        given = _numbers(magnitude, "magnitude").astype(np.float64)
        if not (np.all(given >= 0) and np.all(given < np.inf)):
            raise WnError(f"magnitude is {magnitude!r}: it must be finite and at least 0")
        return np.broadcast_to(given, expected.shape)
    return largest_of_member(expected)


def largest_of_member(array: NDArray[Any]) -> NDArray[np.float64]:
    """Return the largest finite |value| of the same member, for each element of an array (P, …).

    An array with one axis or none counts as a single member.
    """
    sizes = np.abs(array.astype(np.float64))
    sizes = np.where(np.isfinite(sizes), sizes, 0.0)
    axes = tuple(range(1, sizes.ndim)) if sizes.ndim > 1 else None
    largest = np.max(sizes, axis=axes, keepdims=True, initial=0.0)
    return np.broadcast_to(largest, array.shape)
