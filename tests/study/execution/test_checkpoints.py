"""Checkpoints: a training that goes on from one ends in the same bits, and a damaged one is never used."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from tests.study.execution.processes import output
from tests.study.runs import TINY, exported, run
from wn.engine import backends, optim
from wn.engine.training import TrainingState, first_state
from wn.study import Unit, parse_study, units
from wn.study.execution import checkpoints, recorder
from wn.study.execution.checkpoints import METADATA_KEY, Checkpoint, tidy
from wn.study.execution.run import load_facts
from wn.study.execution.worker import Outcome, Task, run_task
from wn.study.tables.results import read_table

BE = backends.get("numpy")
STEPS = 2 * 3  # of a training: epochs × batches of 128


def population(keys: str = "", phase: str = "training") -> tuple[Unit, ...]:
    """The units of three networks that are trained side by side."""
    spec = parse_study(TINY.replace("learning_rate", f"{keys}\nlearning_rate") + f'phases = "{phase}"')
    everything = units(spec, load_facts(spec, None))
    return tuple(unit for unit in everything if unit.phase == phase)[: 3 if phase == "training" else 9]


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a checkpoint after every step."""
    monkeypatch.setattr(checkpoints, "EVERY", 0.0)


class Stop(BaseException):
    """Ends a training as a kill would: nothing catches it."""


