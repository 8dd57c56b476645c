"""How far off crossings and midpoints are, and how often intervals of crossings hold: simulated images.

python -m tests.fit.coverage_of_crossings [--runs 300] [--out FILE], --exact for the errors of interpolation
alone, from accuracies that do not scatter. Each image has a σ beyond which it is
lost, so all σ of a network share it, as the images and draws of a walk are shared. The curves are logistic
and not; all cross half-way at σ = 1, whatever the floor is. Grids begin anywhere, so that σ = 1 lies anywhere
between two levels. Networks differ by a shift of ln σ, and share the images. Prints a table in Markdown.
"""

import argparse
import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.polynomial.hermite_e import hermegauss
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit, ndtr

from wn.basics.groups import GROUPS, totals
from wn.fit.crossing import Between, by_lines, by_spline
from wn.fit.intervals import Counts, fit_repeats
from wn.fit.midpoint import Midpoint

Floats = NDArray[np.float64]
Share = Callable[[Floats], Floats]

CLEAN, CHANCE = 0.9, 0.1
CORRELATION = 0.5  # between networks, of the σ at which an image is lost
FAMILIES: dict[str, Share] = {  # the share of images that are not yet lost at x = ln σ
    "logistic, s = 1": lambda x: expit(-x),
    "logistic, s = 2": lambda x: expit(-2 * x),
    "logistic, s = 5": lambda x: expit(-5 * x),
    "normal": lambda x: ndtr(-x / 0.6),
    "slow, then fast": lambda x: np.exp(-math.log(2) * np.exp(1.5 * x)),
    "fast, then slow": lambda x: 1 - np.exp(-math.log(2) * np.exp(-1.5 * x)),
    "two falls": lambda x: (expit(-3 * (x + 0.8)) + expit(-3 * (x - 0.8))) / 2,
}
_X = np.linspace(-25.0, 25.0, 50_001)


class Setting(NamedTuple):
    """A family of curves, levels per decade of σ, networks, the standard deviation of their shifts, floor."""

    family: str
    per_decade: int = 5
    networks: int = 1
    shift: float = 0.0
    floor: float = CHANCE


class Found(NamedTuple):
    """Of each run: ln σ of the crossing, of its bounds, and of the logistic midpoint, less those in truth."""

    crossing: Floats
    low: Floats
    high: Floats
    logistic: Floats

    @property
    def held(self) -> int:
        """The number of intervals that hold the crossing in truth."""
        return int(((self.low <= 0) & (self.high >= 0)).sum())


@cache
def truth(setting: Setting) -> float:
    """ln σ at which the mean curve of all networks crosses half-way."""
    half = (CLEAN + CHANCE) / 2
    nodes, weights = hermegauss(41)
    share = FAMILIES[setting.family]

    def above(x: float) -> float:
        mean = float(weights @ share(x - setting.shift * nodes)) / float(weights.sum())
        return setting.floor + (CLEAN - setting.floor) * mean - half

    return float(brentq(above, -20, 20))


