"""From a study to its units: which there are, in what order, and what they say."""

import tracemalloc
from itertools import islice
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.study.small_study import BASE, ENTRY, keys, study
from tests.walking.small_walks import images
from wn.basics.errors import WnError
from wn.data import catalogue
from wn.data.dataset import Dataset, checksum
from wn.data.recipes import Preprocessing, Recipe
from wn.data.sets import speech
from wn.engine import models
from wn.study import Facts, StudySpec, count, facts_of, parse_study, planned_facts, units
from wn.study.units import sigma_grids
from wn.walking import places as walking
from wn.walking import settings
from wn.walking.settings import NoiseSettings

SPEECH = BASE.replace('"mnist"', '"speech-commands"')


# ---- which units, in what order -------------------------------------------------------------------------


def test_every_unit_is_there_once_repeat_by_repeat() -> None:
    found = [(u.repeat, u.phase, u.site, u.site_name, u.sigma) for u in study()]
    one = [
        ("clean", -3, "clean", 0.0),
        ("inference", 0, "input", 0.5),
        ("inference", 0, "input", 1.0),
        ("inference", 7, "logits", 0.5),
        ("inference", 7, "logits", 1.0),
        ("training", 0, "input", 0.5),
        ("training", 0, "input", 1.0),
        ("training", 7, "logits", 0.5),
        ("training", 7, "logits", 1.0),
    ]
    assert found == [(repeat, *unit) for repeat in (0, 1) for unit in one]
    assert study() == study()


def test_axes_multiply_and_entries_add_up() -> None:
    """Counted by hand: MLPs have 8 sites without batch norm and 11 with it.

    Clean: 2 data sets × 2 kinds of batch norm × 2 clampings × 3 repeats, and those of the last entry.
    Additive: 5 σ × 2 phases × (8 + 11) sites × 2 data sets × 2 clampings × 3 repeats.
    Mixed: 4 σ × 2 ratios × 2 orders × 3 repetitions, inference only, global, only mnist without batch norm,
    only unclamped, 3 repeats. None: 5 repeats of everything unclamped.
    """
    text = """
    repeats = 3
    [data]
    names = ["mnist", "fashion-mini"]
    [[models]]
    name = "mlp-8"
    batch_norm = ["none", "sites"]
    [[noise]]
    kind = "additive"
    sigma = "0.1:10:5"
    clamp_weights = [false, true]
    [[noise]]
    kind = "mixed"
    sigma = "0.1:10:4"
    ratio = [0.1, 0.9]
    order = ["mul_add", "add_mul"]
    repetitions = [1, 2, 4]
    where = "global"
    phases = "inference"
    data = "mnist"
    batch_norm = "none"
    [[noise]]
    kind = "none"
    repeats = 5
    """
    additive, mixed = 5 * (8 + 11) * 2 * 2 * 3, 4 * 2 * 2 * 3 * 3
    clean = 2 * 2 * (5 + 3)
    spec = parse_study(text)
    found = study(text)
    by_phase = {p: sum(unit.phase == p for unit in found) for p in ("clean", "inference", "training")}
    assert by_phase == {"clean": clean, "inference": additive + mixed, "training": additive}
    assert len({unit.key for unit in found}) == len(found)
    counts = count(spec, planned_facts(spec))
    assert sum(c.units for c in counts) == len(found)
    assert sum(c.trainings for c in counts) == clean + additive
    # 100 epochs on MNIST, 8 on fashion-mini: half of the trainings on each
    assert sum(c.network_epochs for c in counts) == (clean + additive) // 2 * (100 + 8)


def test_without_noise_there_are_clean_networks_only() -> None:
    text = BASE[: BASE.index("[[noise]]")] + '[[noise]]\nkind = "none"\n'
    assert [(unit.phase, unit.noise, unit.repeat) for unit in study(text)] == [
        ("clean", None, 0),
        ("clean", None, 1),
    ]


def test_units_come_one_at_a_time_and_leave_nothing_behind() -> None:
    spec = parse_study(BASE.replace("repeats = 2", "repeats = 10000").replace("[0.5, 1.0]", '"0.1:10:500"'))
    facts = planned_facts(spec)  # 20,010,000 units
    assert next(iter(units(spec, facts))).phase == "clean"
    peaks = []
    for number in (2_000, 20_000):
        tracemalloc.start()
        last = [unit.key for unit in islice(units(spec, facts), number - 1, number)]
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert len(last) == 1
    assert peaks[1] < peaks[0] + 20_000  # bytes: one for each further unit would be more


# ---- entries that overlap -------------------------------------------------------------------------------


