"""Grids of σ: the three forms of text, sequences, and what is refused."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wn.basics.errors import WnError
from wn.walking.grids import sigma_grid

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
        ("10, 1, 0.1", [0.1, 1, 10]),
        (" lin:0:2:5 ", [0, 0.5, 1, 1.5, 2]),
        ("0,1,10", [0, 1, 10]),
        ("0,5,10", [0, 5, 10]),
        ("10,5,0", [0, 5, 10]),
        ("1,100,200", [1, 100, 200]),
        ("1e3,5", [5, 1000]),
        ("0,1e-3,1e-2", [0, 1e-3, 1e-2]),
        ("0.125,2", [0.125, 2]),
        ("0.0,5.0", [0, 5]),
        ("0, 5", [0, 5]),
        ("0 ,5", [0, 5]),
        ("0.1,1, 10", [0.1, 1, 10]),
        ("0", [0]),
        (3, [3]),
        (0.5, [0.5]),
        ([2, 1], [1, 2]),
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


@given(st.lists(FINITE.map(abs), min_size=1, max_size=20, unique=True))
def test_lists_are_put_in_order_and_text_means_the_same(values: list[float]) -> None:
    found = sigma_grid(values)
    assert found.tolist() == sorted(values)
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
        ([[1.0, 2.0]], ("2 axes", "one list")),
        (["a"], ("'a'", "can't be read")),
        ([1.0, None], ("None",)),
        (["0.5"], ("'0.5'", "can't be read")),
        (["1_000"], ("'1_000'", "can't be read")),
        (True, ("True", "can't be read")),
        (1j, ("1j", "can't be read")),
        (np.array([0.5 + 1j]), ("can't be read",)),
        ([10**400], ("can't be read",)),
        ({}, ("can't be read",)),
    ],
)
def test_refused_with_the_reason(grid: Any, parts: tuple[str, ...]) -> None:
    with pytest.raises(WnError) as caught:
        sigma_grid(grid)
    message = str(caught.value)
    assert all(part in message for part in parts), message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("text", "readings"),
    [
        ("0,5", "write 0.5 or 0.0,5.0"),
        ("1,10", "write 1.10 or 1.0,10.0"),
        ("0,001", "write 0.001 or 0.0,1.0"),
        ("0,1,0,2,0,3", "write 0.1,0.2,0.3"),
        ("0,5,1", "write 0.5,1 or 0.0,5.0,1.0"),
        ("1,1,10", "write 1.1,10"),
        ("0.5,0,7", "write 0.5,0.0,7.0"),
        ("0.05,05", "write 0.05,5.0"),
        ("1,5e3", "write 1.5e3 or 1.0,5.0e3"),
        ("0,1, 0,2", "write 0.1 or 0.0,1.0"),
        ("1,000", "write 1000 or 1.000 or 1.0,0.0"),
        ("1.000,5", "write 1000.5 or 1.000,5.0"),
        ("1,234,567.5", "write 1234567.5 or 1.0,234.0,567.5"),
        ("0,5;0,7", "write 0.5,0.7"),
        ("0,1:10:5", "write 0.1"),
        ("lin:0:0,6:5", "write 0.6"),
    ],
)
def test_a_comma_that_may_be_a_decimal_mark_is_asked_about(text: str, readings: str) -> None:
    """The kind: text that is a number to some readers and a list to others is never read without a word.

    What is offered instead has one reading: it is read as it stands.
    """
    with pytest.raises(WnError) as caught:
        sigma_grid(text)
    message = str(caught.value)
    assert message.startswith(f"σ grid {text!r}")
    assert message.endswith(readings)
    for reading in readings.removeprefix("write ").split(" or "):
        assert sigma_grid(reading).size


@given(st.lists(st.integers(0, 30).map(lambda tenths: tenths / 10), min_size=1, max_size=6, unique=True))
def test_decimal_commas_are_never_read_as_something_else(values: list[float]) -> None:
    """Numbers with decimal commas throughout are refused, unless they rise as whole numbers do."""
    written = ",".join(f"{value:.1f}" for value in sorted(values)).replace(".", ",")
    items = [int(item) for item in written.split(",")]
    if len(items) > 2 and items == sorted(set(items)):
        assert sigma_grid(written).tolist() == items
    else:
        with pytest.raises(WnError, match="more than one reading"):
            sigma_grid(written)


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("1_000", "'1_000' is no number: write 1000"),
        ("1 000", "write 1000"),
        ("1'000", "write 1000"),
        ("\uff15", "write 5"),
        ("0.1,\u0665", "write 5"),
        ("0x10", "'0x10' is no number"),
        ("007", "write 7"),
        ("0.1:10:1_0", "'1_0' is no whole number: write 10"),
        ("0.1,,1", "a number is missing"),
        ("0.1,1,", "a number is missing"),
        ("lin:1,2", "it has 1 of 3 parts"),
        ("9" * 5000, "is no number"),
        (f"1:2:{'9' * 5000}", "is no whole number"),
    ],
)
def test_only_plain_numbers_are_read(text: str, advice: str) -> None:
    """The kind: what Python reads as a number and people may not have meant."""
    with pytest.raises(WnError) as caught:
        sigma_grid(text)
    assert advice in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("0.1 1 10", "write 0.1, 1, 10"),
        ("1\t2", "write 1, 2"),
        ("0,1 0,2", "write 0.1, 0.2"),
        ("5, 0.1 1", "write 0.1, 1"),
    ],
)
def test_spaces_are_no_commas(text: str, advice: str) -> None:
    """The kind: advice that is another number than what was meant; spaces part thousands or values."""
    with pytest.raises(WnError) as caught:
        sigma_grid(text)
    assert str(caught.value).endswith(advice)
    assert sigma_grid(advice.removeprefix("write ")).size == 2 + text.count("10")


@pytest.mark.parametrize(
    "grid",
    [
        [0, 1, 0, 2],
        (0.5, 0.5),
        np.array([0, 1, 0, 2, 0, 3]),
        [0.0, -0.0],
        "0, 1, 0, 2",
        "1,1",
        "1,1,1,1",
        "0.5,0.5",
        "1:1.000000000001:10",
        "lin:1:1.0000000000000002:5",
    ],
)
def test_no_value_is_dropped_without_a_word(grid: Any) -> None:
    """The kind: a list of decimals in which commas were taken apart, and steps too small for their type."""
    with pytest.raises(WnError, match=r"twice|every number once|more than one reading|too near"):
        sigma_grid(grid)


@pytest.mark.parametrize(
    "grid", [np.append(np.arange(60.0), -1), list(range(9000)) * 2, "1," * 3000 + "-1", [[1]]]
)
def test_a_large_grid_is_no_large_message(grid: Any) -> None:
    with pytest.raises(WnError) as caught:
        sigma_grid(grid)
    assert len(str(caught.value)) < 400
    assert "\n" not in str(caught.value)


def test_masked_values_are_no_values() -> None:
    with pytest.raises(WnError, match="can't be read"):
        sigma_grid(np.ma.array([1.0, 2.0], mask=[False, True]))


def test_a_list_is_as_short_as_a_grid() -> None:
    assert sigma_grid(np.arange(10_000)).size == 10_000
    with pytest.raises(WnError, match="10001 values: at most 10000"):
        sigma_grid(np.arange(10_001))


def test_more_points_than_memory_holds_are_refused() -> None:
    with pytest.raises(WnError, match="COUNT in 2…10000"):
        sigma_grid("0.1:10:1000000000000000")


def test_minus_zero_is_zero() -> None:
    assert repr(float(sigma_grid("-0.0")[0])) == "0.0"
