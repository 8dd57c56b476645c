"""Training and evaluation of populations: against the naive loop, reproducible, and clear where they stop."""

import copy
from dataclasses import replace

import numpy as np
import pytest

from reference import naive_training
from tests.engine.populations import check_error
from tests.engine.twin import BE, DENSE, by_name, reference_gradients, same_bits, tiny_data
from wn.data import catalogue
from wn.data.dataset import batch
from wn.engine import models, training
from wn.engine import noise as noises
from wn.engine.backends.numpy.backend import NumpyBackend
from wn.engine.layers.linear import LinearParams
from wn.engine.network import Conditions
from wn.engine.noise import additive, mixed, mixed_direct, multiplicative
from wn.engine.optim import arrays
from wn.engine.training import Monitor, TrainSettings, evaluate, train
from wn.random import Purpose, permutation

NUMPY = NumpyBackend()

DATA = tiny_data()
SETTINGS = TrainSettings(epochs=2, batch_size=16, learning_rate=0.02)


def trained(noise=None, seeds=(1,), settings=SETTINGS, data=DATA, network=DENSE, be=BE, **options):
    return train(be, network, data, settings, seeds=seeds, noise=noise, **options)


def assert_same(first, second, first_member=0, second_member=0):
    for one, other in zip(arrays(first.params), arrays(second.params), strict=True):
        assert same_bits(one[first_member], other[second_member])


def differ(first, second, first_member=0, second_member=0):
    pairs = zip(arrays(first.params), arrays(second.params), strict=True)
    return any(not same_bits(one[first_member], other[second_member]) for one, other in pairs)


class Counter(Monitor):
    """Counts steps per epoch and keeps the losses; `at_step` is called at each step."""

    def __init__(self, at_step=lambda: None):
        self.steps, self.losses, self.steps_of_epochs, self.at_step = 0, [], [], at_step

    def step(self):
        self.steps += 1
        self.at_step()

    def epoch(self, epoch, loss):
        assert epoch == len(self.losses)
        self.losses.append(loss)
        self.steps_of_epochs.append(self.steps)


# ---- the whole loop against the naive one ----------------------------------------------------------------


def naive_training_loop(data, settings, seed, noise, population):
    """Train by the naive network, Adam, schedule and clamping, in float64."""
    params = DENSE.initial_parameters(BE, (seed,) * population, np.float64)
    values = [np.array(array) for array in arrays(params)]
    moments = [(np.zeros(v.shape), np.zeros(v.shape)) for v in values]
    step, losses = 0, []
    for epoch in range(settings.epochs):
        rate = naive_training.cosine_annealing(settings.learning_rate, epoch, settings.epochs)
        order = permutation(seed, len(data.train), epoch, Purpose.SHUFFLE)
        total = np.zeros(population)
        for start in range(0, len(order), settings.batch_size):
            samples = order[start : start + settings.batch_size]
            x = (data.train.images[samples].transpose(1, 2, 3, 0)[None] / 255 - 0.5) / 0.5
            conditions = Conditions(noise, (seed,) * population, samples, epoch, True)
            layers = ((), LinearParams(*values[:2]), (), LinearParams(*values[2:]))
            found = reference_gradients(DENSE, layers, ((),) * 4, x, data.train.labels[samples], conditions)
            total += found.loss * len(samples)
            step += 1
            for i, gradient in enumerate(g for layer in found.gradients for g in layer):
                updated = naive_training.adam_step(values[i], gradient, *moments[i], step, rate)
                values[i], moments[i] = updated.parameter, (updated.first, updated.second)
                if settings.clamp_weights and values[i].ndim == 3:
                    values[i] = naive_training.clamp_weights(values[i])
        losses.append(total / len(data.train))
    return values, losses


@pytest.mark.parametrize("clamp", [False, True])
@pytest.mark.parametrize(
    "noise",
    [
        {},
        noises.everywhere(4, additive([0.2, 1.0], repetitions=2, execution="each")),
        {0: multiplicative(0.3), 2: mixed([0.5, 1.0], 0.5, order="add_mul", repetitions=2)},
    ],
    ids=["clean", "additive", "two kinds"],
)
def test_training_equals_the_naive_loop(noise, clamp):
    data = DATA.limited(9)
    settings = TrainSettings(epochs=3, batch_size=4, learning_rate=0.3, clamp_weights=clamp)
    monitor = Counter()
    found = trained(noise, (3, 3), settings, data, dtype=np.float64, monitor=monitor)
    expected, losses = naive_training_loop(data, settings, 3, noise, 2)
    for array, value in zip(arrays(found.params), expected, strict=True):
        np.testing.assert_allclose(array, value, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(monitor.losses, losses, rtol=1e-9)
    assert clamp == all(np.abs(w).max() <= 1 for w in DENSE.clampable(found.params))


# ---- reproducible ---------------------------------------------------------------------------------------


def test_equal_seeds_give_equal_bits_and_other_seeds_do_not():
    noise = {1: additive(0.3)}
    first = trained(noise)
    assert_same(first, trained(noise))
    assert differ(first, trained(noise, seeds=(2,)))
    assert differ(first, trained(noise, data_seed=2))
    assert differ(first, trained({1: additive(0.31)}))
    assert first.seeds == (1,)
    assert {array.dtype for array in arrays(first.params)} == {np.dtype(np.float32)}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"repetitions": 3, "execution": "each"},
        {"repetitions": 3, "order": "add_mul"},
        {"normalize_to_input_size": True},
    ],
    ids=str,
)
def test_a_member_does_not_depend_on_the_population(options):
    """Bit for bit, with any σ beside it: 0, where its own noise would be no noise, and 1000."""
    sigma_mul, sigma_add = [0.0, 0.3, 0.0, 0.5, 1e3], [0.0, 0.0, 0.4, 1.0, 1e3]
    seeds = (4, 4, 5, 6, 4)
    data = tiny_data(augment=True)

    def noise(member=slice(None)):
        return noises.everywhere(4, mixed_direct(sigma_mul[member], sigma_add[member], **options))

    together = trained(noise(), seeds, data=data, data_seed=9)
    for p, seed in enumerate(seeds):
        alone = trained(noise(p), (seed,), data=data, data_seed=9)
        assert_same(together, alone, p)
    assert differ(together, together, 0, 1)


