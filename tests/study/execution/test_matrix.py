"""The phase "matrix": networks trained under one σ and evaluated under others."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from tests.checks.study_kills import done_keys
from tests.cli.command_line import run as command
from tests.engine.populations import with_linear_of_numpy
from tests.study.runs import SIGMA, TINY, Immediate, counts, exported, failures, retry, run
from wn.engine.backends.numpy.linear import PAIR as LINEAR
from wn.engine.backends.plain.base import Room
from wn.study import Unit, parse_study, planned_facts, units
from wn.study.execution.run import load_facts
from wn.study.execution.tasks import cost, cost_of, tasks
from wn.study.execution.worker import Outcome, Task, run_task
from wn.study.plan import plan_study
from wn.study.store.rows import Result
from wn.study.store.writer import Store
from wn.study.tables.export import export
from wn.study.tables.fit import FittedCurve, fit, fitted, study_curves
from wn.study.tables.matrix import matrices, matrix_figure
from wn.study.tables.plot import plot
from wn.study.tables.results import binarisation, read_table, weights
from wn.walking import measurement

PLACES = 'where = ["input", "relu2"]'
ALL = TINY.replace(PLACES, f'{PLACES}\nphases = ["training", "matrix", "inference"]')
ROWS = ALL.replace(SIGMA, f"{SIGMA}\nsigma_train = [0, 0.1, 1, 10]")
MATRIX = TINY.replace(PLACES, f'{PLACES}\nphases = "matrix"')
ONE = MATRIX.replace("repeats = 2", "repeats = 1").replace(', "relu2"', "")
POINT = ("site", "sigma", "repeat", "correct", "total", "signal_power")


def study(text: str) -> list[Unit]:
    spec = parse_study(text)
    return list(units(spec, load_facts(spec, None)))


def matrix_units(text: str = ONE) -> tuple[Unit, ...]:
    return tuple(unit for unit in study(text) if unit.phase == "matrix")


def plain(result: Result) -> tuple[Any, ...]:
    return result.key, result.correct, result.by_group, result.signal


def sorted_plain(outcome: Outcome) -> list[tuple[Any, ...]]:
    return sorted(plain(result) for result in outcome.results)


# ---- which units there are --------------------------------------------------------------------------------


def test_each_place_has_every_sigma_for_each_sigma_of_training() -> None:
    found = [unit for unit in study(ROWS) if unit.phase == "matrix" and unit.repeat == 1]
    assert [(unit.site, unit.sigma_train, unit.sigma) for unit in found] == [
        (site, trained, sigma) for site in (0, 4) for trained in (0, 0.1, 1, 10) for sigma in (0.1, 1, 10)
    ]
    assert len({unit.key for unit in study(ROWS)}) == len(study(ROWS))


def test_only_units_of_a_matrix_have_another_key_and_text() -> None:
    for unit in study(ROWS):
        assert ("sigma_train" in msgspec.to_builtins(unit)) == (unit.phase == "matrix")
    (unit,) = {unit.clean for unit in matrix_units(ONE)}
    assert unit == study(ONE)[0]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (PLACES, "sigma_train = 1", 'noise[0].sigma_train: goes with the phase "matrix"'),
        (PLACES, 'phases = "matrices"', "noise[0].phases: unknown phase 'matrices': allowed are"),
        (PLACES, 'phases = "matrix"\nsigma_train = [1, -1]', "noise[0].sigma_train: σ grid [1.0, -1.0]"),
        (PLACES, 'phases = "matrix"\nsigma_train = 1e39', "noise[0].sigma_train: sigma_add is 1e+39 at site"),
        (
            'kind = "additive"\nsigma = [0.1, 1, 10]\n' + PLACES,
            'kind = "none"\nsigma_train = 1',
            "noise[0].sigma_train: goes with the kinds additive",
        ),
    ],
)
def test_mistakes(old: str, new: str, message: str) -> None:
    with pytest.raises(ValueError, match="study") as error:
        parse_study(TINY.replace(old, new))
    assert message in str(error.value)


def test_a_plan_counts_networks_once() -> None:
    """2 repeats × 2 places: 4 σ of training × 3 σ, beside 3 trainings and 3 evaluations; and clean ones."""
    (network,) = plan_study(parse_study(ROWS), "numpy").networks
    assert network.counted.matrix == 2 * 2 * 4 * 3
    assert network.counted.trainings == 2 * (1 + 2 * 3 + 2 * 4)
    assert network.counted.units == len(list(units(parse_study(ROWS), planned_facts(parse_study(ROWS)))))


# ---- the numbers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ['"additive"', '"multiplicative"', '"mixed"\nratio = 0.3'])
def test_the_diagonal_is_the_training_and_without_noise_in_training_the_inference(
    tmp_path: Path, kind: str, backend: str
) -> None:
    """Bit by bit, with counts by group and the signal's power; at single sites, and at all of them."""
    text = ROWS.replace('"additive"', kind).replace("repeats = 2", "repeats = 1")
    run(tmp_path, text + text[text.index("[[noise]]") :].replace(PLACES, 'where = "global"'), backend=backend)
    found = read_table(tmp_path)
    matrix = found[found["phase"] == "matrix"]
    diagonal = matrix[matrix["sigma"] == matrix["sigma_train"]]
    clean = matrix[matrix["sigma_train"] == 0]
    for mine, phase in ((diagonal, "training"), (clean, "inference")):
        other = found[found["phase"] == phase]
        assert len(mine) == 3 * 3
        columns = list(POINT if backend != "cupy" else POINT[:-1])  # a GPU's last bits depend on neighbours
        assert sorted(map(str, mine[columns])) == sorted(map(str, other[columns]))
        groups = groups_of(tmp_path)
        assert sorted(groups[key] for key in mine["key"]) == sorted(groups[key] for key in other["key"])
    assert len(set(matrix["correct"].tolist())) > 6  # it is about something
    assert np.isnan(found["sigma_train"][found["phase"] != "matrix"]).all()


