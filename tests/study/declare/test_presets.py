"""The studies that ship with the package: each can be read, and has the units of the paper's grid."""

import re
import tomllib
from pathlib import Path

import pytest

from wn.basics.errors import WnError
from wn.data.sets.entries import entry_of
from wn.study import StudySpec, Unit, count, find_study, parse_study, planned_facts, units
from wn.study.declare import presets
from wn.study.declare.derived import planned
from wn.study.declare.schema import DataKeys, ModelKeys, NoiseKeys, RecipeKeys

MNIST_SITES = {"mlp-64": (8, 11), "lenet5": (12, 16)}  # without and with batch norm
GREY, COLOUR, SPEECH = ["mnist", "fashion-mnist"], ["cifar10", "svhn"], ["speech-commands"]
IMAGES = GREY + COLOUR
FULL = [name for name in presets.names() if not name.endswith("-quick")]
QUICK = [name for name in presets.names() if name.endswith("-quick")]
QUICK_EPOCHS = 1000  # network-epochs, of 5,000 samples and the small MLP: a minute or two on one processor
CLAIM_EPOCHS = 4000  # of those that show a claim of the paper: a few minutes
CLAIMS = [name for name in FULL if re.fullmatch(r"c\d", name)]


def plan(spec: StudySpec) -> dict[str, int]:
    counts = count(planned(spec), planned_facts(spec))
    names = ("clean", "inference", "training", "network_epochs")
    return {name: sum(getattr(c, name) for c in counts) for name in names}


def all_units(spec: StudySpec) -> list[Unit]:
    return list(units(spec, planned_facts(spec)))


# ---- the files ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", presets.names())
def test_every_preset_is_a_study_with_a_description(name: str) -> None:
    spec = presets.preset(name)
    assert spec == parse_study(presets.text(name), name=name)
    assert spec.name == name
    assert 20 < len(spec.description) < 100
    assert presets.text(name).startswith("# ")
    assert "name" not in tomllib.loads(presets.text(name))  # it is that of the file
    assert sum(plan(spec).values()) > 0


def test_every_preset_has_a_quick_variant() -> None:
    assert set(QUICK) >= {f"{name}-quick" for name in FULL}
    assert {"walking", "global", "clean", "extreme", "layer5", "multi-execution"} <= set(FULL)


@pytest.mark.parametrize("name", QUICK)
def test_quick_variants_end_in_minutes_and_need_no_download(name: str) -> None:
    spec = presets.preset(name)
    for counted in count(spec, planned_facts(spec)):
        assert counted.model == "mlp-64" or (name == "c5-quick" and counted.trainings <= 3)
        assert entry_of(counted.dataset).bundled or "mnist" in name
    assert spec.data.train_limit == 5000
    assert (spec.data.test_limit or 0) <= 2000
    most = CLAIM_EPOCHS if name.removesuffix("-quick") in CLAIMS else QUICK_EPOCHS
    assert plan(spec)["network_epochs"] <= most


@pytest.mark.parametrize("name", FULL)
def test_quick_variants_have_the_noise_and_phases_of_the_full_ones(name: str) -> None:
    """A site stands for that of another network; multi-execution-quick measures midpoints as well."""
    full, quick = presets.preset(name), presets.preset(f"{name}-quick")
    assert {entry.kind for entry in quick.noise} == {entry.kind for entry in full.noise}
    assert quick.phases == full.phases
    places = {kind_of_place(entry) for entry in quick.noise}
    assert places >= {kind_of_place(entry) for entry in full.noise} or name == "c4"  # one site shows it


def kind_of_place(entry: NoiseKeys) -> str:
    return str(entry.where) if entry.where in (None, "global") else "a site"


# ---- the grids of the paper -----------------------------------------------------------------------------


MLP, LENET5, CNN = 8 + 11, 12 + 16, 8 + 11  # sites, without and with batch norm


def walking_units(mnist: int, others: int, uncovered: tuple[str, ...] = ()) -> int:
    """The number of noisy units in both phases, given the numbers of σ per site.

    Repeats: 5 of MNIST and of LeNet-5 on CIFAR-10, 3 of all others. MLPs learn all five data
    sets, LeNet-5 the four of images, CNN-S Speech Commands.
    """
    grey = 5 * mnist * (MLP + LENET5)
    colour = others * (3 * MLP + 5 * LENET5)
    rest = sum(3 * others * (MLP + LENET5) for data in ("fashion-mnist", "svhn") if data not in uncovered)
    return 2 * (grey + colour + rest + 3 * others * (MLP + CNN))


