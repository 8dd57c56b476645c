"""The section about signal and noise: powers at noisy sites, ratios at midpoints, and what they explain."""

from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np

from wn.analysis.signal import explained_share, power_at, signal_to_noise
from wn.engine import noise as noises
from wn.engine.noise_spec import NoiseSpec
from wn.study.report.found import Found, Setting, mean_line, of_phase
from wn.study.tables.fit import FittedCurve
from wn.study.tables.words import is_normalized
from wn.walking.pictures.panels import Line, lines
from wn.walking.places import INFERENCE, TRAINING
from wn.walking.report.page import Picture, Section, Table

_POWERS = """
SELECT units.curve, units.sigma, signal.power
FROM study CROSS JOIN units ON units.id = study.unit
    CROSS JOIN curves ON curves.id = units.curve
    CROSS JOIN signal ON signal.unit = units.id AND signal.site = curves.site
WHERE units.status = 'done' AND signal.power > 0 ORDER BY study.position
"""
_TEXT = (
    "Signal power is the mean of y² at the noisy site before its noise; in the picture it is that of "
    "networks trained at σ, over that of clean ones (geometric means over repeats, band from the lowest to "
    "the highest): above 1 the network sends a larger signal.",
    "The table has signal-to-noise ratios at the midpoints, of powers. The share explained is ln √(power "
    "trained / power clean) / ln (midpoint trained / midpoint clean): 1 if the midpoint grew as the root "
    "of the power, the null hypothesis for additive noise, 0 if the signal stayed as it was. The power at "
    "a midpoint is interpolated between the networks that were trained.",
)
_COLUMNS = (
    "place",
    "power, trained clean",
    "power, trained at the midpoint",
    "ratio at the midpoint, trained clean",
    "ratio at the midpoint, trained under noise",
    "share explained",
)

Powers = dict[float, list[float]]  # by σ, one for each repeat


def signal_section(found: Found) -> Section | None:
    """Signal before and after training under noise, where a study has both phases."""
    powers: dict[int, Powers] = {}
    for curve, sigma, power in found.store.rows(_POWERS):
        powers.setdefault(curve, {}).setdefault(sigma, []).append(power)
    parts: list[Picture | Table] = []
    for setting in found.settings:
        parts += _parts(setting, powers)
    return Section("Signal and noise", _TEXT, parts) if parts else None


def _parts(setting: Setting, powers: dict[int, Powers]) -> Iterator[Picture | Table]:
    clean = {place: fit for place, fit in of_phase(setting, INFERENCE) if fit.curve.id in powers}
    noisy = {place: fit for place, fit in of_phase(setting, TRAINING) if fit.curve.id in powers}
    both = [place for place in noisy if place in clean]
    if not both:
        return
    panels = {}
    for place in both:
        before = _mean([p for of_level in powers[clean[place].curve.id].values() for p in of_level])
        after = powers[noisy[place].curve.id]
        panels[place] = {"trained under noise": _relative(after, before)}
    if any(line.x.size > 1 for panel in panels.values() for line in panel.values()):
        what = "power / clean power"
        figure = lines(panels, "noise level σ in training", what, log_y=True, level=1.0)
        yield Picture(figure, f"{setting.title}: {what}.")
    rows = [_row(setting, place, clean[place], noisy[place], powers) for place in both]
    if any(value == value for row in rows for value in row[2:]):
        shown = len(_COLUMNS) if setting.curve.noise == "additive" else len(_COLUMNS) - 1
        caption = f"{setting.title}: signal and noise at the midpoints"
        yield Table(caption, _COLUMNS[:shown], [row[:shown] for row in rows])


def _relative(powers: Powers, clean: float) -> Line:
    line = mean_line({sigma: [power / clean for power in found] for sigma, found in powers.items()})
    means = np.array([_mean(powers[sigma]) / clean for sigma in sorted(powers)])
    return line._replace(y=means)


def _row(
    setting: Setting, place: str, clean: FittedCurve, noisy: FittedCurve, powers: dict[int, Powers]
) -> list[Any]:
    before = _mean([p for of_level in powers[clean.curve.id].values() for p in of_level])
    trained = {sigma: _mean(found) for sigma, found in powers[noisy.curve.id].items() if sigma > 0}
    levels = sorted(trained)
    mu_clean, mu_noisy = clean.midpoint.midpoint, noisy.midpoint.midpoint
    after = power_at(mu_noisy, levels, [trained[sigma] for sigma in levels])
    share = (
        explained_share(after, before, mu_noisy, mu_clean) if setting.curve.noise == "additive" else np.nan
    )
    return [place, before, after, _ratio(setting, before, mu_clean), _ratio(setting, after, mu_noisy), share]


def _ratio(setting: Setting, power: float, sigma: float) -> float:
    """The signal-to-noise ratio at a σ; NaN where the closed form does not hold, and at no σ."""
    spec = msgspec.convert(msgspec.json.decode(setting.curve.settings_spec)["noise"], NoiseSpec)
    moved = spec.order == "add_mul" and spec.mean_add != 0
    if is_normalized(setting.curve) or moved or not isinstance(spec.repetitions, int):
        return float("nan")
    if not (np.isfinite(power) and np.isfinite(sigma)):
        return float("nan")
    operator = noises.of_spec(spec, sigma)
    added, factor, mean = (
        float(np.ravel(value)[0]) for value in (operator.sigma_add, operator.sigma_mul, operator.mean_mul)
    )
    return float(signal_to_noise(power, added, factor, mean, spec.order, spec.repetitions))


def _mean(powers: list[float]) -> float:
    """The geometric mean of numbers > 0."""
    return float(np.exp(np.mean(np.log(powers))))