def stopped_after(steps: int, task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a task until its checkpoint was written a number of times."""
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "save", stopping_after(steps))
        with pytest.raises(Stop):
            run_task(task)


def stopping_after(steps: int) -> Callable[..., None]:
    """What saves checkpoints, and stops the training after a number of them."""
    left, save = [steps], Checkpoint.save

    def saving(self: Checkpoint, *arguments: Any) -> None:
        save(self, *arguments)
        left[0] -= 1
        if left[0] == 0:
            raise Stop

    return saving


def bits(outcome: Outcome) -> list[Any]:
    assert outcome.failures == ()
    weights = [result.weights.values.tobytes() for result in outcome.results if result.weights is not None]
    found = [(r.key, r.correct, r.signal) for r in outcome.results]
    return [*found, weights, list(map(bytes, outcome.arrays))]


# ---- going on ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keys", ["", "clamp_weights = true", 'dtype = "float64"', "batch_norm", "matrix"])
@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.usefixtures("always")
def test_resumed_after_any_step(
    tmp_path: Path, keys: str, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last batch of an epoch, the first of the next, and the last of all, too."""
    mine = population("", keys) if keys == "matrix" else population("" if keys == "batch_norm" else keys)
    if keys == "batch_norm":
        mine = tuple(msgspec.structs.replace(unit, batch_norm="sites") for unit in mine)
    expected = bits(run_task(Task(mine, backend)))
    for steps in range(1, STEPS + 1):
        task = Task(mine, backend, checkpoints=str(tmp_path / str(steps)))
        stopped_after(steps, task, monkeypatch)
        asked = counting_steps(monkeypatch)
        outcome = run_task(task)
        assert bits(outcome) == expected
        assert asked == [STEPS - steps]
        assert [str(path) for path in (tmp_path / str(steps)).iterdir()] == list(outcome.checkpoints)


def counting_steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of steps of the trainings to come."""
    asked, trained = [0], recorder.Recorder.trained

    def counted(self: Any, state: TrainingState) -> None:
        asked[0] += 1
        trained(self, state)

    monkeypatch.setattr(recorder.Recorder, "trained", counted)
    return asked


@pytest.mark.usefixtures("always")
def test_interrupted_again_and_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = population()
    task = Task(mine, "numpy", checkpoints=str(tmp_path))
    for _ in range(STEPS):
        stopped_after(1, task, monkeypatch)
    assert bits(run_task(task)) == bits(run_task(Task(mine, "numpy")))


def test_short_trainings_have_no_checkpoint(tmp_path: Path) -> None:
    run_task(Task(population(), "numpy", checkpoints=str(tmp_path / "none")))
    assert not (tmp_path / "none").exists()


def test_a_checkpoint_is_due_every_minute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: now[0])
    checkpoint = Checkpoint(tmp_path, ["a"], BE)
    assert not checkpoint.due
    now[0] += checkpoints.EVERY
    assert checkpoint.due
    checkpoint.save(a_state(), [])
    assert not checkpoint.due
    assert checkpoints.EVERY == 60


@pytest.mark.usefixtures("always")
def test_a_finished_study_leaves_no_checkpoints(tmp_path: Path) -> None:
    run(tmp_path)
    assert list((tmp_path / "checkpoints").iterdir()) == []


@pytest.mark.usefixtures("always")
def test_a_study_resumed_in_the_middle_of_trainings(
    tmp_path: Path, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends in the same tables byte for byte."""
    text = TINY.replace("repeats = 2", "repeats = 1").replace('"input", ', "")
    for saved in (4, 2 + 4):  # in the clean training; at its end, and in the training under noise
        with monkeypatch.context() as patch:
            patch.setattr(Checkpoint, "save", stopping_after(saved))
            with pytest.raises(Stop):
                run(tmp_path / "stopped", text, backend=backend)
    asked = counting_steps(monkeypatch)
    run(tmp_path / "stopped", text, backend=backend)
    assert asked == [STEPS - 4]
    run(tmp_path / "whole", text, backend=backend)
    assert asked == [STEPS - 4 + 2 * STEPS]
    assert exported(tmp_path / "stopped") == exported(tmp_path / "whole")


@pytest.mark.usefixtures("always")
def test_checkpoints_change_nothing(whole: Path, tmp_path: Path) -> None:
    run(tmp_path)
    assert read_table(tmp_path).tobytes() == read_table(whole).tobytes()


# ---- files ------------------------------------------------------------------------------------------------


def a_state(seed: int = 1) -> TrainingState:
    """A state with numbers of its own everywhere."""
    rng = np.random.default_rng(seed)
    from wn.engine import models

    start = first_state(BE, models.build("mlp-8", (1, 2, 2), 3, "sites"), (1, 2), np.float32)
    trees = (start.params, start.states, start.adam)
    filled = [rng.standard_normal(array.shape).astype(array.dtype) for array in optim.arrays(trees)]
    params, states, adam = optim.with_arrays(trees, iter(filled))
    return TrainingState(params, states, adam, 3, 4, 25, rng.standard_normal(2))


def written(folder: Path) -> tuple[Checkpoint, TrainingState]:
    checkpoint, state = Checkpoint(folder, ["a", "b"], BE), a_state()
    checkpoint.save(state, [np.full((2, 4, 3), 0.5), np.full((2, 4, 3), 0.25)])
    return checkpoint, state


def same(a: TrainingState, b: TrainingState) -> bool:
    trees = [optim.arrays((state.params, state.states, state.adam, state.losses)) for state in (a, b)]
    numbers = [(state.epoch, state.batches, state.steps) for state in (a, b)]
    return [x.tobytes() for x in trees[0]] == [x.tobytes() for x in trees[1]] and numbers[0] == numbers[1]


def test_what_was_written_is_read(tmp_path: Path) -> None:
    checkpoint, state = written(tmp_path / "made" / "here")
    found = checkpoint.load(a_state(2))
    assert found is not None
    assert same(found[0], state)
    assert type(found[0].params[1]) is type(state.params[1])
    assert [values.tolist() for values in found[1]] == [np.full((2, 4, 3), x).tolist() for x in (0.5, 0.25)]
    checkpoint.path.unlink()
    assert checkpoint.load(a_state(2)) is None


def check_unusable(checkpoint: Checkpoint, caplog: pytest.LogCaptureFixture, why: str = "") -> None:
    caplog.clear()
    assert checkpoint.load(a_state(2)) is None
    (line,) = caplog.messages
    assert line.startswith(f"checkpoint {checkpoint.path} can't be used (")
    assert why in line
    assert "\n" not in line


def test_truncated_files_are_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    checkpoint, _ = written(tmp_path)
    content = checkpoint.path.read_bytes()
    for length in (0, 1, 7, 8, 9, 100, len(content) // 2, len(content) - 1):
        checkpoint.path.write_bytes(content[:length])
        check_unusable(checkpoint, caplog)


def test_files_with_a_flipped_bit_are_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Anywhere: in a number of the header, in a type or shape, in a weight."""
    checkpoint, state = written(tmp_path)
    content, rng = checkpoint.path.read_bytes(), random.Random(1)
    header = 8 + int.from_bytes(content[:8], "little")
    places = [*range(0, header, 5), *(rng.randrange(header, len(content)) for _ in range(50))]
    used, start = 0, a_state(2)
    for place in places:
        damaged = bytearray(content)
        damaged[place] ^= 1 << rng.randrange(8)
        checkpoint.path.write_bytes(damaged)
        found = checkpoint.load(start)
        if found is not None:  # a space between two words of the header, say
            assert same(found[0], state)
            used += 1
    assert used < len(places) / 20
    assert len(caplog.messages) == len(places) - used


def changed(path: Path, change: Callable[[dict[str, Any], dict[str, Any]], None]) -> None:
    """Write a file anew with other contents, whole and well-formed."""
    with safe_open(path, framework="numpy") as file:
        header = msgspec.json.decode(file.metadata()[METADATA_KEY])
        names = list(file.keys())
        tensors = {name: file.get_tensor(name) for name in names}
    change(header, tensors)
    save_file(tensors, path, {METADATA_KEY: msgspec.json.encode(header).decode()})


CHANGES: list[tuple[str, Callable[[dict[str, Any], dict[str, Any]], Any]]] = [
    ("damaged", lambda header, tensors: header.update(epoch=2)),
    ("damaged", lambda header, tensors: header.update(steps=0)),
    ("damaged", lambda header, tensors: header.update(epochs=1)),
    ("damaged", lambda header, tensors: tensors.pop("epoch 1")),
    ("damaged", lambda header, tensors: tensors.update({"0": tensors["0"].view(np.int32)})),
    ("damaged", lambda header, tensors: tensors.update({"0": tensors["0"].reshape(-1)})),
    ("damaged", lambda header, tensors: tensors.update({"0": tensors["2"], "2": tensors["0"]})),
    ("another training", lambda header, tensors: header.update(identity="0" * 64)),
    ("unknown field", lambda header, tensors: header.update(more=1)),
    ("missing required field", lambda header, tensors: header.pop("epoch")),
]


@pytest.mark.parametrize(("why", "change"), CHANGES)
def test_files_that_say_something_else_are_not_used(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    why: str,
    change: Callable[[dict[str, Any], dict[str, Any]], None],
) -> None:
    checkpoint, _ = written(tmp_path)
    changed(checkpoint.path, change)
    check_unusable(checkpoint, caplog, why)


def test_files_of_other_trainings_are_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Other units, or the same on another backend: they have other names; and a copy is not used either."""
    checkpoint, _ = written(tmp_path)
    for other in (Checkpoint(tmp_path, ["a"], BE), Checkpoint(tmp_path, ["a", "b"], backends.get("numba"))):
        caplog.clear()
        assert other.load(a_state(2)) is None
        assert caplog.messages == []
        other.path.write_bytes(checkpoint.path.read_bytes())
        check_unusable(other, caplog, "it is of another training")


def test_a_file_without_metadata(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    checkpoint, _ = written(tmp_path)
    save_file({"0": np.zeros(3)}, checkpoint.path)
    check_unusable(checkpoint, caplog, "wn")


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize("length", [0, 1000])
def test_a_training_with_a_damaged_checkpoint_begins_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    mine = population()
    task = Task(mine, "numpy", checkpoints=str(tmp_path))
    stopped_after(4, task, monkeypatch)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:length])
    asked = counting_steps(monkeypatch)
    assert bits(run_task(task)) == bits(run_task(Task(mine, "numpy")))
    assert asked == [2 * STEPS]


# ---- disks ------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("always")
def test_a_folder_that_can_not_be_written(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    mine = population()
    outcome = run_task(Task(mine, "numpy", checkpoints=str(tmp_path / "file" / "below")))
    assert bits(outcome) == bits(run_task(Task(mine, "numpy")))
    assert len(caplog.messages) == STEPS
    assert caplog.messages[0].startswith("no checkpoint, the training goes on: ")


def test_a_disk_that_takes_no_more(tmp_path: Path) -> None:
    """Files end at 8 KB: the training goes on, and nothing half-written stays."""
    text = """
from tests.study.execution.test_checkpoints import *
checkpoints.EVERY = 0.0
mine = population()
resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
outcome = run_task(Task(mine, "numpy", checkpoints=str(folder)))
say(bits(outcome) == bits(run_task(Task(mine, "numpy"))))
say(len(list(folder.iterdir())))
"""
    assert output(text, tmp_path) == ["True", "0"]


def test_tidying_removes_what_is_half_written(tmp_path: Path) -> None:
    for name in (".a-12.safetensors", "a.safetensors", "notes.txt"):
        (tmp_path / name).write_text("")
    tidy(tmp_path / "none")
    tidy(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.safetensors", "notes.txt"]
    tidy(tmp_path, everything=True)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
