"""Gains against central differences at every site, sampling under tiny noise, and exact properties."""

from math import prod
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import wn
from tests.engine.backends.cuda import fake_cupy, needs_compiler
from tests.engine.twin import CONVOLUTIONAL, DENSE, random_network, tiny_data
from wn import layers
from wn.analysis.repetitions import optimal
from wn.basics.errors import WnError
from wn.engine import backends
from wn.engine.backends.numpy.backend import NumpyBackend
from wn.engine.backends.plain.base import Backend
from wn.engine.network import Conditions, Network
from wn.engine.noise import Noise, additive, everywhere, mixed, multiplicative
from wn.engine.optim import arrays, with_arrays
from wn.engine.training import Population
from wn.testing import check_variance
from wn.theory import gains
from wn.theory.gains import image_gains, margin_gradient, of_noise, sensitivities, site_gains

NETWORKS = {"dense": DENSE, "convolutional": CONVOLUTIONAL}
GRAPH = wn.network(
    (2, 4, 4),
    [
        layers.Convolution(3, 3, padding=1),
        layers.Residual([layers.Convolution(2, 1), layers.Relu()], shortcut=[layers.Convolution(2, 1)]),
        layers.Concatenate([layers.Convolution(2, 3, padding=1)], []),
        layers.BatchNorm(),
        layers.Flatten(),
        layers.Linear(3),
    ],
    name="graph",
)
HOST = backends.get("numpy")
SIGMA = 1e-6  # so small that no ReLU, pool or rival changes
DRAWS = 20_000


@pytest.fixture(params=["numpy", "numba", pytest.param("cupy", marks=needs_compiler)])
def be(request: pytest.FixtureRequest) -> Backend:
    """Each backend in turn, CuPy's on the stand-in for a GPU."""
    return fake_cupy.backend() if request.param == "cupy" else backends.get(request.param)


def on(be: Backend, population: Population) -> Population:
    tree = (population.params, population.states)
    return Population(*with_arrays(tree, map(be.asarray, arrays(tree))), population.seeds)


def population_of(network: Network, members: int = 2, seed: int = 0, dtype: Any = np.float64) -> Population:
    """Random networks; running variances are not 1."""
    params, states = random_network(network, members, seed, dtype)
    rng = np.random.default_rng([seed, 3])
    states = tuple(
        type(state)(*(np.abs(rng.standard_normal(array.shape)) + 0.5 for array in state)) if state else ()
        for state in states
    )
    return Population(params, states, tuple(range(members)))


def problem(network: Network, batch: int = 5, seed: int = 0) -> tuple[NDArray[Any], NDArray[np.int64]]:
    rng = np.random.default_rng([seed, 2])
    return rng.standard_normal((1, *network.input_shape, batch)), rng.integers(0, 3, batch)


def naive_margins(logits: NDArray[Any], labels: NDArray[np.int64], rivals: NDArray[Any]) -> NDArray[Any]:
    """Logit of the label − that of the rival, member by member and image by image: (P, B)."""
    return np.array(
        [
            [member[labels[n], n] - member[rivals[p, n], n] for n in range(len(labels))]
            for p, member in enumerate(logits)
        ]
    )


def naive_rivals(logits: NDArray[Any], labels: NDArray[np.int64]) -> NDArray[Any]:
    return np.array(
        [
            [
                max((k for k in range(len(m)) if k != labels[n]), key=lambda k: m[k, n])
                for n in range(len(labels))
            ]
            for m in logits
        ]
    )


def naive_gains(network: Network, population: Population, x: Any, labels: Any, h: float = 1e-6) -> Any:
    """Σ_i of squared central differences of the margin, at every site: (2, P, S, B)."""
    params, states, seeds = population
    clean = network.clean_activations(HOST, params, states, x)
    starts = network.clean_starts(HOST, params, states, x)  # in a graph, all that is read behind the site
    rivals = naive_rivals(clean[-1], labels)
    quiet = Conditions({}, seeds, np.arange(x.shape[-1]), 0, training=False)
    found = np.zeros((2, len(seeds), len(clean), x.shape[-1]))
    for site, value in enumerate(clean):
        value = np.broadcast_to(value, (len(seeds), *value.shape[1:]))
        for element in np.ndindex(value.shape[1:-1]):
            margins = []
            for step in (h, -h):
                moved = value.copy()
                moved[(slice(None), *element)] += step
                start = network.replaced(starts[site], site, moved)
                logits = network.forward_from_site(HOST, params, states, start, quiet, site)
                margins.append(naive_margins(logits, labels, rivals))
            slope = (margins[0] - margins[1]) / (2 * h)  # (P, B)
            found[0, :, site] += slope**2
            found[1, :, site] += (slope * value[(slice(None), *element)]) ** 2
    return found


@pytest.mark.parametrize("network", [DENSE, CONVOLUTIONAL, GRAPH], ids=lambda network: network.name)
def test_gains_equal_central_differences_at_every_site(network: Network, be: Backend) -> None:
    population, (x, labels) = population_of(network), problem(network)
    expected = naive_gains(network, population, x, labels)
    found = image_gains(be, network, on(be, population), be.asarray(x), labels)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-8)


