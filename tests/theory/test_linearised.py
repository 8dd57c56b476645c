"""Linearised moments, mixtures and predictions against closed forms, plain versions and draws."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import wn
from wn.basics.errors import WnError
from wn.data.dataset import Dataset, Split
from wn.data.recipes import MNIST
from wn.engine import backends
from wn.engine import noise as noises
from wn.engine.layers.average_pooling import AveragePooling
from wn.engine.layers.batch_norm import BatchNorm, RunningStatistics
from wn.engine.layers.convolution import Convolution
from wn.engine.layers.flatten import Flatten
from wn.engine.layers.linear import Linear
from wn.engine.layers.max_pooling import MaxPooling
from wn.engine.layers.relu import Relu
from wn.engine.network import Conditions, Network, Node
from wn.engine.noise import SiteNoise
from wn.engine.training import Population
from wn.theory.curves import predict as predicting
from wn.theory.curves.chain import chain_of
from wn.theory.curves.conditioned import directions, mixture, normal_points
from wn.theory.curves.linearised import Common, linearise
from wn.theory.curves.predict import crossing_of, predict, predict_images

BE = backends.get("numba")
NOTHING = Common({}, {}, {})  # in common
SIGMA = np.array([0.3, 1.0])


def network_of(*layers: Any, shape: tuple[int, ...] = (1, 2, 3)) -> tuple[Network, Population]:
    """A network of layers, all of them sites but a flatten; batch norms have statistics of their own."""
    nodes = tuple(
        Node(f"{i}{type(layer).__name__}", layer, not isinstance(layer, Flatten))
        for i, layer in enumerate(layers)
    )
    network = Network("small", nodes, shape)
    params = network.initial_parameters(BE, (3,), np.float32)
    states, rng = [], np.random.default_rng(5)
    for state in network.initial_states(BE, 1, np.float32):
        if state:
            size = state.mean.shape
            state = RunningStatistics(
                rng.normal(size=size).astype(np.float32), rng.uniform(0.5, 2, size).astype(np.float32)
            )
        states.append(state)
    return network, Population(params, tuple(states), (3,))


def images(count: int, shape: tuple[int, ...] = (1, 2, 3)) -> NDArray[np.float32]:
    return np.random.default_rng(1).normal(size=(1, *shape, count)).astype(np.float32)


def draws(network: Network, population: Population, x: Any, noise: SiteNoise, count: int) -> Any:
    """Logits under noise: (P, K, B, draws), `draws` for each image."""
    first, batch = min(noise), x.shape[-1]
    a = network.clean_activations(BE, *population[:2], x)[first]
    a = np.ascontiguousarray(np.repeat(a, count, axis=-1))
    samples = np.arange(a.shape[-1], dtype=np.uint32)
    conditions = Conditions(noise, population.seeds, samples, 0, training=False)
    logits = network.forward_from_site(BE, *population[:2], a, conditions, first)
    return logits.reshape(*logits.shape[:2], batch, count)


def found_for(network: Network, population: Population, x: Any, noise: SiteNoise) -> Any:
    a = network.clean_activations(BE, *population[:2], x)[min(noise)]
    return linearise(chain_of(network, population, BE), noise, a, NOTHING)


def agrees(found: Any, drawn: Any) -> None:
    """Mean and covariance of logits agree with those of draws: |z| < 6."""
    count = drawn.shape[-1]
    deviation = drawn - drawn.mean(axis=-1, keepdims=True)
    z = (drawn.mean(axis=-1) - found.mean) / (drawn.std(axis=-1) / np.sqrt(count) + 1e-7)
    products = np.einsum("pkbn,plbn->pklbn", deviation, deviation)
    z_covariance = products.mean(-1) - found.covariance
    z_covariance /= products.std(-1) / np.sqrt(count) + 1e-7
    print(f"n={count} seed=3: |z| {np.abs(z).max():.2f}, of covariances {np.abs(z_covariance).max():.2f}")
    assert max(np.abs(z).max(), np.abs(z_covariance).max()) < 6


# ---- exact cases against draws ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["additive", "multiplicative", "mixed"])
def test_affine_layers_are_exact(kind: str) -> None:
    norm = BatchNorm() if kind == "mixed" else BatchNorm(eps=0.5, affine=kind == "additive")
    layers = Convolution(3, (2, 2), padding=(1, 0)), norm, AveragePooling((2, 2)), Flatten(), Linear(3)
    network, population = network_of(*layers)
    noise = {0: noises.of_kind(kind, SIGMA), 2: noises.of_kind(kind, 2 * SIGMA)}
    agrees(
        found_for(network, population, images(3), noise), draws(network, population, images(3), noise, 20_000)
    )


@pytest.mark.parametrize(
    "operator",
    [
        noises.additive(SIGMA, mean=0.4, repetitions=3),
        noises.multiplicative(SIGMA, mean=1.5, repetitions=2, execution="each"),
        noises.mixed_direct(SIGMA, 0.5, order="add_mul", repetitions=2),
        noises.additive(5 * SIGMA, normalize_to_input_size=True),
    ],
    ids=["additive", "multiplicative", "add_mul", "normalised"],
)
def test_one_relu_with_independent_inputs_is_exact(operator: noises.Noise) -> None:
    """Noise that is not Gaussian, (x + D)·M, has these moments too as long as no ReLU follows."""
    network, population = network_of(Flatten(), Linear(5), Relu(), Linear(3))
    site = 2 if operator.order == "add_mul" else 1
    noise = {site: operator}
    agrees(
        found_for(network, population, images(4), noise), draws(network, population, images(4), noise, 20_000)
    )


def test_clean_rows_are_those_of_backward() -> None:
    """With hardly any noise, rows are the gradients of the logits."""
    layers = (
        Convolution(4, (3, 3), stride=(1, 2), padding=(1, 1)),
        BatchNorm(),
        Relu(),
        MaxPooling((2, 2)),
        Flatten(),
    )
    network, population = network_of(*layers, Linear(3), shape=(2, 5, 9))
    x = images(4, (2, 5, 9))
    found = found_for(network, population, x, {0: noises.additive(np.array([1e-5]))})
    conditions = Conditions({}, population.seeds, np.arange(4, dtype=np.uint32), 0, training=False)
    _, cache, _ = network.forward(BE, *population[:2], x, conditions)
    for k in range(3):
        dlogits = np.zeros((1, 3, 4), np.float32)
        dlogits[:, k] = 1
        dx, _ = network.backward(BE, dlogits, cache, need_dx=True)
        assert np.abs(found.rows[0][:, k] - dx).max() < 1e-4


# ---- mixtures and predictions -------------------------------------------------------------------------


def test_mixture_of_an_affine_map_has_its_moments() -> None:
    """Means and covariance of the components together give back the covariance of the logits."""
    network, population = network_of(Flatten(), Linear(4), Linear(3))
    x, noise = images(2), {0: noises.additive(SIGMA), 1: noises.multiplicative(SIGMA)}
    found = found_for(network, population, x, noise)
    points = normal_points(4096, 2, 2, seed=0)
    mixed = mixture(chain_of(network, population, BE), noise, x, found, points, NOTHING)
    centre = np.eye(3) - 1 / 3
    spread = np.einsum("pnkb,pnlb->pklb", *[mixed.means - mixed.means.mean(1, keepdims=True)] * 2) / 4096
    both = np.einsum("ik,pklb,lj->pijb", centre, spread + mixed.covariance[:, 0], centre)
    wanted = np.einsum("ik,pklb,lj->pijb", centre, found.covariance, centre)
    assert np.abs(mixed.means.mean(1) - found.mean).max() < 0.01
    assert np.abs(both - wanted).max() < 0.02 * np.abs(wanted).max()


@pytest.mark.parametrize("kind", ["additive", "multiplicative"])
def test_covariance_given_u_is_that_of_draws_at_the_last_pre_activations(kind: str) -> None:
    """The mixture's covariance, of means and within components, is that of draws: |z| < 6 beyond 0.3 %."""
    network, population = network_of(Flatten(), Linear(6), Relu(), Linear(3))
    x, noise = images(3), {1: noises.of_kind(kind, SIGMA)}
    points = normal_points(4096, 2, 3, seed=0)
    found = found_for(network, population, x, noise)
    a = network.clean_activations(BE, *population[:2], x)[1]
    mixed = mixture(chain_of(network, population, BE), noise, a, found, points, NOTHING)
    assert mixed.covariance.shape == (2, 4096, 3, 3, 3)
    spread = np.einsum("pnkb,pnlb->pklb", *[mixed.means - mixed.means.mean(1, keepdims=True)] * 2) / 4096
    both = spread + mixed.covariance.mean(axis=1)
    drawn = draws(network, population, x, noise, 40_000)
    centre = np.eye(3) - 1 / 3
    # one direction of three is not in u: the logits' mean, of which differences know nothing
    drawn = np.einsum("ik,pkbn->pibn", centre, drawn)
    both = np.einsum("ik,pklb,lj->pijb", centre, both, centre)
    deviation = drawn - drawn.mean(axis=-1, keepdims=True)
    products = np.einsum("pkbn,plbn->pklbn", deviation, deviation)
    z = (products.mean(-1) - both) / (products.std(-1) / 200 + 0.003 * products.mean(-1).max())
    print(f"n=40000 seed=3: |z| {np.abs(z).max():.2f}")
    assert np.abs(z).max() < 6


