"""Evaluation of populations: whatever the batch, with the accuracy that theory says, and clear errors."""

from dataclasses import replace

import numpy as np
import pytest

from tests.engine.populations import check_error
from tests.engine.twin import BE, CONVOLUTIONAL, DENSE, same_bits, tiny_data
from wn.basics.groups import GROUPS
from wn.data import catalogue
from wn.data.dataset import Split, batch
from wn.engine import models, training
from wn.engine import noise as noises
from wn.engine.backends.numpy.backend import NumpyBackend
from wn.engine.backends.plain.base import SAMPLE_TILE
from wn.engine.layers.flatten import Flatten
from wn.engine.layers.linear import Linear, LinearParams
from wn.engine.network import Network, Node
from wn.engine.noise import additive, mixed, multiplicative
from wn.engine.training import Population, TrainSettings, count_correct, evaluate, train
from wn.testing.tolerances import Z_LIMIT
from wn.theory.accuracy import correct_count

NUMPY = NumpyBackend()

DATA = tiny_data()
SETTINGS = TrainSettings(epochs=2, batch_size=16, learning_rate=0.02)


def trained():
    return train(BE, DENSE, DATA, SETTINGS, seeds=(1,))


@pytest.mark.parametrize("network", [DENSE, CONVOLUTIONAL], ids=lambda network: network.name)
def test_evaluation_does_not_depend_on_the_batch_size(network):
    data = tiny_data(network, test_samples=1500)
    population = train(BE, network, data, SETTINGS, seeds=(1, 2))
    noise = noises.everywhere(4, mixed([0.5, 1.0], 0.5, order="add_mul", repetitions=2))
    counts, logits = [], []
    for size in (1, 100, 256, 257, 1000, 1500, 5000):
        counts.append(evaluate(BE, network, population, data, noise=noise, batch_size=size))
        parts = [
            network.forward(BE, population.params, population.states, x, conditions)[0][:, :, : len(labels)]
            for x, conditions, labels in training.evaluation_batches(
                BE, data, population.seeds, noise, 0, size, np.float32
            )
        ]
        logits.append(np.concatenate(parts, axis=2))
        assert {part.shape[2] for part in parts[:-1]} <= {
            -(-size // SAMPLE_TILE) * SAMPLE_TILE
        }  # whole tiles
    for count, logit in zip(counts, logits, strict=True):
        assert logit.shape == (2, 3, 1500)
        assert same_bits(logit, logits[0])
        np.testing.assert_array_equal(count, counts[0])
    np.testing.assert_array_equal(counts[0], (logits[0].argmax(axis=1) == data.test.labels).sum(axis=1))


def test_an_image_has_the_same_logits_in_a_smaller_test_set():
    data = catalogue.load("fashion-mini")
    network = models.build("mlp-64", data.image_shape, 10)
    params = network.initial_parameters(BE, (1,), np.float32)
    found = []
    for count in (100, 300):
        part = replace(data, test=data.test.take(np.arange(count)))
        noise = {0: additive(1.0)}
        x, conditions, _ = next(training.evaluation_batches(BE, part, (1,), noise, 0, 512, np.float32))
        found.append(network.forward(BE, params, ((),) * len(params), x, conditions)[0][:, :, :100])
    assert same_bits(*found)


def test_one_network_under_the_noise_of_many():
    """The same counts as one σ at a time: members that share a seed share their draws."""
    population = trained()
    sigma = [0.0, 0.3, 1.0, 3.0]
    together = evaluate(BE, DENSE, population, DATA, noise={1: additive(sigma)})
    alone = [int(evaluate(BE, DENSE, population, DATA, noise={1: additive(s)})[0]) for s in sigma]
    assert together.tolist() == alone
    assert len(set(alone)) > 1


def test_evaluations_have_draws_of_their_own():
    population, noise = trained(), {3: additive(3.0)}
    counts = [int(evaluate(BE, DENSE, population, DATA, noise=noise, evaluation=i)[0]) for i in range(6)]
    assert counts[0] == int(evaluate(BE, DENSE, population, DATA, noise=noise)[0])
    assert len(set(counts)) > 1


def test_a_population_of_another_network_is_refused():
    """The logits of a network with other widths would be counted like any others."""
    wider = Network("wider", (DENSE.nodes[0], Node("fc1", Linear(8)), *DENSE.nodes[2:]), DENSE.input_shape)
    check_error(
        lambda: evaluate(BE, wider, trained(), DATA),
        "the population is not of wider: layer 'fc1' needs arrays of shapes [(8, 6), (8,)]",
        "got [(4, 6), (4,)]",
    )
    longer = Network("longer", (*DENSE.nodes, Node("more", Linear(3))), DENSE.input_shape)
    check_error(lambda: evaluate(BE, longer, trained(), DATA), "has 4 layers: longer has 5")


def test_an_evaluation_has_a_type():
    check_error(
        lambda: evaluate(BE, DENSE, trained(), DATA, dtype=np.float16),
        "dtype is float16: allowed are float32, float64",
    )


def test_sizes_may_be_integers_of_numpy():
    found = evaluate(BE, DENSE, trained(), DATA, batch_size=np.uint8(200))
    np.testing.assert_array_equal(found, evaluate(BE, DENSE, trained(), DATA, batch_size=200))
    settings = TrainSettings(np.uint8(3), batch_size=np.uint8(200))
    assert settings == TrainSettings(3, batch_size=200)
    assert type(settings.epochs) is type(settings.batch_size) is int


@pytest.mark.parametrize("size", [0, -1, 1.5, True, None])
def test_an_evaluation_batch_is_an_integer_of_at_least_one(size):
    check_error(
        lambda: evaluate(BE, DENSE, trained(), DATA, batch_size=size),
        f"the evaluation batch size is {size!r}: it must be an integer of at least 1",
    )


def test_an_evaluation_out_of_range_is_an_error_without_a_warning():
    noise = noises.everywhere(4, multiplicative(1e30))
    check_error(lambda: evaluate(BE, DENSE, trained(), DATA, noise=noise), "out of the range of float32")


def test_counts_of_known_logits():
    logits = np.zeros((2, 3, 4), np.float32)
    logits[0, [0, 1, 2, 1], range(4)] = 1  # member 0 says 0, 1, 2, 1; member 1 is tied: it says 0
    np.testing.assert_array_equal(count_correct(BE, logits, np.array([0, 1, 0, 1])), [3, 2])
    np.testing.assert_array_equal(count_correct(BE, logits, np.array([0, 1])), [2, 1])  # the rest is padding
    for bad in (np.nan, np.inf):
        logits[1, 0, 3] = bad
        check_error(lambda: count_correct(BE, logits, np.array([0, 1, 0, 1])), "out of the range of float32")
        np.testing.assert_array_equal(count_correct(BE, logits, np.array([0, 1, 0])), [2, 2])


def test_counts_by_group_of_known_logits():
    """Sample n belongs to group n mod G; one that is not finite spoils its group, and all is refused."""
    logits = np.zeros((2, 3, 5), np.float32)
    logits[0, [0, 1, 2, 1, 0], range(5)] = 1  # member 0 says 0, 1, 2, 1, 0; member 1 is tied: it says 0
    labels = np.array([0, 1, 0, 0, 0])
    for be in (BE, NUMPY):
        np.testing.assert_array_equal(count_correct(be, logits, labels, 2), [[2, 1], [3, 1]])
        np.testing.assert_array_equal(count_correct(be, logits, labels, 6)[1], [1, 0, 1, 1, 1, 0])
    logits[1, 2, 3] = np.inf
    np.testing.assert_array_equal(NUMPY.count_correct(logits, labels, 2), [[2, 1], [3, -1]])
    check_error(lambda: count_correct(BE, logits, labels, 2), "out of the range of float32")


@pytest.mark.parametrize("samples", [40, 1500])
def test_an_evaluation_by_group_adds_up_and_does_not_depend_on_the_batch(samples):
    data, population = tiny_data(test_samples=samples), trained()
    noise = noises.everywhere(4, multiplicative([0.5, 1.0, 2.0]))
    hits = []
    for x, conditions, labels in training.evaluation_batches(
        BE, data, population.seeds, noise, 0, 256, np.float32
    ):
        logits, _, _ = DENSE.forward(BE, population.params, population.states, x, conditions)
        hits.append(logits.argmax(axis=1)[:, : len(labels)] == labels)
    right = np.concatenate(hits, axis=1)
    groups = min(samples, GROUPS)
    expected = np.stack([right[:, g::groups].sum(axis=1) for g in range(groups)], axis=1)
    assert SAMPLE_TILE % GROUPS == 0
    for size in (1, 256, 1000):
        found = evaluate(BE, DENSE, population, data, noise=noise, batch_size=size, by_group=True)
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(evaluate(BE, DENSE, population, data, noise=noise), right.sum(axis=1))


LOGITS = Network("logits", (Node("flatten", Flatten(), site=False), Node("logits", Linear(4))), (1, 2, 2))


@pytest.mark.parametrize("repetitions", [1, 4])
@pytest.mark.parametrize("kind", ["additive", "multiplicative", "mixed"])
def test_accuracy_under_noise_at_the_logits_is_the_exact_one(kind, repetitions):
    """Each image is right with a known probability; counts are sums of independent answers."""
    seed, images, evaluations = 17, 500, 8
    rng = np.random.default_rng(5)
    test = Split(rng.integers(0, 256, (images, 1, 2, 2), np.uint8), rng.integers(0, 4, images))
    data = replace(DATA, train=test, test=test, classes=("a", "b", "c", "d"))
    w, b = rng.standard_normal((1, 4, 4)), rng.standard_normal((1, 4))
    population = Population(((), LinearParams(w, b)), ((), ()), (seed,))
    x = batch(NUMPY, test, np.arange(images), data.recipe.preprocessing, np.float64)
    clean = w[0] @ x[0].reshape(4, images) + b[0][:, None]  # (K, B)
    noise = noises.of_kind(kind, np.array([0.1, 0.7, 20.0]), repetitions=repetitions, execution="each")
    counts = sum(
        evaluate(BE, LOGITS, population, data, noise={1: noise}, evaluation=i, dtype=np.float64)
        for i in range(evaluations)
    )
    for member, count in enumerate(counts):
        s, t = (np.broadcast_to(sigma, 3)[member] for sigma in (noise.sigma_mul, noise.sigma_add))
        expected = correct_count(clean, np.sqrt(((s * clean) ** 2 + t**2) / repetitions), test.labels)
        z = (int(count) - evaluations * expected.mean) / np.sqrt(evaluations * expected.variance)
        n = images * evaluations
        print(f"{kind}, σ = {s:g} and {t:g}, R = {repetitions}: n = {n}, seed = {seed}, z = {z:+.2f}")
        assert abs(z) < Z_LIMIT
