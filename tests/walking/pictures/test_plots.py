"""Pictures: every case draws without warnings, says what it shows, and is the same each time."""

import struct
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import combinations, pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import matplotlib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text
from numpy.typing import NDArray

from wn.basics.errors import WnError
from wn.fit.midpoint import ALREADY_BELOW, NEVER_FALLS, NO_NOISE
from wn.walking.pictures import plots
from wn.walking.pictures.plots import Tables, in_words
from wn.walking.results import CURVE_COLUMNS, MIDPOINT_COLUMNS, failure_columns

MLP = ["input", "fc1", "relu1", "fc2", "relu2", "fc3", "relu3", "logits"]
LENET_BN = ["input", "conv1", "bn1", "relu1", "pool1", "conv2", "bn2", "relu2", "pool2"]
LENET_BN += ["fc1", "bn3", "relu3", "fc2", "bn4", "relu4", "logits"]
VGG_BN = ["input"]
for block, pooled in enumerate((1, 1, 0, 1, 0, 1, 0, 1), start=1):
    VGG_BN += [f"conv{block}", f"bn{block}", f"relu{block}"] + [f"pool{block}"] * pooled
VGG_BN += ["avgpool", "logits"]
BOTH = ("inference", "training")
CHANCE = 0.1
SPREAD = {"inference": np.geomspace(0.5, 40, 8), "training": np.geomspace(20, 900, 8)}  # μ by phase and site
WIDE = {"inference": np.geomspace(0.05, 5000, 32), "training": np.geomspace(1, 1e8, 32)}
EXTREME = np.geomspace(1e-3, 1e17, 9)


def example(
    sites: dict[int, str] | list[str],
    sigma: NDArray[np.float64] | list[float],
    *,
    phases: tuple[str, ...] = BOTH,
    repeats: int = 1,
    clean: float = 0.88,
    floor: float = CHANCE,
    mu: dict[str, Any] = SPREAD,
    noise: str = "additive",
    chance: float | None = CHANCE,
    **names: str,
) -> Tables:
    """A made-up walk: logistic curves that fall to `floor` at μ; mu maps phase to one number per site."""
    generator = np.random.default_rng(3)
    labels = dict(enumerate(sites)) if isinstance(sites, list) else sites
    grid = np.asarray(sigma, np.float64)
    prefix = tuple(({"dataset": "fashion-mini", "model": "mlp", "batch_norm": "none"} | names).values())
    run_columns = (noise, 0, "numba")
    curves, midpoints, reasons = [], [], []
    for phase in phases:
        for (site, name), middle in zip(labels.items(), np.resize(mu[phase], len(labels)), strict=True):
            for repeat in range(repeats):
                shift = np.exp(0.25 * generator.standard_normal()) if repeats > 1 else 1.0
                accuracy = floor + (clean - floor) / (1 + (grid / (middle * shift)) ** 1.4)
                correct = generator.binomial(2000, np.clip(accuracy, 0, 1))
                curves += [
                    (*prefix, *run_columns, phase, site, name, s, repeat, k, 2000, k / 2000)
                    for s, k in zip(grid.tolist(), correct.tolist(), strict=True)
                ]
            never = floor >= (clean + CHANCE) / 2 or middle > grid.max()
            reason = NO_NOISE if not grid.any() else NEVER_FALLS if never else ""
            if not reason and middle < grid[grid > 0].min():
                reason = ALREADY_BELOW
            fit = (np.nan,) * 3 if reason else (middle, middle / 1.2, middle * 1.25)
            numbers = (*fit, 1.4, not reason, clean, *fit)
            midpoints.append((*prefix, *run_columns, phase, site, name, *numbers))
            reasons.append(reason)
    return Tables(
        np.array(curves, CURVE_COLUMNS),
        np.array(midpoints, MIDPOINT_COLUMNS),
        tuple(reasons),
        np.zeros(0, failure_columns(1)),
        chance,
        in_words(*prefix, noise),
    )


