"""The simulation of coverage in small: a trained network whose σ share draws, and intervals that hold."""

import math

import numpy as np
import pytest

from tests.fit import coverage_of_intervals as simulation


@pytest.mark.parametrize("kind", ["additive", "multiplicative"])
def test_intervals_of_a_trained_network_hold_the_midpoint(kind: str) -> None:
    found = next(simulation.recorded("mlp", kind, 2, 2, train_limit=2000))
    assert found.site == "input"
    assert found.right.shape == (16, found.clean.size) == (16, 2 * 2000)
    assert found.right.mean(axis=1)[0] == pytest.approx(found.clean.mean(), abs=0.02)
    by_seed = found.right.reshape(16, 2, -1)
    assert (by_seed[:, 0] != by_seed[:, 1]).any()
    runs = 40
    row = simulation.coverage("mlp", kind, found, 1000, runs)
    z = (row.joint - 0.95 * runs) / math.sqrt(0.95 * 0.05 * runs)
    print(f"joint {row.joint}, independent {row.independent} of {runs}, z = {z:.2f}")
    assert abs(z) < 3
    assert f"| 1,000 | {row.midpoint:.3g} | {100 * row.joint / runs:.1f} %" in simulation.table([row])


def test_the_truth_is_that_of_all_images_and_a_resampling_is_not() -> None:
    found = next(simulation.recorded("mlp", "additive", 1, 1, train_limit=500))
    whole = simulation.fitted(found, "additive", None)
    same = simulation.fitted(found, "additive", np.arange(found.clean.size))
    other = simulation.fitted(found, "additive", np.random.default_rng(0).integers(0, found.clean.size, 500))
    assert (whole.midpoint, whole.ci_low) == (same.midpoint, same.ci_low)
    assert other.midpoint != whole.midpoint
    assert other.standard_error > whole.standard_error