def test_a_member_of_a_convolutional_population_does_not_depend_on_the_others():
    data = catalogue.load("fashion-mini").limited(150, 10)
    lenet5 = models.build("lenet5", data.image_shape, 10, "sites")
    settings, sigma = TrainSettings(epochs=1, batch_size=64), [0.0, 0.5, 2.0]
    together = trained({1: additive(sigma)}, (1, 1, 2), settings, data, lenet5, data_seed=4)
    for p, seed in enumerate((1, 1, 2)):
        alone = trained({1: additive(sigma[p])}, (seed,), settings, data, lenet5, data_seed=4)
        assert_same(together, alone, p)
        for one, other in zip(arrays(together.states), arrays(alone.states), strict=True):
            assert same_bits(one[p], other[0])


def test_the_order_of_the_data_depends_on_the_data_seed_only(monkeypatch):
    def orders(**options):
        seen = []

        def spy(xp, split, samples, *arguments):
            seen.append(np.array(samples))
            return batch(xp, split, samples, *arguments)

        monkeypatch.setattr(training, "batch", spy)
        trained(be=NumpyBackend(), **options)  # which does every step anew
        return np.concatenate(seen).reshape(2, -1)

    first = orders(data_seed=5)
    np.testing.assert_array_equal(first, orders(data_seed=5, seeds=(7, 8), noise={1: additive(2.0)}))
    np.testing.assert_array_equal(first, orders(seeds=(5, 8)))  # by default the first member's seed
    assert not np.array_equal(first, orders(data_seed=6))
    for epoch in first:
        np.testing.assert_array_equal(np.sort(epoch), np.arange(len(DATA.train)))
    assert not np.array_equal(first[0], first[1])


def test_members_see_the_same_batches_and_augmentation():
    """With one seed and no noise, members stay equal, whatever their number."""
    data = tiny_data(augment=True)
    population = trained(seeds=(3, 3, 4), data=data)
    assert_same(population, population, 0, 1)
    assert differ(population, population, 0, 2)


# ---- batches and monitors -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("samples", "size", "steps"), [(50, 16, 4), (48, 16, 3), (50, 50, 1), (50, 128, 1), (1, 4, 1), (5, 1, 5)]
)
def test_the_last_partial_batch_is_kept(samples, size, steps):
    monitor = Counter()
    settings = TrainSettings(epochs=3, batch_size=size)
    trained(settings=settings, data=DATA.limited(samples), monitor=monitor)
    assert monitor.steps_of_epochs == [steps, 2 * steps, 3 * steps]


def test_the_loss_of_an_epoch_is_the_mean_over_its_samples():
    """Also where the last batch is smaller: with a learning rate of almost 0 it is the initial loss."""
    monitor = Counter()
    trained(settings=TrainSettings(1, 16, 1e-30), monitor=monitor, dtype=np.float64, seeds=(1, 2))
    params = DENSE.initial_parameters(BE, (1, 2), np.float64)
    everything = np.arange(len(DATA.train))
    x = batch(NUMPY, DATA.train, everything, DATA.recipe.preprocessing, np.float64)
    conditions = Conditions({}, (1, 2), everything, 0, True)
    loss, _, _ = training.loss_and_gradients(BE, DENSE, params, ((),) * 4, x, DATA.train.labels, conditions)
    np.testing.assert_allclose(monitor.losses[0], loss, rtol=1e-12)


@pytest.mark.parametrize("where", ["step", "epoch"])
def test_what_a_monitor_raises_stops_the_training(where):
    class Stop(Exception):
        pass

    monitor = Counter()

    def stop(*_):
        if monitor.steps >= 3:
            raise Stop

    if where == "step":
        monitor.at_step = stop
    else:
        monitor.epoch = stop
    with pytest.raises(Stop):
        trained(monitor=monitor)
    assert monitor.steps == (3 if where == "step" else 4)


