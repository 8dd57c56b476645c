"""Study files: what they may say, and every mistake in one line: file, path of the key, what is allowed."""

import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wn.basics.errors import WnError
from wn.study import StudySpec, count, narrowed, parse_study, planned_facts, read_study, to_toml

SMALL = """
repeats = 2
[data]
names = ["mnist", "cifar10"]
[[models]]
name = "mlp"
batch_norm = ["none", "sites"]
[recipe]
epochs = 3
[[noise]]
kind = "additive"
sigma = "0.1:10:3"
"""

EVERYTHING = """
name = "all of it"
description = "every key"
seed = 7
repeats = 3
phases = "inference"
[data]
names = ["mnist", "fashion-mini"]
dir = "somewhere"
train_limit = 1000
test_limit = 500
[[models]]
name = "mlp"
batch_norm = ["none", "sites"]
[[models]]
name = "lenet5"
batch_norm = "hidden"
data = "mnist"
[recipe]
epochs = 3
batch_size = 64
learning_rate = 0.01
clamp_weights = [false, true]
dtype = "float64"
[[noise]]
kind = "none"
repeats = 5
[[noise]]
kind = "additive"
sigma = [0.5, 1, 2]
mean = 0.25
normalize_to_input_size = true
repetitions = [1, 2]
execution = "each"
distribution = "laplace"
where = ["input", 3, "logits"]
phases = ["training", "inference", "matrix"]
sigma_train = "0.5:4:4"
clamp_weights = true
models = "mlp"
batch_norm = "none"
[[noise]]
kind = "multiplicative"
sigma = "lin:0:2:21"
mean = 0.5
where = "mapped"
factors = { 0 = 0.5, relu1 = 2, logits = 1.0 }
data = ["mnist"]
models = ["tfc", "lenet5"]
[[noise]]
kind = "mixed"
sigma = 0.5
ratio = [0.1, 0.5]
mean_mul = 0.9
mean_add = 0.1
order = ["mul_add", "add_mul"]
where = "global"
[[noise]]
kind = "mixed-direct"
sigma_mul = [0.1, 0.2]
sigma_add = "0.1:1:2"
where = "global"
models = "mlp"
batch_norm = "none"
label = "up and down"
repetition_maps = [[1, 2, 3, 4, 5, 6, 7, 8], [8, 7, 6, 5, 4, 3, 2, 1]]
[[noise]]
kind = "additive"
sigma = "1:100:3"
phases = "inference"
[[noise]]
kind = "additive"
sigma = "midpoint"
where = "global"
phases = "inference"
allocation = ["uniform", "optimal"]
budget = ["2x", 40]
[[noise]]
kind = "additive"
sigma = "1:100:3"
where = "global"
phases = "inference"
"""


# ---- what is allowed ------------------------------------------------------------------------------------


def test_a_file_with_every_key_is_read() -> None:
    spec = parse_study(EVERYTHING)
    assert (spec.name, spec.description, spec.seed, spec.repeats) == ("all of it", "every key", 7, 3)
    assert spec.data.train_limit == 1000
    assert [model.name for model in spec.models] == ["mlp", "lenet5"]
    assert spec.recipe.clamp_weights == [False, True]
    assert [entry.kind for entry in spec.noise] == [
        "none",
        "additive",
        "multiplicative",
        "mixed",
        "mixed-direct",
        *["additive"] * 3,
    ]
    assert spec.noise[2].factors == {"0": 0.5, "relu1": 2.0, "logits": 1.0}
    used = [
        entry for entry in spec.noise if any(value is not None for value in msgspec.structs.astuple(entry))
    ]
    given = {name for entry in used for name in entry.__struct_fields__ if getattr(entry, name) is not None}
    assert given == set(spec.noise[0].__struct_fields__)  # or this test would leave a key out


def test_what_is_not_given_has_a_default() -> None:
    spec = parse_study(SMALL)
    assert (spec.name, spec.seed, spec.phases, spec.recipe.clamp_weights) == ("study", 0, None, False)
    assert {(c.inference, c.training) for c in count(spec, planned_facts(spec))} == {(48, 48), (66, 66)}


def test_a_study_is_named_after_its_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(SMALL)
    assert read_study(path).name == read_study(str(path)).name == "mine"
    path.write_text('name = "other"\n' + SMALL)
    assert read_study(path).name == "other"