LENET = {"dataset": "mnist", "model": "lenet5", "batch_norm": "sites"}
VGG = {"dataset": "cifar-10", "model": "vgg11", "batch_norm": "sites"}
WITH_GLOBAL = dict(enumerate(MLP)) | {-1: "global"}
CASES = {
    "mlp": example(MLP, np.geomspace(0.01, 100, 17)),
    "lenet": example(LENET_BN, np.geomspace(0.01, 1e4, 25), phases=BOTH[:1], mu=WIDE, repeats=3, **LENET),
    "vgg": example(VGG_BN, np.geomspace(0.01, 1e10, 49), mu=WIDE, repeats=3, clean=0.91, **VGG),
    "linear": example(
        MLP,
        np.linspace(0, 2, 21),
        mu={"inference": [0.05, 0.4, 0.8, 3, 1.1, 9, 1.5, 1.9], "training": [0.7, 9, 9, 9, 9, 9, 9, 9]},
        noise="multiplicative",
        repeats=3,
    ),
    "global": example({-1: "global"}, np.geomspace(0.01, 100, 17), mu=SPREAD, repeats=10),
    "point": example({3: "fc2"}, [1.0], phases=BOTH[:1], mu={"inference": [2.0]}),
    "never": example(
        LENET_BN, np.geomspace(1, 1e16, 65), phases=BOTH[1:], noise="multiplicative", floor=0.7, **LENET
    ),
    "wild": example(
        WITH_GLOBAL, [0, *np.geomspace(1e-2, 1e16, 19)], phases=BOTH[1:], mu={"training": EXTREME}
    ),
    "chance": example(MLP[:2], [0.1, 1, 3], phases=BOTH[1:], mu={"training": [0.5, 1.0]}, clean=0.13),
    "without": example(MLP[:3], [0.0], phases=BOTH[1:]),
}
KINDS = ("curves", "midpoints")
each_case = pytest.mark.parametrize("case", CASES)
each_kind = pytest.mark.parametrize("kind", KINDS)


def figure_of(kind: str, result: Tables) -> Figure:
    return plots.curves_figure(result) if kind == "curves" else plots.midpoints_figure(result)


def plot(kind: str, result: Tables, path: Path) -> bytes:
    (plots.plot_curves if kind == "curves" else plots.plot_midpoints)(result, path)
    return path.read_bytes()


@cache
def saved(kind: str, case: str) -> tuple[Figure, bytes]:
    """The figure of a case as it was laid out for its file, and the file."""
    figure = figure_of(kind, CASES[case])
    with TemporaryDirectory() as folder, patch.object(plots, f"{kind}_figure", return_value=figure):
        return figure, plot(kind, CASES[case], Path(folder) / "picture.png")


def lines(axes: Any, prefix: str) -> dict[str, Any]:
    return {line.get_gid(): line for line in axes.lines if (line.get_gid() or "").startswith(prefix)}


def words(figure: Figure) -> str:
    return " | ".join(text.get_text().replace("\u00a0", " ") for text in figure.findobj(Text))


@each_kind
@each_case
def test_each_case_makes_a_png_of_150_dpi(kind: str, case: str) -> None:
    figure, content = saved(kind, case)
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", content[16:24])
    np.testing.assert_allclose([width, height], 150 * figure.get_size_inches(), atol=1)
    assert b"tEXt" not in content  # no version, no date


@each_kind
@each_case
def test_nothing_overlaps_and_nothing_is_cut_off(kind: str, case: str) -> None:
    figure, _ = saved(kind, case)
    renderer = figure.canvas.get_renderer()
    legend = figure.legends[0].get_window_extent(renderer)
    (heading,) = (text for text in figure.texts if "\n" in text.get_text())
    heading = heading.get_window_extent(renderer)
    panels = [axes.get_tightbbox(renderer) for axes in figure.axes]
    names = [text.get_window_extent(renderer) for axes in figure.axes for text in axes.texts]
    assert not any(a.overlaps(b) for a, b in combinations([heading, legend, *panels], 2))
    assert not any(a.overlaps(b) for a, b in combinations(names, 2))
    for box in (heading, legend, *panels):
        assert min(box.x0, box.y0, figure.bbox.x1 - box.x1, figure.bbox.y1 - box.y1) >= 0