@pytest.mark.parametrize("stop_after", [1, 3, 4, 5, 7, 8])  # 4 steps an epoch: within one, and at its end
def test_a_training_goes_on_from_any_state_with_the_same_bits(stop_after):
    class Copies(Counter):
        def trained(self, state):
            if state.steps == stop_after:
                self.state = copy.deepcopy(state)

    noise, settings = {1: additive([0.1, 0.2])}, TrainSettings(2, 16, 1e-2)
    network = models.build("mlp-8", DATA.image_shape, len(DATA.classes), "sites")
    whole = Copies()
    expected = trained(noise, (3, 3), settings, network=network, monitor=whole)
    assert whole.steps == 8
    rest = Counter()
    rest.losses = [None] * whole.state.epoch
    found = trained(noise, (3, 3), settings, network=network, monitor=rest, start=whole.state)
    assert rest.steps == whole.steps - stop_after
    for one, other in zip(arrays(tuple(expected)[:2]), arrays(tuple(found)[:2]), strict=True):
        assert same_bits(one, other)
    np.testing.assert_array_equal(rest.losses[-1], whole.losses[-1])


# ---- learning -------------------------------------------------------------------------------------------


def test_the_loss_falls_and_the_accuracy_is_far_above_chance_on_fashion_mini():
    data = catalogue.load("fashion-mini").limited(1000, 500)
    network = models.build("mlp-64", data.image_shape, 10)
    monitor = Counter()
    settings = TrainSettings(epochs=4, batch_size=64, learning_rate=2e-3)
    population = trained({1: additive([0.0, 1.0])}, (1, 1), settings, data, network, monitor=monitor)
    losses = np.array(monitor.losses)
    assert (np.diff(losses, axis=0) < 0).all()
    assert (losses[-1] < 0.6 * losses[0]).all()
    assert (losses[:, 1] > losses[:, 0]).all()  # noise makes it harder
    assert (evaluate(BE, network, population, data) > 0.65 * 500).all()


def test_clamping_holds_the_weights_after_each_step_and_not_at_the_start(monkeypatch):
    seen = []
    clamp = training.optim.clamp_weights

    def spy(be, weights):
        before = max(float(np.abs(w).max()) for w in weights)
        clamp(be, weights)
        seen.append((before, max(float(np.abs(w).max()) for w in weights)))

    monkeypatch.setattr(training.optim, "clamp_weights", spy)
    settings = replace(SETTINGS, clamp_weights=True, learning_rate=2.0)
    monitor = Counter()
    population = trained(settings=settings, monitor=monitor, be=NumpyBackend())
    assert len(seen) == monitor.steps
    assert all(after <= 1 < before for before, after in seen[:1])
    assert all(after <= 1 for _, after in seen)
    biases = [array for name, array in by_name(DENSE, population.params).items() if name.endswith(".b")]
    assert max(float(np.abs(b).max()) for b in biases) > 1
    free = trained(settings=replace(settings, clamp_weights=False))
    assert max(float(np.abs(w).max()) for w in DENSE.clampable(free.params)) > 1


def test_initial_weights_are_not_clamped(monkeypatch):
    """Clamping comes after a step, never before the first forward pass."""
    calls = []
    monkeypatch.setattr(training.optim, "clamp_weights", lambda be, weights: calls.append("clamp"))
    monkeypatch.setattr(training, "batch", lambda *a: calls.append("batch") or batch(*a))
    trained(settings=replace(SETTINGS, clamp_weights=True))
    assert calls == ["batch", "clamp"] * (len(calls) // 2)


# ---- where training stops -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("noise", "quantity"),
    [
        (noises.everywhere(4, multiplicative([0.1, 1e30])), "loss"),
        ({0: additive([0.1, 1e30])}, "sum of squared gradients"),
        (noises.everywhere(4, additive([0.1, 1e30])), "sum of squared gradients"),
    ],
    ids=["loss", "gradient at the input", "gradients everywhere"],
)
def test_noise_beyond_float32_stops_the_training_and_names_epoch_and_member(noise, quantity):
    """A squared gradient that overflows would end the learning silently: Adam's steps would be 0."""
    check_error(
        lambda: trained(noise, (1, 1)), "the range of float32 in epoch 1", quantity, "member 1", "float64"
    )
    if quantity != "loss":
        monitor = Counter()
        trained(noise, (1, 1), dtype=np.float64, monitor=monitor)
        assert np.isfinite(monitor.losses).all()


def test_a_huge_learning_rate_stops_the_training():
    settings = TrainSettings(epochs=5, batch_size=16, learning_rate=1e20)
    check_error(lambda: trained(settings=settings), "training left the range of float32 in epoch", "member 0")


def test_sigma_of_1e10_at_one_site_trains_in_float32():
    for kind in ("additive", "multiplicative", "mixed", "mixed-direct"):
        for site in range(4):
            monitor = Counter()
            trained({site: noises.of_kind(kind, 1e10)}, monitor=monitor)
            assert np.isfinite(monitor.losses).all()
