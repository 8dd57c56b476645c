"""Walking noise through a trained network: places, reuse of clean activations, agreement with theory."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.walking.small_walks import BE, NOISES, changed, run, small_data, trained, walk_for
from wn.basics.errors import WnError
from wn.data import catalogue
from wn.data.dataset import EQUAL
from wn.engine import models, noise, training
from wn.engine.training import Population, TrainSettings
from wn.theory.accuracy import argmax_probability
from wn.walking import places as walking
from wn.walking.measurement import Levels, count_at_inference
from wn.walking.places import Place
from wn.walking.walk import Walk

# ---- places ---------------------------------------------------------------------------------------------


def test_each_site_alone() -> None:
    network = models.build("mlp-8", (1, 28, 28), 10)
    found = walking.places(network, "each")
    assert [place.site for place in found] == list(range(8))
    assert [place.name for place in found] == list(network.site_names)
    assert [place.factors for place in found] == [{site: 1.0} for site in range(8)]


def test_listed_sites_in_their_order_without_repeats() -> None:
    network = models.build("mlp-8", (1, 28, 28), 10)
    assert [place.site for place in walking.places(network, [7, 0, 7, np.int64(3)])] == [7, 0, 3]


def test_global_and_mapped_are_one_place_each() -> None:
    network = models.build("mlp-8", (1, 28, 28), 10)
    assert walking.places(network, "global") == (Place(-1, "global", dict.fromkeys(range(8), 1.0)),)
    assert walking.places(network, "mapped", {2: 0.5, 0: 3.0}) == (Place(-2, "mapped", {2: 0.5, 0: 3.0}),)
    operators = Place(-2, "mapped", {2: 0.5, 0: 3.0}).noise(noise.additive(2.0))
    assert {site: operator.sigma_add for site, operator in operators.items()} == {2: 1.0, 0: 6.0}


@pytest.mark.parametrize(
    ("where", "factors", "parts"),
    [
        ([8], None, ("no site 8", "0 input", "3 fc2", "7 logits")),
        ([-1], None, ("no site -1", "0 input", "7 logits")),
        ([0, True], None, ("True", "integer")),
        ([1.0], None, ("1.0", "integer in 0…7")),
        ([], None, ("no sites", "0…7")),
        ("everywhere", None, ("'everywhere'", "each, global, mapped", "list of sites")),
        ("", None, ("each, global, mapped",)),
        ("mapped", None, ("factor per site",)),
        ("mapped", {}, ("factor per site",)),
        ("mapped", {9: 1.0}, ("no site 9", "7 logits")),
        ("each", {0: 1.0}, ("mapped",)),
        ("global", {0: 1.0}, ("mapped",)),
    ],
)
def test_places_that_are_refused(
    where: Any, factors: dict[int, float] | None, parts: tuple[str, ...]
) -> None:
    network = models.build("mlp-8", (1, 28, 28), 10)
    with pytest.raises(WnError) as caught:
        walking.places(network, where, factors)
    assert all(part in str(caught.value) for part in parts), caught.value
    assert "\n" not in str(caught.value)


# ---- noise at inference ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mlp() -> tuple[Walk, Population]:
    plan = walk_for("mlp-16", "sites")
    return plan, trained(plan)


@pytest.fixture(scope="module")
def lenet() -> tuple[Walk, Population]:
    plan = walk_for("lenet5", "sites", dataset=small_data(64, 40), sigma=np.array([0.0, 1.0]))
    return plan, trained(plan)


def clean_logits(walk: Walk, population: Population) -> NDArray[np.float32]:
    """Return the logits (K, B) of all test images."""
    (params, states, seeds), setup = population, walk.setup
    batches = training.evaluation_batches(BE, setup.dataset, seeds, {}, 0, 256, np.float32)
    parts = [setup.network.forward(BE, params, states, x, run)[0][0] for x, run, _ in batches]
    return np.concatenate(parts, axis=1)[:, : walk.images]


def levels_of(walk: Walk) -> list[Levels]:
    """The noise levels at each place; nothing may fail."""

    def fail(_: Any, error: Exception) -> None:
        raise error

    def at(place: Place) -> Levels:
        correct = np.zeros((len(walk.sigma), walk.setup.groups), np.int64)
        return Levels(walk.sigma, lambda sigma: place.noise(walk.operator(sigma)), correct, fail)

    return [at(place) for place in walk.places]


def inference(walk: Walk, population: Population) -> list[list[int]]:
    """Correct answers by place and σ."""
    places = levels_of(walk)
    count_at_inference(BE, walk.setup, population, places, 2, training.Monitor())
    return [levels.correct.sum(axis=1).tolist() for levels in places]


def without_reuse(walk: Walk, population: Population) -> list[list[int]]:
    """The same from the input, a place at a time."""
    operators = (place.noise(walk.operator(walk.sigma)) for place in walk.places)
    setup = walk.setup
    found = [
        training.evaluate(BE, setup.network, population, setup.dataset, noise=noise, dtype=setup.dtype)
        for noise in operators
    ]
    return [np.broadcast_to(correct, len(walk.sigma)).tolist() for correct in found]


@pytest.mark.parametrize("kind", NOISES)
@pytest.mark.parametrize("which", ["mlp", "lenet"])
def test_reuse_of_clean_activations_changes_nothing(
    which: str, kind: str, request: pytest.FixtureRequest
) -> None:
    plan, population = request.getfixturevalue(which)
    network = plan.setup.network
    sites = walking.places(network, [0, 2, len(network.site_names) - 1])
    everywhere = walking.places(network, "global")
    some = walking.places(network, "mapped", {2: 0.5, 4: 2.0})
    plan = changed(plan, operator=NOISES[kind], places=(*sites, *everywhere, *some))
    with_reuse = inference(plan, population)
    assert with_reuse == without_reuse(plan, population)
    differing = {tuple(counts) for counts in with_reuse}
    assert (len(differing) == 1) == (kind == "none")  # or the comparison above would see no mistake


def test_logits_have_the_same_bits_from_every_site(lenet: tuple[Walk, Population]) -> None:
    plan, (params, states, seeds) = lenet
    network = plan.setup.network
    operator = noise.additive(np.array([0.5, 2.0]))
    x, run_clean, _ = next(training.evaluation_batches(BE, plan.setup.dataset, seeds, {}, 0, 256, np.float32))
    clean = network.clean_activations(BE, params, states, x)
    assert len(clean) == len(network.site_names)
    for site in range(len(clean)):
        noisy = run_clean._replace(noise={site: operator})
        full, _, _ = network.forward(BE, params, states, x, noisy)
        short = network.forward_from_site(BE, params, states, clean[site], noisy, site)
        assert full.shape == (2, 10, 256)
        assert full.tobytes() == short.tobytes()
        wrong = network.forward_from_site(BE, params, states, clean[site] * 1.0001, noisy, site)
        assert full.tobytes() != wrong.tobytes()


@pytest.mark.parametrize(
    "kind", ["multiplicative", "mixed", "mixed-direct", "mixed, add first", "normalised"]
)
def test_sigma_zero_is_clean_in_both_phases(kind: str) -> None:
    plan = walk_for(kind=kind, sigma=np.array([0.0, 1.0, 50.0]), members=2)
    if kind == "mixed, add first":  # without its mean, which is noise too
        plan = changed(plan, operator=lambda s: noise.mixed(s, 0.7, order="add_mul"))
    (clean,), rows = run(changed(plan, places=plan.places[::3]))
    assert {correct[0] for *_, correct in rows} == {clean}
    assert any(correct[2] != clean for *_, correct in rows)


def test_noise_at_the_logits_has_the_accuracy_of_theory() -> None:
    """Logits m_j + σ z_j: the label wins with the probability of wn.theory.accuracy, sample by sample."""
    seeds, samples = range(20, 24), 1000
    dataset = catalogue.load("fashion-mini").limited(2000, samples)
    network = models.build("mlp-32", dataset.image_shape, 10)
    sigma = np.array([0.1, 0.5, 1.0, 2.0, 4.0, 10.0, 1000.0])
    plan = changed(
        walk_for(sigma=sigma, kind="plain additive"),
        network=network,
        dataset=dataset,
        places=walking.places(network, [7]),
        train=TrainSettings(epochs=6),
    )
    population = trained(plan)
    logits = clean_logits(plan, population)
    assert logits.shape == (10, samples)
    correct = np.zeros(len(plan.sigma))
    for seed in seeds:
        correct += inference(plan, population._replace(seeds=(seed,)))[0]
    for level, found in zip(plan.sigma, correct, strict=True):
        p = argmax_probability(logits, level, dataset.test.labels)
        expected, variance = len(seeds) * p.sum(), len(seeds) * (p * (1 - p)).sum()
        z = (found - expected) / np.sqrt(variance)
        print(
            f"σ {level:g}: {found:g} of n {4 * samples}, expected {expected:.1f}, z {z:.2f}, seeds 20 to 23"
        )
        assert abs(z) < 6
    assert (logits.argmax(axis=0) == dataset.test.labels).mean() > 0.6  # a trained network, and
    assert abs(correct[-1] / (4 * samples) - 0.1) < 0.03  # one that guesses: both ends are covered


def test_repeated_execution_at_the_logits_divides_the_variance(mlp: tuple[Walk, Population]) -> None:
    """R draws and the single draw of σ/√R agree with theory at σ/√R."""
    plan, population = mlp
    plan = changed(plan, dataset=small_data(96, 1000), sigma=np.array([1.0, 3.0]))
    network = plan.setup.network
    last = walking.places(network, [len(network.site_names) - 1])
    logits, labels = clean_logits(plan, population), plan.setup.dataset.test.labels
    for execution in ("single", "each"):

        def operator(sigma: Any, execution: str = execution) -> noise.Noise:
            return noise.additive(sigma, repetitions=4, execution=execution)

        (found,) = inference(changed(plan, places=last, operator=operator), population)
        for level, correct in zip(plan.sigma, found, strict=True):
            p = argmax_probability(logits, level / 2, labels)
            z = (correct - p.sum()) / np.sqrt((p * (1 - p)).sum())
            print(f"{execution}, σ {level:g}: {correct} correct, expected {p.sum():.1f}, z {z:.2f}, seed 7")
            assert abs(z) < 6


def test_chance_is_a_guess() -> None:
    walk = walk_for()
    shares = np.bincount(walk.setup.dataset.test.labels) / 300
    assert walk.chance == shares.max() > 0.1
    equal = replace(walk.setup.dataset, guess=EQUAL)
    assert changed(walk, dataset=equal).chance == 0.1
