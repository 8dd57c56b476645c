"""Central differences against derivatives known in closed form."""

import math

import numpy as np
import pytest

from reference import finite_difference as fd


def rosenbrock(x):
    return float(np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2))


def rosenbrock_gradient(x):
    g = np.zeros_like(x)
    g[:-1] = -400 * x[:-1] * (x[1:] - x[:-1] ** 2) - 2 * (1 - x[:-1])
    g[1:] += 200 * (x[1:] - x[:-1] ** 2)
    return g


@pytest.mark.parametrize(("richardson", "relative"), [(False, 1e-8), (True, 1e-11)])
def test_gradient_of_a_known_function(richardson, relative):
    x = np.random.default_rng(0).standard_normal(7)
    expected = rosenbrock_gradient(x)
    found = fd.gradient(rosenbrock, x, richardson=richardson)
    assert np.max(np.abs(found - expected)) <= relative * np.max(np.abs(expected))


def test_richardson_is_more_accurate_at_the_same_step():
    errors = [
        abs(fd.directional_derivative(np.sin, 1.0, 1.0, step=1e-2, richardson=richardson) - math.cos(1.0))
        for richardson in (False, True)
    ]
    assert errors[1] < errors[0] / 1e4
    # The leading error terms of the docstring: h²/6 · f‴ and h⁴/480 · f⁽⁵⁾.
    assert errors[0] == pytest.approx(1e-4 / 6 * math.cos(1.0), rel=1e-3)
    assert errors[1] == pytest.approx(1e-8 / 480 * math.cos(1.0), rel=1e-2)


def test_directional_derivative_is_gradient_times_direction():
    rng = np.random.default_rng(1)
    x, direction = rng.standard_normal((2, 3)), rng.standard_normal((2, 3))
    found = fd.directional_derivative(lambda a: np.sum(np.exp(a)), x, 50 * direction)
    assert found == pytest.approx(50 * np.sum(np.exp(x) * direction), rel=1e-9)


@pytest.mark.parametrize("size", [1e-8, 1.0, 1e8])
def test_the_step_follows_the_size_of_x(size):
    x = size * np.array([1.0, -2.0, 3.0])
    found = fd.gradient(lambda a: np.sum(a**3), x)
    assert found == pytest.approx(3 * x**2, rel=1e-8)
    assert fd.default_step(x) / size == pytest.approx(3 * fd.EPSILON ** (1 / 3), rel=0.5)


def test_an_array_of_zeros_has_a_step():
    assert fd.gradient(lambda a: np.sum(np.sin(a)), np.zeros((2, 2))) == pytest.approx(np.ones((2, 2)))


def test_x_is_not_modified_and_integers_are_taken():
    x = np.array([1, 2, 3])
    assert fd.gradient(lambda a: np.sum(a**2), x) == pytest.approx([2.0, 4.0, 6.0])
    assert x.tolist() == [1, 2, 3]


@pytest.mark.parametrize("direction", [np.zeros(2), np.array([np.nan, 1.0]), np.ones(3)])
def test_directions_that_are_none(direction):
    with pytest.raises(ValueError, match="direction"):
        fd.directional_derivative(np.sum, np.ones(2), direction)
