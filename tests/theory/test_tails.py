"""Accuracy under noise with affine layers behind it: the engine's draws against theory, by network."""

from functools import cache
from typing import Any

import numpy as np
import pytest

from tests.checks.exact_tails import on, right_answers, z_scores
from tests.engine.backends.cuda import needs_compiler
from tests.engine.layers import Formulas
from tests.engine.populations import check_error
from tests.walking.small_walks import small_data
from wn.data import catalogue
from wn.data.dataset import batch
from wn.engine import backends, models, noise
from wn.engine.layers.average_pooling import AveragePooling
from wn.engine.layers.batch_norm import BatchNorm
from wn.engine.layers.convolution import Convolution
from wn.engine.layers.flatten import Flatten
from wn.engine.layers.linear import Linear
from wn.engine.layers.relu import Relu
from wn.engine.network import Conditions, Network, Node
from wn.engine.noise import Noise
from wn.engine.training import Population, TrainSettings, train
from wn.testing.tolerances import Z_LIMIT
from wn.theory.accuracy import correct_count
from wn.theory.tails import AFFINE, affine_tail, check_exact, exact_accuracy, exact_sites

NUMPY, NUMBA = backends.get("numpy"), backends.get("numba")
DATA = catalogue.load("fashion-mini").limited(1000, 400)
IMAGES = len(DATA.test)
TRAINING = TrainSettings(epochs=4, batch_size=32, learning_rate=3e-3)
KINDS = {
    "additive": noise.additive([0.5, 3.0, 10.0]),
    "additive with a mean, four times": noise.additive(
        [0.5, 3.0, 10.0], 0.7, repetitions=4, execution="each"
    ),
    "multiplicative": noise.multiplicative([0.3, 1.0, 4.0]),
    "multiplicative with a mean, as one for three": noise.multiplicative([0.3, 1.0, 4.0], 0.5, repetitions=3),
    "mixed": noise.mixed([0.5, 2.0, 8.0], 0.4),
    "normalised": noise.mixed([20.0, 60.0, 200.0], 0.5, normalize_to_input_size=True),
}


@cache
def trained(model: str, batch_norm: str, members: int = 1) -> tuple[Network, Population]:
    network = models.build(model, DATA.image_shape, 10, batch_norm)
    seeds = tuple(range(3, 3 + members))
    return network, train(NUMPY, network, DATA, TRAINING, seeds=seeds)


def agrees(
    be: Any, network: Network, population: Population, site: int, operator: Noise, evaluations: int
) -> float:
    """The largest |z| of the σ; checked and printed."""
    seeds = tuple(range(50, 50 + operator.members()))
    exact = exact_accuracy(be, network, population, DATA, site, operator)
    found = right_answers(be, network, population, DATA, site, operator, evaluations, seeds)
    z = z_scores(found, exact, IMAGES, evaluations)
    n = IMAGES * evaluations
    print(f"{network.name}, site {site}, {be.name}: n = {n}, seeds {seeds}, z = {np.round(z, 2)}")
    assert (exact.error < 1e-3).all()  # the integral: below 0.1 points
    worst: float = np.abs(z).max()
    return worst


# ---- the engine against theory --------------------------------------------------------------------------


CASES = [("mlp-32", "sites", kind) for kind in KINDS] + [
    (model, batch_norm, kind)
    for model, batch_norm in (
        ("mlp-32", "none"),
        ("lenet5", "none"),
        ("lenet5", "hidden"),
        ("cnn-s", "sites"),
    )
    for kind in ("additive", "multiplicative", "mixed")
]


@pytest.mark.parametrize(("model", "batch_norm", "kind"), CASES)
def test_accuracy_is_that_of_theory(model: str, batch_norm: str, kind: str) -> None:
    network, population = trained(model, batch_norm)
    sites = exact_sites(network, KINDS[kind])
    assert [network.site_names[site] for site in sites][-1] == "logits"
    for site in sites:
        for be in (NUMPY, NUMBA):
            assert agrees(be, network, population, site, KINDS[kind], 25) < Z_LIMIT


@needs_compiler
@pytest.mark.parametrize("kind", ["additive", "multiplicative", "mixed"])
@pytest.mark.parametrize(("model", "batch_norm"), [("mlp-32", "sites"), ("lenet5", "none")])
def test_accuracy_on_the_stand_in_of_a_gpu_is_that_of_theory(model: str, batch_norm: str, kind: str) -> None:
    from tests.engine.backends.cuda.fake_cupy import backend

    cuda = backend()
    network, population = trained(model, batch_norm)
    there = population._replace(params=on(cuda, population.params), states=on(cuda, population.states))
    for site in exact_sites(network, KINDS[kind]):
        assert agrees(cuda, network, there, site, KINDS[kind], 20) < Z_LIMIT