def test_what_two_entries_share_is_there_once_and_belongs_to_the_first() -> None:
    linear, log = "sigma = [0, 1, 2]", "sigma = [1, 10]"
    text = (
        BASE.replace("sigma = [0.5, 1.0]", linear)
        + f"""
    [[noise]]
    kind = "additive"
    {log}
    where = [7]
    repeats = 3
    """
    )
    found = [u for u in study(text) if u.phase == "training" and u.site == 7]
    expected = [(0, s) for s in (0, 1, 2, 10)] + [(1, s) for s in (0, 1, 2, 10)] + [(2, 1), (2, 10)]
    assert [(unit.repeat, unit.sigma) for unit in found] == expected
    spec = parse_study(text)
    # 3 clean; each phase: 2 repeats × (3 σ at site 0, 4 at site 7), and 2 at site 7 in the third repeat
    assert [tuple(c) for c in count(spec, planned_facts(spec))] == [
        ("mnist", "mlp-64", "none", False, 3, 16, 16, 3, 0, 0)
    ]


ENTRIES = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(["additive", "multiplicative"]),
        "sigma": st.lists(st.sampled_from([0.5, 1.0, 2.0]), min_size=1, max_size=3, unique=True),
        "where": st.sampled_from(['"each"', '"global"', "[0]", "[0, 7]"]),
        "phases": st.sampled_from(['"inference"', '["training", "inference"]']),
        "repeats": st.integers(1, 3),
        "clamp_weights": st.sampled_from(["false", "true", "[true, false]"]),
        "repetitions": st.sampled_from(["1", "[1, 2]"]),
        "models": st.sampled_from(['"mlp-8"', '"mlp-16"', '["mlp-8", "mlp-16"]']),
    }
)


@given(st.lists(ENTRIES, min_size=1, max_size=3))
def test_a_study_has_what_its_entries_have_on_their_own(entries: list[dict[str, Any]]) -> None:
    head = '[data]\nnames = "mnist"\n[[models]]\nname = "mlp-8"\n[[models]]\nname = "mlp-16"\n'
    texts = [
        '[[noise]]\nkind = "{kind}"\n'.format(**entry)
        + "".join(f"{name} = {value}\n" for name, value in entry.items() if name != "kind")
        for entry in entries
    ]
    spec = parse_study(head + "".join(texts))
    together = [unit.key for unit in units(spec, planned_facts(spec))]
    apart = [key for text in texts for key in keys(head + text)]
    assert len(set(together)) == len(together)
    assert set(together) == set(apart)
    assert sum(c.units for c in count(spec, planned_facts(spec))) == len(together)


# ---- what comes from the recipe and the data ------------------------------------------------------------


@pytest.mark.parametrize(
    ("dataset", "model", "epochs", "batch_size", "learning_rate"),
    [
        ("mnist", "mlp", 100, 128, 1e-3),
        ("mnist", "lenet5", 50, 128, 1e-3),
        ("cifar10", "mlp", 200, 128, 1e-3),
        ("cifar10", "vgg11", 300, 128, 1e-3),
        ("speech-commands", "cnn-s", 150, 512, 5e-4),
    ],
)
def test_what_is_not_given_comes_from_the_recipe(
    dataset: str, model: str, epochs: int, batch_size: int, learning_rate: float
) -> None:
    text = f'[data]\nnames = "{dataset}"\n[[models]]\nname = "{model}"\n[[noise]]\nkind = "none"'
    unit = study(text)[0]
    assert (unit.epochs, unit.batch_size, unit.learning_rate) == (epochs, batch_size, learning_rate)
    assert (unit.dtype, unit.train_limit, unit.test_limit) == ("float32", None, None)


def test_recipe_and_data_are_those_that_a_walk_uses() -> None:
    dataset = catalogue.load("fashion-mini")
    facts = {"fashion-mini": facts_of(dataset)}
    text = '[data]\nnames = "fashion-mini"\n[[models]]\nname = "lenet5"\n[[noise]]\nkind = "none"'
    unit = next(iter(units(parse_study(text), facts)))
    chosen = settings.prepare(settings.NetworkSettings(dataset="fashion-mini", model="lenet5"))[2]
    for name in ("epochs", "batch_size", "learning_rate", "clamp_weights", "class_weights"):
        assert getattr(unit, name) == getattr(chosen, name)
    assert unit.data_checksum == checksum(dataset)
    assert facts["fashion-mini"] == msgspec.structs.replace(
        planned_facts(parse_study(text))["fashion-mini"], checksum=checksum(dataset)
    )


def test_class_weights_are_those_of_the_whole_data_set() -> None:
    recipe = Recipe(2, 2, 20, 1e-2, Preprocessing(), weighted_loss=True)
    train, test = images(100, 1), images(50, 2)
    dataset = Dataset("speech-commands", tuple(map(str, range(10))), train, test, recipe)
    facts = facts_of(dataset)
    assert facts.class_weights == tuple(speech.class_weights(dataset).tolist())
    assert (facts.train_samples, facts.test_samples, facts.classes) == (100, 50, 10)
    spec = parse_study(SPEECH)
    given = msgspec.structs.replace(planned_facts(spec)["speech-commands"], class_weights=(0.5,) * 12)
    assert {unit.class_weights for unit in units(spec, {"speech-commands": given})} == {(0.5,) * 12}


def mnist_facts(**other: Any) -> dict[str, Facts]:
    facts = planned_facts(parse_study(BASE))["mnist"]
    return {"mnist": msgspec.structs.replace(facts, **other)}


