"""Mean and covariance of logits: exact where they are, close elsewhere, against draws of the engine."""

import math
from typing import Any

import numpy as np
import pytest

import wn
from wn.basics.errors import WnError
from wn.engine import backends, models
from wn.engine import noise as noises
from wn.engine.layers.batch_norm import RunningStatistics
from wn.engine.layers.flatten import Flatten
from wn.engine.layers.linear import Linear
from wn.engine.layers.relu import Relu
from wn.engine.network import Conditions, Network, Node
from wn.engine.noise import Noise
from wn.theory.through import network as swept
from wn.theory.through.forms import Diagonal, Factored, Full, covariances, variances, with_noise
from wn.theory.through.network import logit_moments

BE = backends.get("numpy")
IMAGE = (1, 14, 14)
BATCH = 3
OPERATORS = {
    "additive": noises.additive(0.7),
    "multiplicative": noises.multiplicative(0.8),
    "mixed": noises.mixed(0.9, 0.4, mean_add=0.2),
    "add, then multiply": noises.mixed_direct(0.5, 0.6, order="add_mul"),
    "uniform": noises.additive(0.7, distribution="uniform", repetitions=3),
    "laplace": noises.multiplicative(0.6, distribution="laplace", mean=1.2),
    "four times": noises.additive(1.5, repetitions=4),
    "each": noises.multiplicative(1.5, repetitions=4, execution="each"),
    "normalised": noises.additive(9.0, normalize_to_input_size=True),
}


class Case:
    """A network with random parameters, and its activations for a few images."""

    def __init__(self, name: str, batch_norm: str = "none", shape: tuple[int, ...] = IMAGE) -> None:
        rng = np.random.default_rng(4)
        self.network = models.build(name, shape, 4, batch_norm)
        self.params = self.network.initial_parameters(BE, [3], np.float64)
        self.states = tuple(
            RunningStatistics(
                0.3 * rng.normal(size=state.mean.shape), rng.uniform(0.3, 2, size=state.variance.shape)
            )
            if state
            else state
            for state in self.network.initial_states(BE, 1, np.float64)
        )
        self.x = rng.normal(size=(*shape, BATCH))
        self.clean = self.network.clean_activations(BE, self.params, self.states, self.x[None])

    def site(self, name: str) -> int:
        return self.network.site_names.index(name)

    def moments(self, noise: dict[int, Noise], **options: Any) -> Any:
        return logit_moments(self.network, self.params, self.states, self.x, noise, **options)

    def draws(self, noise: dict[int, Noise], n: int, seed: int) -> Any:
        """Logits (K, n, BATCH) of the engine's own draws."""
        found = []
        for sample in range(BATCH):
            x = np.repeat(self.x[None, ..., sample : sample + 1], n, axis=-1)
            samples = np.arange(n, dtype=np.uint32) + sample * n
            conditions = Conditions(noise, (seed,), samples, 0, training=False)
            first = min(noise)
            start = np.repeat(self.clean[first][..., sample : sample + 1], n, axis=-1) if first else x
            found.append(
                self.network.forward_from_site(BE, self.params, self.states, start, conditions, first)[0]
            )
        return np.stack(found, axis=-1)


def z_scores(y: Any, found: Any) -> tuple[float, float]:
    """The largest |z| of means and of covariances: y (K, n, B) against the moments."""
    n = y.shape[1]
    centred = y - found.mean[:, None]
    z_mean = centred.mean(axis=1) / (y.std(axis=1) / math.sqrt(n))
    products = centred[:, None] * centred[None]  # (K, K, n, B)
    z = (products.mean(axis=2) - found.covariance) / (products.std(axis=2) / math.sqrt(n))
    return float(np.abs(z_mean).max()), float(np.abs(z).max())


@pytest.fixture(scope="module")
def mlp() -> Case:
    return Case("mlp-8", "sites")


@pytest.fixture(scope="module")
def lenet() -> Case:
    return Case("lenet5", shape=(1, 16, 16))


