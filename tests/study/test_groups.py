"""Counts by group of images in a study: kept, exported, used by fits; files of older versions have none."""

import csv
import io
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from tests.study.store.stores import (
    HERE,
    SIGMA,
    TOTAL,
    counts,
    finished_study,
    grouped,
    noisy,
    result,
    rows,
    study,
)
from wn.basics.groups import group_sizes
from wn.cli.studies_console import print_fit
from wn.fit.midpoint import fit_midpoint
from wn.study.store.file import FILE
from wn.study.store.rows import Result, packed_groups, unpacked_groups
from wn.study.store.writer import Store
from wn.study.tables.export import export
from wn.study.tables.fit import fit
from wn.study.tables.results import read_table
from wn.study.unit import Unit

SIZES = group_sizes(TOTAL)


def finished(folder: Path, units: list[Unit], without: int | None = None) -> None:
    """Make a study with all units done, one of them without groups."""
    with Store.create_or_open(folder) as store:
        store.add_units(rows(units))
        store.finish([(result if n == without else grouped)(unit) for n, unit in enumerate(units)], HERE)


def of_an_older_version(folder: Path) -> None:
    """Take away what older versions did not make: a table, and a column."""
    db = sqlite3.connect(folder / FILE)
    db.execute("DROP TABLE groups")
    views = db.execute("SELECT name, sql FROM sqlite_master WHERE type = 'view'").fetchall()
    for name, _ in views:
        db.execute(f"DROP VIEW {name}")
    db.execute("ALTER TABLE curves DROP COLUMN sigma_train")
    for _, text in views:
        assert "curves.sigma_train," in text
        db.execute(text.replace("curves.sigma_train,", ""))
    db.commit()
    db.close()


def printed(folder: Path) -> str:
    """What `wn study fit` prints."""
    text = io.StringIO()
    print_fit(Console(file=text, width=100), folder)
    return text.getvalue()


@given(st.integers(1, 200_000), st.floats(0, 1), st.integers(0, 99))
def test_counts_come_back(total: int, share: float, seed: int) -> None:
    sizes = group_sizes(total)
    by_group = np.random.default_rng(seed).binomial(sizes, share)
    packed = packed_groups(Result("", int(by_group.sum()), total, 0.0, by_group=tuple(by_group.tolist())))
    assert len(packed) <= 4 * len(sizes)
    assert unpacked_groups(packed, total).tolist() == by_group.tolist()


@pytest.mark.parametrize("by_group", [(1,), tuple(SIZES.tolist()), (17, *(0,) * 63)])
def test_groups_that_do_not_add_up_are_refused(by_group: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="counts by group are not those of 17 of 1000 images"):
        packed_groups(Result("", 17, TOTAL, 0.0, by_group=by_group))


def test_fits_are_joint_and_those_of_the_counts_by_group(tmp_path: Path) -> None:
    finished(tmp_path, study(repeats=1, sites=1, phases=["inference"]))
    (row,) = fit(tmp_path)
    units = [noisy(0, sigma) for sigma in SIGMA]
    clean = grouped(units[0].clean)
    found = fit_midpoint(
        *(SIGMA, [grouped(unit).by_group for unit in units], np.tile(SIZES, (len(units), 1))),
        clean_accuracy=clean.correct / TOTAL,
        chance=0.1,
        clean_by_group=clean.by_group,
    )
    assert row["interval"] == found.interval == "joint"
    assert (row["midpoint"], row["ci_low"], row["ci_high"]) == (found.midpoint, found.ci_low, found.ci_high)
    assert row["measured_crossing"] == pytest.approx(1, rel=0.1)
    for name in ("measured_crossing", "crossing_low", "crossing_high"):
        assert row[name] == getattr(found, name)
    assert row.dtype.names[-2:] == ("crossing_low", "crossing_high")  # where readers by place do not trip


@pytest.mark.parametrize("without", [0, 3])
def test_a_curve_with_a_unit_or_a_clean_network_without_groups_is_not_joint(
    tmp_path: Path, without: int
) -> None:
    finished(tmp_path, study(repeats=1, sites=1, phases=["inference"]), without)
    assert fit(tmp_path)["interval"].tolist() == ["independent"]


def test_groups_are_exported(tmp_path: Path) -> None:
    units = study(repeats=1, sites=1)
    finished(tmp_path, units, without=2)
    (path,) = export(tmp_path, tmp_path / "out", tables=["groups"])
    with path.open() as file:
        written = {row["key"]: row["correct_by_group"] for row in csv.DictReader(file)}
    expected = {unit.key: grouped(unit).by_group for n, unit in enumerate(units) if n != 2}
    assert {key: tuple(map(int, text.split())) for key, text in written.items()} == expected


def test_a_study_of_an_older_version_is_read_and_says_what_it_lacks(tmp_path: Path) -> None:
    finished(tmp_path, study(repeats=1, sites=1))
    before = read_table(tmp_path).tolist()
    of_an_older_version(tmp_path)
    assert str(read_table(tmp_path).tolist()) == str(before)
    assert fit(tmp_path)["interval"].tolist() == ["independent"] * 2
    said = " ".join(printed(tmp_path).split())
    assert "2 of these intervals are too narrow" in said
    (path,) = export(tmp_path, tmp_path / "out", tables=["groups"])
    assert path.read_text() == "key,correct_by_group\n"


def test_a_study_of_an_older_version_goes_on(tmp_path: Path) -> None:
    units = study(repeats=2, sites=1, phases=["inference"])
    finished_study(tmp_path, units[: len(units) // 2])
    of_an_older_version(tmp_path)
    finished(tmp_path, units)
    assert counts(tmp_path) == (0, len(units), 0)
    with Store.read(tmp_path) as store:
        assert list(store.rows("SELECT count(*) FROM groups")) == [(len(units) // 2,)]


def test_a_study_with_groups_says_nothing(tmp_path: Path) -> None:
    finished(tmp_path, study(repeats=1, sites=1))
    assert "too narrow" not in printed(tmp_path)
