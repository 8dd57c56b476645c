"""Studies on .npz files: units by content, results without the file, chance of unequal classes."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

import wn
from tests.study.runs import Immediate, retry
from tests.walking.own import own_data
from wn.basics.errors import WnError
from wn.data.dataset import identity
from wn.data.own import save_dataset
from wn.study import StudySpec, parse_study, planned_facts, read_study, units
from wn.study.declare.spec import narrowed, to_toml
from wn.study.execution.run import run_study
from wn.study.tables.fit import fit
from wn.study.tables.plot import plot
from wn.study.unit import OwnData
from wn.study.units import facts_of_own

TEXT = """
data = "patterns.npz"
repeats = 1
[[models]]
name = "mlp-8"
[recipe]
epochs = 12
batch_size = 16
learning_rate = 0.01
[[noise]]
kind = "additive"
sigma = "0.03:1000:7"
where = ["fc1", "logits"]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_dataset(own_data(), tmp_path / "patterns.npz")
    (tmp_path / "study.toml").write_text(TEXT)
    return tmp_path


def read(folder: Path) -> StudySpec:
    return read_study(folder / "study.toml")


def run_in(folder: Path, out: Path, executor: Immediate | None = None) -> Any:
    return run_study(read(folder), out, (executor or Immediate()).workers, backend="numpy")


# ---- declared -------------------------------------------------------------------------------------------


def test_a_file_becomes_the_name_of_its_data(folder: Path) -> None:
    spec = read(folder)
    assert spec.data.names == "patterns"
    (own,) = spec.data.own or []
    assert (own.file, own.sha256) == (str(folder / "patterns.npz"), identity(own_data()))
    assert (own.image_shape, own.classes, own.train_samples, own.test_samples) == ([1, 8, 8], 3, 300, 200)
    assert parse_study(to_toml(spec)) == spec


def test_what_is_written_needs_no_file(folder: Path) -> None:
    text = to_toml(read(folder))
    (folder / "patterns.npz").unlink()
    spec = parse_study(text)
    assert planned_facts(spec)["patterns"].train_samples == 300
    with pytest.raises(WnError, match=r"study\.toml: data\.names: .*patterns\.npz: no such file"):
        read(folder)


def test_entries_are_for_files_as_well_as_names(folder: Path) -> None:
    text = TEXT.replace('data = "patterns.npz"', '[data]\nnames = ["fashion-mini", "patterns.npz"]')
    text = text.replace("repeats = 1\n", "") + 'data = "patterns.npz"\n'
    text = text.replace("[[noise]]", '[[noise]]\nkind = "none"\n[[noise]]')
    spec = parse_study(text, folder=folder)
    found = list(units(spec, planned_facts(spec)))
    assert {unit.dataset for unit in found} == {"fashion-mini", "patterns"}
    assert {unit.dataset for unit in found if unit.noise} == {"patterns"}
    part = narrowed(spec, dataset="fashion-mini")
    assert part.data.own is None


def test_the_recipe_of_the_file_is_the_default(folder: Path) -> None:
    save_dataset(own_data(epochs=7, batch_size=33, lr=0.25), folder / "patterns.npz")
    text = TEXT.replace("epochs = 12\nbatch_size = 16\nlearning_rate = 0.01\n", "")
    spec = parse_study(text, folder=folder)
    unit = next(units(spec, planned_facts(spec)))
    assert (unit.epochs, unit.batch_size, unit.learning_rate) == (7, 33, 0.25)


def test_units_of_the_catalogue_say_nothing_of_own_data() -> None:
    spec = parse_study(TEXT.replace("patterns.npz", "mnist"))
    unit = next(units(spec, planned_facts(spec)))
    assert b"own" not in msgspec.json.encode(unit)


BAD = {
    "two of one name": (["patterns.npz", "copy/patterns.npz"], "two data sets are called 'patterns'"),
    "no file": (["none.npz"], r"none\.npz: no such file"),
    "no training part": (["tests.npz"], r"there are no training samples \(x_train, y_train\)"),
}