@pytest.mark.parametrize("kind", OPERATORS)
@pytest.mark.parametrize("form", swept.FORMS)
def test_noise_at_the_last_relu_is_exact_for_every_kind_and_form(kind: str, form: str, mlp: Case) -> None:
    n, seed = 20_000, 21
    noise = {mlp.site("relu3"): OPERATORS[kind]}
    found = mlp.moments(noise, form=form)
    worst = z_scores(mlp.draws(noise, n, seed), found)
    print(f"{kind}: max |z| {worst[0]:.2f}, {worst[1]:.2f}, n = {n}, seed = {seed}")
    assert max(worst) < 6


@pytest.mark.parametrize("place", ["fc3", "bn3", "relu2", "fc2"])
def test_gaussian_noise_before_one_relu_is_exact(place: str) -> None:
    """fc2 too: the ReLU between acts on independent elements, and bn3 maps Gaussian to Gaussian."""
    case = Case("mlp-8", "sites")
    n, seed = 40_000, 22
    noise = {case.site(place): noises.additive(0.5)}
    found = case.moments(noise, terms=60)
    worst = z_scores(case.draws(noise, n, seed), found)
    print(f"{place}: max |z| {worst[0]:.2f}, {worst[1]:.2f}, n = {n}, seed = {seed}")
    if place == "fc2":  # rectified elements are not Gaussian, and relu3 sees that
        assert worst[1] < 30
    else:
        assert max(worst) < 6


def test_noise_at_several_sites_and_at_the_logits_adds_up(mlp: Case) -> None:
    last, logits = mlp.site("relu3"), mlp.site("logits")
    noise = {last: noises.additive(0.4), logits: noises.multiplicative(0.5)}
    n, seed = 40_000, 23
    found = mlp.moments(noise)
    worst = z_scores(mlp.draws(noise, n, seed), found)
    print(f"max |z| {worst[0]:.2f}, {worst[1]:.2f}, n = {n}, seed = {seed}")
    assert max(worst) < 6


def test_full_covariance_is_close_to_draws_at_every_site(mlp: Case) -> None:
    n, seed = 20_000, 24
    for site, name in enumerate(mlp.network.site_names):
        noise = {site: noises.additive(0.3)}
        found, y = mlp.moments(noise), mlp.draws(noise, n, seed)
        trace = np.einsum("kkb->b", found.covariance) / y.var(axis=1).sum(axis=0)
        print(name, np.round(trace, 3))
        assert np.abs(trace - 1).max() < 0.15  # of 8 units' sums, which are far from Gaussian


@pytest.mark.parametrize("place", ["pool1", "conv2", "pool2", "fc1"])
def test_forms_through_convolutions_and_pooling(place: str, lenet: Case) -> None:
    n, seed = 10_000, 25
    noise = {lenet.site(place): noises.additive(0.1)}
    y = lenet.draws(noise, n, seed)
    wanted = y.var(axis=1).sum(axis=0)
    full = np.einsum("kkb->b", lenet.moments(noise).covariance) / wanted
    factored = np.einsum("kkb->b", lenet.moments(noise, form="factored", rank=64).covariance) / wanted
    diagonal = np.einsum("kkb->b", lenet.moments(noise, form="diagonal").covariance) / wanted
    print(place, np.round(full, 3), np.round(factored, 3), np.round(diagonal, 3))
    assert np.abs(full - 1).max() < 0.1
    assert np.abs(factored - 1).max() < 0.5
    assert (diagonal > 0).all()


def test_a_relu_and_the_pooling_behind_it_are_one_step_unless_noise_is_between(lenet: Case) -> None:
    before = {lenet.site("conv2"): noises.additive(0.5)}
    between = before | {lenet.site("relu2"): noises.additive(0.5)}
    n, seed = 10_000, 26
    for noise in (before, between):
        found, y = lenet.moments(noise, form="full"), lenet.draws(noise, n, seed)
        error = np.abs(found.mean - y.mean(axis=1)) / y.std(axis=1)
        print(np.round(error.max(), 3))
        assert error.max() < 0.15


