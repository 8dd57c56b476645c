"""The examples in docs/testing.md run, and fail where the text says that they fail."""

import re
from pathlib import Path

import pytest

from wn.testing.tolerances import GRADIENT, GUARD

PAGE = (Path(__file__).parents[2] / "docs" / "testing.md").read_text("utf-8")
LAYER, STRATEGIES = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)


def test_the_layer_example_runs(capsys):
    exec(LAYER, {"__name__": "example"})
    assert "n = 100000, seed = 1" in capsys.readouterr().out


def test_the_mistake_is_reported_as_shown():
    wrong = LAYER.replace("(dy * x).sum(axis=2)", "(dy * x).mean(axis=2)")
    assert wrong != LAYER
    with pytest.raises(AssertionError, match=r"the gradient is wrong: gamma\[0, 0\]: .* \(ratio 0\.2\)"):
        exec(wrong, {"__name__": "example"})


def test_the_strategies_example_runs():
    example: dict = {"__name__": "example"}
    exec(STRATEGIES, example)
    assert example["test_product_in_either_order"]() is None


def test_the_table_shows_the_tolerances_in_force():
    assert f"| {GUARD:g} · eps · √n" in PAGE
    assert f"| {GRADIENT:.1e}".replace("e-08", "e-8") in PAGE