ADDITIVE = walking_units(2 * 41, 2 * 49)  # free and clamped
MULTIPLICATIVE = walking_units(61 + 65 - 1, 21 + 41 - 1)  # σ = 1 is in both grids
MIXED = walking_units(25 * 5, 25 * 5, uncovered=("fashion-mnist", "svhn"))
# 2 kinds of batch norm each: MNIST 2 networks × 5, CIFAR-10 3 + 5, Speech Commands 2 × 3, and 2 × 2 × 3
CLEAN_MIXED = 2 * (2 * 5 + (3 + 5) + 2 * 3)
CLEAN = CLEAN_MIXED + 2 * 2 * 2 * 3
# σ × repeats: LeNet-5 and MLP on MNIST, on CIFAR-10, on the two others, Speech Commands' two networks
GLOBAL = sum(
    (
        17 * 2 * (2 * 10 + 10 + 5 + 4 * 5 + 2 * 3),  # additive, free and clamped
        21 * (2 * 10 + 10 + 2 * 5) + 31 * (5 + 2 * 5 + 2 * 3),  # multiplicative: to 2, and to 3
        17 * 5 * (2 * 10 + 10 + 5 + 2 * 3),  # mixed in 5 ratios, not on the two others
    )
)


@pytest.mark.parametrize(
    ("name", "clean", "noisy"),
    [
        ("walking-additive", 2 * CLEAN, ADDITIVE),
        ("walking-multiplicative", CLEAN, MULTIPLICATIVE),
        ("walking-mixed", CLEAN_MIXED, MIXED),
        ("walking", 2 * CLEAN, ADDITIVE + MULTIPLICATIVE + MIXED),
        # 3 kinds of batch norm, both phases
        ("global", 2 * 3 * (2 * 10 + 10 + 5 + 4 * 5 + 2 * 3), 2 * 3 * GLOBAL),
        ("clean", 2 * 3 * (6 * 10 + 4 * 6), 0),
    ],
)
def test_the_grids_have_as_many_units_as_the_paper_says(name: str, clean: int, noisy: int) -> None:
    found = plan(presets.preset(name))
    assert (found["clean"], found["inference"], found["training"]) == (clean, noisy // 2, noisy // 2)


def test_the_grid_of_the_mlp_on_mnist_is_the_published_one() -> None:
    found = [unit for unit in all_units(presets.preset("walking-mnist-mlp")) if unit.repeat == 4]
    sigma: dict[tuple[str, bool, float | None], set[float]] = {}
    for unit in found:
        if unit.noise is not None:
            place = (unit.noise.kind, unit.clamp_weights, unit.noise.ratio)
            sigma.setdefault(place, set()).add(unit.sigma)
    sizes = {place: (len(values), min(values), max(values)) for place, values in sigma.items()}
    expected: dict[tuple[str, bool, float | None], tuple[int, float, float]] = {
        ("additive", False, None): (41, 1e-2, 1e8),
        ("additive", True, None): (41, 1e-2, 1e8),
        ("multiplicative", False, None): (61 + 65 - 1, 0, 1e16),
    }
    for ratio in (0.01, 0.1, 0.5, 0.9, 0.99):
        expected["mixed", False, ratio] = (25, 1e-2, 1e10)
    assert sizes == expected
    assert {unit.epochs for unit in found} == {100}


def test_extreme_noise_is_trained_under() -> None:
    found = all_units(presets.preset("extreme"))
    noisy = [unit for unit in found if unit.noise is not None]
    assert {(unit.phase, unit.sigma, unit.batch_norm) for unit in noisy} == {("training", 1e10, "sites")}
    # MLP on three data sets with 11 sites, LeNet-5 on two with 16, CNN-S with 11; 2 kinds and 20 ratios
    # in both orders; 6 repeats
    assert len(noisy) == (3 * 11 + 2 * 16 + 11) * (2 + 2 * 20) * 6


# ---- the quick study of MNIST ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "dataset"), [("walking-mnist-mlp-quick", "mnist"), ("walking-quick", "fashion-mini")]
)
def test_the_quick_walk_has_all_sites_three_kinds_and_both_phases(name: str, dataset: str) -> None:
    noisy = [unit for unit in all_units(presets.preset(name)) if unit.noise is not None]
    assert {unit.dataset for unit in noisy} == {dataset}
    seen = {(unit.phase, unit.noise.kind, unit.site) for unit in noisy if unit.noise}
    kinds = ("additive", "multiplicative", "mixed")
    assert seen == {
        (phase, kind, site) for phase in ("inference", "training") for kind in kinds for site in range(8)
    }
    assert len(noisy) == 2 * 2 * 3 * 8 * 4  # repeats, phases, kinds, sites, σ