def test_noise_at_a_later_site_moves_by_what_noise_before_it_did() -> None:
    """Given u multiplied noise spreads as its input does; added noise is always the same."""
    network, population = network_of(Flatten(), Linear(4), Relu(), Linear(3))
    x, points = images(2), normal_points(64, 2, 2, seed=0)
    a = network.clean_activations(BE, *population[:2], x)[1]
    for kind, same in (("additive", True), ("multiplicative", False)):
        noise = {1: noises.of_kind("additive", SIGMA), 2: noises.of_kind(kind, SIGMA)}
        found = found_for(network, population, x, noise)
        alone = {1: noise[1]}
        chain, along = chain_of(network, population, BE), directions(found, 2)
        both = mixture(chain, noise, a, found, points, NOTHING).means
        first = mixture(chain, alone, a, found, points, NOTHING).means
        w = population.params[3].w[0]
        moved = np.einsum("kf,pqfb,nqb->pnkb", w, along.tangents[2], points)
        apart = np.abs(both - first - moved).max() / np.abs(moved).max()
        assert apart < 1e-5 if same else apart > 0.05


def test_directions_explain_the_noise() -> None:
    """With all K − 1 directions nothing of differences of logits is left of what noise brings."""
    network, population = network_of(Flatten(), Linear(5), Relu(), Linear(3))
    found = found_for(network, population, images(3), {0: noises.additive(SIGMA)})
    along = directions(found, 2)
    rest = found.by_noise - np.einsum("pkqb,plqb->pklb", along.of_logits, along.of_logits)
    centre = np.eye(3) - 1 / 3
    assert np.abs(np.einsum("ik,pklb->pilb", centre, rest)).max() < 1e-4 * np.abs(found.by_noise).max()


