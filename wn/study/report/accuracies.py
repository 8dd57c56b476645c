"""Sections about accuracies under noise: midpoints, curves, single σ, and maps over amplitude and ratio."""

from collections.abc import Iterator

import numpy as np

from wn.study.report.found import Found, Setting, by_network, is_mixed
from wn.walking.pictures.panels import Line, by_category, heat_maps, lines
from wn.walking.pictures.plots import BATCH_NORM
from wn.walking.pictures.scales import numbers
from wn.walking.report.curves import (
    CROSSINGS,
    HOW_TO_READ,
    INTERVALS,
    PHASES,
    Curve,
    by_place,
    curves_picture,
    joined,
    line_of,
    midpoint_table,
    points_section,
)
from wn.walking.report.numbers import apart
from wn.walking.report.page import Picture, Section, Table

_MIDPOINTS = (
    "The midpoint is the σ at which accuracy has fallen half-way from clean to chance: the higher, the more "
    "noise a place tolerates. Bars are 95 % intervals. Places whose midpoint is not reached have no point; "
    "the table says why. The gain is the midpoint of networks trained under noise over that of clean ones."
)
FEWEST_RATIOS = 3  # for a picture over ratios


def midpoint_section(found: Found) -> Section | None:
    """Midpoints across networks, phases and kinds of noise."""
    settings = [setting for setting in found.settings if _has_curves(setting)]
    if not settings:
        return None
    parts: list[Picture | Table] = list(_midpoint_pictures(settings))
    parts += [midpoint_table(_curves(setting), setting.title) for setting in settings]
    return Section("Midpoints", [_MIDPOINTS, CROSSINGS], parts)


def _midpoint_pictures(settings: list[Setting]) -> Iterator[Picture]:
    """A picture for each data set and model: panels by noise, series by phase and kind of network."""
    models: dict[tuple[str, str], list[Setting]] = {}
    for setting in settings:
        models.setdefault((setting.curve.dataset, setting.curve.model), []).append(setting)
    for (dataset, model), group in models.items():
        places = _places(group)
        panels: dict[str, dict[str, Line]] = {}
        for setting in group:
            for phase, words in PHASES.items():
                reached = [c for c in _curves(setting) if c.phase == phase and c.fit.reached]
                if reached:
                    panel = panels.setdefault(setting.noise, {})
                    panel[f"{words}, {_kind(setting)}"] = _midpoints(reached, places)
        if panels:
            figure = by_category(panels, places, "midpoint noise level σ", log_y=True)
            yield Picture(figure, f"Midpoints of {model} on {dataset} by site, with 95 % intervals.")


def _midpoints(curves: list[Curve], places: list[str]) -> Line:
    values = np.array([[c.fit.midpoint, c.fit.ci_low, c.fit.ci_high] for c in curves])
    x = np.array([float(places.index(curve.place)) for curve in curves])
    order = np.argsort(x)
    return Line(x[order], *values[order].T)


def _kind(setting: Setting) -> str:
    clamped = ", weights clamped" if setting.curve.clamp_weights else ""
    return f"{BATCH_NORM[setting.curve.batch_norm]}{clamped}"


def _places(settings: list[Setting]) -> list[str]:
    """The names of all places in the order of the network with most of them; global and mapped at the end."""
    orders = [list(dict.fromkeys(curve.place for curve in _ordered(setting))) for setting in settings]
    longest = max(orders, key=len)
    names = dict.fromkeys([*longest, *(place for order in orders for place in order)])
    apart_ = {curve.place for setting in settings for curve in setting.curves if curve.site < 0}
    return sorted(names, key=lambda name: name in apart_)


def _ordered(setting: Setting) -> list[Curve]:
    return sorted(_curves(setting), key=lambda curve: (curve.site < 0, abs(curve.site)))


def _has_curves(setting: Setting) -> bool:
    return bool(_curves(setting))


def _curves(setting: Setting) -> list[Curve]:
    """The curves of several σ, finished or not."""
    several = {(fit.curve.phase, fit.curve.site) for fit in setting.fits if len(fit.levels) > 1}
    return [curve for curve in setting.curves if (curve.phase, curve.site) in several]


def curve_sections(found: Found) -> Iterator[Section]:
    """The curves of each setting with several σ."""
    pictures = []
    for setting in found.settings:
        picture = curves_picture(setting.curves, setting.chance, setting.title)
        pictures += [] if picture is None else [picture]
    if pictures:
        yield Section("Accuracy against σ", [HOW_TO_READ, INTERVALS], pictures)


# ---- single σ -------------------------------------------------------------------------------------------


