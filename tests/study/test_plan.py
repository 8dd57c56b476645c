"""Plans: what a study would take, without data and without running anything."""

from pathlib import Path
from typing import Any

import pytest

from tests.cli.command_line import one_line
from tests.cli.command_line import run as run_command
from tests.study.runs import SIGMA, TINY, UNITS, counts, run
from wn.data import catalogue
from wn.engine import backends
from wn.study import parse_study, plan
from wn.study.declare import presets
from wn.study.plan import PlannedNetwork, plan_study
from wn.study.units import NetworkCount

FIXED = plan._Speed(alone=2.0, side_by_side=0.5, inference=0.25)


@pytest.fixture
def fixed(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Have the calibration take no time and find fixed figures; the list has what was asked for."""
    asked: list[Any] = []

    def calibrate(be: backends.Backend, unit: Any, levels: int) -> plan._Speed:
        asked.append((unit.dataset, unit.model, unit.batch_norm))
        return FIXED

    monkeypatch.setattr(plan, "_calibrate", calibrate)
    return asked


@pytest.mark.usefixtures("fixed")
def test_the_time_is_that_of_all_steps_and_batches() -> None:
    """2 repeats of: 1 clean training of 2 epochs of 3 batches, 6 under noise; and 13 evaluations each."""
    (network,) = plan_study(parse_study(TINY), "numpy").networks
    steps, batches = 2 * 3, 100 / 512
    expected = steps * (2 * FIXED.alone + 12 * FIXED.side_by_side) + UNITS * batches * FIXED.inference
    assert network.seconds == pytest.approx(expected)
    counted = network.counted
    assert (counted.trainings, counted.units, counted.network_epochs) == (14, UNITS, 28)


@pytest.mark.usefixtures("fixed")
def test_workers_share_the_time() -> None:
    spec = parse_study(TINY)
    assert plan_study(spec, "numpy", 4).seconds == pytest.approx(plan_study(spec, "numpy").seconds / 4)


def test_each_network_is_timed_once(fixed: list[Any]) -> None:
    text = TINY.replace("learning_rate", "clamp_weights = [false, true]\nlearning_rate")
    text = text.replace('"mlp-8"', '"mlp-8"\nbatch_norm = ["none", "sites"]').replace("relu2", "fc2")
    planned = plan_study(parse_study(text), "numpy")
    assert len(planned.networks) == 4
    assert fixed == [("fashion-mini", "mlp-8", "none"), ("fashion-mini", "mlp-8", "sites")]


@pytest.mark.usefixtures("fixed")
def test_every_preset_can_be_planned_without_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """No file is looked for, and nothing is downloaded."""

    def never(*arguments: Any, **options: Any) -> Any:
        raise AssertionError("data were asked for")

    monkeypatch.setattr(catalogue, "load", never)
    for name in presets.names():
        planned = plan_study(presets.preset(name))
        assert planned.seconds > 0
        assert planned.bytes > 0


def test_a_calibration_finds_times() -> None:
    (network,) = plan_study(parse_study(TINY), "numpy").networks
    assert 0 < network.seconds < 1000


@pytest.mark.parametrize("dataset", ["cifar10", "speech-commands"])
def test_other_shapes_and_types_can_be_timed(dataset: str) -> None:
    model = {"cifar10": "mlp-8", "speech-commands": "cnn-s"}[dataset]
    text = TINY.replace("fashion-mini", dataset).replace("mlp-8", model).replace("relu2", "relu1")
    text = text.replace("learning_rate", 'dtype = "float64"\nbatch_size = 8\nlearning_rate')
    (network,) = plan_study(parse_study(text), "numpy").networks
    assert network.seconds > 0


def test_the_size_is_about_that_of_a_study(tmp_path: Path) -> None:
    """For more units than a few: the tables of an empty study take some place as well."""
    text = TINY.replace("repeats = 2", "repeats = 5").replace(SIGMA, 'sigma = "0.1:10:40"')
    text = text.replace('["input", "relu2"]', '"each"').replace("epochs = 2", "epochs = 1")
    text = 'phases = "inference"' + text.replace("train_limit = 300", "train_limit = 30")
    text = text.replace("test_limit = 100", "test_limit = 10")
    run(tmp_path, text)
    files = [path for path in tmp_path.rglob("*") if path.suffix in (".sqlite", ".safetensors")]
    size = sum(path.stat().st_size for path in files)
    planned = plan_study(parse_study(text), "numpy").bytes
    assert counts(tmp_path)[1] == 5 * (1 + 8 * 40)
    assert 0.4 * size < planned < 1.5 * size


# ---- what is printed --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("fixed")
def test_what_a_plan_says(tmp_path: Path) -> None:
    path = tmp_path / "small.toml"
    path.write_text(TINY)
    outcome = run_command("study", "plan", path, "--workers", "2", "--backend", "numpy")
    assert outcome.code == 0
    assert outcome.err == ""
    lines = outcome.out.splitlines()
    assert lines[0].strip() == "small: nothing was run"
    (row,) = (line for line in lines if "fashion-mini" in line)
    assert [cell.strip() for cell in row.strip("│").split("│")] == [
        "fashion-mini mlp-8",
        "14",
        "26",
        "28",
        "61 s",
        "0.1 MB",
    ]
    assert lines[-1] == (
        "14 trainings, 26 evaluations, 28 network-epochs; about 31 s with 2 workers; 0.1 MB on disk"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["small.toml"]


def test_networks_have_short_names() -> None:
    from wn.cli.studies_console import _network

    def name(batch_norm: str, clamped: bool) -> str:
        counted = NetworkCount("mnist", "mlp-64", batch_norm, clamped, 1, 2, 3, 4)
        return _network(PlannedNetwork(counted, 1.0, 1))

    assert name("none", False) == "mnist mlp-64"
    assert name("sites", True) == "mnist mlp-64, bn sites, clamped"


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("none.toml",), "none.toml: can't be read: No such file"),
        (("nonsense",), "no preset is called 'nonsense': allowed are "),
        (("walking-quick", "--workers", "0"), "--workers is 0: it must be at least 1"),
        (
            ("walking-quick", "--backend", "abacus"),
            "unknown backend 'abacus': allowed are numpy, ",
        ),
    ],
)
def test_mistakes_are_one_line(words: tuple[str, ...], why: str) -> None:
    outcome = run_command("study", "plan", *words)
    assert outcome.code == 2
    assert why in one_line(outcome)