# ---- mistakes -------------------------------------------------------------------------------------------

KEY = 'sigma = "0.1:10:3"'  # after which further keys of the noise entry are put

MISTAKES: list[tuple[str, str, str, tuple[str, ...]]] = [
    # unknown keys
    ("repeats = 2", "repeat = 2", "repeat: ", ("unknown key", "repeats", "noise")),
    ("[recipe]", "[recipe]\nlr = 1", "recipe.lr: ", ("unknown key", "learning_rate")),
    ("[[noise]]", "[[noise]]\nsigam = 1", "noise[0].sigam: ", ("unknown key", "sigma", "where")),
    ("[[models]]", "[[models]]\nwidth = 8", "models[0].width: ", ("unknown key", "batch_norm")),
    ("[data]", "[data]\nname = 8", "data.name: ", ("unknown key", "names", "train_limit")),
    ("[recipe]", "[recipes]", "recipes: ", ("unknown key", "recipe")),
    # missing ones
    ('kind = "additive"', "", "noise[0].kind: ", ("missing",)),
    ('name = "mlp"', "", "models[0].name: ", ("missing",)),
    (SMALL, "", "data: ", ("missing",)),
    (KEY, "", "noise[0].sigma: ", ("σ grid", "0.01:100:17")),
    # types
    ("repeats = 2", 'repeats = "2"', "repeats: ", ("a whole number", "text")),
    ("repeats = 2", "repeats = 2.5", "repeats: ", ("a whole number", "a number")),
    ("repeats = 2", "repeats = 1979-05-27", "repeats: ", ("a whole number", "date")),
    ("epochs = 3", "epochs = true", "recipe.epochs: ", ("a whole number", "true or false")),
    (
        "epochs = 3",
        "clamp_weights = 1",
        "recipe.clamp_weights: ",
        ("true or false", "a list", "a whole number"),
    ),
    (KEY, "sigma = { a = 1 }", "noise[0].sigma: ", ("a number", "text", "a list", "a table")),
    (KEY, 'sigma = [1, "a"]', "noise[0].sigma[1]: ", ("a number", "text")),
    (KEY, f'{KEY}\nwhere = "mapped"\nfactors = {{ 0 = 1, 2 = "x" }}', "noise[0].factors.2: ", ("a number",)),
    ("[[noise]]", "[noise]", "noise: ", ("a list", "a table")),
    # empty lists, and values that are there twice
    ('["mnist", "cifar10"]', "[]", "data.names: ", ("empty",)),
    ('["mnist", "cifar10"]', '["mnist", "mnist"]', "data.names: ", ("'mnist'", "twice")),
    ('["none", "sites"]', "[]", "models[0].batch_norm: ", ("empty",)),
    ('["none", "sites"]', '["none", "none"]', "models[0].batch_norm: ", ("'none'", "twice")),
    ("epochs = 3", "clamp_weights = []", "recipe.clamp_weights: ", ("empty",)),
    (KEY, "sigma = 0,5", "line ", ("not TOML", "a decimal comma? numbers have a point")),
    (KEY, "sigma = [0, 1, 0, 2]", "noise[0].sigma: ", ("0 is there twice", "decimals with a point")),
    (KEY, "sigma = []", "noise[0].sigma: ", ("no values",)),
    (KEY, f"{KEY}\nphases = []", "noise[0].phases: ", ("empty",)),
    (KEY, f"{KEY}\nwhere = []", "noise[0].where: ", ("empty",)),
    (KEY, f"{KEY}\nwhere = [3, 0, 3]", "noise[0].where: ", ("3", "twice")),
    (KEY, f'{KEY}\nwhere = [0, "input"]', "noise[0].where: ", ("0", "twice")),
    (KEY, f"{KEY}\nrepetitions = [1, 2, 1]", "noise[0].repetitions: ", ("1", "twice")),
    (KEY, f"{KEY}\nclamp_weights = [true, true]", "noise[0].clamp_weights: ", ("True", "twice")),
    (KEY, f'{KEY}\nwhere = "mapped"\nfactors = {{ 0 = 1, input = 2 }}', "noise[0].factors: ", ("twice",)),
    ("[recipe]", '[[models]]\nname = "tfc"\n[recipe]', "models[1]: ", ("mlp-64", "none", "twice")),
    # names
    ('"cifar10"', '"cifar"', "data.names[1]: ", ("'cifar'", "mnist", "cifar10")),
    ('"mlp"', '"resnet"', "models[0].name: ", ("'resnet'", "mlp-64", "lenet5")),
    ('"sites"', '"all"', "models[0].batch_norm: ", ("'all'", "none, sites, hidden")),
    ('"additive"', '"gauss"', "noise[0].kind: ", ("'gauss'", "additive", "mixed-direct")),
    ("repeats = 2", 'phases = "test"', "phases: ", ("'test'", "inference, training")),
    (KEY, f'{KEY}\nphases = ["test"]', "noise[0].phases: ", ("'test'", "inference, training")),
    (
        KEY,
        f'{KEY}\nwhere = "0:1,1:2"',
        "noise[0].where: ",
        ('where = "mapped" with factors',),
    ),
    (KEY, f'{KEY}\nwhere = "fc1,1"', "noise[0].where: ", ("site 1 fc1 is listed twice",)),
    (KEY, f'{KEY}\nwhere = "here"', "noise[0].where: ", ("'here'", "each, global, mapped")),
    (KEY, f'{KEY}\nexecution = "both"', "noise[0].execution: ", ("'both'", "single, each")),
    (KEY, f'{KEY}\ndistribution = "x"', "noise[0].distribution: ", ("'x'", "normal, uniform, laplace")),
    ("epochs = 3", 'dtype = "float16"', "recipe.dtype: ", ("float16", "float32, float64")),
    (KEY, f'{KEY}\ndata = "svhn"', "noise[0].data: ", ("'svhn'", "mnist, cifar10")),
    (KEY, f'{KEY}\nmodels = "sfc"', "noise[0].models: ", ("'mlp-256'", "mlp-64")),
    (KEY, f'{KEY}\nmodels = "x"', "noise[0].models: ", ("'x'", "mlp-64")),
    (KEY, f'{KEY}\nbatch_norm = "hidden"', "noise[0].batch_norm: ", ("'hidden'", "none, sites")),
    ('name = "mlp"', 'name = "mlp"\ndata = "svhn"', "models[0].data: ", ("'svhn'", "mnist, cifar10")),
    # sites that a network does not have
    (KEY, f"{KEY}\nwhere = [8]", "noise[0].where: ", ("no site 8", "0 input", "7 logits")),
    (KEY, f"{KEY}\nwhere = [-1]", "noise[0].where: ", ("no site -1", "7 logits")),
    (KEY, f'{KEY}\nwhere = ["bn1"]', "noise[0].where: ", ("mlp-64", "'bn1'", "2 relu1")),
    (KEY, f'{KEY}\nwhere = "mapped"\nfactors = {{ 9 = 1 }}', "noise[0].factors: ", ("no site 9",)),
    (KEY, f'{KEY}\nwhere = "mapped"\nfactors = {{ bn1 = 1 }}', "noise[0].factors: ", ("'bn1'",)),
    # what goes with what
    (KEY, f"{KEY}\nratio = 0.5", "noise[0].ratio: ", ("mixed", "additive")),
    ('"additive"', '"mixed"', "noise[0].ratio: ", ("mixed noise needs a ratio", "0…1")),
    (KEY, f"{KEY}\nmean_mul = 1", "noise[0].mean_mul: ", ("mixed, mixed-direct", "additive")),
    (KEY, f"{KEY}\norder = 'mul_add'", "noise[0].order: ", ("mixed", "additive")),
    (KEY, f"{KEY}\nsigma_mul = 1", "noise[0].sigma_mul: ", ("mixed-direct", "additive")),
    ('"additive"', '"mixed-direct"', "noise[0].sigma: ", ("additive", "mixed-direct")),
    ('"additive"', '"none"', "noise[0].sigma: ", ("additive", "none")),
    (f'"additive"\n{KEY}', '"none"\nwhere = "each"', "noise[0].where: ", ("none",)),
    (KEY, f'{KEY}\nwhere = "mapped"', "noise[0].factors: ", ("mapped", "{ 0 = 0.5")),
    (KEY, f'{KEY}\nwhere = "mapped"\nfactors = {{}}', "noise[0].factors: ", ("mapped", "{ 0 = 0.5")),
    (KEY, f"{KEY}\nfactors = {{ 0 = 1 }}", "noise[0].factors: ", ('where = "mapped"',)),
    (KEY, f"{KEY}\nrepetition_maps = [[1, 2]]", "noise[0].repetition_maps: ", ('where = "global"',)),
    (
        KEY,
        f'{KEY}\nwhere = "global"\nrepetitions = 2\nrepetition_maps = [[1, 2]]',
        "noise[0].repetition_maps: ",
        ("repetitions",),
    ),
    # out of range
    ("repeats = 2", "repeats = 0", "repeats: ", ("0", "1…10000")),
    (KEY, f"{KEY}\nrepeats = 100000", "noise[0].repeats: ", ("100000", "1…10000")),
    ("repeats = 2", "seed = -1", "seed: ", ("0 to 2^64 - 1", "-1")),
    ("[data]", "[data]\ntrain_limit = 0", "data.train_limit: ", ("0", "at least 1")),
    ("[data]", "[data]\ntest_limit = -5", "data.test_limit: ", ("-5", "at least 1")),
    ("epochs = 3", "epochs = 0", "recipe.epochs: ", ("0", "at least 1")),
    ("epochs = 3", "batch_size = 0", "recipe.batch_size: ", ("0", "at least 1")),
    ("epochs = 3", "learning_rate = nan", "recipe.learning_rate: ", ("nan", "above 0 and finite")),
    (KEY, 'sigma = "0.1,-1"', "noise[0].sigma: ", ("-1", "≥ 0")),
    (KEY, "sigma = [1, -2]", "noise[0].sigma: ", ("-2", "≥ 0")),
    (KEY, "sigma = inf", "noise[0].sigma: ", ("inf", "finite")),
    (KEY, 'sigma = "1:10"', "noise[0].sigma: ", ("'1:10'", "FIRST:LAST:COUNT")),
    (KEY, 'sigma = "1:1e39:3"', "noise[0].sigma: ", ("1e+39", "float32")),
    (KEY, f"{KEY}\nmean = inf", "noise[0].mean: ", ("inf", "finite")),
    (KEY, f"{KEY}\nrepetitions = [1, 0]", "noise[0].repetitions: ", ("0", "at least 1")),
    (KEY, f'{KEY}\nrepetitions = 5000\nexecution = "each"', "noise[0]: ", ("5000", "4096")),
    (KEY, f'{KEY}\nwhere = "mapped"\nfactors = {{ 0 = -1 }}', "noise[0].factors: ", ("-1", "≥ 0")),
    (KEY, f'{KEY}\nwhere = "mapped"\nfactors = {{ 0 = nan }}', "noise[0].factors: ", ("nan", "finite")),
    (KEY, f'{KEY}\nwhere = "global"\nrepetition_maps = [[1, 2]]', "noise[0].repetition_maps: ", ("2", "8")),
    (KEY, f'{KEY}\nwhere = "global"\nrepetition_maps = [[2, 2]]', "noise[0].repetition_maps: ", ("2", "8")),
    (KEY, f'{KEY}\nwhere = "global"\nrepetition_maps = [[]]', "noise[0].repetition_maps: ", ("empty",)),
    (f'"additive"\n{KEY}', f'"mixed"\n{KEY}\nratio = [0.5, 1.5]', "noise[0].ratio: ", ("1.5", "≤ 1")),
    (f'"additive"\n{KEY}', f'"mixed"\n{KEY}\nratio = 0.5\norder = "x"', "noise[0].order: ", ("mul_add",)),
    # what does not fit together
    ('"mlp"', '"vgg11"', "models[0] with mnist: ", ("vgg11", "(1, 28, 28)")),
    ('name = "mlp"', 'name = "mlp"\ndata = "mnist"', "data.names[1]: ", ("cifar10", "[[models]]")),
    (f'[[noise]]\nkind = "additive"\n{KEY}', "", "noise: ", ("missing",)),
]