def test_of_mixed_direct_noise_the_additive_part_differs(tmp_path: Path) -> None:
    text = ALL.replace('"additive"', '"mixed-direct"\nsigma_mul = [0.5, 2]').replace(
        "sigma = [0.1, 1, 10]", "sigma_add = [0.1, 1, 10]\nsigma_train = [1, 10]"
    )
    run(tmp_path, text.replace("repeats = 2", "repeats = 1"))
    found = read_table(tmp_path)
    assert (found["phase"] == "matrix").sum() == 2 * 2 * 2 * 3  # σ_mul, places, σ of training, σ
    diagonal = found[(found["phase"] == "matrix") & (found["sigma"] == found["sigma_train"])]
    training = found[(found["phase"] == "training") & (found["sigma"] >= 1)]
    assert sorted(map(str, diagonal[list(POINT)])) == sorted(map(str, training[list(POINT)]))


def groups_of(folder: Path) -> dict[str, str]:
    (path,) = export(folder, folder / "groups", tables=["groups"])
    with path.open() as file:
        return {row["key"]: row["correct_by_group"] for row in csv.DictReader(file)}


def test_units_alone_are_as_units_together() -> None:
    mine = matrix_units()
    together = sorted_plain(run_task(Task(mine, "numpy")))
    alone = [plain(run_task(Task((unit,), "numpy")).results[0]) for unit in mine]
    assert sorted(alone) == together


def test_weights_are_there_once_for_each_network_and_those_of_the_training(tmp_path: Path) -> None:
    run(tmp_path, ALL)
    phase = {row["key"]: str(row["phase"]) for row in read_table(tmp_path)}
    place = {row["key"]: tuple(row[list(POINT[:3])].tolist()) for row in read_table(tmp_path)}
    with Store.read(tmp_path) as store:
        rows = [(phase[key], place[key], *rest) for key, *rest in weights(store).rows]
    of = {name: [row[1:] for row in rows if row[0] == name] for name in ("matrix", "training")}
    assert sorted(of["matrix"]) == sorted(of["training"])
    assert len(of["matrix"]) == 2 * 2 * 3 * 4 * 2  # repeats, places, networks, layers, epochs


def test_binarisation_is_that_of_the_training(tmp_path: Path) -> None:
    run(tmp_path, 'observe = "binarisation"\n' + ALL.replace("repeats = 2", "repeats = 1"))
    phase = {row["key"]: str(row["phase"]) for row in read_table(tmp_path)}
    with Store.read(tmp_path) as store:
        rows = [(phase[key], *rest) for key, *rest in binarisation(store).rows]
    of = {name: [row[1:] for row in rows if row[0] == name] for name in ("matrix", "training")}
    assert sorted(map(str, of["matrix"])) == sorted(map(str, of["training"]))
    assert len(of["matrix"]) == 2 * 3 * (1 + 4)  # places, networks, the site and four layers


def test_without_the_diagonal_the_first_unit_has_the_weights() -> None:
    outcome = run_task(Task(matrix_units(ONE.replace(SIGMA, f"{SIGMA}\nsigma_train = [2, 3]")), "numpy"))
    found = [result.weights is not None for result in outcome.results]
    assert found == [True, False, False, True, False, False]


# ---- tasks ------------------------------------------------------------------------------------------------


