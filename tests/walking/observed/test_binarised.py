"""Binarisation of trained networks: against plain NumPy, and patterns that are there by construction."""

import numpy as np
import pytest

from tests.analysis.plain import of_activations
from wn.analysis.binarisation import of_weights
from wn.basics.errors import WnError
from wn.data import catalogue
from wn.engine import backends, models, noise
from wn.engine.backends.plain.base import Backend
from wn.engine.training import Population, TrainSettings, evaluate, train
from wn.walking.observed.binarised import of_layers, of_site
from wn.walking.setup import Setup

DATA = catalogue.load("fashion-mini").limited(600, 300)
NETWORK = models.build("mlp-16", DATA.image_shape, 10, "none")
SETUP = Setup(NETWORK, DATA, TrainSettings(epochs=2, batch_size=64, learning_rate=3e-3))


def trained(name: str) -> Population:
    be = backends.get(name)
    return train(be, NETWORK, DATA, SETUP.train, seeds=(3,), noise={})


@pytest.mark.parametrize("name", ["numpy", "numba"])
@pytest.mark.parametrize("site", [0, 1, 2, 7])
def test_a_site_against_plain_arrays(name: str, site: int) -> None:
    be, network = backends.get(name), trained(name)
    found = of_site(be, SETUP, network, site, {})
    x = be.asarray(np.moveaxis(DATA.test.images, 0, -1)[None] / np.float32(255))
    clean = NETWORK.clean_activations(be, network.params, network.states, standardised(x))
    values = be.to_numpy(clean[site])[0]
    np.testing.assert_allclose(found.binarisation, of_activations(values, DATA.test.labels), rtol=1e-4)
    logits = forward(be, network, np.sqrt((values[values != 0] ** 2).mean()) * (values != 0), site)
    assert found.pattern == pytest.approx(np.mean(logits.argmax(0) == DATA.test.labels), abs=1 / 300)


def standardised(x: np.ndarray) -> np.ndarray:
    preprocessing = DATA.recipe.preprocessing
    mean, std = (
        np.asarray(v, np.float32).reshape(1, -1, 1, 1, 1) for v in (preprocessing.mean, preprocessing.std)
    )
    return np.ascontiguousarray((x - mean) / std, np.float32)


def forward(be: Backend, network: Population, values: np.ndarray, site: int) -> np.ndarray:
    """Logits (K, B) from activations at a site, by plain matrix products."""
    x = values.reshape(-1, values.shape[-1]).astype(np.float64)
    depth = NETWORK.site_depths[site]
    for node, layer in list(zip(NETWORK.nodes, network.params, strict=True))[depth:]:
        if layer:
            w, b = be.to_numpy(layer.w)[0], be.to_numpy(layer.b)[0]
            x = w.astype(np.float64) @ x + b[:, None]
        elif node.name.startswith("relu"):
            x = np.maximum(x, 0)
    return x


@pytest.mark.parametrize("name", ["numpy", "numba"])
def test_signs_are_those_of_fair_coins(name: str) -> None:
    """Random signs of the logits cost answers; a second look tosses the same coins."""
    be, network = backends.get(name), trained(name)
    clean = evaluate(be, NETWORK, network, DATA)[0] / 300
    found = of_site(be, SETUP, network, 7, {})
    assert 0 < found.signs < clean
    again = of_site(be, SETUP, network, 7, {})
    assert found == again


def test_under_noise_of_the_site_the_draws_are_those_of_an_evaluation() -> None:
    be, network = backends.get("numpy"), trained("numpy")
    operators = {2: noise.additive(1e-30)}
    assert of_site(be, SETUP, network, 2, operators) == of_site(be, SETUP, network, 2, {})
    assert of_site(be, SETUP, network, 2, {2: noise.additive(1e3)}).pattern < 0.3


def test_weights_by_layer() -> None:
    be, network = backends.get("numpy"), trained("numpy")
    found = of_layers(be, SETUP, network)
    assert list(found) == ["fc1", "fc2", "fc3", "logits"]
    np.testing.assert_equal(found["fc2"], of_weights(be.to_numpy(network.params[3].w)))


def test_numbers_that_leave_the_range_are_not_an_accuracy() -> None:
    be, network = backends.get("numpy"), trained("numpy")
    assert np.isnan(of_site(be, SETUP, network, 2, {2: noise.additive(3e38)}).pattern)


def test_a_site_that_is_none() -> None:
    with pytest.raises(WnError, match="no site 8"):
        of_site(backends.get("numpy"), SETUP, trained("numpy"), 8, {})
