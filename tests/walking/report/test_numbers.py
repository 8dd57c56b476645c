"""Numbers in text that tell them apart."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wn.walking.report.numbers import apart, share, with_interval


@pytest.mark.parametrize(
    ("values", "besides", "texts"),
    [
        ([0.1, 0.5, 0.9], (0, 1), ["0.1", "0.5", "0.9"]),
        ([0.9999999], (0, 1), ["0.9999999"]),
        ([0.9999999], (), ["1"]),
        ([1.0], (0, 1), ["1"]),
        ([0.99, 0.9999, 1.0], (0, 1), ["0.99", "0.9999", "1"]),
        ([0.1, 0.1000001], (), ["0.1", "0.1000001"]),
        ([1 / 3], (0, 1), ["0.333"]),
        ([1e-9], (0, 1), ["1e-09"]),
        ([], (0, 1), []),
        ([math.nan, 0.5], (), ["0.5"]),
    ],
)
def test_as_few_digits_as_tell_apart(values: list[float], besides: tuple[float], texts: list[str]) -> None:
    assert list(apart(values, besides).values()) == texts


@given(st.lists(st.floats(allow_nan=False), unique=True, max_size=6))
def test_no_two_numbers_have_one_text(values: list[float]) -> None:
    found = apart(values)
    assert len(set(found.values())) == len({*values})


def test_intervals() -> None:
    assert with_interval(1.2345, 1.0, math.inf) == "1.23 [1,\u00a0∞]"
    assert share(0.5, 0.25, 0.75) == "0.500 [0.250,\u00a00.750]"