def test_each_member_has_its_own_accuracy() -> None:
    network, population = trained("mlp-32", "sites", 2)
    operator = noise.multiplicative([0.5, 2.0])
    site = exact_sites(network, operator)[0]
    assert agrees(NUMBA, network, population, site, operator, 50) < Z_LIMIT
    together = exact_accuracy(NUMBA, network, population, DATA, site, operator)
    for member, sigma in enumerate((0.5, 2.0)):
        own = Population(
            *(
                tuple(type(t)(*(a[[member]] for a in t)) if t else () for t in trees)
                for trees in population[:2]
            ),
            (3 + member,),
        )
        alone = exact_accuracy(NUMBA, network, own, DATA, site, noise.multiplicative(sigma))
        np.testing.assert_allclose([alone.accuracy[0], alone.variance[0]], [t[member] for t in together[:2]])


def test_another_strength_is_told_apart() -> None:
    """The test can fail: 5 % of σ are seen, and so is noise at another site."""
    network, population = trained("mlp-32", "none")
    site, seeds = exact_sites(network, Noise())[0], (50,)
    found = right_answers(NUMBA, network, population, DATA, site, noise.additive(3.0), 500, seeds)
    for wrong, at in ((3.15, site), (3.0, site + 1)):
        exact = exact_accuracy(NUMBA, network, population, DATA, at, noise.additive(wrong))
        assert abs(z_scores(found, exact, IMAGES, 500)[0]) > Z_LIMIT


def test_noise_at_the_logits_agrees_with_quadrature() -> None:
    network, population = trained("lenet5", "hidden")
    site = len(network.site_names) - 1
    operator = noise.mixed([0.5, 4.0], 0.3, repetitions=2, mean_add=0.2)
    exact = exact_accuracy(NUMBA, network, population, DATA, site, operator, points=256)
    x = batch(NUMPY, DATA.test, np.arange(IMAGES), DATA.recipe.preprocessing, np.float32)
    clean = network.clean_activations(NUMPY, population.params, population.states, x)[site][0]
    for member in range(2):
        s, t = (np.broadcast_to(v, 2)[member] for v in (operator.sigma_mul, operator.sigma_add))
        expected = correct_count(clean + 0.2, np.sqrt(((s * clean) ** 2 + t**2) / 2), DATA.test.labels)
        assert abs(exact.accuracy[member] - expected.mean / IMAGES) < Z_LIMIT * exact.error[member] + 1e-6
        assert exact.variance[member] * IMAGES**2 == pytest.approx(expected.variance, rel=1e-3)


def test_noise_that_is_off_or_zero_leaves_the_clean_accuracy() -> None:
    network, population = trained("mlp-32", "none")
    clean = right_answers(NUMBA, network, population, DATA, 6, noise.none(), 1, (0,)) / IMAGES
    for operator in (
        noise.none(),
        noise.additive(0.0),
        noise.additive(5.0, in_inference=False, distribution="uniform"),
    ):
        exact = exact_accuracy(NUMBA, network, population, DATA, 6, operator)
        assert (exact.accuracy[0], exact.variance[0], exact.error[0]) == (clean[0], 0, 0)


# ---- the affine layers behind a site --------------------------------------------------------------------

TAIL = Network(
    "all affine layers",
    (
        Node("conv1", Convolution(3, (3, 3), stride=(2, 2), padding=(1, 1))),
        Node("relu1", Relu()),
        Node("pool1", AveragePooling((2, 2))),
        Node("conv2", Convolution(4, (2, 2))),
        Node("bn2", BatchNorm()),
        Node("flatten", Flatten(), site=False),
        Node("fc1", Linear(12)),
        Node("bn3", BatchNorm(), site=False),
        Node("logits", Linear(10)),
    ),
    (1, 28, 28),
)


@cache
def tail_population() -> Population:
    return train(NUMPY, TAIL, DATA, TRAINING, seeds=(4, 5))


