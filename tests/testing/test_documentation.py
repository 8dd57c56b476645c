"""The examples in docs/testing.md run, and fail where the text says that they fail."""

import inspect
import re
from pathlib import Path

import pytest

from wn.testing.functions import check_vjp
from wn.testing.gradients import check_gradient
from wn.testing.moments import TAILS
from wn.testing.tolerances import GRADIENT, GUARD, NEGLIGIBLE, RESOLUTION

PAGE = (Path(__file__).parents[2] / "docs" / "testing.md").read_text("utf-8")
LAYER, FUNCTIONS, STRATEGIES = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)


def test_the_layer_example_runs(capsys):
    exec(LAYER, {"__name__": "example"})
    assert "n = 100000, seed = 1" in capsys.readouterr().out


def test_the_example_of_functions_runs():
    exec(FUNCTIONS, {"__name__": "example"})
    for right, wrong in (
        ("x.T @ dy}", "x.T @ dy * 2}"),
        ("-dy * np.log(p)", "dy * p"),
        ("x.T @ dy)", "dy.T @ x)"),
    ):
        assert FUNCTIONS.count(right) == 1
        with pytest.raises(AssertionError):
            exec(FUNCTIONS.replace(right, wrong), {"__name__": "example"})


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
    assert f"{RESOLUTION:.0e}".replace("e-0", "e-") + " of its terms" in PAGE
    assert f"{NEGLIGIBLE:.0e}".replace("e-0", "e-") + " of what else counts as nothing" in PAGE
    assert f"n ≥ {TAILS:g} κ⁴" in PAGE
    counts = [
        inspect.signature(check).parameters["coordinates"].default for check in (check_gradient, check_vjp)
    ]
    assert "more than {} elements ({} in `check_vjp`)".format(*counts) in PAGE
