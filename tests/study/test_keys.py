"""Keys of units: the same for the same result, whatever the study, and another one for every other result."""

from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.study.small_study import BASE, ENTRY, keys, study
from wn.engine.noise_spec import NoiseSpec
from wn.study import Unit, find_study, parse_study, planned_facts, units
from wn.study.unit import NUMERICS, OwnData, Weights

SPEECH = BASE.replace('"mnist"', '"speech-commands"')


# ---- keys -----------------------------------------------------------------------------------------------

SAME: list[tuple[str, str]] = [
    ("seed = 5", 'seed = 5\nname = "x"\ndescription = "y"'),
    ('names = "mnist"', 'names = ["mnist"]\ndir = "elsewhere"'),
    ("seed = 5", "seed = 5\nphases = ['inference', 'training']"),
    ('name = "mlp"', 'name = "tfc"\nbatch_norm = "none"\ndata = "mnist"'),
    ("epochs = 3", 'epochs = 3\nbatch_size = 128\nlearning_rate = 1e-3\ndtype = "float32"'),
    ("epochs = 3", "epochs = 3\nclamp_weights = [false]"),
    ("[0.5, 1.0]", '"1,0.5"'),
    ("[0.5, 1.0]", "[1, 0.5]"),
    (ENTRY, 'where = ["input", "logits"]'),
    (ENTRY, f"{ENTRY}\nmean = 0\nnormalize_to_input_size = false\nrepetitions = 1"),
    (ENTRY, f"{ENTRY}\nmean = -0.0"),
    (ENTRY, f'{ENTRY}\nexecution = "each"'),  # of a single repetition
    (ENTRY, f'{ENTRY}\ndistribution = "normal"'),
    (ENTRY, f'{ENTRY}\nmodels = "mlp-64"\nbatch_norm = "none"\ndata = "mnist"\nrepeats = 2'),
    ("train_limit = 1000", "train_limit = 1000\ntest_limit = 10000"),  # all test images
]


@pytest.mark.parametrize(("old", "new"), SAME)
def test_what_changes_no_result_changes_no_key(old: str, new: str) -> None:
    assert old in BASE
    assert keys(BASE.replace(old, new, 1)) == keys()


OTHER: list[tuple[str, str]] = [
    ("seed = 5", "seed = 6"),
    ('"mnist"', '"fashion-mnist"'),
    ("train_limit = 1000", "train_limit = 1001"),
    ("train_limit = 1000", ""),
    ("train_limit = 1000", "train_limit = 1000\ntest_limit = 500"),
    ('name = "mlp"', 'name = "mlp-8"'),
    ('name = "mlp"', 'name = "mlp"\nbatch_norm = "hidden"'),
    ("epochs = 3", "epochs = 4"),
    ("epochs = 3", "epochs = 3\nbatch_size = 64"),
    ("epochs = 3", "epochs = 3\nlearning_rate = 2e-3"),
    ("epochs = 3", 'epochs = 3\ndtype = "float64"'),
    ("epochs = 3", "epochs = 3\nclamp_weights = true"),
]
OTHER_NOISE: list[tuple[str, str]] = [
    ('"additive"', '"multiplicative"'),
    ('"additive"', '"mixed"\nratio = 0.5'),
    ('"additive"', '"mixed"\nratio = 1'),
    ('"additive"', '"mixed"\nratio = 0.5\norder = "add_mul"'),
    ('"additive"', '"mixed"\nratio = 0.5\nmean_mul = 0.5'),
    ('"additive"', '"mixed"\nratio = 0.5\nmean_add = 0.5'),
    ('kind = "additive"\nsigma', 'kind = "mixed-direct"\nsigma_mul = 0.25\nsigma_add'),
    ('kind = "additive"\nsigma', 'kind = "mixed-direct"\nsigma_mul = 0.75\nsigma_add'),
    ("[0.5, 1.0]", "[0.75, 1.25]"),
    (ENTRY, f"{ENTRY}\nmean = 0.5"),
    (ENTRY, f"{ENTRY}\nnormalize_to_input_size = true"),
    (ENTRY, f"{ENTRY}\nrepetitions = 2"),
    (ENTRY, f'{ENTRY}\nrepetitions = 2\nexecution = "each"'),
    (ENTRY, f'{ENTRY}\ndistribution = "laplace"'),
    (ENTRY, f'{ENTRY}\ndistribution = "uniform"'),
    (ENTRY, f'{ENTRY}\ndistribution = "uniform"\nrepetitions = 2'),
    (ENTRY, "where = [1, 6]"),
    (ENTRY, 'where = "global"'),
    (ENTRY, 'where = "global"\nrepetition_maps = [[1, 2, 3, 4, 5, 6, 7, 8]]'),
    (ENTRY, 'where = "global"\nrepetition_maps = [[8, 7, 6, 5, 4, 3, 2, 1]]'),
    (ENTRY, 'where = "mapped"\nfactors = { 0 = 1.0, 7 = 1.0 }'),
    (ENTRY, 'where = "mapped"\nfactors = { 0 = 1.0, 7 = 2.0 }'),
]