def test_predicted_accuracies_agree_with_draws() -> None:
    """Exact behind the last ReLU; elsewhere within the error that the prediction says."""
    network, population = network_of(Flatten(), Linear(30), Relu(), Linear(30), Relu(), Linear(3))
    x, sigma = images(100), np.geomspace(0.1, 10, 5)
    labels = network.clean_activations(BE, *population[:2], x)[-1][0].argmax(axis=0)
    for site, method in ((4, "exact"), (0, "conditioned")):
        noise = {site: noises.additive(sigma)}
        found = predict_images(network, population, x, labels, noise, sigma)
        p = (draws(network, population, x, noise, 1000).argmax(axis=1) == labels[:, None]).mean(axis=2)
        error = np.sqrt((p * (1 - p)).sum(axis=1) / 1000) / 100
        z = (found.accuracy - p.mean(axis=1)) / np.hypot(error, found.error / 2 if method == "exact" else 0)
        print(f"n=1000·100 seed=3: z {np.round(z, 2)}, error {found.error}")
        assert found.method == method
        assert found.clean == 1
        if method == "exact":
            assert np.abs(z).max() < 6
        else:
            assert (np.abs(found.accuracy - p.mean(axis=1)) < 6 * error + found.error + 0.005).all()
        low, high = found.crossing_range
        assert np.isnan(found.crossing) or low <= found.crossing <= high or np.isnan(high)


def test_multipliers_that_act_on_each_other_have_a_larger_error(monkeypatch: pytest.MonkeyPatch) -> None:
    network, population = network_of(Flatten(), Linear(5), Relu(), Linear(3))
    x, labels = images(20), np.arange(20) % 3
    for kind, factor in (("additive", 1), ("multiplicative", predicting.COMPOUNDED)):
        noise = {0: noises.of_kind(kind, SIGMA), 1: noises.of_kind(kind, SIGMA)}
        found = predict_images(network, population, x, labels, noise, SIGMA)
        with monkeypatch.context() as patched:
            patched.setattr(predicting, "COMPOUNDED", 1)
            alone = predict_images(network, population, x, labels, noise, SIGMA)
        assert np.allclose(found.error, factor * alone.error)


