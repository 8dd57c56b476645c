"""The store: what is added stays, what is finished is there whole, whatever happens in between."""

import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.study.store import stores
from tests.study.store.stores import (
    HERE,
    THERE,
    changed,
    done_keys,
    finish,
    noisy,
    result,
    rows,
    study,
    table,
    waiting,
)
from wn.basics.errors import WnError
from wn.study.execution.environment import commit, environment
from wn.study.store.rows import Result
from wn.study.store.writer import Store
from wn.study.tables.results import COLUMNS, read_table
from wn.study.unit import NoiseSpec, Unit

ROOT = Path(__file__).parents[3]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.create_or_open(tmp_path) as opened:
        yield opened


def counts(store: Any) -> tuple[int, int, int]:
    """Pending, done and failed units."""
    status = store.status()
    return sum(s.pending for s in status), sum(s.done for s in status), sum(s.failed for s in status)


# ---- units and results ----------------------------------------------------------------------------------


def test_two_thousand_units_there_and_back(tmp_path: Path) -> None:
    units = study(repeats=5, sites=8, sigma=[0.01 * 1.3**step for step in range(25)])
    assert len(units) == 2005
    with Store.create_or_open(tmp_path) as store:
        assert store.add_units(rows(units), {"name": "two thousand"}) == len(units)
        assert waiting(store) == units
        assert [unit.clean_key for unit in store.pending()] == [unit.clean_key for unit in units]
        finish(store, units[::-1], task=40)
        assert waiting(store) == []
    with Store.read(tmp_path) as reader:
        assert counts(reader) == (0, 2005, 0)
        assert reader.meta["name"] == "two thousand"
        assert sorted(done_keys(reader)) == sorted(unit.key for unit in units)
        status = reader.status()
    assert [(s.phase, s.dataset, s.model, s.noise, s.done, s.seconds) for s in status] == [
        ("clean", "mnist", "mlp", "none", 5, 5 * 0.25),
        ("inference", "mnist", "mlp", "additive", 1000, 250.0),
        ("training", "mnist", "mlp", "additive", 1000, 250.0),
    ]
    found = read_table(tmp_path)
    assert found["key"].tolist() == [unit.key for unit in units]
    assert found["correct"].tolist() == [result(unit).correct for unit in units]
    assert found["sigma"].tolist() == [unit.sigma for unit in units]


def test_every_row_knows_where_it_comes_from(store: Store) -> None:
    units = study(repeats=1, seed=2**64 - 1)
    store.add_units(rows(units))
    finish(store, units[:4], where=HERE)
    finish(store, units[4:], where=THERE)
    found = read_table(store.folder, list(COLUMNS))
    assert set(found["seed"].tolist()) == {2**64 - 1}
    assert found["backend"].tolist() == ["numpy"] * 4 + ["numba"] * (len(units) - 4)
    assert found["machine"][4] == THERE.machine
    assert found["versions"][0] == HERE.versions
    assert found["commit"].tolist()[3:5] == ["c0ffee", "deadbeef+"]
    assert set(found["seconds"].tolist()) == {0.25}
    assert all(len(moment) == 20 and moment.endswith("Z") for moment in found["finished"].tolist())


def test_adding_again_changes_nothing(store: Store) -> None:
    units = study()
    assert store.add_units(rows(units)) == len(units)
    finish(store, units[:7])
    before = table(store.folder, list(COLUMNS))
    assert store.add_units(rows([*units, *units[:5]])) == 0  # some of them twice
    assert table(store.folder, list(COLUMNS)) == before
    assert counts(store) == (len(units) - 7, 7, 0)
    assert waiting(store) == units[7:]


def test_a_changed_study_keeps_what_it_still_has(store: Store) -> None:
    first, second = study(sites=2), study(sites=3)[::-1]
    store.add_units(rows(first))
    finish(store, first)
    assert store.add_units(rows(second)) == len(second) - len(first)
    assert waiting(store) == [unit for unit in second if unit.site == 2]
    finish(store, waiting(store))
    assert read_table(store.folder)["key"].tolist() == [unit.key for unit in second]
    fewer = study(sites=1)
    assert store.add_units(rows(fewer)) == 0
    assert counts(store) == (0, len(fewer), 0)
    assert len(done_keys(store)) == len(second)  # the others are kept
    assert store.add_units(rows(second)) == 0
    assert counts(store) == (0, len(second), 0)