@pytest.mark.parametrize("kind", BAD)
def test_other_files_are_refused_in_one_line(kind: str, folder: Path) -> None:
    names, words = BAD[kind]
    (folder / "copy").mkdir()
    save_dataset(own_data(mean=0.5), folder / "copy" / "patterns.npz")
    data = own_data()
    tests = wn.dataset(x_test=data.test.images, y_test=data.test.labels, name="tests")
    save_dataset(tests, folder / "tests.npz")
    with pytest.raises(WnError, match=words) as caught:
        parse_study(TEXT.replace('"patterns.npz"', str(names)), folder=folder)
    assert "\n" not in str(caught.value)


# ---- units ----------------------------------------------------------------------------------------------


def test_units_are_those_of_the_content(folder: Path) -> None:
    """Not of the place of a file; a changed file under the same name has other units."""
    facts = {"patterns": facts_of_own(own_data(), None)}
    there = [unit.key for unit in units(read(folder), facts)]
    moved = folder / "elsewhere"
    moved.mkdir()
    (folder / "patterns.npz").rename(moved / "patterns.npz")
    (folder / "study.toml").rename(moved / "study.toml")
    assert [unit.key for unit in units(read(moved), facts)] == there
    other = {"patterns": facts_of_own(own_data(mean=0.5), None)}
    assert not {unit.key for unit in units(read(moved), other)} & set(there)


def test_chance_is_of_the_test_samples_within_the_limit(folder: Path) -> None:
    for limit in (None, 9):
        own = facts_of_own(own_data(), limit).own
        assert isinstance(own, OwnData)
        assert own.chance == own_data().limited(None, limit).chance


# ---- run ------------------------------------------------------------------------------------------------


def test_a_study_gives_the_counts_of_a_walk(folder: Path) -> None:
    """In both phases, with the midpoints of docs/midpoint.md; and once finished, without its file."""
    out = folder / "out"
    executor = Immediate()
    progress = run_in(folder, out, executor)
    assert (progress.failed, progress.finished) == (0, 29)
    walked = wn.walk(
        data=own_data(),
        model="mlp-8",
        epochs=12,
        batch_size=16,
        lr=0.01,
        sigma="0.03:1000:7",
        where=["fc1", "logits"],
        backend="numpy",
        threads=1,
    )
    (folder / "patterns.npz").unlink()
    fits = fit(out)
    assert fits["chance"].tolist() == [own_data().chance] * 4
    for row, mine in zip(np.sort(fits, order=["phase", "site"]), walked.midpoints, strict=True):
        assert (row["phase"], row["site"]) == (mine["phase"], mine["site"])
        assert row["reached"] == mine["reached"]
        np.testing.assert_allclose(row["midpoint"], mine["midpoint"], rtol=1e-6)
        assert row["clean_accuracy"] == mine["clean_accuracy"]
    assert plot(out, folder / "plots")
    assert retry(out).total == 0


def test_a_changed_file_makes_new_units_and_stops_a_retry(folder: Path) -> None:
    out = folder / "out"
    tasks = 0

    def interrupt(_: Any) -> None:
        nonlocal tasks
        tasks += 1
        if tasks == 2:
            save_dataset(own_data(mean=0.5), folder / "patterns.npz")

    first = run_in(folder, out, Immediate(interrupt))
    assert first.failed > 0  # units whose data were no longer theirs are no results
    again = run_in(folder, out)
    assert (again.failed, again.finished) == (0, 29)
    assert len(fit(out)) == 4


def test_workers_are_given_the_path(folder: Path) -> None:
    executor = Immediate()
    run_in(folder, folder / "out", executor)
    assert {tuple((task.files or {}).items()) for task in executor.tasks} == {
        (("patterns", str(folder / "patterns.npz")),)
    }


def test_networks_of_a_study_ask_for_their_data(folder: Path) -> None:
    run_in(folder, folder / "out")
    (network,) = (folder / "out" / "networks").glob("*.safetensors")
    with pytest.raises(WnError, match="was trained on data of your own, patterns: give data"):
        wn.evaluate(network=network)
    assert wn.evaluate(network=network, data=own_data()).clean[0][1] == 200
