"""Rise of the expected loss under little noise: brute force, exact expectations, and draws of the engine."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import wn
from reference import naive_smoothing
from tests.engine.twin import CONVOLUTIONAL, DENSE, random_network
from wn import layers
from wn.basics.errors import WnError
from wn.engine import backends, models
from wn.engine import noise as noises
from wn.engine.layers import noise as noise_layer
from wn.engine.layers.flatten import Flatten
from wn.engine.layers.linear import Linear
from wn.engine.layers.relu import Relu
from wn.engine.network import Conditions, Network, Node
from wn.engine.training import Population
from wn.theory.propagation import linear_variance
from wn.theory.small_noise.kinks import PoolingKinks, half_wave
from wn.theory.small_noise.rise import SmallNoise, gauss_newton_trace, small_noise

BE = backends.get("numpy")
SEED, Z_LIMIT = 11, 6.0
Floats = NDArray[np.float64]
SITES = [(DENSE, site) for site in range(4)] + [(CONVOLUTIONAL, site) for site in range(6)]


def problem(
    network: Network, members: int = 2, images: int = 5, seed: int = 0
) -> tuple[Population, Floats, NDArray[np.int64]]:
    rng = np.random.default_rng([seed, 3])
    params, states = random_network(network, members, seed)
    x = rng.standard_normal((1, *network.input_shape, images))
    return Population(params, states, tuple(range(members))), x, rng.integers(0, 3, images)


def ends(network: Network, population: Population, x: Any, site: int) -> tuple[Floats, Any]:
    """The clean activation (P|1, …, B) at a site, and the function from it to the logits (P, K, B)."""
    activations = network.clean_activations(BE, population.params, population.states, x)

    def logits(at: Floats) -> Floats:
        conditions = Conditions({}, population.seeds, np.arange(at.shape[-1]), 0, False)
        return np.asarray(
            network.forward_from_site(BE, population.params, population.states, at, conditions, site)
        )

    return np.asarray(activations[site]), logits


def losses(logits: Floats, labels: Any) -> Floats:
    """(P, K, B) → (P, B)."""
    top = logits.max(axis=1)
    picked = logits[:, labels, np.arange(logits.shape[-1])]
    return np.asarray(top + np.log(np.exp(logits - top[:, None]).sum(axis=1)) - picked)


# ---- the trace --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["additive", "multiplicative"])
@pytest.mark.parametrize(("network", "site"), SITES)
def test_the_trace_is_that_of_brute_force(network: Network, site: int, kind: Any) -> None:
    population, x, _ = problem(network)
    at, logits = ends(network, population, x, site)
    found = gauss_newton_trace(network, population, x, site, kind)
    assert found.shape == (2, 5)
    for p, image in np.ndindex(2, 5):
        h = at[p % len(at), ..., image]

        def of_image(flat: Floats, p: int = p, shape: tuple[int, ...] = h.shape) -> Floats:
            whole = np.broadcast_to(flat.reshape(1, *shape, 1), (2, *shape, 1))
            return logits(whole)[p, :, 0]

        variance = np.ones(h.size) if kind == "additive" else h.reshape(-1) ** 2
        if network is CONVOLUTIONAL and site == 3 and kind == "additive":
            continue  # noise between a ReLU and a pooling: windows of zeros have no Jacobian
        expected = naive_smoothing.gauss_newton_trace(of_image, h.reshape(-1), variance)
        assert found[p, image] == pytest.approx(expected, rel=1e-5, abs=1e-9)


def test_murray_and_edwards_trace_is_that_of_every_weight() -> None:
    """Noise of every weight of a layer: Σ w_oi² ‖∂/∂w_oi‖² in the metric S, by differences in the weights."""
    population, x, _ = problem(DENSE, members=1, images=3)
    found = gauss_newton_trace(DENSE, population, x, 1, "weights")
    w, b = population.params[1]

    def logits(flat: Floats, image: int) -> Floats:
        params = (*population.params[:1], type(population.params[1])(flat.reshape(w.shape), b))
        other = population._replace(params=(*params, *population.params[2:]))
        return ends(DENSE, other, x[..., image : image + 1], 0)[1](x[..., image : image + 1])[0, :, 0]

    for image in range(3):
        expected = naive_smoothing.gauss_newton_trace(
            lambda flat, image=image: logits(flat, image), w.reshape(-1), w.reshape(-1) ** 2
        )
        assert found[0, image] == pytest.approx(expected, rel=1e-5)


# ---- one kink ---------------------------------------------------------------------------------------------


@given(st.floats(-3, 3), st.floats(0.01, 3))
def test_half_wave_is_the_expectation(z: float, s: float) -> None:
    expected = naive_smoothing.expected(lambda y: np.maximum(y[0], 0), [z], [s], 20_001) - max(z, 0)
    assert half_wave(z, s) == pytest.approx(expected, abs=1e-6 * s)


def test_half_wave_over_all_places_is_half_the_variance() -> None:
    z, s = np.linspace(-10, 10, 4001), 0.8
    assert half_wave(z, s).sum() * (z[1] - z[0]) == pytest.approx(s**2 / 2, rel=1e-4)  # a kink at 0
    assert half_wave([0.0, 1.0], 0.0).tolist() == [0, 0]


def test_the_largest_of_two_is_a_half_wave_of_their_difference() -> None:
    rng = np.random.default_rng(5)
    z, root = rng.normal(size=(2, 7, 3)), rng.normal(size=(2, 2, 7, 3))
    found = PoolingKinks(np.ones((7, 3)), z, root).rise(0.7)
    spread = 0.7 * np.sqrt(((root[0] - root[1]) ** 2).sum(axis=0))
    np.testing.assert_allclose(found, half_wave(z[0] - z[1], spread).sum(axis=0), rtol=0.01)


def test_the_largest_of_four_equals() -> None:
    """E max of four independent standard normals is 1.02938."""
    z, root = np.zeros((4, 1, 1)), np.eye(4)[:, :, None, None]
    assert PoolingKinks(np.ones((1, 1)), z, root).rise(2.0)[0] == pytest.approx(2 * 1.02938, rel=0.01)


# ---- the whole rise ---------------------------------------------------------------------------------------


def narrow(seed: int = 4) -> tuple[Network, Population]:
    """A network of one input."""
    layers = (Flatten(), Linear(6), Relu(), Linear(5), Relu(), Linear(3))
    nodes = tuple(Node(f"n{i}", layer, site=not isinstance(layer, Flatten)) for i, layer in enumerate(layers))
    network = Network("narrow", nodes, (1, 1, 1))
    return network, Population(*random_network(network, 1, seed), (0,))


@pytest.mark.parametrize("kind", ["additive", "multiplicative"])
def test_the_rest_is_of_third_order_with_kinks_and_of_second_without(kind: Any) -> None:
    """Mean over a line of inputs: (E L − L − rise)/σ² goes to 0 with σ, and without kinks it does not."""
    network, population = narrow()
    x = np.linspace(-2, 2, 401)[None, None, None, None]  # (1, 1, 1, 1, B)
    labels = np.zeros(401, np.int64)
    found = small_noise(network, population, x, labels, 0, kind)
    _, logits = ends(network, population, x, 0)

    def rest(sigma: float) -> tuple[float, float]:
        def loss(places: Floats) -> Floats:
            at = places.reshape(1, 1, 1, 1, -1)
            return losses(logits(at), np.zeros(at.shape[-1], np.int64))[0]

        deviation = np.ones(401) if kind == "additive" else np.abs(x.reshape(-1))
        measured = np.array(
            [
                naive_smoothing.expected(loss, [place], [sigma * s]) - loss(np.array([[place]]))[0]
                for place, s in zip(x.reshape(-1), deviation, strict=True)
            ]
        )
        parts = found.rise(sigma)[0], found.smooth(sigma)[0]
        both, smooth = (float(np.mean(measured - part)) / sigma**2 for part in parts)
        return both, smooth

    large, small = rest(0.08), rest(0.02)
    slope = found.rise(0.02).mean() / 0.02**2
    print(f"{kind}: rest/σ² {large[0]:.3g} → {small[0]:.3g}; without kinks {small[1]:.3g}; slope {slope:.3g}")
    assert abs(small[0]) < 0.02 * abs(slope)
    assert abs(small[1]) > 0.2 * abs(slope)


def sampled(
    network: Network, population: Population, x: Floats, labels: Any, site: int, operator: Any, draws: int
) -> tuple[Floats, Floats]:
    """Mean rise of the loss and its standard error by draws of the engine in opposite pairs: (P,)."""
    at, logits = ends(network, population, x, site)
    clean, rises = losses(logits(at), labels), []
    for epoch in range(draws):
        streams = noise_layer.draws(population.seeds, np.arange(len(labels)), epoch, site, True)
        y, _ = noise_layer.forward(BE, operator, at, streams)
        pair = losses(logits(y), labels) + losses(logits(2 * at - y), labels)
        rises.append((pair / 2 - clean).mean(axis=1))
    return np.mean(rises, axis=0), np.std(rises, axis=0, ddof=1) / np.sqrt(draws)


@pytest.mark.parametrize("kind", ["additive", "multiplicative"])
@pytest.mark.parametrize(("network", "site"), SITES)
def test_the_rise_is_that_of_sampled_losses(network: Network, site: int, kind: str) -> None:
    sigma, draws = 0.01, 100
    population, x, labels = problem(network, images=300, seed=1)
    operator = noises.of_kind(kind, sigma)
    mean, error = sampled(network, population, x, labels, site, operator, draws)
    expected = small_noise(network, population, x, labels, site, kind).rise(sigma).mean(axis=1)  # type: ignore  # kind: a str
    # besides the draws: what is of third order, over one image in σ of them
    z = (mean - expected) / np.hypot(error, 0.01 * np.abs(expected))
    print(f"rise/σ² {expected / sigma**2}, z = {z}, n = {draws} pairs × 300 images, seeds 0, 1")
    assert np.abs(z).max() < Z_LIMIT


def test_without_kinks_the_sampled_rise_is_missed() -> None:
    """Their mean over images is of either sign: one member is enough to show what is missed."""
    population, x, labels = problem(DENSE, images=1000, seed=1)
    mean, error = sampled(DENSE, population, x, labels, 0, noises.additive(0.02), 400)
    found = small_noise(DENSE, population, x, labels, 0)
    z = (mean - found.smooth(0.02).mean(axis=1)) / error
    print(f"z without kinks = {z}, n = 400 pairs × 1000 images, seeds 0, 1")
    assert np.abs(z).max() > 2 * Z_LIMIT


def test_weights_noise_is_sampled_noise_of_their_sum() -> None:
    sigma, draws = 0.01, 200
    population, x, labels = problem(DENSE, images=200, seed=2)
    (w, _), at = population.params[1], x.reshape(1, -1, 200)
    spread = np.sqrt(linear_variance(w, at, at**2).variance)
    clean_at, logits = ends(DENSE, population, x, 1)
    rng, clean, rises = np.random.default_rng(SEED), losses(logits(clean_at), labels), []
    for _ in range(draws):
        change = sigma * spread * rng.standard_normal(clean_at.shape)
        pair = [losses(logits(clean_at + sign * change), labels) for sign in (1, -1)]
        rises.append((sum(pair) / 2 - clean).mean(axis=1))
    expected = small_noise(DENSE, population, x, labels, 1, "weights").rise(sigma).mean(axis=1)
    error = np.std(rises, axis=0, ddof=1) / np.sqrt(draws)
    z = (np.mean(rises, axis=0) - expected) / np.hypot(error, 0.01 * np.abs(expected))
    print(f"z = {z}, n = {draws} pairs × 200 images, seed = {SEED}")
    assert np.abs(z).max() < Z_LIMIT


# ---- populations, blocks, refusals ------------------------------------------------------------------------


def test_members_and_blocks_equal_one_at_a_time() -> None:
    population, x, labels = problem(CONVOLUTIONAL, images=70)
    whole = small_noise(CONVOLUTIONAL, population, x, labels, 1)
    assert whole.rise(0.1).shape == (2, 70)
    for p in range(2):
        params, states = (
            [type(t)(*(a[p : p + 1] for a in t)) if t else () for t in trees] for trees in population[:2]
        )
        one = Population(tuple(params), tuple(states), (0,))
        alone = small_noise(CONVOLUTIONAL, one, x[..., 65:68], labels[65:68], 1)
        np.testing.assert_allclose(whole.rise(0.1)[p, 65:68], alone.rise(0.1)[0], rtol=1e-9)


def test_logits_have_no_kinks() -> None:
    population, x, labels = problem(DENSE)
    found: SmallNoise = small_noise(DENSE, population, x, labels, 3)
    np.testing.assert_array_equal(found.kinked(0.1), np.zeros((2, 5)))
    np.testing.assert_array_equal(found.rise(0.0), np.zeros((2, 5)))


def test_what_does_not_fit_is_refused() -> None:
    population, x, labels = problem(DENSE)
    for arguments, message in [
        ((DENSE, population, x, labels, 9), "has no site 9"),
        ((DENSE, population, x, labels, 0, "mixed"), "allowed are additive, multiplicative, weights"),
        ((DENSE, population, x, labels, 2, "weights"), "'relu1' of dense is no linear layer's output"),
        ((DENSE, population, x, labels + 5, 0), "allowed are 0 to 2"),
        ((DENSE, population, x, labels[:3], 0), "3 labels for 5 images"),
        ((DENSE, population, x[:, :, :1], labels, 0), "takes"),
        ((models.build("mlp-8", (1, 2, 3), 3), population, x, labels, 0), "population has"),
    ]:
        with pytest.raises(WnError, match=message):
            small_noise(*arguments)  # type: ignore[arg-type]  # wrong ones on purpose
    with pytest.raises(WnError, match="must not be negative"):
        small_noise(DENSE, population, x, labels, 0).rise(-1.0)


class Leaky(Relu):
    """A layer of one's own, with a kink that nothing here knows."""


