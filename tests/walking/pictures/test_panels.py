"""Small multiples: a panel for each key, what is drawn where, and labels that fit."""

import io
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from wn.walking.pictures.drawing import _stable_ids, bytes_of
from wn.walking.pictures.panels import (
    Ends,
    Fitted,
    Line,
    by_category,
    fitted_curves,
    heat_maps,
    lines,
    series_style,
)

SIGMA = np.geomspace(0.1, 1000, 9)


def fitted(midpoint: float = 5.0) -> Fitted:
    accuracy = 0.1 + 0.8 / (1 + (SIGMA / 5) ** 2)
    return Fitted(
        Line(SIGMA, accuracy, accuracy - 0.02, accuracy + 0.02),
        *(0.9, 0.1, midpoint, 2.0, midpoint, 4.0, 6.0),
        crossing=Ends(4.5, 3.5, math.inf),
    )


def test_a_fitted_curve_passes_half_way_at_its_midpoint() -> None:
    assert fitted().at(np.array([5.0])) == pytest.approx(0.5)
    figure = fitted_curves({"0 input": {"trained clean": fitted()}}, 0.1)
    (axes,) = figure.axes
    assert axes.get_title() == "0 input"
    verticals = [
        line for line in axes.lines if len(line.get_xdata()) == 2 and len(set(line.get_xdata())) == 1
    ]
    assert [float(line.get_xdata()[0]) for line in verticals] == [5.0]
    levels = {round(float(line.get_ydata()[0]), 6) for line in axes.lines if len(line.get_ydata()) == 2}
    assert {0.9, 0.5, 0.1} <= levels


def test_the_crossing_is_marked_on_half_way() -> None:
    def marks(one: Fitted) -> list[Any]:
        (axes,) = fitted_curves({"a": {"x": one}}, 0.1).axes
        return [line for line in axes.lines if line.get_marker() == "D"]

    (mark,) = marks(fitted())
    assert (list(mark.get_xdata()), list(mark.get_ydata())) == ([4.5], [0.5])
    assert marks(fitted()._replace(crossing=Ends(math.nan, math.nan, math.nan))) == []
    assert marks(fitted()._replace(crossing=Ends(1e9, 1e8, 1e10))) == []  # off the axis


@pytest.mark.parametrize(
    "make",
    [
        lambda: fitted_curves({f"{site} relu": {"a": fitted(), "b": fitted(9.0)} for site in range(5)}, 0.1),
        lambda: lines({"a": {"x": Line(SIGMA, SIGMA), "y": Line(SIGMA, 2 * SIGMA)}}, "x", "y", log_y=True),
        lambda: heat_maps({"0 input": np.eye(3)}, [0.1, 1.0, 10.0], ["1", "2", "3"], "x", "y", "accuracy"),
    ],
)
def test_svg_drawn_once_is_what_savefig_writes(make: Callable[[], Figure]) -> None:
    """Same layout, same bytes; the figure keeps its canvas."""
    figure, plain, data = make(), make(), io.BytesIO()
    canvas = figure.canvas
    found = bytes_of(figure, "svg")
    plain.savefig(data, format="svg", facecolor="white", metadata={"Creator": None, "Date": None})
    assert found == _stable_ids(data.getvalue())
    assert (figure.canvas, figure.dpi) == (canvas, plain.dpi)


def test_small_multiples_of_curves_have_labelled_ticks_alone() -> None:
    """Ticks in between would be most of what is drawn."""
    figure = fitted_curves({"0 input": {"trained clean": fitted()}}, 0.1)
    assert len(figure.axes[0].get_xticks()) >= 4
    assert not len(figure.axes[0].get_xticks(minor=True))


def test_a_curve_that_was_not_fitted_has_points_alone() -> None:
    lost = fitted()._replace(location=math.nan, slope=math.nan, midpoint=math.nan, ci_low=math.nan)
    figure = fitted_curves({"a": {"x": lost}}, 0.1)
    assert not any(len(line.get_xdata()) == 200 for line in figure.axes[0].lines)


def test_intervals_without_ends_stay_on_the_axis() -> None:
    open_ended = fitted()._replace(ci_low=0.0, ci_high=math.inf)
    figure = fitted_curves({"a": {"x": open_ended}}, 0.1)
    left, right = figure.axes[0].get_xlim()
    assert 0 < left < right < 2000


