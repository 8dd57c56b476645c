"""Tables of a study: the same bytes however it was run, and the numbers that the store was given."""

import csv
import io
import json
import math
import random
import sqlite3
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from tests.study.store.stores import (
    CLEAN,
    HERE,
    LAYERS,
    SIGMA,
    THERE,
    TOTAL,
    changed,
    finish,
    finished_study,
    grouped,
    noisy,
    result,
    rows,
    statistics,
    study,
)
from wn.analysis.binarisation import Binarisation
from wn.basics.errors import WnError
from wn.study.store.rows import PlaceBinarisation
from wn.study.store.writer import Store
from wn.study.tables import export as table_export
from wn.study.tables.export import TABLES, export
from wn.study.tables.results import COLUMNS, RESULTS, provenance, read_chunks, read_table, results
from wn.study.unit import NoiseSpec, Unit

DETERMINED = [name for name in TABLES if name != "provenance"]


def cells(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))


# ---- the same bytes -------------------------------------------------------------------------------------


def run_otherwise(folder: Path, units: Sequence[Unit], seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Finish the units in another order, in other tasks, on other days, with failures in between."""
    order = random.Random(seed)
    with Store.create_or_open(folder) as store:
        store.add_units(rows(study(repeats=1, sites=3)[::-1]))
        finish(store, study(repeats=1, sites=3)[::4], found=grouped)
        store.add_units(rows(units))
    left = list(units)
    order.shuffle(left)
    while left:
        monkeypatch.setattr("wn.study.store.writer.time.time", lambda: order.randrange(2**31))
        with Store.create_or_open(folder) as store:
            store.add_units(rows(units))
            store.fail([unit.key for unit in left[-3:]], "broken")
            size = order.randrange(1, 30)
            finish(
                store,
                left[:size],
                task=order.randrange(1, 9),
                where=order.choice([HERE, THERE]),
                found=grouped,
            )
            left = left[size:]
            store.retry_failed()


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_the_same_bytes_in_whatever_order(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if kind == "parquet":
        pytest.importorskip("pyarrow")
    units = study(repeats=2, noise=NoiseSpec(kind="multiplicative")) + study(repeats=2)[1:]
    finished_study(tmp_path / "straight", units, grouped)
    straight = [path.read_bytes() for path in export(tmp_path / "straight", tmp_path / "a", kind, DETERMINED)]
    run_otherwise(tmp_path / "otherwise", units, 5, monkeypatch)
    otherwise = [
        path.read_bytes() for path in export(tmp_path / "otherwise", tmp_path / "b", kind, DETERMINED)
    ]
    assert straight == otherwise
    assert all(len(content) > 300 for content in straight)
    where = [
        export(tmp_path / name, tmp_path, kind, ["provenance"])[0].read_bytes()
        for name in ("straight", "otherwise")
    ]
    assert where[0] != where[1]


# ---- csv ------------------------------------------------------------------------------------------------


def test_the_cells_of_a_csv_file(tmp_path: Path) -> None:
    units = [
        CLEAN,
        noisy(
            site=3, sigma=1 / 3, noise=NoiseSpec(kind="mixed", ratio=0.1), clamp_weights=True, seed=2**64 - 1
        ),
        noisy(site=-1, site_name='glo"bal', factors=((0, 1.0), (2, 1.0)), noise=NoiseSpec(kind="additive")),
    ]
    finished_study(tmp_path, units)
    paths = export(tmp_path, tmp_path / "new" / "folder", tables=["results", "signal"])
    assert [path.name for path in paths] == ["results.csv", "signal.csv"]
    clean, walking, everywhere = cells(paths[0])
    assert list(clean) == list(RESULTS)
    assert paths[0].read_bytes().count(b"\n") == 4
    assert b"\r" not in paths[0].read_bytes()
    power = 2.0  # √(1 + 3)
    assert walking == {
        "dataset": "mnist",
        "model": "mlp",
        "batch_norm": "none",
        "clamp_weights": "true",
        "noise": "mixed",
        "ratio": "0.1",
        "sigma_train": "",
        "repetitions": "1",
        "order": "mul_add",
        "sigma_mul": "",
        "mean_mul": "1.0",
        "mean_add": "0.0",
        "distribution": "normal",
        "label": "",
        "phase": "inference",
        "site": "3",
        "site_name": "site3",
        "sigma": repr(1 / 3),
        "repeat": "0",
        "correct": str(result(units[1]).correct),
        "total": str(TOTAL),
        "accuracy": repr(result(units[1]).correct / TOTAL),
        "signal_power": repr(power),
        "seed": str(2**64 - 1),
        "epochs": "3",
        "curve": walking["curve"],
        "key": units[1].key,
    }
    assert (clean["noise"], clean["ratio"], clean["clamp_weights"], clean["signal_power"]) == (
        "none",
        "",
        "false",
        "",
    )
    assert (everywhere["site_name"], everywhere["signal_power"]) == ('glo"bal', "")
    assert [(row["key"], row["site"], float(row["power"])) for row in cells(paths[1])] == [
        (units[1].key, "3", 2.0),
        (units[2].key, "0", 1.0),
        (units[2].key, "2", math.sqrt(3)),
    ]


@pytest.mark.parametrize("whole", [False, True])
def test_rows_are_those_of_the_views(tmp_path: Path, whole: bool) -> None:
    """And a file has what the csv module makes of them."""
    mixed = NoiseSpec(kind="mixed", ratio=0.3)
    units = [*study(repeats=2), *study(site_name='a, "b"\nc', noise=mixed, clamp_weights=True)[1:]]
    with Store.create_or_open(tmp_path) as store:
        store.add_units(rows(units))
        finish(store, units[::2], where=THERE)
        finish(store, units[1::2])
        store.add_units(rows(units[:40]))
        view = "all_results" if whole else "results"
        order = "position IS NULL, position, key"
        for make in (results, provenance):
            table = make(store, whole)
            columns = ", ".join("''" if name == "label" else f'"{name}"' for name in table.columns)
            found = list(store.rows(f"SELECT {columns} FROM {view} ORDER BY {order}"))
            assert list(table.rows) == found
            assert len(found) == (len(units) if whole else 40)
            if "clamp_weights" in table.columns:
                found = [(*row[:3], "true" if row[3] else "false", *row[4:]) for row in found]
            text = io.StringIO()
            csv.writer(text, lineterminator="\n").writerows(found)
            table_export._write_csv(tmp_path / "table.csv", make(store, whole))
            _, _, written = (tmp_path / "table.csv").read_bytes().decode().partition("\n")
            assert written == text.getvalue()


def test_settings_say_everything_else(tmp_path: Path) -> None:
    units = [*study(sites=2), noisy(noise=NoiseSpec(kind="additive", mean_add=0.5))]
    finished_study(tmp_path, units)
    (path,) = export(tmp_path, tmp_path, tables=["settings"])
    specs = {row["curve"]: msgspec.json.decode(row["spec"]) for row in cells(path)}
    assert len(specs) == 1 + 4 + 1
    for row, unit in zip(read_table(tmp_path), units, strict=True):
        spec = specs[str(row["curve"])] | {"sigma": float(row["sigma"]), "repeat": int(row["repeat"])}
        assert msgspec.convert(spec, Unit) == unit


def test_only_what_is_finished_and_in_the_study_is_exported(tmp_path: Path) -> None:
    units, fewer = study(repeats=2), study(repeats=1)
    finished_study(tmp_path, units)
    with Store.create_or_open(tmp_path) as store:
        store.add_units(rows([*fewer, *study(repeats=3)[2 * len(fewer) :]]))
    (path,) = export(tmp_path, tmp_path, tables=["results"])
    assert [row["key"] for row in cells(path)] == [unit.key for unit in fewer]
    (path,) = export(tmp_path, tmp_path, tables=["results"], whole=True)
    found = [row["key"] for row in cells(path)]
    assert found[: len(fewer)] == [unit.key for unit in fewer]
    assert found[len(fewer) :] == sorted(unit.key for unit in units[len(fewer) :])


def test_all_tables_or_none_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finished_study(tmp_path, study(repeats=1))
    paths = export(tmp_path, tmp_path / "out")
    before = [path.read_bytes() for path in paths]
    with Store.create_or_open(tmp_path) as store:
        store.add_units(rows(study(repeats=2)))
        finish(store, study(repeats=2))

    def broken(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setitem(table_export._MAKERS, "provenance", broken)
    with pytest.raises(WnError, match="can't be written: No space left on device"):
        export(tmp_path, tmp_path / "out")
    assert [path.read_bytes() for path in paths] == before
    assert len(list((tmp_path / "out").iterdir())) == 2


def test_what_can_not_be_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finished_study(tmp_path, study(repeats=1))
    with pytest.raises(WnError, match="unknown format 'xlsx': allowed are csv, parquet"):
        export(tmp_path, tmp_path, "xlsx")
    with pytest.raises(WnError, match="unknown table 'all': allowed are results, provenance, settings"):
        export(tmp_path, tmp_path, tables=["all"])
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(
        WnError, match=r"needs pyarrow: pip install 'walking-noise\[parquet\]', or export csv"
    ):
        export(tmp_path, tmp_path / "new", "parquet")
    assert not (tmp_path / "new").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(WnError, match="file: can't be written: "):
        export(tmp_path, tmp_path / "file")


# ---- arrays ---------------------------------------------------------------------------------------------


def test_parts_of_the_table(tmp_path: Path) -> None:
    units = study(sites=3) + [noisy(noise=NoiseSpec(kind="mixed", ratio=0.25), sigma=s) for s in SIGMA]
    finished_study(tmp_path, units)
    everything = read_table(tmp_path, list(COLUMNS))
    assert everything.dtype.names == tuple(COLUMNS)
    assert np.isnan(everything["ratio"][:-7]).all()
    some = read_table(tmp_path, ["sigma", "accuracy"], phase="training", site=2)
    assert some.tolist() == [
        (unit.sigma, result(unit).correct / TOTAL)
        for unit in units
        if (unit.phase, unit.site) == ("training", 2)
    ]
    assert len(read_table(tmp_path, ratio=0.25)) == 7
    assert len(read_table(tmp_path, seed=0, clamp_weights=False, repetitions=1, backend="numpy")) == len(
        units
    )
    assert len(read_table(tmp_path, noise="unheard of")) == 0
    chunks = list(read_chunks(tmp_path, rows_at_once=7))
    assert {len(chunk) for chunk in chunks[:-1]} == {7}
    assert str(np.concatenate(chunks).tolist()) == str(read_table(tmp_path).tolist())
    next(read_chunks(tmp_path, rows_at_once=7))  # a reader may stop early
    with pytest.raises(WnError, match="unknown column 'sigmas': allowed are dataset, model"):
        read_table(tmp_path, ["sigmas"])
    with pytest.raises(WnError, match="unknown column 'sites'"):
        read_table(tmp_path, sites=2)


def test_a_study_that_has_only_begun(tmp_path: Path) -> None:
    with Store.create_or_open(tmp_path) as store:
        assert len(read_table(tmp_path)) == 0
        store.add_units(rows(study()))
    assert len(read_table(tmp_path)) == 0
    for path in export(tmp_path, tmp_path, tables=["results", "provenance", "signal", "weights"]):
        assert path.read_bytes().count(b"\n") == 1


def test_parquet_has_the_same_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    finished_study(tmp_path, study(seed=2**63 + 1), grouped)
    monkeypatch.setattr(table_export, "ROWS_AT_ONCE", 10)
    for path in export(tmp_path, tmp_path, "parquet", TABLES):
        found = parquet.read_table(path).to_pylist()
        (text,) = export(tmp_path, tmp_path, "csv", [path.stem])
        assert len(found) == len(cells(text)) > 3
        for row, words in zip(found, cells(text), strict=True):
            assert {name: _word(value) for name, value in row.items()} == words


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)


# ---- weights --------------------------------------------------------------------------------------------


def test_weights_are_compared_with_the_clean_network(tmp_path: Path) -> None:
    units = study(repeats=2, sites=1, sigma=(1.0, 3.0))
    with Store.create_or_open(tmp_path) as store:
        store.add_units(rows(units))
        finish(store, [unit for unit in units if unit.phase != "clean"])
    (path,) = export(tmp_path, tmp_path, tables=["weights"])
    assert {row["relative_norm"] for row in cells(path)} == {""}
    with Store.create_or_open(tmp_path) as store:
        finish(store, units)  # the clean ones come last
    (path,) = export(tmp_path, tmp_path, tables=["weights"])
    found = iter(cells(path))
    for unit in units:
        if unit.phase == "inference":
            continue
        values = statistics(unit).astype(np.float32)
        for layer, name in enumerate(LAYERS):
            for epoch in range(unit.epochs):
                row = next(found)
                assert (row["key"], row["layer"], row["epoch"]) == (unit.key, name, str(epoch + 1))
                numbers = [np.float32(row[word]) for word in ("mean_abs", "std", "norm", "at_bound")]
                assert numbers == values[epoch, layer].tolist()
                assert float(row["relative_norm"]) == pytest.approx(1 + unit.sigma, rel=1e-6)
                assert len(row["norm"]) <= 12  # float32 needs no more
    assert list(found) == []


def test_weights_of_wrong_shape_are_refused(tmp_path: Path) -> None:
    unit = study(repeats=1)[0]
    found = result(unit)
    assert found.weights is not None
    wrong = msgspec.structs.replace(found.weights, layers=("fc1",))
    with Store.create_or_open(tmp_path) as store:
        store.add_units(rows([unit]))
        with pytest.raises(ValueError, match=r"have shape \(3, 2, 4\), not \(epochs, 1, 4\)"):
            store.finish([msgspec.structs.replace(found, weights=wrong)], HERE)


def test_a_twin_of_another_length_is_no_twin(tmp_path: Path) -> None:
    clean, trained = CLEAN, noisy(phase="training")
    longer = msgspec.structs.replace(result(clean), weights=result(changed(clean, epochs=4)).weights)
    with Store.create_or_open(tmp_path) as store:
        store.add_units(rows([clean, trained]))
        store.finish([longer, result(trained)], HERE)
    (path,) = export(tmp_path, tmp_path, tables=["weights"])
    found = [row["relative_norm"] for row in cells(path)]
    assert found == ["1.0"] * 8 + [""] * 6


def test_files_of_older_versions_have_three_statistics_and_no_binarisation(tmp_path: Path) -> None:
    unit = study(repeats=1)[0]
    with Store.create_or_open(tmp_path) as store:
        store.add_units(rows([unit]))
        finish(store, [unit])
    db = sqlite3.connect(tmp_path / "study.sqlite")
    old = statistics(unit)[:, :, :3].astype("<f4")
    db.execute("UPDATE weights SET layers = ?, statistics = ?", (json.dumps(LAYERS), old.tobytes()))
    db.execute("DROP TABLE binarisation")
    db.commit()
    db.close()
    weights, binarisation = export(tmp_path, tmp_path, tables=["weights", "binarisation"])
    found = cells(weights)
    assert [np.float32(row["norm"]) for row in found] == old[:, :, 2].T.ravel().tolist()
    assert {row["at_bound"] for row in found} == {""}
    assert cells(binarisation) == []


def test_binarisation_is_a_table_of_its_own(tmp_path: Path) -> None:
    unit = study(repeats=1)[0]
    values = Binarisation(0.25, 0.5, math.nan, 0.375)
    places = (PlaceBinarisation("relu1", values, 0.5, 0.75), PlaceBinarisation("fc1.weight", values))
    with Store.create_or_open(tmp_path) as store:
        store.add_units(rows([unit]))
        store.finish([msgspec.structs.replace(result(unit), binarisation=places)], HERE)
    (path,) = export(tmp_path, tmp_path, tables=["binarisation"])
    assert [list(row.values()) for row in cells(path)] == [
        [unit.key, "fc1.weight", "0.25", "0.5", "", "0.375", "", ""],
        [unit.key, "relu1", "0.25", "0.5", "", "0.375", "0.5", "0.75"],
    ]