def simulated(
    setting: Setting, log_sigma: Floats, images: int, rng: np.random.Generator
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Correct answers by network and group: at all levels (R, L, G), and without noise (R, G)."""
    lost = 1 - FAMILIES[setting.family](_X)
    group, levels = np.arange(images) % GROUPS, log_sigma.size
    shared, hard = rng.standard_normal(images), rng.random(images)
    correct = np.zeros((setting.networks, levels, GROUPS), np.intp)
    clean = np.zeros((setting.networks, GROUPS), np.intp)
    for network in range(setting.networks):
        own = math.sqrt(1 - CORRELATION) * rng.standard_normal(images)
        at = np.interp(ndtr(math.sqrt(CORRELATION) * shared + own), lost, _X)
        at += setting.shift * rng.standard_normal()
        right = np.where(rng.random(images) < 0.7, hard, rng.random(images)) < CLEAN
        at[rng.random(images) < setting.floor / CLEAN] = np.inf  # right by luck
        until = np.searchsorted(log_sigma, at)  # the number of levels below
        counted = np.zeros((levels + 1, GROUPS), np.intp)
        np.add.at(counted, (until[right], group[right]), 1)
        correct[network] = counted[::-1].cumsum(axis=0)[::-1][1:]
        clean[network] = np.bincount(group[right], minlength=GROUPS)
    return correct, clean


def fitted(setting: Setting, images: int, rng: np.random.Generator) -> Midpoint:
    """The fit of a walk through simulated networks: 3.5 decades, with σ = 1 near their middle."""
    levels = round(3.5 * setting.per_decade)
    log_sigma = (np.arange(levels) - levels // 2 + rng.random()) * math.log(10) / setting.per_decade
    correct, clean = simulated(setting, log_sigma, images, rng)
    total = totals(images, levels)
    return fit_repeats(
        [Counts(np.exp(log_sigma), by_level, total) for by_level in correct],
        float(clean.sum()) / (setting.networks * images),
        CHANCE,
        "chance" if setting.floor == CHANCE else "free",
        clean_by_group=clean.sum(axis=0),
    )


def found(setting: Setting, images: int, runs: int, seed: int = 0) -> Found:
    """Simulate and fit; every run must have a midpoint."""
    rng = np.random.default_rng(seed)
    fits = [fitted(setting, images, rng) for _ in range(runs)]
    names = ("measured_crossing", "crossing_low", "crossing_high", "midpoint")
    with np.errstate(divide="ignore"):
        logs = np.log([[getattr(fit, name) for name in names] for fit in fits]) - truth(setting)
    return Found(*logs.T)


def settings() -> list[Setting]:
    """Every family on three grids, floors above chance, several networks that differ or do not."""
    every = [Setting(family, per_decade) for per_decade in (3, 5, 8) for family in FAMILIES]
    floors = [Setting(family, floor=0.3) for family in ("logistic, s = 2", "slow, then fast")]
    several = [
        Setting(family, 5, networks, shift)
        for networks, shift in ((3, 0.0), (3, 0.05), (5, 0.05), (3, 0.2))
        for family in ("logistic, s = 2", "slow, then fast")
    ]
    return every + floors + several


HEAD = (
    "| curve | σ per decade | networks | crossing: mean error, scatter | half-width | coverage | "
    "logistic fit: mean error |\n|---|---|---|---|---|---|---|\n"
)


def line(setting: Setting, result: Found) -> str:
    """A row of the table; errors are in per cent of σ."""
    curve = setting.family + (f", floor {setting.floor:g}" if setting.floor != CHANCE else "")
    shift = f", shifts {100 * setting.shift:g} %" if setting.networks > 1 else ""
    error, scatter = 100 * result.crossing.mean(), 100 * result.crossing.std()
    width = 50 * float(np.median(result.high - result.low))
    return (
        f"| {curve} | {setting.per_decade} | {setting.networks}{shift} | {error:+.1f} %, {scatter:.1f} % | "
        f"{width:.1f} % | {100 * result.held / result.crossing.size:.1f} % | "
        f"{100 * np.nanmean(result.logistic):+.1f} % |\n"
    )


EXACT_HEAD = "| curve | σ per decade | lines | spline |\n|---|---|---|---|\n"


def exact(family: str, per_decade: int) -> str:
    """A row: the largest errors of a crossing, with σ = 1 anywhere between two levels, in per cent."""
    lines, spline, between = [], [], Between(CLEAN, CHANCE)
    for start in np.linspace(0, 1, 41)[:-1]:
        x = (np.arange(-12, 13) + start) * math.log(10) / per_decade
        accuracy = CHANCE + (CLEAN - CHANCE) * FAMILIES[family](x)
        lines.append(by_lines(x, accuracy, between))
        spline.append(by_spline(x, accuracy, between))
    worst = (100 * float(np.abs(values).max()) for values in (lines, spline))
    return f"| {family} | {per_decade} | {next(worst):.2f} % | {next(worst):.2f} % |\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=300, help="simulated walks of each setting")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--out", type=Path, default=None, help="a file for the table")
    parser.add_argument("--exact", action="store_true", help="errors of interpolation alone")
    chosen = parser.parse_args()
    if chosen.exact:
        print(EXACT_HEAD + "".join(exact(family, n) for n in (3, 4, 5, 8) for family in FAMILIES), end="")
        return
    text = HEAD
    for setting in settings():
        text += line(setting, found(setting, chosen.images, chosen.runs))
        print(text.splitlines()[-1], flush=True)
    if chosen.out is not None:
        chosen.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