@each_kind
@each_case
def test_tick_labels_do_not_touch_each_other(kind: str, case: str) -> None:
    figure, _ = saved(kind, case)
    renderer = figure.canvas.get_renderer()
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            ticks = [tick for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
            labels = [tick.label1 for tick in ticks if tick.label1.get_text() and tick.label1.get_visible()]
            boxes = [label.get_window_extent(renderer) for label in labels if label.get_rotation() == 0]
            assert not any(a.overlaps(b) for a, b in pairwise(boxes))
            starts = [label.get_window_extent(renderer).x1 for label in labels if label.get_rotation()]
            height = plots.TEXT * figure.dpi / 72  # turned labels are side by side if a line's height apart
            assert all(b - a > height for a, b in pairwise(starts))


@each_kind
@pytest.mark.parametrize(("few", "many"), [("point", "lenet"), ("mlp", "vgg")])
def test_pictures_grow_with_the_number_of_sites(kind: str, few: str, many: str) -> None:
    assert saved(kind, few)[0].get_figwidth() < saved(kind, many)[0].get_figwidth()


@each_case
def test_one_line_per_site_and_panel_with_the_mean_over_repeats(case: str) -> None:
    figure, result = saved("curves", case)[0], CASES[case]
    phases = [phase for phase in BOTH if phase in result.curves["phase"]]
    assert len(figure.axes) == len(phases)
    for axes, phase in zip(figure.axes, phases, strict=True):
        rows = result.curves[result.curves["phase"] == phase]
        drawn = lines(axes, "site")
        assert set(drawn) == {f"site{site}" for site in rows["site"].tolist()}
        site = int(rows["site"][-1])
        sigma, accuracy = drawn[f"site{site}"].get_data()
        rows = rows[rows["site"] == site]
        np.testing.assert_array_equal(sigma, np.unique(rows["sigma"]))
        expected = [rows["accuracy"][rows["sigma"] == value].mean() for value in sigma]
        np.testing.assert_allclose(accuracy, expected, rtol=1e-12)
        assert len(axes.collections) == (len(drawn) if rows["repeat"].max() else 0)  # the bands
    assert len(figure.legends[0].get_texts()) == len(drawn)


@each_case
def test_each_midpoint_is_drawn_once_reached_or_not(case: str) -> None:
    (axes,), result = saved("midpoints", case)[0].axes, CASES[case]
    for phase in dict.fromkeys(result.midpoints["phase"].tolist()):
        rows = result.midpoints[result.midpoints["phase"] == phase]
        reached = lines(axes, f"midpoints-{phase}")[f"midpoints-{phase}"].get_ydata()
        np.testing.assert_allclose(reached, rows["midpoint"])  # NaN: not drawn
        hollow = [line for line in axes.lines if line.get_gid() == f"missing-{phase}"]
        assert sum(len(line.get_xdata()) for line in hollow) == np.sum(~rows["reached"])
        assert all(line.get_markerfacecolor() == "white" for line in hollow)


def test_arrows_point_to_where_the_midpoint_lies() -> None:
    (axes,) = saved("midpoints", "linear")[0].axes
    up = [line for line in axes.lines if line.get_marker() == "^"]
    down = [line for line in axes.lines if line.get_marker() == "v"]
    assert sum(len(line.get_xdata()) for line in up) == 9
    assert sum(len(line.get_xdata()) for line in down) == 1
    assert all(y > 1 - plots.STRIP for line in up for y in line.get_ydata())  # in parts of the axis
    assert all(y < plots.STRIP for line in down for y in line.get_ydata())


WORDS = {
    ("curves", "mlp"): [
        "fashion-mini · mlp · without batch norm · additive noise · 1 repeat",
        *("noise at inference only", "noise in training and at inference"),
        *("noise level σ", "accuracy on the test images"),
        *("clean 0.880", "half-way 0.490", "chance 0.100"),
    ],
    ("curves", "lenet"): ["lenet5 · with batch norm", "3 repeats", "band: lowest to highest"],
    ("curves", "vgg"): ["31 logits", "10¹⁰"],
    ("curves", "global"): ["global", "10 repeats"],
    ("midpoints", "mlp"): ["midpoint noise level σ", "noise site", "95 % confidence interval"],
    ("midpoints", "vgg"): ["30 avgpool"],
    ("midpoints", "never"): ["not reached: never falls half-way (σ up to 10¹⁶)"],
    ("midpoints", "without"): [f"not reached: {NO_NOISE}"],
    ("midpoints", "linear"): [
        "not reached: never falls half-way (σ up to 2)",
        "not reached: already below half-way at σ = 0.1",
    ],
}


@pytest.mark.parametrize(("kind", "case"), WORDS)
def test_the_picture_says_what_it_shows(kind: str, case: str) -> None:
    text = words(saved(kind, case)[0])
    assert [expected for expected in WORDS[kind, case] if expected not in text] == []


@pytest.mark.parametrize(
    ("case", "scale"), [("mlp", "log"), ("linear", "linear"), ("wild", "symlog"), ("point", "linear")]
)
def test_sigma_is_scaled_as_the_grid_is_spaced(case: str, scale: str) -> None:
    figure = saved("curves", case)[0]
    sigma = CASES[case].curves["sigma"]
    for axes in figure.axes:
        low, high = axes.get_xlim()
        assert axes.get_xscale() == scale
        assert low < sigma.min() <= sigma.max() < high
    assert saved("midpoints", case)[0].axes[0].get_yscale() == "log"


def test_global_noise_stands_apart_from_the_sites() -> None:
    (axes,) = saved("midpoints", "wild")[0].axes
    assert [label.get_text() for label in axes.get_xticklabels()][-2:] == ["7 logits", "global"]
    assert np.diff(axes.get_xticks()).tolist() == [1.0] * 7 + [1.5]


def test_levels_without_chance() -> None:
    text = words(plots.curves_figure(example(MLP, [0.1, 1, 10], chance=None)))
    assert "clean 0.880" in text
    assert "chance" not in text
    assert "half-way" not in text


def test_dollar_signs_are_text() -> None:
    result = example(MLP[:2], [0.1, 1, 10], dataset="$a_b$", model="a$")
    figure = plots.curves_figure(result)
    figure.draw_without_rendering()
    assert r"\$a_b\$ · a\$" in figure.get_suptitle()


def grey(colour: Any) -> float:
    return float(np.dot(to_rgb(colour), (0.299, 0.587, 0.114)))


def test_phases_differ_in_greyscale_and_in_marker() -> None:
    (axes,) = saved("midpoints", "mlp")[0].axes
    first, second = lines(axes, "midpoints-").values()
    assert abs(grey(first.get_color()) - grey(second.get_color())) > 0.1
    assert first.get_marker() != second.get_marker()


@pytest.mark.parametrize("case", ["mlp", "lenet", "vgg"])
def test_sites_lighten_in_order_and_neighbours_differ_in_greyscale(case: str) -> None:
    drawn = list(lines(saved("curves", case)[0].axes[0], "site").values())
    shades = [grey(line.get_color()) for line in drawn]
    assert all(a < b for a, b in pairwise(shades))
    assert shades[-1] < 0.75  # still seen on white
    assert all(a.get_marker() != b.get_marker() for a, b in pairwise(drawn))


@pytest.mark.parametrize(("kind", "suffix"), [("curves", ".PDF"), ("midpoints", ".svg")])  # .png: threads
def test_the_same_result_gives_the_same_bytes(kind: str, suffix: str, tmp_path: Path) -> None:
    first, second = (plot(kind, CASES["point"], tmp_path / f"{i}{suffix}") for i in (1, 2))
    assert first == second
    assert len(first) > 1000
    assert b"CreationDate" not in first  # two files of the same second would agree
    assert b"dc:date" not in first


def test_threads_draw_side_by_side_and_leave_settings_alone(tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)
    cases = ["point", "global"] * 2

    def draw(index: int) -> bytes:
        return plot("midpoints", CASES[cases[index]], tmp_path / f"{index}.png")

    with ThreadPoolExecutor(4) as executor:
        drawn = list(executor.map(draw, range(4)))
    assert drawn == [saved("midpoints", case)[1] for case in cases]
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize("name", ["picture.xyz", "picture"])
def test_unknown_suffix_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(WnError, match=rf"^can't draw {name}: the suffix must be one of .*\.pdf.*\.png"):
        plot("midpoints", CASES["point"], tmp_path / name)
    assert not list(tmp_path.iterdir())


@each_kind
def test_an_empty_result_is_refused(kind: str) -> None:
    nothing = CASES["point"]
    empty = nothing._replace(curves=nothing.curves[:0], midpoints=nothing.midpoints[:0], reasons=())
    with pytest.raises(WnError, match="nothing to draw"):
        figure_of(kind, empty)


def midpoint_table(bounds: list[tuple[float, float, float]]) -> Tables:
    """A walk with these (ci_low, midpoint, ci_high), measured over the whole range of the study."""
    labels = [f"fc{index}" for index in range(len(bounds))]
    result = example(labels, np.geomspace(1e-2, 1e16, 19), phases=BOTH[:1])
    for row, (low, middle, high) in zip(result.midpoints, bounds, strict=True):
        row["ci_low"], row["midpoint"], row["ci_high"] = low, middle, high
    return result


def test_intervals_without_bounds_run_off_the_axis(tmp_path: Path) -> None:
    result = midpoint_table([(0.0, 3.0, np.inf), (1e-30, 4.0, 1e40), (2.0, 5.0, 6.0), (np.nan, 5.0, np.nan)])
    assert plot("midpoints", result, tmp_path / "unbounded.png")
    low, high = plots.midpoints_figure(result).axes[0].get_ylim()
    assert 0.1 < low < 0.3  # a decade more than the midpoints, and a margin
    assert 50 < high < 150


@given(st.lists(st.floats(-2, 16), min_size=1, max_size=12), st.floats(1e-3, 3))
@settings(max_examples=10)
def test_every_midpoint_lies_within_the_axis_and_labels_are_few(powers: list[float], width: float) -> None:
    bounds = [(10 ** (power - width), 10**power, 10 ** (power + width)) for power in powers]
    (axes,) = plots.midpoints_figure(midpoint_table(bounds)).axes
    low, high = axes.get_ylim()
    assert all(low < middle < high for _, middle, _ in bounds)
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert 2 <= len(labels) <= 9
    assert len(set(labels)) == len(labels)


@given(st.integers(-4, 3), st.integers(1, 18), st.integers(2, 40), st.booleans())
@settings(max_examples=10)
def test_any_log_grid_has_few_distinct_labels(first: int, decades: int, count: int, zero: bool) -> None:
    grid = np.geomspace(10.0**first, 10.0 ** (first + decades), max(count, 3))
    sigma = [0.0, *grid] if zero else grid
    result = example(MLP[:1], sigma, phases=BOTH[1:])
    (axes,) = plots.curves_figure(result).axes
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert axes.get_xscale() == ("symlog" if zero else "log")
    assert 2 <= len(labels) <= 10
    assert len(set(labels)) == len(labels)