def test_an_affine_tail_is_read_off_by_the_engine() -> None:
    population, rng = tail_population(), np.random.default_rng(1)
    assert {type(node.layer) for node in TAIL.nodes} - set(AFFINE) == {Relu}
    assert exact_sites(TAIL, Noise()) == (2, 3, 4, 5, 6, 7)
    for site in exact_sites(TAIL, Noise()):
        tail, shape = affine_tail(NUMBA, TAIL, population, site), TAIL.site_shapes()[site]
        x = rng.standard_normal((1, *shape, 5)).astype(np.float32)
        conditions = Conditions({}, (0,), np.arange(5, dtype=np.uint32), 0, training=False)
        expected = TAIL.forward_from_site(
            Formulas(), population.params, population.states, x.astype(np.float64), conditions, site
        )
        found = tail.weight @ x.reshape(1, -1, 5) + tail.bias[:, :, None]
        np.testing.assert_allclose(found, np.broadcast_to(expected, found.shape), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["additive", "multiplicative", "mixed"])
def test_accuracy_behind_all_affine_layers_is_that_of_theory(kind: str) -> None:
    population = tail_population()
    operator = noise.of_kind(kind, np.array([0.5, 3.0]))
    for site in (2, 3, 5):
        assert agrees(NUMBA, TAIL, population, site, operator, 25) < Z_LIMIT


# ---- where theory is not exact --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "batch_norm", "expected"),
    [
        ("mlp-8", "sites", ["relu3", "logits"]),
        ("lenet5", "none", ["relu4", "logits"]),
        ("cnn-s", "hidden", ["relu3", "logits"]),
        ("vgg11-28", "none", ["relu7", "conv8", "avgpool", "logits"]),
    ],
)
def test_exact_sites_are_the_last_ones(model: str, batch_norm: str, expected: list[str]) -> None:
    network = models.build(model, (1, 28, 28), 10, batch_norm)
    assert [network.site_names[site] for site in exact_sites(network, noise.additive(1.0))] == expected


def test_what_is_not_exact_is_refused_with_its_reason() -> None:
    network, population = trained("lenet5", "hidden")
    last = len(network.site_names) - 1

    def of(site: int, operator: Noise) -> Any:
        return lambda: exact_accuracy(NUMPY, network, population, DATA, site, operator)

    check_error(
        of(0, noise.additive(1.0)),
        "site 0 input of lenet5",
        "layer 'relu1' (Relu)",
        "exact sites are relu4, logits",
    )
    check_error(of(2, noise.additive(1.0)), "site 2 relu1", "layer 'pool1' (MaxPooling)")
    check_error(of(99, noise.additive(1.0)), "no site 99")
    for distribution in ("uniform", "laplace"):
        wrong = noise.additive(1.0, distribution=distribution)
        check_error(of(last, wrong), f"draws are {distribution}", "normal")
        assert exact_sites(network, wrong) == ()
    both = noise.mixed([0.0, 1.0], 0.5, order="add_mul")
    check_error(of(last, both), "order add_mul", "mul_add")
    check_exact(network, last, noise.mixed(1.0, 1.0, order="add_mul"))  # M is 1: x + D
    check_exact(network, last, noise.mixed(1.0, 0.0, order="add_mul", mean_add=0.3))  # (x + d)·M
    other = small_data(32, 32)
    check_error(
        lambda: exact_accuracy(
            NUMPY, models.build("mlp-8", (1, 9, 9), 10), population, other, 7, noise.none()
        ),
        "takes images",
    )


def test_a_layer_of_ones_own_is_not_taken_for_affine() -> None:
    class Doubled(Linear):
        """Not affine any more."""

        def forward(self, be: Any, params: Any, x: Any, state: Any) -> Any:
            y, cache, state = super().forward(be, params, x, state)
            return y * abs(y), cache, state

    network = Network("own", (Node("flatten", Flatten(), site=False), Node("logits", Doubled(10))), (1, 2, 2))
    assert exact_sites(network, noise.additive(1.0)) == (1,)
    check_error(
        lambda: check_exact(network, 0, noise.additive(1.0)), "layer 'logits' (Doubled)", "not affine"
    )


@pytest.mark.parametrize("sigma_of", ["sigma_mul", "sigma_add"])
def test_add_mul_with_one_random_part_is_that_of_theory(sigma_of: str) -> None:
    network, population = trained("mlp-32", "none")
    values = {"sigma_mul": 0.0, "sigma_add": 0.0, "mean_add": 0.4, "mean_mul": 0.8, sigma_of: 2.0}
    operator = Noise("mixed", order="add_mul", **values)  # type: ignore[arg-type]  # names by case
    assert agrees(NUMBA, network, population, 6, operator, 100) < Z_LIMIT