@pytest.mark.parametrize(
    ("spec", "facts", "message"),
    [
        (BASE, {"train_samples": 500}, r"^data.train_limit: 1000 is out of range: mnist has 500 samples$"),
        (BASE, {"image_shape": (1, 32, 32)}, r"^data.names: mnist has 10 classes of images \(1, 32, 32\)"),
        (BASE, {"classes": 11}, r"^data.names: mnist has 11 classes .* not 10"),
        (
            BASE.replace('"mlp"', '"mlp"\nbatch_norm = "sites"').replace("epochs = 3", "batch_size = 999"),
            {},
            r"^recipe.batch_size: layer 'bn1' .* the last batch has 1 sample",
        ),
    ],
)
def test_what_does_not_fit_the_data_is_refused_before_the_first_unit(
    spec: str, facts: dict[str, Any], message: str
) -> None:
    with pytest.raises(WnError, match=message):
        units(parse_study(spec), mnist_facts(**facts))


# ---- noise ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "chosen"),
    [
        (
            'kind = "additive"\nmean = 0.5\nrepetitions = 3\nexecution = "each"',
            {"noise": "additive", "mean": 0.5},
        ),
        ('kind = "multiplicative"\nmean = 0.5\nrepetitions = 3', {"noise": "multiplicative", "mean": 0.5}),
        ('kind = "mixed"\nratio = 0.1\nmean_add = 2', {"noise": "mixed", "ratio": 0.1, "mean_add": 2.0}),
        (
            'kind = "mixed"\nratio = 0.1\norder = "add_mul"\nrepetitions = 3\nnormalize_to_input_size = true',
            {"noise": "mixed", "ratio": 0.1, "order": "add_mul", "normalize_to_input_size": True},
        ),
    ],
)
@pytest.mark.parametrize("where", ["each", "global"])
def test_a_unit_has_the_operators_that_a_walk_has(keys: str, chosen: dict[str, Any], where: str) -> None:
    if "repetitions" in keys:
        chosen = chosen | {"repetitions": 3, "execution": "each" if "each" in keys else "single"}
    entry = f'[[noise]]\n{keys}\nsigma = [0.3, 3]\nwhere = "{where}"\nphases = "inference"\n'
    found = [u for u in study(BASE[: BASE.index("[[noise]]")] + entry) if u.noise and u.repeat == 0]
    network = models.build("mlp", (1, 28, 28), 10)
    operator = settings.noise_factory(NoiseSettings(**chosen))
    expected = [
        place.noise(operator(sigma)) for place in walking.places(network, where) for sigma in (0.3, 3.0)
    ]
    assert [unit.site_noise() for unit in found] == expected
    side_by_side = found[0].site_noise(np.array([0.3, 3.0]))
    assert side_by_side == walking.places(network, where)[0].noise(operator(np.array([0.3, 3.0])))


def test_a_map_of_repetitions_has_a_number_for_each_site() -> None:
    maps = "[[1, 2, 3, 4, 5, 6, 7, 8], [3, 3, 3, 3, 3, 3, 3, 3]]"
    text = BASE.replace(ENTRY, f'where = "global"\nrepetition_maps = {maps}')
    found = [u for u in study(text) if u.noise and u.sigma == 1 and u.repeat == 0 and u.phase == "training"]
    assert [u.noise.repetitions for u in found if u.noise] == [(1, 2, 3, 4, 5, 6, 7, 8), 3]
    assert [noise.repetitions for noise in found[0].site_noise().values()] == [1, 2, 3, 4, 5, 6, 7, 8]
    uniform = BASE.replace(ENTRY, 'where = "global"\nrepetitions = 3')
    assert set(keys(uniform)) < set(keys(text))  # the same, said in another way


def test_mapped_and_mixed_direct_noise() -> None:
    text = BASE.replace(ENTRY, 'where = "mapped"\nfactors = { 7 = 4, input = 0.5 }')
    text = text.replace('"additive"\nsigma =', '"mixed-direct"\nsigma_mul = [0.25, 2]\nsigma_add =')
    found = [unit for unit in study(text) if unit.phase == "inference" and unit.repeat == 0]
    assert [(u.noise.sigma_mul, u.sigma) for u in found if u.noise] == [
        (0.25, 0.5),
        (0.25, 1),
        (2, 0.5),
        (2, 1),
    ]
    assert {(unit.site, unit.site_name, unit.factors) for unit in found} == {
        (-2, "mapped", ((0, 0.5), (7, 4.0)))
    }
    operators = found[0].site_noise()
    assert {site: (o.sigma_mul, o.sigma_add) for site, o in operators.items()} == {
        0: (0.125, 0.25),
        7: (1.0, 2.0),
    }


def test_blocks_differ_in_sigma_only() -> None:
    spec: StudySpec = parse_study(BASE)
    for grid in sigma_grids(spec, planned_facts(spec)):
        found = list(grid.units())
        assert tuple(unit.sigma for unit in found) == grid.sigma
        assert {msgspec.structs.replace(unit, sigma=grid.first.sigma) for unit in found} == {grid.first}