def test_a_planted_bug_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rival that is not subtracted, as in the gradient of a logit alone."""

    def planted(be: Backend, logits: Any, labels: Any) -> Any:
        return np.maximum(margin_gradient(be, logits, labels), 0)

    population, (x, labels) = population_of(DENSE), problem(DENSE)
    expected = naive_gains(DENSE, population, x, labels)
    monkeypatch.setattr(gains, "margin_gradient", planted)
    found = image_gains(HOST, DENSE, population, x, labels)
    assert not np.allclose(found, expected, rtol=0.01)


def without_ties(population: Population) -> Population:
    """The same with a larger β behind batch norm: no window of the pool has zeros alone."""
    params = tuple(
        t._replace(beta=t.beta + 3) if "beta" in getattr(t, "_fields", ()) else t for t in population[0]
    )
    return population._replace(params=params)


def test_ties_in_a_pool_are_where_there_is_no_first_order() -> None:
    """Behind a ReLU a window may be 0 throughout; the largest of its noises is no linear function of them."""
    population, (x, labels) = population_of(CONVOLUTIONAL, 1, 7), problem(CONVOLUTIONAL, 1, 7)
    before_pool = CONVOLUTIONAL.clean_activations(HOST, *population[:2], x)[3]
    windows = before_pool[0, :, :4, :4, 0].reshape(2, 2, 2, 2, 2).max(axis=(2, 4))
    assert (windows == 0).any()
    gain = float(image_gains(HOST, CONVOLUTIONAL, population, x, labels)[0, 0, 3, 0])
    assert sampled(CONVOLUTIONAL, population, x, labels, 3, additive(SIGMA)).var() < 0.9 * gain


def sampled(
    network: Network, population: Population, x: Any, labels: Any, site: int, noise: Noise
) -> NDArray[Any]:
    """The margin of one image under the engine's draws of noise at a site, centred, in units of SIGMA."""
    copies, trees = np.repeat(x, DRAWS, axis=-1), (population.params, population.states)
    clean = network.clean_activations(HOST, *trees, copies)
    rival = naive_rivals(clean[-1][..., :1], labels)[0, 0]
    conditions = Conditions({site: noise}, (7,), np.arange(DRAWS), 0, training=False)
    logits = network.forward_from_site(HOST, *trees, clean[site], conditions, site)
    margins = logits[0, labels[0]] - logits[0, rival]
    return np.asarray((margins - margins.mean()) / SIGMA)


KINDS = {
    "additive": additive(SIGMA),
    "multiplicative": multiplicative(SIGMA),
    "mixed": mixed(SIGMA, 0.3),
    "mixed add->mul, three draws": mixed(SIGMA, 0.6, order="add_mul", repetitions=3),
    "normalised, two": additive(SIGMA, normalize_to_input_size=True, repetitions=2),
    "uniform": multiplicative(SIGMA, distribution="uniform", repetitions=2),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NETWORKS)
def test_the_variance_of_the_margin_under_tiny_noise_is_the_gain(name: str, kind: str) -> None:
    network, noise, seed = NETWORKS[name], KINDS[kind], 7
    population, (x, labels) = without_ties(population_of(network, 1, seed)), problem(network, 1, seed)
    found = image_gains(HOST, network, population, x, labels).mean(axis=3)
    of_one = gains.Gains(*found, np.zeros_like(found[0]), np.zeros_like(found[0]), 1)
    for site in range(len(network.site_names)):
        expected = float(of_noise(of_one, network, {site: noise})[0, site])
        where = f"{name}, {kind}, site {site}"
        margins = sampled(network, population, x, labels, site, noise)
        check_variance(margins, expected / SIGMA**2, seed=7, name=where)


@given(st.integers(0, 50), st.floats(0.1, 10))
def test_the_logits_have_two_and_scaled_logits_scale_what_is_before(seed: int, a: float) -> None:
    population, (x, labels) = population_of(DENSE, seed=seed), problem(DENSE, seed=seed)
    found = image_gains(HOST, DENSE, population, x, labels)
    assert (found[0, :, -1] == 2).all()
    last = population.params[-1]
    scaled = population._replace(params=(*population.params[:-1], type(last)(*(a * w for w in last))))
    other = image_gains(HOST, DENSE, scaled, x, labels)
    np.testing.assert_allclose(other[:, :, :-1], a**2 * found[:, :, :-1], rtol=1e-9)
    np.testing.assert_allclose(other[1, :, -1], a**2 * found[1, :, -1], rtol=1e-9)
    assert (other[0, :, -1] == 2).all()