def test_units_are_added_all_or_none(store: Store) -> None:
    units = study(repeats=1)
    store.add_units(rows(units), {"name": "old"})

    def interrupted() -> Iterator[Any]:
        yield from rows(study(repeats=3))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.add_units(interrupted(), {"name": "new"})
    assert waiting(store) == units
    assert store.meta["name"] == "old"
    with pytest.raises(sqlite3.IntegrityError):  # SQLite has no NaN
        store.add_units(rows([*study(repeats=3), noisy(sigma=float("nan"))]))
    assert waiting(store) == units


def test_a_task_is_finished_whole_or_not_at_all(store: Store) -> None:
    units = study(repeats=1, phases=["training"])
    store.add_units(rows(units))
    stranger = changed(units[0], seed=1)
    with pytest.raises(WnError, match=f"has no unit {stranger.key}"):
        store.finish(map(result, [*units[:3], stranger]), HERE)
    impossible = Result(units[3].key, 11, 10, 0.0)
    with pytest.raises(sqlite3.IntegrityError):
        store.finish([*map(result, units[:3]), impossible], HERE)
    assert counts(store) == (len(units), 0, 0)
    assert [list(store.rows(f"SELECT * FROM {table}")) for table in ("weights", "signal")] == [[], []]
    assert store.finish(map(result, units[:3]), HERE) == 3
    assert counts(store) == (len(units) - 3, 3, 0)


def test_what_is_done_stays(store: Store) -> None:
    units = study()
    store.add_units(rows(units))
    finish(store, units[:6])
    before = table(store.folder, list(COLUMNS))
    other = [Result(unit.key, 0, 1, 9.0) for unit in units[:6]]
    assert store.finish(other, THERE) == 0
    assert store.fail([unit.key for unit in units[:7]], "too late") == 1
    assert table(store.folder, list(COLUMNS)) == before


def test_failures_are_kept_and_tried_again(store: Store) -> None:
    units = study(repeats=1)
    store.add_units(rows(units))
    assert store.fail([unit.key for unit in units[2:5]], "Traceback …\nValueError: σ") == 3
    assert store.fail([units[7].key], "another") == 1
    assert counts(store) == (len(units) - 4, 0, 4)
    found = list(store.failures())
    assert [failure.key for failure in found] == [units[at].key for at in (2, 3, 4, 7)]
    assert [failure.traceback for failure in found] == 3 * ["Traceback …\nValueError: σ"] + ["another"]
    assert found[0].spec["sigma"] == units[2].sigma
    assert store.status_of([units[0].key, units[2].key, "ab" * 32]) == {
        units[0].key: "pending",
        units[2].key: "failed",
    }
    assert waiting(store) == [*units[:2], *units[5:7], *units[8:]]
    assert store.finish([result(units[7])], HERE) == 1  # it came after all
    assert store.retry_failed() == 3
    assert list(store.failures()) == []
    assert counts(store) == (len(units) - 1, 1, 0)
    assert list(store.rows("SELECT count(*) FROM failures")) == [(0,)]


def test_retry_leaves_units_alone_that_the_study_has_no_more(store: Store) -> None:
    units = study(sites=2)
    store.add_units(rows(units))
    gone = [unit.key for unit in units if unit.site == 1]
    store.fail([unit.key for unit in units], "broken")
    store.add_units(rows(study(sites=1)))
    assert store.retry_failed() == len(units) - len(gone)
    assert set(store.status_of(gone).values()) == {"failed"}


def test_pending_units_may_be_finished_on_the_way(store: Store) -> None:
    units = study(repeats=3)
    store.add_units(rows(units))
    seen = []
    for unit in store.pending():
        seen.append(unit.key)
        finish(store, [known for known in units if known.key == unit.key])
    assert seen == [unit.key for unit in units]
    assert counts(store) == (0, len(units), 0)


def test_the_record_of_the_study(store: Store) -> None:
    assert store.meta["created"].endswith("Z")
    created = store.meta["created"]
    store.write_meta({"name": "a", "spec": "name = 'a'\n"})
    store.add_units([], {"name": "b"})
    store.close()
    with Store.create_or_open(store.folder) as again:
        assert again.meta == {"created": created, "name": "b", "spec": "name = 'a'\n", "wn": "0.1.0"}