@pytest.mark.parametrize(("old", "new", "path", "parts"), MISTAKES)
def test_a_mistake_is_one_line_with_file_key_and_what_is_allowed(
    old: str, new: str, path: str, parts: tuple[str, ...], tmp_path: Path
) -> None:
    assert old in SMALL
    file = tmp_path / "quick.toml"
    file.write_text(SMALL.replace(old, new, 1), encoding="utf-8")
    message = refused(file)
    assert message.startswith(f"{file}: {path}")
    assert all(part in message for part in parts), message


def refused(file: Path) -> str:
    with pytest.raises(WnError) as caught:
        read_study(file)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_networks_that_the_filters_of_an_entry_leave_out_altogether() -> None:
    text = SMALL.replace("[recipe]", '[[models]]\nname = "lenet5"\ndata = "mnist"\n[recipe]')
    text = text.replace(KEY, f'{KEY}\nmodels = "lenet5"\ndata = "cifar10"')
    with pytest.raises(WnError, match=r"^study: noise\[0\]: data, models and batch_norm leave none"):
        parse_study(text)


def test_no_noise_entry_at_all() -> None:
    head = SMALL.partition("[[noise]]")[0]
    with pytest.raises(WnError, match=r'^study: noise: a study needs an entry.*kind = "none"'):
        parse_study(f"noise = []\n{head}")


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("repeats = \n", "line 1, column 11"),
        ("\n\nx y\n", "line 3, column 3"),
        ("a = 1\na = 2\nb = 3\n", "line 2"),
        ("[data]\nnames = [", "line 2"),
        ('x = "abc', "line 1"),
    ],
)
def test_what_is_no_toml_is_refused_with_its_line(text: str, place: str, tmp_path: Path) -> None:
    file = tmp_path / "quick.toml"
    file.write_text(text)
    message = refused(file)
    assert message.startswith(f"{file}: {place}")
    assert "not TOML" in message