def test_predict_takes_a_data_set_and_a_member() -> None:
    network, population = network_of(Flatten(), Linear(5), Relu(), Linear(3))
    bytes_ = np.random.default_rng(0).integers(0, 256, (30, 1, 2, 3), dtype=np.uint8)
    split = Split(bytes_, np.arange(30) % 3)
    data = Dataset("small", ("a", "b", "c"), split, split, MNIST)
    both = Population(
        *(
            tuple(type(t)(*(np.concatenate([a, -a]) for a in t)) if t else t for t in trees)
            for trees in population[:2]
        ),
        (3, 4),
    )
    found = [
        predict(
            BE, network, both, data, lambda s: {0: noises.additive(s)}, [0.1, 1], images=20, member=member
        )
        for member in (0, 1)
    ]
    assert found[0].accuracy.shape == (2,)
    assert (found[0].accuracy != found[1].accuracy).any()
    with pytest.raises(WnError, match="unknown method 'guess'"):
        predict(BE, network, population, data, lambda s: {0: noises.additive(s)}, [0.1], method="guess")


class _Double(Relu):
    """A layer of one's own."""


@pytest.mark.parametrize(
    ("layer", "operator", "reason"),
    [
        (_Double(), noises.additive(SIGMA), "moments through _Double are not known"),
        (Relu(), noises.additive(SIGMA, distribution="uniform"), "draws are uniform"),
        (Relu(), noises.additive(SIGMA, in_inference=False), "no noise is on at inference"),
        (Relu(), noises.mixed_direct(SIGMA, SIGMA, order="add_mul"), "multiplied"),
    ],
)
def test_where_theory_cannot_go_it_says_why(layer: Any, operator: noises.Noise, reason: str) -> None:
    network, population = network_of(Flatten(), Linear(5), layer, Linear(3))
    found = predict_images(network, population, images(4), np.zeros(4, np.int64), {1: operator}, SIGMA)
    assert reason in found.reason
    assert found.method == "none"
    assert np.isnan(found.accuracy).all()


@pytest.mark.parametrize(("site", "method"), [(2, "conditioned"), (3, "exact"), (4, "exact")])
def test_what_is_before_the_noise_may_be_any_layer(site: int, method: str) -> None:
    noise, found = {site: noises.additive(SIGMA)}, []
    for layer in (_Double(), Relu()):  # which do the same
        network, population = network_of(Flatten(), layer, Linear(5), Relu(), Linear(3))
        found.append(predict_images(network, population, images(4), np.zeros(4, np.int64), noise, SIGMA))
    assert [each.method for each in found] == [method, method]
    np.testing.assert_array_equal(found[0].accuracy, found[1].accuracy)


def test_a_join_behind_the_noise_is_refused_and_one_before_it_is_not() -> None:
    block = wn.network(4, [wn.layers.Residual([wn.layers.Linear(4)]), wn.layers.Linear(3)], name="block")
    population = Population(block.initial_parameters(BE, (3,), np.float32), ((),) * len(block.nodes), (3,))
    given, join = images(4, (4,)), block.site_names.index("block1.add")
    before, behind = (
        predict_images(block, population, given, np.zeros(4, np.int64), {site: noises.additive(SIGMA)}, SIGMA)
        for site in (0, join)
    )
    assert "moments through Add are not known" in before.reason
    assert behind.method == "exact"
    assert np.isfinite(behind.accuracy).all()


def test_a_window_of_another_size_is_refused() -> None:
    network, population = network_of(MaxPooling((1, 3)), Flatten(), Linear(3))
    with pytest.raises(WnError, match="for 2×2 windows only"):
        chain_of(network, population, BE)


def test_crossing_lies_between_levels() -> None:
    sigma = np.array([1.0, 10, 100])
    assert crossing_of(sigma, np.array([0.9, 0.7, 0.3]), 0.5) == pytest.approx(10**1.5)
    assert np.isnan(crossing_of(sigma, np.array([0.9, 0.7, 0.6]), 0.5))
    assert np.isnan(crossing_of(sigma, np.array([0.4, 0.3, 0.2]), 0.5))
