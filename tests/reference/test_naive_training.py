"""Naive Adam, cosine schedule and clamping against traces worked out by hand."""

import math

import numpy as np
import pytest

from reference.naive_training import adam_step, clamp_weights, cosine_annealing


def test_first_adam_step_is_lr_times_sign():
    """At t = 1 the corrections give m = g and v = g², so the step is lr·g/(|g| + ε)."""
    step = adam_step([1.0, 1.0, 1.0], [0.5, -2e3, 0.0], np.zeros(3), np.zeros(3), 1, lr=0.1)
    assert step.parameter == pytest.approx([1 - 0.1 * 0.5 / (0.5 + 1e-8), 1.1, 1.0], rel=1e-12)
    assert step.first == pytest.approx([0.05, -200.0, 0.0])
    assert step.second == pytest.approx([0.00025, 4000.0, 0.0])


def test_adam_trace_of_three_steps():
    """Gradients 1, −2, 3 with β₁ = ½, β₂ = ¾, ε = 1 and lr = 8, written out with fractions."""
    parameter, first, second = np.array([10.0]), np.zeros(1), np.zeros(1)
    expected = 10.0
    # t, m, v, 1 − β₁^t, 1 − β₂^t
    trace = [
        (1.0, 1 / 2, 1 / 4, 1 / 2, 1 / 4),
        (-2.0, 1 / 4 - 1, 3 / 16 + 1, 3 / 4, 7 / 16),
        (3.0, -3 / 8 + 3 / 2, 57 / 64 + 9 / 4, 7 / 8, 37 / 64),
    ]
    for t, (g, m, v, first_correction, second_correction) in enumerate(trace, start=1):
        parameter, first, second = adam_step(parameter, [g], first, second, t, 8.0, 0.5, 0.75, 1.0)
        expected -= 8 * (m / first_correction) / (math.sqrt(v / second_correction) + 1)
        assert first.item() == pytest.approx(m, rel=1e-15)
        assert second.item() == pytest.approx(v, rel=1e-15)
        assert parameter.item() == pytest.approx(expected, rel=1e-14)


def test_epsilon_is_added_after_the_correction():
    """With g = 1e-8 = ε the corrected √v equals ε, so half of lr is taken; ε inside of √v would take less."""
    step = adam_step([0.0], [1e-8], [0.0], [0.0], 1, lr=1.0)
    assert step.parameter.item() == pytest.approx(-0.5, rel=1e-9)


@pytest.mark.parametrize(("epoch", "factor"), [(0, 1.0), (25, 0.5 + math.sqrt(0.125)), (50, 0.5), (100, 0.0)])
def test_cosine_annealing(epoch, factor):
    assert cosine_annealing(3e-3, epoch, 100) == pytest.approx(3e-3 * factor, abs=1e-18)


def test_clamping():
    w = [[-1.5, -1.0, -0.25], [0.0, 1.0, 7.0]]
    assert clamp_weights(w).tolist() == [[-1.0, -1.0, -0.25], [0.0, 1.0, 1.0]]
    assert clamp_weights([3.0, -3.0], low=-2.0, high=0.5).tolist() == [0.5, -2.0]
