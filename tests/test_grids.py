"""Grids of σ: the three forms of text, sequences, and what is refused."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wn.errors import WnError
from wn.grids import sigma_grid

FINITE = st.floats(0, 1e300, allow_nan=False)


@pytest.mark.parametrize(
    ("grid", "values"),
    [
        ("0.01:100:5", [0.01, 0.1, 1, 10, 100]),
        ("log:0.01:100:5", [0.01, 0.1, 1, 10, 100]),
        ("1e-2:1e10:13", [1e-2, 1e-1, 1, 10, 100, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10]),
        ("lin:0:2:5", [0, 0.5, 1, 1.5, 2]),
        ("lin:0:6:3", [0, 3, 6]),
        ("0.1,1,10", [0.1, 1, 10]),
        ("10, 1, 0.1, 1", [0.1, 1, 10]),
        ("lin:1,2", [1, 2]),
        ("0", [0]),
        (3, [3]),
        (0.5, [0.5]),
        ([2, 1, 1], [1, 2]),
        (np.array([0.5, 0.25]), [0.25, 0.5]),
    ],
)
def test_values_of_a_grid(grid: Any, values: list[float]) -> None:
    found = sigma_grid(grid)
    assert found.dtype == np.float64
    assert found.tolist() == values


@given(st.integers(-30, 30), st.integers(1, 20), st.integers(2, 50))
def test_log_grids_are_even_in_log_sigma(exponent: int, decades: int, count: int) -> None:
    first, last = float(f"1e{exponent}"), float(f"1e{exponent + decades}")
    found = sigma_grid(f"{first!r}:{last!r}:{count}")
    assert (found[0], found[-1], len(found)) == (first, last, count)
    steps = np.diff(np.log(found))
    np.testing.assert_allclose(steps, decades * math.log(10) / (count - 1), rtol=1e-9)


@given(st.integers(0, 1000), st.integers(1, 1000), st.integers(2, 50))
def test_linear_grids_are_even(first: int, width: int, count: int) -> None:
    found = sigma_grid(f"lin:{first}:{first + width}:{count}")
    assert (found[0], found[-1], len(found)) == (first, first + width, count)
    np.testing.assert_allclose(np.diff(found), width / (count - 1), rtol=1e-9)


@given(st.lists(FINITE, min_size=1, max_size=20))
def test_lists_become_ascending_sets_and_text_means_the_same(values: list[float]) -> None:
    found = sigma_grid(values)
    assert found.tolist() == sorted({value + 0.0 for value in values})
    assert sigma_grid(",".join(map(repr, values))).tolist() == found.tolist()
    assert sigma_grid(found).tolist() == found.tolist()


@given(st.text("lingo0123456789.:,-+e nainf\t", max_size=20) | st.text(max_size=20))
def test_any_text_gives_a_grid_or_one_line(text: str) -> None:
    message = ""
    try:
        found = sigma_grid(text)
    except WnError as error:
        found, message = np.zeros(1), str(error)
    assert np.isfinite(found).all()
    assert (np.diff(found) > 0).all()
    assert found[0] >= 0
    assert not message or message.startswith(f"σ grid {text!r}")
    assert "\n" not in message


@pytest.mark.parametrize(
    ("grid", "parts"),
    [
        ("-1", ("-1", "≥ 0")),
        ("0.1,-0.5", ("-0.5", "≥ 0")),
        ([1.0, -2.0], ("-2", "≥ 0")),
        (-1e-300, ("≥ 0",)),
        ("nan", ("nan", "finite")),
        (math.nan, ("nan", "finite")),
        ([1.0, math.nan], ("nan", "finite")),
        ("1,inf", ("inf", "finite")),
        (math.inf, ("inf", "finite")),
        ("0.1:10:1", ("COUNT in 2…10000",)),
        ("0.1:10:0", ("COUNT in 2…10000",)),
        ("0.1:10:-3", ("COUNT in 2…10000",)),
        ("10:0.1:5", ("FIRST", "below", "LAST")),
        ("1:1:5", ("FIRST", "below", "LAST")),
        ("-1:1:5", ("FIRST must be ≥ 0",)),
        ("1:inf:5", ("finite LAST",)),
        ("nan:1:5", ("FIRST",)),
        ("0:10:5", ("log spacing can't begin at 0", "lin:0:10:5")),
        ("log:0:10:5", ("log spacing can't begin at 0", "lin:0:10:5")),
        ("lin:0:10", ("FIRST:LAST:COUNT",)),
        ("1:2:3:4", ("FIRST:LAST:COUNT",)),
        ("1:2:2.5", ("FIRST:LAST:COUNT",)),
        ("linear:0:1:5", ("linear", "lin:FIRST:LAST:COUNT")),
        ("", ("FIRST:LAST:COUNT",)),
        (",", ("FIRST:LAST:COUNT",)),
        ("a,b", ("FIRST:LAST:COUNT",)),
        ([], ("no values",)),
        ([[1.0, 2.0]], ("no values",)),
        (["a"], ("'a'", "can't be read")),
        ([1.0, None], ("None",)),
        ({}, ("can't be read",)),
    ],
)
def test_refused_with_the_reason(grid: Any, parts: tuple[str, ...]) -> None:
    with pytest.raises(WnError) as caught:
        sigma_grid(grid)
    message = str(caught.value)
    assert all(part in message for part in parts), message
    assert "\n" not in message


def test_more_points_than_memory_holds_are_refused() -> None:
    with pytest.raises(WnError, match="COUNT in 2…10000"):
        sigma_grid("0.1:10:1000000000000000")


def test_minus_zero_is_zero() -> None:
    assert repr(float(sigma_grid("-0.0")[0])) == "0.0"
