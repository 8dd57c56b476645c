"""The presets have the grids of the authors' experiment files: no unit more or less, recipes included."""

import tomllib
from pathlib import Path

import pytest

from tests.study.seml import authors
from wn.analysis.repetitions import SCHEMES, UNIFORM
from wn.study.declare import presets
from wn.study.declare.schema import NoiseKeys

FILES = authors.files()
WALKING_KINDS = {
    "walking-additive": ["additive"],
    "walking-multiplicative": ["multiplicative"],
    "walking-mixed": ["mixed"],
}
PUBLISHED = Path(__file__).parents[3] / "reference" / "published_maps.toml"


def of(preset: str) -> list[dict[str, object]]:
    return [file for file in FILES if file["preset"] == preset]


def test_the_facts_are_those_of_all_files() -> None:
    """The runs of each file are the product of its axes, and their sum is the known total."""
    assert len({file["path"] for file in FILES}) == len(FILES) == 52
    assert sum(file["runs"] for file in FILES) == 635_120
    assert {file["path"]: authors.runs_of(file) for file in FILES} == {f["path"]: f["runs"] for f in FILES}
    # the file whose block without noise has a grid over enable_in_training: 3 networks × 5 repeats
    assert [file["again"] for file in FILES if "again" in file] == [3 * 5]
    assert {file["preset"]: len(of(file["preset"])) for file in FILES} == {
        "walking": 20,
        "global": 10,
        "clean": 10,
        "extreme": 6,
        "layer5": 2,
        "multi-execution": 4,
    }


@pytest.mark.parametrize("name", ["walking", "global", "clean", "extreme", "layer5", "multi-execution"])
def test_presets_have_the_grids_of_the_files(name: str) -> None:
    expected = authors.grids_of_files(of(name))
    assert authors.grids_of_study(presets.preset(name)) == expected
    assert len(expected) > 10


@pytest.mark.parametrize(("name", "kinds"), WALKING_KINDS.items())
def test_parts_of_walking_have_the_grids_of_a_kind_of_noise(name: str, kinds: list[str]) -> None:
    expected = authors.grids_of_files(of("walking"), kinds)
    assert authors.grids_of_study(presets.preset(name)) == expected


def test_a_grid_that_differs_is_seen() -> None:
    """The comparison is of every σ, repeat, phase, site, ratio, order, clamping and epoch."""
    found = authors.grids_of_study(presets.preset("layer5"))
    file = of("layer5")[0]
    noise = file["noise"]
    assert isinstance(noise, list)
    for change in (
        {"repeats": 4},
        {"epochs": 299},
        *({"noise": [noise[0] | {key: value}, noise[1]]} for key, value in OTHER.items()),
    ):
        assert authors.grids_of_files([file | change, of("layer5")[1]]) != found


OTHER = {
    "sigma": "0.0001:1e+13:36",
    "ratio": [0.3],
    "order": ["mul_add"],
    "where": 6,
    "clamped": False,
    "phases": ["inference"],
    "batch_norm": ["none"],
}


# ---- maps of repetitions --------------------------------------------------------------------------------


def map_entries() -> list[NoiseKeys]:
    return [entry for entry in presets.preset("multi-execution").noise if entry.repetition_maps]


def test_repetition_maps_are_those_of_the_files() -> None:
    """By data, network, batch norm and scheme: σ, the budgets, and a checksum of the maps."""
    models = {"mlp-64": "mlp", "lenet5": "lenet5"}
    expected = {}
    for file in of("multi-execution"):
        for noise in file["noise"]:  # type: ignore[attr-defined]  # TOML gives object: here a list of tables
            if "budgets" in noise:
                (batch_norm,) = noise["batch_norm"]
                key = (file["data"], models[str(file["model"])], batch_norm, noise["label"])
                repeats = None if file["repeats"] == 100 else file["repeats"]
                assert key not in expected
                expected[key] = (noise["sigma"], repeats, noise["budgets"], noise["sha256"])
    found = {
        (entry.data, entry.models, entry.batch_norm, entry.label): (
            entry.sigma,
            entry.repeats,
            [sum(numbers) for numbers in entry.repetition_maps or ()],
            authors.checksum(entry.repetition_maps or ()),
        )
        for entry in map_entries()
    }
    assert found == expected
    assert len(found) == 4 * 2 * 12
    assert {label for *_, label in found} == set(SCHEMES) - {UNIFORM}
    assert {entry.where for entry in map_entries()} == {"global"}


def test_maps_of_the_mlp_on_mnist_are_the_published_ones() -> None:
    published = tomllib.loads(PUBLISHED.read_text(encoding="utf-8"))
    found: dict[str, dict[str, list[list[int]]]] = {"mlp_bn": {}, "mlp": {}}
    for entry in map_entries():
        if (entry.data, entry.models) == ("mnist", "mlp"):
            network = "mlp_bn" if entry.batch_norm == "sites" else "mlp"
            found[network][str(entry.label)] = entry.repetition_maps or []
    assert found == published


def test_budgets_are_multiples_of_the_sites_give_or_take_rounding() -> None:
    for entry in map_entries():
        model = "mlp-64" if entry.models == "mlp" else "lenet5"
        sites = authors.SITES[model, str(entry.batch_norm)]
        totals = [sum(numbers) for numbers in entry.repetition_maps or ()]
        assert totals == [sites * each for each in (2, 3, 5, 7, 10, 20)]
