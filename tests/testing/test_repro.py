"""A failure's repro snippet is code that runs as it stands and fails in the same way.

Kinds: arrays small and large, lambdas, functions inside of functions with what they refer to, methods,
classes of parameters, populations of one, every check.
"""

import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from tests.testing import test_planted_bugs, toys
from wn.testing import (
    LayerCase,
    check_gradient,
    check_inputs_unchanged,
    check_layer,
    check_population,
    check_shapes,
    check_vjp,
)
from wn.testing.source import Writer

ROOT = Path(__file__).parents[2]
SHIFT = 0.25


class Doubled:
    """A layer with a state: its methods are what is called."""

    def __init__(self, factor):
        self.factor = factor

    def forward(self, be, params, x):
        return self.factor * x, None

    def backward(self, be, dy, cache):
        return dy, ()


class Counted(NamedTuple):
    w: np.ndarray


def half_of(layer, part=0.5):
    """A layer whose gradient of x is only a part of the right one; refers to `layer`, `part` and SHIFT."""

    def forward(be, params, x):
        y, cache = layer[0](be, params, x)
        return y + SHIFT, cache

    def backward(be, dy, cache, factor=part):
        dx, grads = layer[1](be, dy, cache)
        return factor * dx, grads

    return forward, backward


def message_of(call):
    with pytest.raises(AssertionError) as failure:
        call()
    message, mark, snippet = str(failure.value).partition("# repro, seed ")
    assert mark
    return message, f"# repro, seed {snippet}"


def with_local_class():
    class Local(NamedTuple):
        w: np.ndarray

    forward = lambda be, params, x: (params.w * x, (params, x))  # noqa: E731  # what the snippet has to write
    backward = lambda be, dy, cache: (cache[0].w * dy, Local(cache[1] * 0 * dy))  # noqa: E731  # the same
    check_layer((forward, backward), None, Local(np.ones((2, 3, 4))), np.ones((2, 3, 4)))


X = np.random.default_rng(3).normal(size=(2, 3, 4))
LARGE = np.random.default_rng(3).normal(size=(2, 9, 8))
HUGE = np.random.default_rng(3).normal(size=(2, 40, 20))
FAILURES = {
    "a function of a module": lambda: check_layer(
        (toys.linear_forward, test_planted_bugs.no_db), None, *toys.linear_case(), seed=5
    ),
    "arrays over 64 elements": lambda: check_layer(half_of(toys.LINEAR), None, *toys.linear_case(size=9)),
    "arrays in a file": lambda: check_gradient(LayerCase(half_of(toys.RELU), None, (), HUGE)),
    "functions of functions": lambda: check_layer(half_of(half_of(toys.RELU, 0.25), 4.5), None, (), X),
    "lambdas": lambda: check_layer(
        (lambda be, params, x: (np.sin(x), x), lambda be, dy, x: (dy * np.sin(x), ())), None, (), X
    ),
    "a class of parameters in a function": with_local_class,
    "methods": lambda: check_layer((Doubled(3.0).forward, Doubled(3.0).backward), None, (), X),
    "an object": lambda: check_layer(Doubled(3.0), None, (), X),
    "float32": lambda: check_layer(half_of(toys.RELU), None, (), LARGE.astype(np.float32)),
    "static arrays": lambda: check_layer(
        half_static(),
        None,
        toys.SmoothParams(None),
        X,
        static={"weight": X[:, :1, :1]},
        per_member=("weight",),
    ),
    "a population of one": lambda: check_gradient(LayerCase(half_of(toys.RELU), None, (), X[:1]), step=1e-3),
    "a check alone": lambda: check_shapes(
        LayerCase((toys.linear_forward, test_planted_bugs.db_of_every_sample), None, *toys.linear_case())
    ),
    "members": lambda: check_population(
        LayerCase((test_planted_bugs.leak_in_y, toys.linear_backward), None, *toys.linear_case(), seed=3)
    ),
    "inputs": lambda: check_inputs_unchanged(
        LayerCase((test_planted_bugs.writes_into_x, toys.relu_backward), None, *toys.relu_case())
    ),
    "plain functions": lambda: check_vjp(np.exp, lambda dy, x: dy * np.cos(x), X, seed=4),
    "structures and directions": lambda: check_vjp(
        lambda p: p["w"][0] @ p["b"],
        lambda dy, p: {"w": [2 * np.outer(dy, p["b"])], "b": p["w"][0].T @ dy},
        {"w": [X[0]], "b": X[0, 0]},
        directions=[{"w": [X[1]], "b": None}],
    ),
    "numbers": lambda: check_vjp(lambda x, n: x**n, lambda dy, x, n: (dy * x, None), 3.0, 2),
    "several results": lambda: check_vjp(lambda x: (x * x, [x]), lambda dy, x: dy[0] * x, np.float64(3.0)),
}


def half_static():
    def backward(be, dy, cache):
        dx, grads = toys.smooth_backward(be, dy, cache)
        return dx / 2, grads

    return toys.smooth_forward, backward


@pytest.mark.parametrize("name", FAILURES)
def test_the_snippet_fails_in_the_same_way(name):
    message, snippet = message_of(FAILURES[name])
    compile(snippet, "snippet", "exec")
    with pytest.raises(AssertionError) as again:
        exec(snippet, {"__name__": "snippet"})
    assert str(again.value).startswith(message)


def test_a_fresh_interpreter_is_enough():
    message, snippet = message_of(FAILURES["functions of functions"])
    found = subprocess.run(
        [sys.executable, "-c", snippet], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert found.returncode == 1
    assert message.strip() in found.stderr


def test_messages_stay_short():
    for name in ("a function of a module", "arrays over 64 elements", "lambdas", "plain functions"):
        message, snippet = message_of(FAILURES[name])
        assert len(message.splitlines()) == 1
        assert len(snippet.splitlines()) <= 30


def test_values_are_made_again():
    values = {
        "nothing": None,
        "numbers": [1, 2.5, -0.0, float("inf"), 1j, True],
        "text": ("a", b"b"),
        "one": (X,),
        "integers": np.arange(6).reshape(2, 3),
        "booleans": np.array([[True, False]]),
        "infinite": np.array([np.inf, -0.0]),
        "without axes": np.array(1.5, np.float32),
        "empty": np.zeros((0, 3), np.float32),
        "a scalar": np.float32(0.1),
        "long": np.arange(5000) * 0.1,
        "extended": np.longdouble(1) / np.arange(1, 4, dtype=np.longdouble),
        "tuples with names": Counted(X),
        "functions": [np.exp, len, toys.relu_forward],
    }
    writer = Writer()
    expression = writer.expression(values)
    space: dict = {}
    exec(writer.text(), space)
    found = eval(expression, space)
    assert repr(found) == repr(values)
    for name in ("integers", "booleans", "infinite", "without axes", "empty", "long", "extended", "a scalar"):
        assert found[name].dtype == values[name].dtype
        assert found[name].tobytes() == values[name].tobytes()


def test_what_cannot_be_written_is_said():
    space: dict = {}
    exec("def unseen(x):\n    return x", space)
    writer = Writer()
    assert writer.expression(space["unseen"]) == "..."
    assert "# unseen cannot be written out here" in writer.text()