def test_files_that_can_not_be_read(tmp_path: Path) -> None:
    assert "No such file" in refused(tmp_path / "absent.toml")
    assert "directory" in refused(tmp_path)
    (tmp_path / "latin.toml").write_bytes("name = 'σ'".encode("utf-16"))
    assert "not UTF-8" in refused(tmp_path / "latin.toml")


@given(st.text("[]{}=\"'.#\n abcnoisekd_0123456789", max_size=60) | st.text(max_size=30))
def test_any_text_is_a_study_or_one_line(text: str) -> None:
    """Behind a part of a good file, so that it gets beyond the syntax now and then."""
    for whole in (text, SMALL + text, SMALL.replace("kind", f"{text}\nkind")):
        message = ""
        try:
            parse_study(whole)
        except WnError as error:
            message = str(error)
        assert "\n" not in message
        assert not message or message.startswith("study: ")


# ---- back to TOML, and parts ----------------------------------------------------------------------------


@pytest.mark.parametrize("text", [SMALL, EVERYTHING])
def test_a_study_written_and_read_is_the_same(text: str) -> None:
    spec = parse_study(text)
    assert parse_study(to_toml(spec, ("a comment",))) == spec


@given(
    st.text(max_size=20),
    st.lists(st.floats(0, 1e30).map(abs), min_size=1, max_size=4, unique=True),
    st.text(max_size=8),
)
def test_any_values_are_written_so_that_they_are_read_again(
    name: str, sigma: list[float], comment: str
) -> None:
    spec = msgspec.structs.replace(parse_study(SMALL), name=name, description=name[::-1])
    spec.noise[0] = msgspec.structs.replace(spec.noise[0], sigma=sigma)
    text = to_toml(spec, (comment, name))
    assert parse_study(text) == spec
    tomllib.loads(text)


def test_what_is_so_by_default_is_not_written() -> None:
    text = to_toml(parse_study(SMALL))
    assert [line for line in text.splitlines() if line] == [line for line in SMALL.splitlines() if line]


def part(spec: StudySpec, **chosen: Any) -> set[tuple[str, str, str]]:
    narrow = narrowed(spec, **chosen)
    return {(c.dataset, c.model, c.batch_norm) for c in count(narrow, planned_facts(narrow))}


def test_parts_of_a_study() -> None:
    spec = parse_study(EVERYTHING)
    every = part(spec)
    assert len(every) == 5
    assert part(spec, dataset="mnist") == {network for network in every if network[0] == "mnist"}
    assert part(spec, model="mlp") == {network for network in every if network[1] == "mlp-64"}
    assert part(spec, dataset="mnist", model="lenet5") == {("mnist", "lenet5", "hidden")}
    assert narrowed(spec, "mnist", "lenet5").name == "all of it-mnist-lenet5"
    with pytest.raises(
        WnError, match=r"no network fashion-mini lenet5: it has mnist mlp-64, .*fashion-mini mlp-64$"
    ):
        narrowed(spec, "fashion-mini", "lenet5")