def test_parts_of_a_batch_make_no_difference(lenet: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = {lenet.site("pool1"): noises.additive(0.3)}
    for form in swept.FORMS:
        whole = lenet.moments(noise, form=form)
        with monkeypatch.context() as context:
            context.setattr(swept, "ROOM", 1)
            parts = lenet.moments(noise, form=form)
        np.testing.assert_allclose(parts.covariance, whole.covariance, rtol=1e-7, atol=1e-12)


def test_a_sweep_may_start_at_the_clean_activation_of_a_site(mlp: Case) -> None:
    site = mlp.site("relu2")
    noise = {site: noises.additive(0.3)}
    whole = mlp.moments(noise)
    activation = mlp.clean[site][0]
    tail = logit_moments(mlp.network, mlp.params, mlp.states, activation, noise, site=site)
    np.testing.assert_allclose(tail.covariance, whole.covariance, rtol=1e-12)
    np.testing.assert_allclose(tail.mean, whole.mean, rtol=1e-12)


def test_without_noise_the_logits_are_the_engines(lenet: Case) -> None:
    found = lenet.moments({})
    np.testing.assert_allclose(found.mean, lenet.clean[-1][0], rtol=1e-10)
    assert not found.covariance.any()


@pytest.mark.parametrize("kind", OPERATORS)
def test_noise_has_the_same_variance_in_every_form(kind: str) -> None:
    rng = np.random.default_rng(1)
    mean, factor = rng.normal(size=(2, 3, 5)), rng.normal(size=(2, 3, 2, 5))
    given = Factored(mean, factor, rng.random((2, 3, 5)))
    diagonal = with_noise(Diagonal(mean, variances(given)), OPERATORS[kind])
    full = with_noise(Full(mean, covariances(given)), OPERATORS[kind])
    factored = with_noise(given, OPERATORS[kind])
    np.testing.assert_allclose(variances(full), variances(diagonal), rtol=1e-12)
    np.testing.assert_allclose(covariances(factored), covariances(full), rtol=1e-11, atol=1e-12)
    np.testing.assert_array_equal(full.mean, diagonal.mean)


def test_what_theory_cannot_do_is_refused_by_name(mlp: Case) -> None:
    noise = {0: noises.additive(0.1)}

    class Softplus(Relu):
        """A layer of the user's own."""

    own = Network(
        "own", (Node("flat", Flatten(), False), Node("soft", Softplus()), Node("out", Linear(2))), IMAGE
    )
    params = own.initial_parameters(BE, [0], np.float64)
    with pytest.raises(WnError, match=r"own: layer 'soft': theory has no moments of layer Softplus"):
        logit_moments(own, params, ((), (), ()), mlp.x, noise)
    with pytest.raises(WnError, match="unknown form 'whole'"):
        mlp.moments(noise, form="whole")
    with pytest.raises(WnError, match="noise at site 0, before site 3"):
        logit_moments(mlp.network, mlp.params, mlp.states, mlp.clean[3][0], noise, site=3)
    two = mlp.network.initial_parameters(BE, [0, 1], np.float64)
    with pytest.raises(WnError, match="of one network, and these parameters are of 2"):
        logit_moments(mlp.network, two, mlp.states, mlp.x, noise)
    with pytest.raises(WnError, match=r"x is \(2, 2\)"):
        logit_moments(mlp.network, mlp.params, mlp.states, np.zeros((2, 2)), noise)
    with pytest.raises(WnError, match="values for each member"):
        mlp.moments({0: noises.additive([0.1, 0.2])})
    wide = Case("vgg11-28", shape=(1, 28, 28))
    with pytest.raises(WnError, match=r"layer 'conv2': covariances of .* features are too many"):
        wide.moments({2: noises.additive(0.1)})


def test_a_join_behind_the_start_is_refused_and_one_before_it_is_not() -> None:
    block = wn.network(4, [wn.layers.Residual([wn.layers.Linear(4)]), wn.layers.Linear(2)], name="block")
    params = block.initial_parameters(BE, [0], np.float64)
    states = block.initial_states(BE, 1, np.float64)
    x = np.random.default_rng(0).standard_normal((4, 3))
    with pytest.raises(WnError, match=r"block: layer 'block1.add': theory has no moments of Add: what it"):
        logit_moments(block, params, states, x, {0: noises.additive(0.1)})
    site = block.site_names.index("block1.add")
    clean = block.clean_activations(BE, params, states, x[None])
    found = logit_moments(block, params, states, clean[site][0], {site: noises.additive(0.1)}, site=site)
    w = params[-1].w[0]
    np.testing.assert_allclose(found.mean, clean[-1][0], rtol=1e-12)
    np.testing.assert_allclose(found.covariance, np.repeat(0.01 * (w @ w.T)[..., None], 3, 2), rtol=1e-12)