@pytest.mark.parametrize(("old", "new"), OTHER)
def test_what_a_training_depends_on_changes_every_key(old: str, new: str) -> None:
    assert old in BASE
    assert not set(keys(BASE.replace(old, new, 1))) & set(keys())


def test_noise_changes_the_keys_of_noisy_units_and_leaves_the_clean_ones() -> None:
    clean = {unit.key for unit in study() if unit.phase == "clean"}
    variants = [set(keys())]
    for old, new in OTHER_NOISE:
        assert old in BASE
        variants.append(set(keys(BASE.replace(old, new, 1))))
        assert clean < variants[-1]
    noisy = [key for variant in variants for key in variant - clean]
    assert len(noisy) > 100
    assert len(set(noisy)) == len(noisy)  # no two variants share one


def test_every_field_but_the_name_of_the_site_changes_the_key() -> None:
    """Also fields that may be added one day: each must be given another value here."""
    unit = next(u for u in study() if u.phase == "training")
    assert unit.noise is not None
    others: dict[str, Any] = {
        "phase": "inference",
        "dataset": "svhn",
        "data_checksum": "0",
        "train_limit": None,
        "test_limit": 7,
        "model": "mlp-8",
        "batch_norm": "sites",
        "dtype": "float64",
        "epochs": 9,
        "batch_size": 9,
        "learning_rate": 9.0,
        "clamp_weights": True,
        "class_weights": (0.5, 0.5),
        "seed": 9,
        "repeat": 9,
        "noise": msgspec.structs.replace(unit.noise, repetitions=(2, 1)),
        "site": 9,
        "observe": ("binarisation",),
        "sigma_train": 0.5,
        "weights": Weights(sha256="0", dtype="float32", description="{}"),
        "own": OwnData(image_shape=(1, 8, 8), classes=3, train_samples=9, test_samples=9, chance=0.5),
        "site_name": "other",
        "factors": ((0, 0.5),),
        "sigma": 9.0,
    }
    assert set(others) == set(Unit.__struct_fields__)
    changed = {name: msgspec.structs.replace(unit, **{name: value}).key for name, value in others.items()}
    assert changed.pop("site_name") == unit.key
    assert len({unit.key, *changed.values()}) == len(others)
    noises = {
        "kind": "mixed",
        "ratio": 0.5,
        "sigma_mul": 0.5,
        "mean_mul": 0.5,
        "mean_add": 0.5,
        "order": "add_mul",
        "normalize_to_input_size": True,
        "repetitions": 2,
        "execution": "each",
        "distribution": "laplace",
    }
    assert set(noises) == set(NoiseSpec.__struct_fields__)
    specs = [msgspec.structs.replace(unit.noise, **{name: value}) for name, value in noises.items()]
    found = {msgspec.structs.replace(unit, noise=spec).key for spec in specs}
    assert len(found | {unit.key}) == len(noises) + 1


def test_a_key_stays_what_it_is() -> None:
    """If this fails, finished work of every study would be done again: only NUMERICS may cause that."""
    unit = Unit(
        phase="inference",
        dataset="mnist",
        data_checksum="ab" * 32,
        model="mlp-64",
        batch_norm="none",
        dtype="float32",
        epochs=5,
        batch_size=128,
        learning_rate=1e-3,
        clamp_weights=False,
        seed=2**64 - 1,
        repeat=1,
        noise=NoiseSpec(kind="mixed", ratio=0.1, repetitions=(1, 2)),
        site=-2,
        site_name="mapped",
        factors=((0, 0.5), (3, 1e10)),
        sigma=1e16,
    )
    assert NUMERICS == 2
    assert unit.key == "137bc0eb745636ed62eb2bb4b314d03403abc39f914455e41aa27c1753faa4ce"