def test_unknown_layers_are_refused() -> None:
    nodes = tuple(n._replace(layer=Leaky()) if n.name == "relu1" else n for n in DENSE.nodes)
    network = Network("own", nodes, DENSE.input_shape)
    population, x, labels = problem(DENSE)
    with pytest.raises(WnError, match="'relu1' of own: its kinks are not known"):
        small_noise(network, population, x, labels, 0)
    assert small_noise(network, population, x, labels, 2).trace.shape == (2, 5)


BLOCK = wn.network(
    (1, 2, 3),
    [
        layers.Flatten(),
        layers.Residual([layers.Linear(6), layers.Relu()]),
        layers.Linear(4),
        layers.Relu(),
        layers.Linear(3),
    ],
    name="block",
)


@pytest.mark.parametrize("site", ["block1.add", "fc1", "relu1", "logits"])
def test_before_the_site_there_may_be_branches(site: str) -> None:
    place = BLOCK.site_names.index(site)
    population, x, labels = problem(BLOCK)
    at, logits = ends(BLOCK, population, x, place)
    found = small_noise(BLOCK, population, x, labels, place)
    for p, image in np.ndindex(2, 5):
        h = at[p, :, image]

        def of_image(flat: Floats, p: int = p) -> Floats:
            return logits(np.broadcast_to(flat[None, :, None], (2, len(flat), 1)))[p, :, 0]

        expected = naive_smoothing.gauss_newton_trace(of_image, h, np.ones(h.size))
        assert found.trace[p, image] == pytest.approx(expected, rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("site", ["input", "block1.fc1", "block1.relu1"])
def test_behind_the_site_there_may_be_none(site: str) -> None:
    population, x, _ = problem(BLOCK)
    with pytest.raises(WnError, match=r"layer 'block1.add' of block: branches are joined there") as caught:
        gauss_newton_trace(BLOCK, population, x, BLOCK.site_names.index(site))
    assert "\n" not in str(caught.value)