@given(st.integers(0, 50))
def test_relus_and_pools_pass_multiplicative_noise_on(seed: int) -> None:
    """y·∂m/∂y = x·∂m/∂x where y is x or 0: M may stand before or behind."""
    population, (x, labels) = population_of(CONVOLUTIONAL, seed=seed), problem(CONVOLUTIONAL, seed=seed)
    found = image_gains(HOST, CONVOLUTIONAL, population, x, labels)[1]  # input conv bn relu pool logits
    np.testing.assert_allclose(found[:, 2], found[:, 3], rtol=1e-12)
    np.testing.assert_allclose(found[:, 3], found[:, 4], rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_population_over_all_images_is_its_members_one_by_one(be: Backend, dtype: Any) -> None:
    data = tiny_data(CONVOLUTIONAL, test_samples=300)  # more than a tile
    everyone = population_of(CONVOLUTIONAL, 3, dtype=dtype)
    cast = [
        tuple(type(t)(*(v.astype(dtype) for v in t)) if t else () for t in trees) for trees in everyone[:2]
    ]
    everyone = Population(cast[0], cast[1], everyone.seeds)
    found = site_gains(be, CONVOLUTIONAL, on(be, everyone), data, images=300, dtype=dtype)
    assert found.images == 300
    for p in range(3):
        trees = [
            tuple(type(t)(*(v[p : p + 1] for v in t)) if t else () for t in tree) for tree in everyone[:2]
        ]
        alone = Population(trees[0], trees[1], everyone.seeds[p : p + 1])
        single = site_gains(be, CONVOLUTIONAL, on(be, alone), data, images=300, dtype=dtype)
        for whole, part in zip(found[:4], single[:4], strict=True):
            np.testing.assert_allclose(whole[p : p + 1], part, rtol=1e-4 if dtype == np.float32 else 1e-11)


def test_mean_and_standard_error_are_those_of_the_images() -> None:
    data = tiny_data(DENSE, test_samples=40)
    population = population_of(DENSE, 2)
    found = site_gains(HOST, DENSE, population, data, images=10_000, dtype=np.float64)
    pixels = (np.moveaxis(data.test.images, 0, -1)[None] / 255 - 0.5) / 0.5
    one_by_one = image_gains(HOST, DENSE, population, pixels, data.test.labels)
    assert found.images == 40
    np.testing.assert_allclose(found[:2], one_by_one.mean(axis=3), rtol=1e-10)
    errors = np.sqrt(((one_by_one - one_by_one.mean(axis=3, keepdims=True)) ** 2).sum(axis=3) / 39 / 40)
    np.testing.assert_allclose(found[2:4], errors, rtol=1e-8, atol=1e-12)


def test_repetitions_and_normalisation_divide() -> None:
    found = site_gains(HOST, DENSE, population_of(DENSE), tiny_data(DENSE), images=20, dtype=np.float64)
    sizes = np.array([prod(shape) for shape in DENSE.site_shapes()])

    def contribution(noise: Noise) -> NDArray[np.float64]:
        return of_noise(found, DENSE, everywhere(4, noise))

    np.testing.assert_allclose(contribution(additive(1.0)), found.additive)
    np.testing.assert_allclose(contribution(multiplicative(2.0)), 4 * found.multiplicative)
    np.testing.assert_allclose(contribution(additive(1.0, repetitions=5)), found.additive / 5)
    normalised = contribution(additive(1.0, normalize_to_input_size=True))
    np.testing.assert_allclose(normalised, found.additive / sizes**2)
    both = 0.25**2 * found.additive + 0.75**2 * found.multiplicative
    np.testing.assert_allclose(contribution(mixed(1.0, 0.25)), both)
    assert (of_noise(found, DENSE, {1: additive(1.0)})[:, [0, 2, 3]] == 0).all()


def test_the_least_variance_is_at_repetitions_in_proportion_to_c() -> None:
    found = site_gains(HOST, DENSE, population_of(DENSE), tiny_data(DENSE), images=20, dtype=np.float64)
    c = sensitivities(found.additive)
    np.testing.assert_allclose(c, [np.sqrt((a + b) / 2) for a, b in found.additive.T])
    many = np.array(optimal(1 / c, 100_000))
    np.testing.assert_allclose(many / many.sum(), c / c.sum(), atol=1e-4)


@pytest.mark.parametrize(
    ("noise", "message"),
    [
        ({0: additive([1.0, 2.0])}, "values for each member"),
        ({1: additive(1.0, mean=0.5)}, "not 1 and 0.5"),
        ({2: multiplicative(1.0, mean=0.8)}, "not 0.8 and 0"),
        ({7: additive(1.0)}, "has no site 7"),
    ],
)
def test_noise_that_gains_do_not_know(noise: dict[int, Noise], message: str) -> None:
    found = site_gains(HOST, DENSE, population_of(DENSE), tiny_data(DENSE), images=20, dtype=np.float64)
    with pytest.raises(WnError, match=message):
        of_noise(found, DENSE, noise)


def test_what_has_no_gains() -> None:
    data, population = tiny_data(DENSE), population_of(DENSE)
    with pytest.raises(WnError, match="gains of 1 images"):
        site_gains(HOST, DENSE, population, data, images=1)
    with pytest.raises(WnError, match="the population has 3 layers"):
        site_gains(HOST, DENSE, population_of(DENSE)._replace(params=((), (), ())), data)
    params = tuple(type(t)(*(1e200 * v for v in t)) if t else () for t in population.params)
    with pytest.raises(WnError, match="not finite in float64"):
        site_gains(NumpyBackend(), DENSE, population._replace(params=params), data, dtype=np.float64)