EVERY_KEY = """
seed = 5
[data]
names = "mnist"
[[models]]
name = "mlp"
[[noise]]
kind = "none"
[[noise]]
kind = "additive"
sigma = [0.5, 1.0]
mean = 0.25
normalize_to_input_size = true
repetitions = [1, 2, 3]
execution = "each"
[[noise]]
kind = "multiplicative"
sigma = "lin:0:6:4"
mean = -1
repetitions = 2
where = "global"
[[noise]]
kind = "mixed"
sigma = [0.5, 1.0]
ratio = [0.1, 1]
order = ["mul_add", "add_mul"]
mean_mul = 0.5
mean_add = -0.5
repetitions = [1, 3]
execution = "each"
[[noise]]
kind = "mixed-direct"
sigma_mul = [0.25, 0.5]
sigma_add = [0.5, 1.0]
where = "global"
repetition_maps = [[1, 2, 3, 4, 5, 6, 7, 8], [2, 2, 2, 2, 2, 2, 2, 2]]
[[noise]]
kind = "additive"
sigma = [3]
where = "mapped"
factors = { 0 = 0.5, relu1 = 2 }
"""
REPETITIONS = str(Path(__file__).parents[1] / "checks" / "repetitions.toml")  # once a preset
RECORDED = {  # number of units, and the digest of their keys, recorded before noise had one declaration
    "walking-quick": (386, "d20060150dd16eda57172fb0"),
    REPETITIONS: (140, "77ffac5fee4a39e09ac5e112"),
    "extreme-quick": (178, "f9b34d98181081aeca2f441f"),
    "global-quick": (480, "ed3e5961085be726b80b6b85"),
    "walking-mixed-quick": (241, "525ad75a1b3ac1ebb254959a"),
    "walking-mnist-mlp-quick": (386, "ae7e23d9489ff032bd9e7aaf"),
    EVERY_KEY: (379, "79743242ad0ac3c22c855c92"),
}


@pytest.mark.parametrize("name", RECORDED, ids=lambda name: Path(name.strip().partition("\n")[0]).name)
def test_the_keys_of_studies_stay_what_they_are(name: str) -> None:
    """Options of noise that came later leave the keys of studies without them as they were."""
    spec = parse_study(name) if name == EVERY_KEY else find_study(name)
    found = [unit.key for unit in units(spec, planned_facts(spec))]
    digest = sha256("".join(found).encode()).hexdigest()[:24]
    assert (len(found), digest) == RECORDED[name]


def test_a_unit_written_as_json_is_read_again() -> None:
    for unit in study(SPEECH):
        assert msgspec.json.decode(msgspec.json.encode(unit), type=Unit) == unit


# ---- clean units ----------------------------------------------------------------------------------------


def test_units_share_one_clean_unit_whatever_their_noise() -> None:
    more = '[[noise]]\nkind = "mixed"\nratio = [0.1, 0.5]\nsigma = [3, 4]\nwhere = "global"\n'
    found = study(BASE + more)
    clean = {unit.repeat: unit.key for unit in found if unit.phase == "clean"}
    assert len(clean) == len(set(clean.values())) == 2
    assert all(unit.clean_key is None for unit in found if unit.phase == "clean")
    noisy = [unit for unit in found if unit.phase != "clean"]
    assert {unit.noise.kind for unit in noisy if unit.noise} == {"additive", "mixed"}
    assert all(unit.clean_key == clean[unit.repeat] for unit in noisy)
    assert {unit.key for unit in study() if unit.phase == "clean"} == set(clean.values())


def test_a_clamped_and_an_unclamped_network_are_not_the_same_clean_network() -> None:
    found = study(BASE.replace("epochs = 3", "epochs = 3\nclamp_weights = [false, true]"))
    clean = {(unit.repeat, unit.clamp_weights): unit.key for unit in found if unit.phase == "clean"}
    assert len(set(clean.values())) == 4
    for unit in found:
        assert unit.phase == "clean" or unit.clean_key == clean[unit.repeat, unit.clamp_weights]


def test_the_clean_unit_of_every_unit_is_in_the_study_and_comes_before_it() -> None:
    seen = set()
    for unit in study(
        BASE.replace("[[noise]]", '[[noise]]\nkind="none"\nrepeats=1\n[[noise]]\nrepeats = 4', 1)
    ):
        seen.add(unit.key)
        assert unit.clean_key is None or unit.clean_key in seen