def test_a_panel_for_each_key_and_labels_below_and_left() -> None:
    panels = {f"panel {number}": {"a": Line(SIGMA, SIGMA)} for number in range(6)}
    figure = lines(panels, "x", "y", log_y=True, level=1.0)
    axes = [one for one in figure.axes if one.get_visible()]
    assert [one.get_title() for one in axes] == list(panels)
    assert [one.get_xlabel() for one in axes] == ["", "", "x", "x", "x", "x"]  # those with none below
    assert [one.get_ylabel() for one in axes] == ["y", "", "", "", "y", ""]
    assert all(one.get_yscale() == "log" for one in axes)


def test_a_log_axis_has_plain_numbers() -> None:
    line = Line(np.array([2.0, 5.0, 20.0]), np.array([1.0, 2.0, 3.0]))
    (axes,) = lines({"a": {"s": line}}, "x", "y", log_x=True).axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["2", "5", "10", "20"]


def test_long_titles_take_several_lines() -> None:
    title = "fashion-mini, mlp-64, with batch norm, weights clamped: mixed noise, ratio 0.5"
    (axes,) = lines({title: {"s": Line(SIGMA, SIGMA)}}, "x", "y").axes
    assert axes.get_title().replace("\n", " ") == title
    assert max(map(len, axes.get_title().split("\n"))) <= 40
    (axes,) = lines({"costs $5 and $6": {"s": Line(SIGMA, SIGMA)}}, "x", "y").axes
    assert axes.get_title() == r"costs \$5 and \$6"


def test_series_stand_side_by_side() -> None:
    x = np.array([0.0, 1.0])
    panels = {"a": {"one": Line(x, x + 1), "two": Line(x, x + 2, x + 1, x + 3)}}
    (axes,) = by_category(panels, ["input", "fc1"], "midpoint", log_y=True, level=1.5).axes
    drawn = [
        line.get_xdata() for line in axes.lines if len(line.get_xdata()) == 2 and line.get_marker() != "None"
    ]
    assert drawn[0][0] < 0 < drawn[1][0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["input", "fc1"]


def test_a_map_has_its_values_where_they_belong() -> None:
    values = np.array([[0.1, 0.2, 0.3], [0.4, 0.5, np.nan]])
    figure = heat_maps({"a": values}, [0.1, 1.0, 10.0], ["0.1", "0.9999999"], "σ", "ratio", "accuracy")
    axes, bar = figure.axes
    (image,) = axes.images
    np.testing.assert_array_equal(np.ma.filled(image.get_array(), np.nan), values)
    assert image.origin == "lower"
    assert [label.get_text() for label in axes.get_yticklabels()] == ["0.1", "0.9999999"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0.1", "1", "10"]
    assert bar.get_ylabel() == "accuracy"
    assert image.get_clim() == (0, 1)


def test_many_series_are_told_apart_and_leave_room_for_panels() -> None:
    names = [f"a rather long name of series {number}" for number in range(20)]
    styles = series_style(names)
    looks = [(look["color"], look["marker"]) for look in styles.values()]
    assert len(set(looks)) == len(names)
    few, many = (
        by_category({"a": {name: Line(np.zeros(1), np.ones(1)) for name in part}}, ["input"], "y")
        for part in (names[:1], names)
    )
    heights = []
    for figure in (few, many):
        figure.draw_without_rendering()
        heights.append(figure.axes[0].get_window_extent().height)
    assert heights[1] > 0.8 * heights[0]


def test_intervals_without_ends_run_off_the_axis() -> None:
    line = Line(np.zeros(1), np.full(1, 5.0), np.zeros(1), np.full(1, math.inf))
    (axes,) = by_category({"a": {"one": line}}, ["input"], "midpoint", log_y=True).axes
    bottom, top = axes.get_ylim()
    ((_, low), (_, high)) = axes.collections[0].get_segments()[0]
    assert 0 < low < bottom < top < high < math.inf


def test_a_mean_that_rounding_puts_outside_of_its_range_is_drawn():
    """The mean of three times 0.1 is 0.10000000000000002, above the largest of them."""
    values = np.full((3, 2), 0.1)
    mean = np.array([0.1, np.nextafter(0.1, 1)])
    line = Line(np.array([0.0, 1.0]), mean, values.min(axis=0), values.max(axis=0))
    for y in (mean, np.nextafter(mean, 0)):
        (axes,) = by_category({"panel": {"series": line._replace(y=y)}}, ["a", "b"], "accuracy").axes
        (bars,) = axes.containers
        low, high = np.array(bars.lines[2][0].get_segments())[:, :, 1].T
        assert (low <= high).all()