def test_a_network_is_trained_once_and_networks_side_by_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    train = measurement.train

    def counting(*arguments: Any, **options: Any) -> Any:
        asked.append(len(options["seeds"]))
        return train(*arguments, **options)

    monkeypatch.setattr(measurement, "train", counting)
    run(tmp_path, MATRIX)
    assert sorted(asked) == [1, 1, 3, 3, 3, 3]  # clean ones; places × repeats


def test_tasks_are_cut_between_networks() -> None:
    mine = matrix_units(ONE.replace(SIGMA, "sigma = [1, 2, 3, 4, 5]"))
    cut = list(tasks(mine, Room(members=2)))
    assert [len(part) for part in cut] == [10, 10, 5]
    assert [unit for part in cut for unit in part] == list(mine)
    clean = study(ONE)[0]
    (training, evaluation) = cost(clean) - cost(clean, networks=0), cost(clean, networks=0)
    assert cost_of(cut[0]) == pytest.approx(2 * training + 10 * evaluation)


def test_two_entries_with_a_network_in_common(tmp_path: Path) -> None:
    """Units that come from both are computed once, and their tables have all of them."""
    more = MATRIX[MATRIX.index("[[noise]]") :].replace(SIGMA, "sigma = [1, 5]\nsigma_train = [0.1, 1]")
    run(tmp_path, MATRIX + more.replace(PLACES, 'where = "input"'))
    run(tmp_path / "finer", MATRIX.replace(SIGMA, "sigma = [0.1, 1, 5, 10]"))
    finer = {tuple(row) for row in named_points(tmp_path / "finer")}
    found = {tuple(row) for row in named_points(tmp_path)}
    assert len(found) == 2 * (1 + 18 + 2)
    assert found < finer


def named_points(folder: Path) -> list[tuple[Any, ...]]:
    rows = read_table(folder, ["phase", "sigma_train", *POINT[:4]])
    return [tuple(map(str, row)) for row in rows.tolist()]


# ---- failures, kills, memory ------------------------------------------------------------------------------

EXTREME = ONE.replace(SIGMA, "sigma = [0.5, 1, 3e38]")


def test_a_sigma_out_of_range_fails_alone_and_a_training_with_its_whole_row() -> None:
    """The network trained under 3e38 has no unit; under it the others lose this one."""
    mine = matrix_units(EXTREME)
    outcome = run_task(Task(mine, "numpy"))
    by_key = {unit.key: (unit.sigma_train, unit.sigma) for unit in mine}
    failed = sorted(by_key[key] for key, _ in outcome.failures)
    assert failed == [(0.5, 3e38), (1, 3e38), (3e38, 0.5), (3e38, 1), (3e38, 3e38)]
    good = tuple(unit for unit in mine if max(unit.sigma, float(unit.sigma_train or 0)) < 2)
    assert sorted_plain(run_task(Task(good, "numpy"))) == sorted_plain(outcome)


def test_a_retry_keeps_the_weights_that_are_there(tmp_path: Path) -> None:
    run(tmp_path, EXTREME)
    assert counts(tmp_path) == (0, 5, 5)
    assert {phase for found in failures(tmp_path).values() for phase, *_ in found} == {"matrix"}
    before = exported(tmp_path)
    retry(tmp_path)
    assert exported(tmp_path) == before
    with Store.create_or_open(tmp_path) as store:  # as if that unit had failed at first for want of memory
        unit = next(u for u in matrix_units(EXTREME) if (u.sigma_train, u.sigma) == (1, 0.5))
        store._db.execute(
            "UPDATE units SET status = 'pending', correct = NULL, failure = NULL WHERE key = ?",
            (bytes.fromhex(unit.key),),
        )
        for table in ("signal", "groups"):
            store._db.execute(
                f"DELETE FROM {table} WHERE unit = (SELECT id FROM units WHERE key = ?)",
                (bytes.fromhex(unit.key),),
            )
    retry(tmp_path)
    assert exported(tmp_path) == before


