"""Settings of a training: what they change, and what is refused before it starts."""

from dataclasses import replace

import numpy as np
import pytest

from tests.engine.populations import check_error
from tests.engine.test_training import DATA, SETTINGS, Counter, differ, trained
from tests.engine.twin import BE, CONVOLUTIONAL, DENSE, tiny_data
from wn.basics.errors import WnError
from wn.data import load
from wn.engine import models, training
from wn.engine.layers.batch_norm import BatchNorm
from wn.engine.layers.flatten import Flatten
from wn.engine.layers.linear import Linear
from wn.engine.network import Network, Node
from wn.engine.noise import additive
from wn.engine.training import TrainSettings, evaluate


@pytest.mark.parametrize(
    ("name", "values", "allowed"),
    [
        ("epochs", (0, -1, 1.5, True, "3"), "an integer of at least 1"),
        ("batch_size", (0, -1, 1.5, True, "3"), "an integer of at least 1"),
        ("learning_rate", (0.0, -1e-3, np.inf, np.nan, "x", None, True, 1j), "above 0 and finite"),
        ("clamp_weights", ("no", 1), "True or False"),
        ("class_weights", (1.0, "abc", {1: 1.0}), "a tuple of numbers"),
    ],
)
def test_settings_out_of_range_are_refused(name, values, allowed):
    for value in values:
        check_error(lambda value=value: replace(SETTINGS, **{name: value}), f"{name} is {value!r}", allowed)


@pytest.mark.parametrize("weight", [0.0, -1.0, np.inf, np.nan, "x", None])
def test_class_weights_are_positive_and_one_per_class(weight):
    check_error(lambda: replace(SETTINGS, class_weights=(1.0, weight, 1.0)), f"class weight is {weight!r}")
    check_error(lambda: trained(settings=replace(SETTINGS, class_weights=(1.0, 2.0))), "2 class weights", "3")


def test_class_weights_change_what_is_learned():
    assert differ(trained(), trained(settings=replace(SETTINGS, class_weights=(1.0, 5.0, 1.0))))
    monitor, plain = Counter(), Counter()
    trained(settings=replace(SETTINGS, class_weights=(2.0, 2.0, 2.0)), monitor=monitor)
    trained(monitor=plain)
    np.testing.assert_allclose(monitor.losses, plain.losses, rtol=1e-5)  # only ratios matter


def test_noise_that_does_not_fit_is_refused():
    three = additive([0.1, 0.2, 0.3])
    check_error(lambda: trained({4: three}), "dense has no site 4", "0 input, 1 fc1, 2 relu1, 3 logits")
    for seeds in ((1,), (1, 2)):
        allowed = " or ".join(str(count) for count in sorted({1, len(seeds)}))
        check_error(
            lambda seeds=seeds: trained({2: three}, seeds),
            f"noise at site 2 has values for 3 members: allowed are {allowed}",
        )
    population = trained(seeds=(1, 2))
    check_error(lambda: evaluate(BE, DENSE, population, DATA, noise={2: three}), "allowed are 1 or 2")
    check_error(lambda: evaluate(BE, DENSE, population, DATA, noise={-1: three}), "has no site -1")
    mismatched = {0: three, 1: additive([0.1, 0.2])}
    check_error(
        lambda: evaluate(BE, DENSE, trained(), DATA, noise=mismatched), "site 1", "allowed are 1 or 3"
    )


def test_a_population_has_seeds():
    check_error(lambda: trained(seeds=()), "seeds is empty")
    check_error(lambda: trained(seeds=(-1,)), "seed must be an integer from 0 to 2^64 - 1")


@pytest.mark.parametrize("dtype", [np.int32, np.float16, "float", "f4 ", object, [1]])
def test_a_type_is_float32_or_float64(dtype):
    if dtype == "float":  # NumPy's other name of float64
        assert trained(dtype=dtype).params[1].w.dtype == np.float64
        return
    check_error(lambda: trained(dtype=dtype), "dtype is", "allowed are float32, float64")


NORMED = Network(
    "normed",
    (Node("flatten", Flatten(), site=False), Node("bn1", BatchNorm()), Node("logits", Linear(3))),
    (1, 2, 3),
)


@pytest.mark.parametrize(("samples", "size"), [(33, 16), (1, 16), (50, 1), (7, 6)])
def test_batch_norm_of_one_value_is_refused_before_training(samples, size):
    settings, data = replace(SETTINGS, batch_size=size), DATA.limited(samples)
    monitor = Counter()
    check_error(
        lambda: trained(settings=settings, data=data, network=NORMED, monitor=monitor),
        "layer 'bn1' of normed needs at least 2 values per feature",
        f"({samples} training samples in batches of {size}): use another batch size or sample limit",
    )
    assert monitor.steps == 0


@pytest.mark.parametrize("network", [DENSE, CONVOLUTIONAL], ids=lambda network: network.name)
def test_a_last_batch_of_one_sample_is_fine_without_batch_norm_or_for_images(network):
    monitor = Counter()
    trained(network=network, data=tiny_data(network, train_samples=17), monitor=monitor)
    assert monitor.steps_of_epochs == [2, 4]


@pytest.mark.parametrize(
    ("shape", "classes", "message"),
    [((1, 14, 56), 10, r"\(1, 14, 56\).*\(1, 28, 28\)"), ((1, 28, 28), 12, "12 logits.*10 classes")],
)
def test_data_that_do_not_fit_the_network(shape: tuple[int, int, int], classes: int, message: str) -> None:
    network = models.build("mlp-8", shape, classes)
    dataset = load("fashion-mini").limited(20, 20)
    with pytest.raises(WnError, match=message):
        training.train(BE, network, dataset, TrainSettings(epochs=1), seeds=(1,))
    params = network.initial_parameters(BE, (1,), np.float32)
    states = network.initial_states(BE, 1, np.float32)
    with pytest.raises(WnError, match=message):
        training.evaluate(BE, network, training.Population(params, states, (1,)), dataset)