def test_every_kind_of_unit_comes_back_as_it_was(store: Store) -> None:
    units = [
        noisy(noise=NoiseSpec(kind="mixed", ratio=0.1, order="add_mul", repetitions=3)),
        noisy(noise=NoiseSpec(kind="mixed-direct", sigma_mul=0.3)),
        noisy(
            noise=NoiseSpec(kind="additive", repetitions=(3, 1, 2)), factors=((0, 1.0), (1, 0.5), (4, 2.0))
        ),
        noisy(site=-2, site_name="mapped", factors=((2, 1 / 3), (7, 1e-300))),
        noisy(sigma=1e100, class_weights=(0.1, 0.9), train_limit=100, seed=2**63, clamp_weights=True),
        noisy(sigma=0.0, dataset='"sigma":1, "repeat":2', phase="training"),
        changed(stores.CLEAN, repeat=9),
    ]
    store.add_units(rows(units))
    assert waiting(store) == units
    assert [type(unit.sigma) for unit in waiting(store)] == [float] * len(units)
    finish(store, units)
    found = read_table(store.folder)
    assert found["repetitions"].tolist() == ["3", "1", "3 1 2", "1", "1", "1", "1"]
    assert len(set(found["curve"].tolist())) == len(units)


POOL = study(repeats=1, sites=2, sigma=(0.1, 1.0), phases=["inference"])
UNITS = st.lists(st.sampled_from(POOL), max_size=6, unique=True)


@settings(max_examples=30)
@given(
    steps=st.lists(st.tuples(st.sampled_from(["add", "finish", "fail", "retry", "open"]), UNITS), max_size=12)
)
def test_the_store_does_as_a_dictionary_would(
    steps: list[tuple[str, list[Unit]]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    known: dict[str, str] = {}
    present: list[Unit] = []
    store = Store.create_or_open(tmp_path_factory.mktemp("model"))
    for step, units in steps:
        chosen = [unit for unit in units if unit.key in known]
        if step == "add":
            assert store.add_units(rows(units)) == sum(unit.key not in known for unit in units)
            known |= {unit.key: "pending" for unit in units if unit.key not in known}
            present = units
        elif step == "finish":
            store.finish(map(result, chosen), HERE)
            known |= {unit.key: "done" for unit in chosen}
        elif step == "fail":
            store.fail([unit.key for unit in chosen], "broken")
            known |= {unit.key: "failed" for unit in chosen if known[unit.key] != "done"}
        elif step == "retry":
            store.retry_failed()
            known |= {unit.key: "pending" for unit in present if known[unit.key] == "failed"}
        else:
            store.close()
            store = Store.create_or_open(store.folder)
        assert store.status_of(unit.key for unit in POOL) == known
        assert waiting(store) == [unit for unit in present if known[unit.key] == "pending"]
        assert read_table(store.folder)["key"].tolist() == [
            unit.key for unit in present if known[unit.key] == "done"
        ]
    store.close()


# ---- provenance -----------------------------------------------------------------------------------------


def test_the_environment_of_this_process() -> None:
    here = environment("numba")
    assert here.backend == "numba"
    assert "walking-noise 0.1.0; python 3." in here.versions
    assert "; numba " in here.versions
    assert "numba" not in environment("numpy").versions
    assert " cores" in here.machine


def git(folder: Path, *words: str) -> None:
    who = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
    subprocess.run(["git", "-C", str(folder), *who, *words], check=True, capture_output=True)


def test_the_commit_of_a_checkout(tmp_path: Path) -> None:
    assert commit(tmp_path) == "walking-noise 0.1.0"
    git(tmp_path, "init")
    assert commit(tmp_path) == "walking-noise 0.1.0"  # no commit yet
    (tmp_path / "file").write_text("a")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "-m", "first")
    head = commit(tmp_path)
    assert len(head) == 40
    (tmp_path / "untracked").write_text("b")
    assert commit(tmp_path) == head
    (tmp_path / "file").write_text("c")
    assert commit(tmp_path) == head + "+"
    (tmp_path / "inside").mkdir()
    assert commit(tmp_path / "inside") == "walking-noise 0.1.0"