def test_the_quick_walk_on_mnist_says_where_to_get_it() -> None:
    text = presets.text("walking-mnist-mlp-quick")
    assert "wn data fetch mnist" in text
    assert text.partition("[[models]]")[2] == presets.text("walking-quick").partition("[[models]]")[2]


# ---- by name --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "networks"),
    [
        ("walking-additive-mnist-mlp", {("mnist", "mlp-64")}),
        ("walking-additive-mnist-tfc", {("mnist", "mlp-64")}),
        ("walking-fashion-mnist-lenet5", {("fashion-mnist", "lenet5")}),
        ("walking-mixed-speech-commands", {("speech-commands", "mlp-64"), ("speech-commands", "cnn-s")}),
        ("global-lenet5", {(dataset, "lenet5") for dataset in IMAGES}),
        ("walking-quick-mlp", {("fashion-mini", "mlp-64")}),
    ],
)
def test_parts_of_presets_have_names(name: str, networks: set[tuple[str, str]]) -> None:
    spec = find_study(name)
    assert spec.name == name
    assert {(c.dataset, c.model) for c in count(spec, planned_facts(spec))} == networks


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("walkin", ("'walkin'", "walking-additive, ", "-DATA", "no file walkin")),
        ("walking-mlp-mnist", ("'walking-mlp-mnist'", "-DATA")),
        ("walking-mnist-cnn-s", ("no network mnist cnn-s", "mnist lenet5", "speech-commands cnn-s")),
        ("extreme-svhn", ("no network svhn", "cifar10 mlp-64")),
        ("absent.toml", ("absent.toml: can't be read",)),
        ("./walking", ("walking: can't be read",)),
    ],
)
def test_names_that_mean_nothing(name: str, parts: tuple[str, ...]) -> None:
    with pytest.raises(WnError) as caught:
        find_study(name)
    assert "\n" not in str(caught.value)
    assert all(part in str(caught.value) for part in parts), str(caught.value)


def test_a_file_is_found_by_its_path_and_a_preset_goes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = presets.text("walking-quick").replace("repeats = 2", "repeats = 9")
    for name in ("mine", "walking-quick", "mine.toml"):
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    for name in ("mine", "mine.toml", "./walking-quick", str(tmp_path / "walking-quick")):
        assert find_study(name).repeats == 9
    assert find_study("walking-quick").repeats == 2


def test_texts_have_names() -> None:
    with pytest.raises(WnError, match=r"no preset is called 'x': allowed are .*, extreme, "):
        presets.text("x")


# ---- the documentation ----------------------------------------------------------------------------------

PAGE = Path(__file__).parents[3] / "docs" / "study-files.md"


@pytest.mark.parametrize("name", FULL)
def test_the_documentation_has_the_numbers_of_the_presets(name: str) -> None:
    (row,) = (line for line in PAGE.read_text("utf-8").splitlines() if line.startswith(f"| `{name}` |"))
    documented = [int(cell.replace(",", "")) for cell in row.split("|")[4:6]]
    found = plan(presets.preset(name))
    assert documented == [found["inference"] + found["training"], found["clean"] + found["training"]]


def test_the_study_in_the_documentation_can_be_read() -> None:
    text, matrix = (block.partition("```")[0] for block in PAGE.read_text("utf-8").split("```toml")[1:])
    found = plan(parse_study(text))
    # 3 repeats: MLP with 8 and 11 sites, 25 σ, both phases, free and clamped; 13 σ × 3 ratios, global
    assert found["inference"] == 3 * ((8 + 11) * 25 * 2 + 2 * 13 * 3)
    assert found["training"] == 3 * (8 + 11) * 25 * 2
    with_matrix = parse_study(text + matrix)
    (free, *_) = (c for c in count(with_matrix, planned_facts(with_matrix)) if c.batch_norm == "none")
    assert (free.matrix, free.matrix_networks) == (3 * 8 * 5 * 13, 3 * 8 * 5)


def test_every_key_is_in_the_documentation() -> None:
    page = PAGE.read_text("utf-8")
    for table in (StudySpec, DataKeys, ModelKeys, RecipeKeys, NoiseKeys):
        for key in table.__struct_fields__:
            assert f"`{key}`" in page or f"[{key}]" in page
