"""The axis of σ in pictures: linear or log scale, as the grid is spaced, and the labels of its ticks."""

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FixedFormatter, FixedLocator, NullFormatter
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def sigma_scale(axes: Axes, sigma: Floats, minor: bool = True) -> None:
    """Scale the x axis as the grid is spaced: linear or log; where a log grid has a 0, it stands apart.

    Without `minor` ticks in between pictures of many axes take half the time.
    """
    if not _spans_decades(sigma):
        pad = 0.04 * (sigma[-1] - sigma[0]) or 0.5 * (sigma[-1] or 1.0)
        axes.set_xlim(sigma[0] - pad, sigma[-1] + pad)
        if sigma.size == 1:
            axes.set_xticks(sigma, numbers(sigma.tolist()))
        return
    low, high = float(sigma[sigma > 0][0]), float(sigma[-1])
    decades = math.log10(high / low)
    pad = 10 ** (0.04 * decades)
    if sigma[0] > 0:
        axes.set_xscale("log")
        axes.set_xlim(low / pad, high * pad)
        log_ticks(axes.xaxis, *axes.get_xlim(), minor=minor)
        return
    axes.set_xscale("symlog", linthresh=low, linscale=max(0.5, 0.12 * decades))
    axes.set_xlim(-0.3 * low, high * pad)
    log_ticks(axes.xaxis, low / 1.001, high * pad, first=(0.0,), minor=minor)


def _spans_decades(sigma: Floats) -> bool:
    """Whether σ wants a log scale: a factor of 10 or more, and not evenly spaced."""
    positive = sigma[sigma > 0]
    if positive.size < 2 or positive[-1] / positive[0] < 10:
        return False
    steps = np.diff(sigma)
    return sigma.size < 3 or bool(np.ptp(steps) > 1e-6 * steps.max())


def log_ticks(axis: Axis, low: float, high: float, first: tuple[float, ...] = (), minor: bool = True) -> None:
    """Label at most about 8 values: 1, 2 and 5 of each decade, decades, or every few decades."""
    powers = [10.0**k for k in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)]
    inside = sum(low <= power <= high for power in powers)
    step = max(1, math.ceil(inside / 8))
    labelled = (1, 2, 5) if inside < 3 else (1,)
    major = [digit * power for power in powers for digit in labelled if round(math.log10(power)) % step == 0]
    between = [digit * power for power in powers for digit in (range(1, 10) if step == 1 else (1,))]
    ticks = [*first, *(value for value in major if low <= value <= high)]
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_major_formatter(FixedFormatter(numbers(ticks)))
    axis.set_minor_locator(FixedLocator([value for value in between if minor and low <= value <= high]))
    axis.set_minor_formatter(NullFormatter())


def numbers(values: list[float]) -> list[str]:
    """Return numbers in few letters and alike: 0.01 and 25, or 10⁻², 2.5·10¹ and 10⁶ if any is far from 1."""
    if all(value == 0 or 1e-3 <= value < 1e5 for value in values):
        return [f"{value:.6g}" for value in values]
    parts = [f"{value:.3e}".split("e") for value in values]
    texts = [f"{float(digits):g}·10{str(int(power)).translate(_SUPERSCRIPT)}" for digits, power in parts]
    return [text.removeprefix("1·") if value else "0" for text, value in zip(texts, values, strict=True)]
