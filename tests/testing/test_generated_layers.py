"""check_layer on random layers with planted errors; more of them by tests.testing.generated_layers."""

import numpy as np
import pytest

from tests.testing.generated_layers import SIZES, Chain, Plant, generate, table, try_one, violations
from tests.testing.primitives import ANYWHERE, BATCH_NORM, LINEAR, OF_FEATURES, OF_IMAGES
from wn.testing import check_layer

# Seeds of layers that were once judged wrongly: refused though right, or passed though wrong.
ONCE_WRONG = (
    1141,
    1289,
    2168,
    20296,
    20972,
    102940,
    109732,
    109776,
    300136,
    305836,
    306552,
    403416,
    403576,
    408476,
    409768,
    508492,
    607816,
)
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # extreme layers overflow in float32


@pytest.mark.parametrize("first", range(0, 120, 40))
def test_errors_above_the_resolution_are_caught_and_right_layers_pass(first):
    outcomes = [try_one(seed) for seed in range(first, first + 40)]
    assert violations(outcomes) == []
    assert sum(outcome.verdict == "undecided" for outcome in outcomes) <= 3
    assert sum(outcome.above for outcome in outcomes) > 12  # most planted errors are there to be seen
    assert all(outcome.size or outcome.verdict != "caught" for outcome in outcomes)


@pytest.mark.parametrize("seed", ONCE_WRONG)
def test_layers_that_were_once_judged_wrongly(seed):
    assert violations([try_one(seed)]) == []


@pytest.mark.parametrize("bias", [0.0, 10.0, 1000.0])
def test_a_bias_before_batch_norm(bias):
    """Its gradient is exactly 0, of terms that cancel: known, however large the bias."""
    for seed in range(12):
        rng = np.random.default_rng(seed)
        x, w, b = rng.normal(size=(2, 3, 6)), rng.normal(size=(2, 4, 3)), bias + rng.normal(size=(2, 4))
        params = {"p0_0": w, "p0_1": b, "p1_0": rng.normal(size=(2, 4)), "p1_1": rng.normal(size=(2, 4))}
        check_layer(Chain([("linear", LINEAR), ("batch norm", BATCH_NORM)]), None, params, x, seed=seed)


def test_every_primitive_and_size_is_drawn():
    drawn = {name for seed in range(400) for name, _ in generate(seed)[0].steps}
    assert drawn == {*ANYWHERE, *OF_FEATURES, *OF_IMAGES}
    assert {try_one(seed).size for seed in range(4)} == set(SIZES)


@pytest.mark.parametrize("kind", ["element", "factor", "term", "sign", "permutation"])
def test_plants_change_the_gradient_by_their_size(kind):
    chain, params, x = generate(1)
    _, cache = chain.forward(None, params, x)
    dy = np.ones_like(chain.forward(None, params, x)[0])
    right, _ = chain.backward(None, dy, cache)
    for size in (1e-3, 1.0):
        wrong, _ = Chain(chain.steps, Plant("x", kind, size, 3)).backward(None, dy, cache)
        change = np.max(np.abs(wrong - right)) / np.max(np.abs(right))
        assert 1e-6 * size < change <= 4 * size


def test_the_table_counts_what_was_found():
    lines = table([try_one(seed) for seed in range(8)]).splitlines()
    assert lines[0].startswith("| planted error | layers |")
    assert sum(int(line.split("|")[2]) for line in lines[2:]) == 8
