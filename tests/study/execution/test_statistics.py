"""Statistics of weights and the signal's power, against direct computation."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.study.runs import TINY, run
from wn.data import catalogue
from wn.engine import backends, models, noise
from wn.engine.layers.linear import LinearParams
from wn.engine.training import Monitor, TrainingState, TrainSettings, train
from wn.random import member_seed
from wn.study.store.writer import Store
from wn.study.tables.results import weights as weights_table
from wn.walking.observed.signal import SignalPower
from wn.walking.observed.weights import weight_statistics

BE = backends.get("numpy")


def direct(w: NDArray[Any]) -> tuple[float, float, float, float]:
    """Mean |w|, standard deviation, 2-norm and share of |w| ≥ 1, number by number."""
    values = [float(value) for value in w.ravel()]
    mean = math.fsum(values) / len(values)
    spread = math.fsum((value - mean) ** 2 for value in values) / len(values)
    norm = math.sqrt(math.fsum(value * value for value in values))
    large = sum(abs(value) >= 1 for value in values) / len(values)
    return math.fsum(map(abs, values)) / len(values), math.sqrt(spread), norm, large


@given(seed=st.integers(0, 2**32 - 1), members=st.integers(1, 3), scale=st.sampled_from([1e-20, 1.0, 1e20]))
def test_weight_statistics_are_direct_ones(seed: int, members: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    shapes = ((members, 3, 5), (members, 4, 2, 3, 3))
    layers = [(rng.standard_normal(shape) * scale + 0.5 * scale).astype(np.float32) for shape in shapes]
    params = ((), LinearParams(layers[0], np.zeros((members, 3))), (), LinearParams(layers[1], np.zeros(4)))
    found = weight_statistics(BE, params)
    assert found.shape == (members, 2, 4)
    assert found.dtype == np.float64
    for p in range(members):
        for place, w in enumerate(layers):
            np.testing.assert_allclose(found[p, place], direct(w[p]), rtol=1e-12)


@pytest.mark.parametrize(
    ("model", "batch_norm", "names"),
    [
        ("mlp-8", "sites", ("fc1", "fc2", "fc3", "logits")),
        ("lenet5", "none", ("conv1", "conv2", "fc1", "fc2", "logits")),
    ],
)
def test_layers_with_weights_have_names(model: str, batch_norm: str, names: tuple[str, ...]) -> None:
    network = models.build(model, (1, 28, 28), 10, batch_norm)
    params = network.initial_parameters(BE, (1, 2), np.float32)
    assert tuple(network.weights(params)) == names
    assert weight_statistics(BE, params).shape == (2, len(names), 4)


# ---- in a study -------------------------------------------------------------------------------------------


class _Watch(Monitor):
    """Keeps copies of the weights after each epoch."""

    def __init__(self) -> None:
        self.state: TrainingState | None = None
        self.epochs: list[list[NDArray[Any]]] = []

    def trained(self, state: TrainingState) -> None:
        self.state = state

    def epoch(self, epoch: int, loss: NDArray[np.float64]) -> None:
        assert self.state is not None
        self.epochs.append([layer.w[0].copy() for layer in self.state.params if hasattr(layer, "w")])


def watched(repeat: int, sigma: float | None) -> list[list[NDArray[Any]]]:
    """The weights after each epoch of one network, trained by itself: epochs of layers."""
    dataset = catalogue.load("fashion-mini").limited(300, 100)
    watch = _Watch()
    train(
        BE,
        models.build("mlp-8", (1, 28, 28), 10),
        dataset,
        TrainSettings(2, dataset.recipe.batch_size, 0.01),
        seeds=(member_seed(0, repeat),),
        noise={} if sigma is None else {4: noise.additive(sigma)},
        monitor=watch,
    )
    return watch.epochs


def test_every_training_of_a_study_has_its_statistics(tmp_path: Path) -> None:
    """Per layer and epoch: mean |w|, standard deviation, norm, and norm relative to the clean twin's."""
    run(tmp_path, TINY.replace('["input", "relu2"]', '["relu2"]').replace("[0.1, 1, 10]", "[1, 10]"))
    with Store.read(tmp_path) as store:
        rows = list(weights_table(store).rows)
        specs = {
            key: (phase, repeat, sigma)
            for key, phase, repeat, sigma in store.rows('SELECT "key", phase, repeat, sigma FROM results')
        }
    networks = [(repeat, sigma) for repeat in range(2) for sigma in (None, 1.0, 10.0)]
    assert len(rows) == len(networks) * 4 * 2
    found = {(specs[key], layer, epoch): values for key, layer, epoch, *values in rows}
    for repeat, sigma in networks:
        clean, own = watched(repeat, None), watched(repeat, sigma)
        spec = ("clean", repeat, 0.0) if sigma is None else ("training", repeat, sigma)
        for epoch in range(2):
            for place, layer in enumerate(("fc1", "fc2", "fc3", "logits")):
                *statistics, norm, large = direct(own[epoch][place])
                relative = norm / direct(clean[epoch][place])[2]
                expected = (*statistics, norm, large, relative)
                np.testing.assert_allclose(found[spec, layer, epoch + 1], expected, rtol=1e-6)
                assert sigma is not None or found[spec, layer, epoch + 1][-1] == 1


def test_relative_norms_wait_for_the_clean_network(tmp_path: Path) -> None:
    run(tmp_path)
    with Store.create_or_open(tmp_path) as store:
        store._db.execute("DELETE FROM weights WHERE unit IN (SELECT id FROM units WHERE clean_key IS NULL)")
        rows = list(weights_table(store).rows)
    assert len(rows) == 2 * 6 * 4 * 2
    assert {row[-1] for row in rows} == {None}


# ---- signal -----------------------------------------------------------------------------------------------


@given(seed=st.integers(0, 2**32 - 1), members=st.integers(1, 3), batches=st.integers(1, 3))
def test_power_is_the_mean_square_of_what_counts(seed: int, members: int, batches: int) -> None:
    """Padded samples do not count; an activation that members share is that of each."""
    rng, power = np.random.default_rng(seed), SignalPower(BE, members)
    seen: dict[int, list[NDArray[Any]]] = {0: [], 3: []}
    for _ in range(batches):
        samples = int(rng.integers(1, 9))
        power.attempt()(samples)(0, np.ones((1, 1, 8), np.float32))  # an attempt that failed
        watch = power.attempt()(samples)
        for site, shape in ((0, (1, 2, 3, 8)), (3, (members, 5, 8))):
            x = (rng.standard_normal(shape) * 1e10).astype(np.float32)
            watch(site, x)
            seen[site].append(x[..., :samples])
        power.keep(tuple(range(members)))
    for p in range(members):
        found = dict(power.of_member(p))
        for site, parts in seen.items():
            values = np.concatenate([part[p % len(part)].ravel() for part in parts]).astype(np.float64)
            assert found[site] == pytest.approx((values**2).mean(), rel=1e-12)


def test_power_of_a_member_does_not_depend_on_the_others() -> None:
    x = np.random.default_rng(1).standard_normal((5, 7, 64)).astype(np.float32)
    together = SignalPower(BE, 5)
    together.attempt()(61)(2, x)
    together.keep((0, 1, 2, 3, 4))
    for p in range(5):
        alone = SignalPower(BE, 1)
        alone.attempt()(61)(2, x[p : p + 1])
        alone.keep((0,))
        assert alone.of_member(0) == together.of_member(p)