def test_a_study_that_was_killed_goes_on(tmp_path: Path) -> None:
    """After each task in turn; what is there is not computed again."""
    run(tmp_path / "whole", MATRIX)
    for number in range(6):
        folder = tmp_path / f"{number}"

        left = [number]

        def kill(_: Task, left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run(folder, MATRIX, Immediate(kill))
        executor, done = Immediate(), done_keys(folder)
        run(folder, MATRIX, executor)
        assert done.isdisjoint(unit.key for task in executor.tasks for unit in task.units)
        assert len(executor.tasks) + (len(done) > 0) <= 6
        assert exported(folder) == exported(tmp_path / "whole")


@pytest.mark.parametrize("refused", ["backward", "forward"])
def test_where_memory_ends_halves_go_on(refused: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the training, or when σ are evaluated side by side: with the same numbers."""
    mine = matrix_units(ONE.replace(SIGMA, "sigma = [0.1, 0.5, 1, 10]"))
    expected = sorted_plain(run_task(Task(mine, "numpy")))
    sizes: list[int] = []

    def refusing(be: Any, params: Any, x: Any) -> Any:
        training = len(params.w) > 1
        if (training if refused == "backward" else not training) and len(x) > 2:
            sizes.append(len(x))
            raise MemoryError
        return LINEAR.forward(be, params, x)

    with_linear_of_numpy(monkeypatch, refusing)
    outcome = run_task(Task(mine, "numpy"))
    assert sizes
    assert outcome.failures == ()
    assert sorted_plain(outcome) == expected


# ---- tables and pictures ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def longer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A matrix whose networks learn enough to have midpoints."""
    folder = tmp_path_factory.mktemp("matrix") / "out"
    text = MATRIX.replace("train_limit = 300\ntest_limit = 100\n", "test_limit = 600\n")
    run(folder, text.replace(SIGMA, 'sigma = "0.1:1000:9"\nsigma_train = [0, 3]'))
    return folder


def test_midpoints_are_half_way_from_the_networks_own_accuracy(longer: Path) -> None:
    table = read_table(longer, phase="matrix")
    found = fit(longer)
    assert [(row["site"], row["sigma_train"]) for row in found] == [(0, 0), (0, 3), (4, 0), (4, 3)]
    for row in found:
        mine = table[(table["site"] == row["site"]) & (table["sigma_train"] == row["sigma_train"])]
        own = mine[mine["sigma"] == 0.1]
        assert row["clean_accuracy"] == own["correct"].sum() / own["total"].sum()
        assert row["reached"]
        accuracy = np.array([mine["accuracy"][mine["sigma"] == s].mean() for s in np.unique(mine["sigma"])])
        half = (row["clean_accuracy"] + 0.1) / 2
        crossing = np.exp(np.interp(-half, -accuracy, np.log(np.unique(mine["sigma"]))))
        assert row["midpoint"] == pytest.approx(crossing, rel=0.25)
    assert found["midpoint"][1] > 1.05 * found["midpoint"][0]
    printed = command("study", "fit", str(longer)).out
    assert "by σ of training" in printed
    assert "own accuracy at the smallest σ" in printed


def fits_of(folder: Path) -> tuple[list[FittedCurve], list[str]]:
    with Store.read(folder) as store:
        fits = [fitted(store, curve) for curve in study_curves(store)]
    return fits, [found.curve.site_name for found in fits]


def test_the_picture_has_the_means_of_the_table(longer: Path, tmp_path: Path) -> None:
    found = matrices(*fits_of(longer))
    assert found is not None
    assert (found.sigma_train.tolist(), len(found.sigma)) == ([0, 3], 9)
    table = read_table(longer, phase="matrix")
    for (row, column), value in np.ndenumerate(found.by_place["relu2"]):
        here = (table["sigma_train"] == found.sigma_train[row]) & (table["sigma"] == found.sigma[column])
        assert value == pytest.approx(table["accuracy"][here & (table["site"] == 4)].mean())
    figure = matrix_figure(found)
    images = [axes.images[0].get_array() for axes in figure.axes[:2]]
    assert np.array_equal(images, list(found.by_place.values()))
    (path,) = plot(longer, tmp_path).paths
    assert path.name == "fashion-mini-mlp-8-bn-none-additive-matrix.png"
    assert path.stat().st_size > 10_000


def test_frames_are_where_both_sigma_agree(tmp_path: Path) -> None:
    run(tmp_path, ALL.replace(SIGMA, f"{SIGMA}\nsigma_train = [1, 5, 10]"))
    found = matrices(*fits_of(tmp_path))
    assert found is not None
    frames = [patch.get_xy() for patch in matrix_figure(found).axes[0].patches]
    assert frames == [(0.5, -0.5), (1.5, 1.5)]  # σ 1 and 10, by column and row
    names = sorted(path.name.rpartition("-")[2] for path in plot(tmp_path, tmp_path / "plots").paths)
    assert names == ["curves.png", "matrix.png", "midpoints.png"]


def test_what_is_not_finished_is_left_white(tmp_path: Path) -> None:
    stopped: Callable[[Task], None]

    def stopped(task: Task) -> None:
        if task.units[0].phase == "matrix" and task.units[0].site == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, MATRIX, Immediate(stopped))
    found = matrices(*fits_of(tmp_path))
    assert found is not None
    assert list(found.by_place) == ["input"]
    assert np.isfinite(found.by_place["input"]).all()
    (path,) = plot(tmp_path, tmp_path / "plots").paths
    assert path.exists()
