"""The driver, with workers in this process: what is computed, how often, and what becomes of failures."""

import shutil
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from tests.study.runs import (
    FINER,
    SIGMA,
    TINY,
    UNITS,
    Immediate,
    counts,
    exported,
    networks,
    phases,
    run,
    run_on,
)
from wn.study import Unit, parse_study, planned_facts, units
from wn.study.execution.driver import LOOK_AHEAD, Progress
from wn.study.execution.executors import Workers
from wn.study.execution.greeting import greet
from wn.study.execution.run import fingerprint, run_study
from wn.study.execution.tasks import UNITS_PER_TASK, cost, tasks
from wn.study.store.writer import Store
from wn.walking.measurement import ON_A_CPU

NO_INFERENCE = 'phases = "training"' + TINY
CLAMPED = TINY.replace("learning_rate", "clamp_weights = [false, true]\nlearning_rate")


# ---- nothing twice ----------------------------------------------------------------------------------------


def test_a_study_is_run_once(whole: Path) -> None:
    before, executor = exported(whole), Immediate()
    assert run(whole, executor=executor) == Progress(0, 0, 0, 1.0)
    assert executor.tasks == []
    assert exported(whole) == before
    assert counts(whole) == (0, UNITS, 0)


def test_the_same_study_has_the_same_units(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are not looked up again; a change of the study, of its data or of the numerics says so."""
    added = list[Path]()
    add_units = Store.add_units

    def counted(store: Store, *arguments: Any) -> int:
        added.append(store.folder)
        return add_units(store, *arguments)

    monkeypatch.setattr(Store, "add_units", counted)
    for times, text in enumerate([TINY, 'description = "words"' + TINY, TINY]):
        run(copy, text)
        run(copy, text)
        assert len(added) == times
    spec = parse_study(TINY)
    facts = planned_facts(spec)
    first = fingerprint(spec, facts)
    (name,) = facts
    other = {name: msgspec.structs.replace(facts[name], checksum="of other data")}
    assert first == fingerprint(spec, facts)
    assert first != fingerprint(spec, other)
    monkeypatch.setattr("wn.study.execution.run.NUMERICS", 0)
    assert first != fingerprint(spec, facts)


def test_workers_are_not_started_for_nothing(whole: Path) -> None:
    def never(backend: str) -> Workers:
        raise AssertionError("there is nothing to do")

    assert run_study(parse_study(TINY), whole, never, backend="numpy").total == 0


def test_tasks_are_whole_curves_and_the_clean_network_comes_first(tmp_path: Path) -> None:
    executor = Immediate()
    run(tmp_path, executor=executor)
    for repeat in range(2):
        own = [task for task in executor.tasks if task.units[0].repeat == repeat]
        assert phases(own)[0] == "clean"
        assert sorted((task.units[0].phase, len(task.units)) for task in own) == [
            ("clean", 1),
            ("inference", 6),
            ("training", 3),
            ("training", 3),
        ]


def test_inference_shares_the_clean_network_of_the_same_training(tmp_path: Path) -> None:
    """Clean networks: one per repeat and clamping; every task at inference gets that of its own."""
    executor = Immediate()
    run(tmp_path, CLAMPED.replace("0.01", "0.5"), executor)
    clean = {task.units[0].key: task.units[0] for task in executor.tasks if task.units[0].phase == "clean"}
    assert sorted((unit.repeat, unit.clamp_weights) for unit in clean.values()) == [
        (0, False),
        (0, True),
        (1, False),
        (1, True),
    ]
    arrays = {}  # of clean networks, by their keys
    for task in executor.tasks:
        if task.units[0].phase == "inference":
            (key,) = {unit.clean_key for unit in task.units}
            assert key in clean
            arrays[key] = b"".join(array.tobytes() for array in task.arrays)
            largest = max(np.abs(w).max() for w in task.arrays if w.ndim == 3)
            assert (largest <= 1) == clean[key].clamp_weights
    assert len(set(arrays.values())) == len(arrays) == len(clean)


def test_a_changed_study_reuses_what_it_has_in_common(copy: Path) -> None:
    executor = Immediate()
    done = run(copy, TINY.replace(SIGMA, FINER), executor)
    assert {unit.sigma for task in executor.tasks for unit in task.units} == {0.5}
    assert "clean" not in phases(executor.tasks)
    assert done.finished == done.total == 2 * 2 * 2
    assert counts(copy)[1] == UNITS + done.finished
    again = Immediate()
    run(copy, TINY, again)
    assert again.tasks == []
    assert counts(copy) == (0, UNITS, 0)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("epochs = 2", "epochs = 1"),
        ("train_limit = 300", "train_limit = 299"),
        ("learning_rate = 0.01", "learning_rate = 0.01\nclamp_weights = true"),
        ("repeats = 2", "repeats = 2\nseed = 1"),
    ],
)
def test_changed_units_are_never_reused(copy: Path, old: str, new: str) -> None:
    assert old in TINY
    executor = Immediate()
    assert run(copy, TINY.replace(old, new), executor).finished == UNITS
    assert phases(executor.tasks).count("clean") == 2


def test_other_noise_reuses_the_clean_networks(copy: Path) -> None:
    executor = Immediate()
    run(copy, TINY.replace('"additive"', '"multiplicative"'), executor)
    assert "clean" not in phases(executor.tasks)
    assert len(networks(copy)) == 2


def test_the_order_of_tasks_changes_nothing(whole: Path, tmp_path: Path) -> None:
    """Units of a changed study come in other tasks, with other neighbours."""
    for sigma in ("sigma = 10", "sigma = [1, 10]"):
        run(tmp_path / "parts", TINY.replace(SIGMA, sigma))
    assert run(tmp_path / "parts").finished < UNITS
    assert exported(tmp_path / "parts") == exported(whole)


def test_of_the_last_tasks_the_longest_come_first(tmp_path: Path) -> None:
    """Until no more come, they are handed out in the order of the study."""
    executor = Immediate()
    run(tmp_path, TINY.replace("repeats = 2", "repeats = 6"), executor)
    repeats = [task.units[0].repeat for task in executor.tasks]
    assert sorted(repeats) == sorted([*range(6)] * 4)
    assert max(repeats[:8]) <= 3
    last = phases(executor.tasks[-LOOK_AHEAD:])
    assert last == ["training"] * (LOOK_AHEAD - 2) + ["inference"] * 2


# ---- clean networks on disk -------------------------------------------------------------------------------


def removed(path: Path) -> None:
    path.unlink()


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def other_bytes(path: Path) -> None:
    """One bit of one weight: still a network, but another one."""
    content = bytearray(path.read_bytes())
    content[-1001] ^= 4
    path.write_bytes(content)


def another(path: Path) -> None:
    """The network of the other repeat."""
    (other,) = set(path.parent.iterdir()) - {path}
    shutil.copyfile(other, path)


@pytest.mark.parametrize("damage", [removed, truncated, empty, other_bytes, another])
def test_a_damaged_clean_network_is_trained_again(
    whole: Path, tmp_path: Path, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "damaged"
    run(folder, TINY.replace(SIGMA, "sigma = 1"))
    before = [path.read_bytes() for path in networks(folder)]
    damage(networks(folder)[0])
    executor = Immediate()
    done = run(folder, executor=executor)
    assert done.failed == 0
    assert phases(executor.tasks).count("clean") == 1
    assert [path.read_bytes() for path in networks(folder)] == before
    assert exported(folder) == exported(whole)
    if damage is not removed:
        assert "a clean network can't be used, and is trained again: " in caplog.text


def test_a_network_whose_unit_is_not_finished_is_harmless(whole: Path, copy: Path, tmp_path: Path) -> None:
    """As after a kill between the network and its unit."""
    (tmp_path / "new").mkdir()
    shutil.copytree(copy / "networks", tmp_path / "new" / "networks")
    assert run(tmp_path / "new").finished == UNITS
    assert exported(tmp_path / "new") == exported(whole)


def test_what_killed_processes_left_half_written_is_removed(tmp_path: Path) -> None:
    for name in ("networks", "checkpoints"):
        (tmp_path / name).mkdir()
        (tmp_path / name / ".abc-123.safetensors").write_bytes(b"half")
    (tmp_path / "checkpoints" / "old.safetensors").write_bytes(b"of a study that was changed")
    run(tmp_path, NO_INFERENCE)
    assert not [path for path in networks(tmp_path) if path.name.startswith(".")]
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_more_tasks_are_handed_out_when_workers_join(tmp_path: Path) -> None:
    """A cluster's workers come when its queue lets them."""
    at_once, given = [1], list[int]()

    class Slow(Immediate):
        def submit(self, function: Any, /, *arguments: Any, **options: Any) -> "Future[Any]":
            if function is not greet:
                given.append(at_once[0])
            if len(given) == 2:
                at_once[0] = 3
            return super().submit(function, *arguments)

    executor = Slow()
    run_on(tmp_path, lambda backend: Workers(executor, lambda: at_once[0], lambda: None))
    assert given[:2] == [1, 1]
    assert len(executor.tasks) == 8


# ---- tasks ------------------------------------------------------------------------------------------------


def units_of(text: str) -> list[Unit]:
    spec = parse_study(text)
    return list(units(spec, planned_facts(spec)))


def test_tasks_have_every_unit_once_in_order() -> None:
    everything = units_of(
        CLAMPED.replace(SIGMA, 'sigma = "0.01:1e10:49"').replace('["input", "relu2"]', '"each"')
    )
    cut = list(tasks(everything))
    assert [unit for part in cut for unit in part] == everything
    for part in cut:
        phase = {unit.phase for unit in part}
        assert len(phase) == 1
        assert len({unit.clean_key for unit in part}) == 1
        if phase == {"training"}:
            assert len({msgspec.structs.replace(unit, sigma=0.0) for unit in part}) == 1
            assert len(part) <= ON_A_CPU.members
        assert len(part) == 1 or phase != {"clean"}
        assert len(part) <= UNITS_PER_TASK


def test_large_networks_have_small_tasks() -> None:
    text = (
        TINY.replace("mlp-8", "vgg11")
        .replace("fashion-mini", "cifar10")
        .replace('["input", "relu2"]', '"each"')
    )
    text = text.replace("train_limit = 300\ntest_limit = 100\n", "").replace(SIGMA, 'sigma = "0.01:1e10:49"')
    parts = list(tasks(units_of(text)))
    inference = [part for part in parts if part[0].phase == "inference"]
    assert max(map(len, inference)) == ON_A_CPU.members
    training = [part for part in parts if part[0].phase == "training"]
    assert max(map(len, training)) < ON_A_CPU.members


def test_a_training_costs_three_passes_of_each_epoch_more() -> None:
    clean, inference, *_ = units_of(TINY)
    per_image = 28 * 28 * 8 + 2 * 8 * 8 + 8 * 10
    assert cost(inference) == 100 * per_image
    assert cost(clean) == (100 + 3 * 2 * 300) * per_image