def point_sections(found: Found, told: set[int]) -> Iterator[Section]:
    """Accuracies of settings with one σ for each place, but for those `told` elsewhere, by network."""
    points = [s for s in found.settings if s.is_point and s.curves and s.curve.settings not in told]
    for network, group in by_network(points).items():
        panels: dict[str, dict[str, list[Curve]]] = {}
        phases = dict.fromkeys(curve.phase for setting in group for curve in setting.curves)
        for setting in group:
            levels = sorted({fit.levels[0] for fit in setting.fits})
            at = f"σ = {numbers(levels)[0]}" if len(levels) == 1 else "one σ for each place"
            words = [*found.words.options(setting.curve), *found.words.executions(setting.curve)]
            other = found.words.options(setting.curve._replace(ratio=None))
            panel = panels.setdefault(", ".join([f"{setting.curve.noise} noise", *other, at]), {})
            words = [word for word in words if word not in other]
            for phase in dict.fromkeys(curve.phase for curve in setting.curves):
                curves = [curve for curve in setting.curves if curve.phase == phase]
                said = [*words, *([PHASES[phase]] if len(phases) > 1 or not words else [])]
                panel[", ".join(said)] = curves
        text = "Where each place has a single σ there is no curve to fit; these are the accuracies at that σ."
        yield points_section(panels, group[0].chance, f"Accuracy at one σ: {network}", [text])


def ratio_sections(found: Found) -> Iterator[Section]:
    """Accuracy over the ratio of mixed noise, where several ratios have one σ."""
    for network, group in by_network(s for s in found.settings if s.is_point and is_mixed(s)).items():
        points: dict[str, dict[str, dict[float, Line]]] = {}  # by place, by series, by ratio
        amplitudes = {fit.levels for setting in group for fit in setting.fits}
        for setting in group:
            noise = found.words.noise(setting.curve._replace(ratio=None))
            if len(amplitudes) > 1:
                noise += f", σ = {', '.join(numbers(sorted({fit.levels[0] for fit in setting.fits})))}"
            for place, row in by_place(setting.curves).items():
                for phase, curve in row.items():
                    ratios = points.setdefault(place, {}).setdefault(f"{noise}, {phase}", {})
                    ratios[setting.curve.ratio or 0.0] = line_of(curve.points)
        panels = {
            place: {
                name: joined(np.array(sorted(of)), [of[r] for r in sorted(of)]) for name, of in row.items()
            }
            for place, row in points.items()
        }
        if max((line.x.size for row in panels.values() for line in row.values()), default=0) < FEWEST_RATIOS:
            continue
        figure = lines(panels, "ratio", "accuracy", level=group[0].chance, log_x=False)
        text = "A panel for each place: at ratio 0 all noise multiplies, at ratio 1 all of it is added."
        caption = f"{network}: accuracy over the ratio, with 95 % intervals."
        yield Section(f"Mixed noise: ratio, {network}", [text, INTERVALS], [Picture(figure, caption)])


# ---- amplitude × ratio ----------------------------------------------------------------------------------


def heat_sections(found: Found) -> Iterator[Section]:
    """Accuracy over amplitude and ratio of mixed noise, where several ratios have several amplitudes."""
    groups: dict[str, list[Setting]] = {}
    for setting in filter(is_mixed, found.settings):
        if _has_curves(setting):
            other = setting.curve._replace(ratio=None)
            groups.setdefault(f"{setting.network}: {found.words.noise(other)}", []).append(setting)
    pictures: list[Picture] = []
    for title, group in groups.items():
        if len(group) > 1:
            pictures += _heat_maps(title, group)
    if pictures:
        text = (
            "A panel for each place: colour is accuracy, to the right the amplitude σ grows, upwards the "
            "share of it that is added. White has no result yet."
        )
        yield Section("Mixed noise: amplitude and ratio", [text], pictures)


def _heat_maps(title: str, group: list[Setting]) -> Iterator[Picture]:
    ratios = {s.curve.ratio: s for s in sorted(group, key=lambda s: s.curve.ratio or 0.0)}
    texts = apart([ratio for ratio in ratios if ratio is not None], besides=(0.0, 1.0))
    for words in PHASES.values():
        rows = [by_place(setting.curves) for setting in ratios.values()]
        measured = [{p: line_of(row[p][words].points) for p in row if words in row[p]} for row in rows]
        sigma = np.unique([value for row in measured for line in row.values() for value in line.x])
        places = dict.fromkeys(place for row in measured for place in row)
        if not places or sigma.size < 2:
            continue
        panels = {place: np.full((len(ratios), sigma.size), np.nan) for place in places}
        for index, row in enumerate(measured):
            for place, line in row.items():
                panels[place][index, np.searchsorted(sigma, line.x)] = line.y
        figure = heat_maps(panels, sigma.tolist(), list(texts.values()), "amplitude σ", "ratio", "accuracy")
        yield Picture(figure, f"{title}, networks {words}.")
