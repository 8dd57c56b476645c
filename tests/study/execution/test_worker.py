"""What workers compute: the numbers of a walk, whatever units are computed together."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

import wn
from tests.engine.populations import with_linear_of_numpy
from tests.study.runs import SIGMA, TINY, run
from wn.data import catalogue
from wn.engine import backends
from wn.engine.backends.numpy.linear import PAIR as LINEAR
from wn.study import Unit, parse_study, units
from wn.study.execution.run import load_facts
from wn.study.execution.tasks import tasks
from wn.study.execution.worker import Outcome, Task, run_task
from wn.study.store.rows import Result
from wn.study.store.writer import Store
from wn.study.tables.fit import fit
from wn.study.tables.results import groups, read_table
from wn.walking import measurement
from wn.walking.places import INFERENCE

BE = backends.get("numpy")
SMALL: dict[str, Any] = {"dataset": "fashion-mini", "model": "mlp-8", "train_limit": 300, "test_limit": 100}
SMALL |= {"epochs": 2, "learning_rate": 0.01, "sigma": "0.1,1,10", "repeats": 2, "backend": "numpy"}


# ---- the numbers of a walk --------------------------------------------------------------------------------

WALKS: list[tuple[str, dict[str, Any]]] = [
    ("", {"noise": "additive"}),
    ('where = "global"', {"noise": "additive", "where": "global"}),
    ('kind = "multiplicative"', {"noise": "multiplicative"}),
    ('kind = "mixed"\nratio = 0.2\norder = "add_mul"', {"noise": "mixed", "ratio": 0.2, "order": "add_mul"}),
    ('kind = "mixed-direct"', {"noise": "mixed-direct"}),
    ("mean = 0.3\nrepetitions = 3", {"noise": "additive", "mean": 0.3, "repetitions": 3}),
    (
        'where = "mapped"\nfactors = { fc2 = 2, logits = 0.5 }',
        {"noise": "additive", "where": "mapped", "factors": {3: 2.0, 7: 0.5}},
    ),
]


@pytest.mark.parametrize(("keys", "settings"), WALKS)
def test_a_study_finds_what_a_walk_finds(tmp_path: Path, keys: str, settings: dict[str, Any]) -> None:
    lines = {"kind": '"additive"', "sigma": "[0.1, 1, 10]", "where": '["input", "relu2"]'}
    lines |= dict(line.split(" = ", 1) for line in keys.splitlines())
    if "mixed-direct" in lines["kind"]:  # a walk has the same σ in both
        lines |= {"sigma_mul": "1", "sigma_add": "1"}
        del lines["sigma"]
        settings = settings | {"sigma": "1"}
    entry = "[[noise]]\n" + "\n".join(f"{key} = {value}" for key, value in lines.items())
    text = TINY[: TINY.index("[[noise]]")] + entry
    walk = wn.walk(**(SMALL | {"where": [0, 4]} | settings), threads=1)
    run(tmp_path, text)
    same = ("phase", "site", "sigma", "repeat", "correct", "total")
    noisy = [row for row in read_table(tmp_path, same).tolist() if row[0] != "clean"]
    assert sorted(noisy) == sorted(walk.curves[list(same)].tolist())
    assert len({row[4] for row in noisy}) > 3  # it is about something
    clean = read_table(tmp_path, ["correct", "total"], phase="clean").tolist()
    assert clean == [tuple(pair) for pair in walk.run["clean_correct"]]
    by_group = read_table(tmp_path, ["phase", "key"]).tolist()
    with Store.read(tmp_path) as store:
        counts = dict(groups(store).rows)
    assert sorted(counts[key] for phase, key in by_group if phase != "clean") == sorted(
        walk.run["correct_by_group"]["curves"]
    )
    assert [counts[key] for phase, key in by_group if phase == "clean"] == walk.run["correct_by_group"][
        "clean"
    ]
    fits = {(row["phase"], row["site"]): row for row in fit(tmp_path)}
    for row, record in zip(walk.midpoints, walk.run["fits"], strict=True):
        found = fits[row["phase"], row["site"]]
        assert (found["interval"], found["reached"]) == (record["interval"], row["reached"])
        for name in ("midpoint", "ci_low", "ci_high"):
            assert found[name] == pytest.approx(row[name], rel=1e-12, nan_ok=True)


@pytest.mark.parametrize("keys", ["clamp_weights = true", 'dtype = "float64"', "batch_size = 50"])
def test_the_recipe_is_that_of_a_walk(tmp_path: Path, keys: str) -> None:
    name, value = keys.split(" = ")
    setting: Any = {"true": True, '"float64"': "float64", "50": 50}[value]
    run(tmp_path, TINY.replace("learning_rate = 0.01", f"learning_rate = 0.1\n{keys}"))
    settings = SMALL | {"where": [0, 4], "learning_rate": 0.1, name: setting}
    walk = wn.walk(noise="additive", threads=1, **settings)
    same = ("phase", "site", "sigma", "repeat", "correct")
    noisy = [row for row in read_table(tmp_path, same).tolist() if row[0] != "clean"]
    assert sorted(noisy) == sorted(walk.curves[list(same)].tolist())


# ---- whatever is computed together ------------------------------------------------------------------------


def study(text: str = TINY) -> list[Unit]:
    spec = parse_study(text)
    return list(units(spec, load_facts(spec, None)))


def computed(cut: Sequence[tuple[Unit, ...]]) -> dict[str, Result]:
    """The results of tasks by key, clean ones first."""
    found: dict[str, Result] = {}
    clean: dict[str | None, Any] = {}
    for part in sorted(cut, key=lambda part: part[0].phase == INFERENCE):
        arrays = clean[part[0].clean_key] if part[0].phase == INFERENCE else ()
        outcome = run_task(Task(part, "numpy", arrays=arrays))
        assert outcome.failures == ()
        if outcome.arrays:
            clean[part[0].key] = outcome.arrays
        found |= {result.key: result for result in outcome.results}
    return found


def plain(result: Result) -> tuple[Any, ...]:
    weights = None if result.weights is None else (result.weights.layers, result.weights.values.tolist())
    return (result.correct, result.total, result.signal, weights)


GLOBAL = TINY.replace('["input", "relu2"]', '"global"').replace("repeats = 2", "repeats = 1")


@pytest.mark.parametrize(
    "text",
    [
        TINY.replace(SIGMA, "sigma = [0, 0.1, 1, 10]"),  # where σ = 0 there is no noise, and no signal
        GLOBAL.replace(SIGMA, "sigma = [0, 1]"),
        GLOBAL.replace('"additive"', '"multiplicative"').replace("mlp-8", 'mlp-8"\nbatch_norm = "sites'),
    ],
)
def test_units_alone_are_as_units_together(text: str) -> None:
    everything = study(text)
    together = computed(list(tasks(everything)))
    alone = computed([(unit,) for unit in everything])
    assert together.keys() == alone.keys() == {unit.key for unit in everything}
    for key, result in together.items():
        assert plain(result) == plain(alone[key])


# ---- signal -----------------------------------------------------------------------------------------------


def test_signal_power_is_that_of_the_clean_activations() -> None:
    """At inference: the mean of y² over features and all test images, at the noisy sites."""
    text = TINY.replace("test_limit = 100", "test_limit = 777").replace('["input", "relu2"]', '"each"')
    everything = study(text.replace("repeats = 2", "repeats = 1"))
    clean, *noisy = everything
    trained = run_task(Task((clean,), "numpy"))
    be, dataset = backends.get("numpy"), catalogue.load("fashion-mini").limited(300, 777)
    layers = dict(zip(("w1", "b1", "w2", "b2", "w3", "b3", "w4", "b4"), trained.arrays, strict=True))
    x = dataset.test.images.astype(np.float64).reshape(777, -1).T / 255
    recipe = dataset.recipe.preprocessing
    x = (x - recipe.mean[0]) / recipe.std[0]
    sites = [x]
    for number in range(1, 5):
        x = layers[f"w{number}"][0] @ x + layers[f"b{number}"][0][:, None]
        sites.append(x)
        if number < 4:
            x = np.maximum(x, 0)
            sites.append(x)
    outcome = run_task(Task(tuple(u for u in noisy if u.phase == INFERENCE), "numpy", arrays=trained.arrays))
    assert be.name == "numpy"
    found = {result.key: dict(result.signal) for result in outcome.results}
    for unit in noisy:
        if unit.phase == INFERENCE:
            power = found[unit.key]
            assert power.keys() == {unit.site}
            assert power[unit.site] == pytest.approx((sites[unit.site] ** 2).mean(), rel=1e-5)
    assert {unit.site for unit in noisy} == set(range(8))


def test_signal_power_in_training_is_that_of_each_member_and_has_the_noise_before_it() -> None:
    """Global noise in training: all sites have a power; behind the input it grows with σ."""
    everything = [unit for unit in study(GLOBAL) if unit.phase == "training"]
    outcome = run_task(Task(tuple(everything), "numpy"))
    power = np.array([[value for _, value in result.signal] for result in outcome.results])  # (σ, sites)
    assert power.shape == (3, 8)
    assert np.ptp(power[:, 0]) == 0  # the images are the same for all
    assert (power[2, 1:] > power[0, 1:]).all()
    (clean,) = [unit for unit in study(GLOBAL) if unit.phase == "clean"]
    (result,) = run_task(Task((clean,), "numpy")).results
    assert result.signal == ()


# ---- failures ---------------------------------------------------------------------------------------------


def failed(outcome: Outcome, everything: Sequence[Unit]) -> list[float]:
    by_key = {unit.key: unit.sigma for unit in everything}
    return sorted(by_key[key] for key, _ in outcome.failures)


@pytest.mark.parametrize("phase", ["inference", "training"])
@pytest.mark.parametrize("bad", [[3e38], [2e38, 3e38], [0.0, 3e38]])
def test_what_fails_alone_does_not_fail_others(phase: str, bad: list[float]) -> None:
    """In whatever place of the task it is; those that do not fail have the numbers of a task without it."""
    values = sorted({0.5, 1.0, 2.0, 4.0, *bad})
    chosen = study(TINY.replace(SIGMA, f"sigma = {values}").replace("repeats = 2", "repeats = 1"))
    mine = tuple(unit for unit in chosen if unit.phase == phase and unit.site == 4)
    arrays = run_task(Task((chosen[0],), "numpy")).arrays if phase == "inference" else ()
    outcome = run_task(Task(mine, "numpy", arrays=arrays))
    expected = [sigma for sigma in bad if sigma > 1e37]
    assert failed(outcome, mine) == expected
    assert len(outcome.results) == len(mine) - len(expected)
    good = tuple(unit for unit in mine if unit.sigma not in expected)
    without = run_task(Task(good, "numpy", arrays=arrays))
    assert [plain(a) for a in sorted_results(outcome)] == [plain(a) for a in sorted_results(without)]


def sorted_results(outcome: Outcome) -> list[Result]:
    return sorted(outcome.results, key=lambda result: result.key)


def test_units_that_leave_the_range_fail_alone_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    train = measurement.train

    def counting(*arguments: Any, **options: Any) -> Any:
        asked.append(len(options["seeds"]))
        return train(*arguments, **options)

    monkeypatch.setattr(measurement, "train", counting)
    values = [float(value) for value in range(1, 8)] + [3e38]
    mine = tuple(u for u in study(TINY.replace(SIGMA, f"sigma = {values}")) if u.phase == "training")[:8]
    outcome = run_task(Task(mine, "numpy"))
    assert failed(outcome, mine) == [3e38]
    assert asked == [8, 7]


@pytest.mark.parametrize("phase", ["inference", "training"])
def test_units_with_another_fault_are_found_by_halves(phase: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it is; the others have the numbers that they have without it."""
    asked: list[int] = []
    values = [float(value) for value in range(1, 9)]
    everything = study(TINY.replace(SIGMA, f"sigma = {values}").replace("repeats = 2", "repeats = 1"))
    mine = tuple(u for u in everything if (u.phase, u.site) == (phase, 4))
    arrays = run_task(Task((everything[0],), "numpy")).arrays if phase == "inference" else ()
    expected = [plain(result) for result in run_task(Task(mine, "numpy", arrays=arrays)).results]
    site_noise = Unit.site_noise

    def faulty(self: Unit, sigma: Any = None) -> Any:
        if sigma is not None:
            asked.append(len(sigma))
            if 6.0 in sigma:
                raise ZeroDivisionError("a fault")
        return site_noise(self, sigma)

    monkeypatch.setattr(Unit, "site_noise", faulty)
    outcome = run_task(Task(mine, "numpy", arrays=arrays))
    assert failed(outcome, mine) == [6.0]
    ((_, text),) = outcome.failures
    assert text.endswith("ZeroDivisionError: a fault\n")
    assert [plain(result) for result in outcome.results] == expected[:5] + expected[6:]
    assert asked == [8, 4, 4, 2, 1, 1, 2]


@pytest.mark.parametrize("steps", [0, 1, 3, 4, 5, 6])  # 3 in each of 2 epochs, then the evaluation
def test_without_memory_units_go_on_in_halves_from_their_last_step(
    steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from wn.study.execution import recorder

    mine = tuple(unit for unit in study() if unit.phase == "training" and unit.site == 4)[:3]
    expected = [plain(result) for result in sorted_results(run_task(Task(mine, "numpy")))]
    trained, sizes = recorder.Recorder.trained, list[int]()

    def refusing(be: Any, params: Any, x: Any) -> Any:
        if len(params.w) == 3 and len(sizes) == steps:
            raise MemoryError
        return LINEAR.forward(be, params, x)

    def counting(self: Any, state: Any) -> None:
        sizes.append(len(state.losses))
        trained(self, state)

    with_linear_of_numpy(monkeypatch, refusing)
    monkeypatch.setattr(recorder.Recorder, "trained", counting)
    outcome = run_task(Task(mine, "numpy"))
    assert outcome.failures == ()
    assert [plain(result) for result in sorted_results(outcome)] == expected
    assert sizes == [3] * steps + [1] * (6 - steps) + [2] * (6 - steps)


def test_without_memory_at_inference_fewer_stand_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that have seen half a batch see it again, and count it once: also the signal's power."""
    everything = study(GLOBAL.replace(SIGMA, "sigma = [0, 0.1, 1, 10]"))
    mine = tuple(unit for unit in everything if unit.phase == INFERENCE)
    arrays = run_task(Task((everything[0],), "numpy")).arrays
    expected = [plain(result) for result in run_task(Task(mine, "numpy", arrays=arrays)).results]
    refused = list[int]()

    def refusing(be: Any, params: Any, x: Any) -> Any:
        if len(x) > 2 and params.w.shape[1] == 10:
            refused.append(len(x))
            raise MemoryError
        return LINEAR.forward(be, params, x)

    with_linear_of_numpy(monkeypatch, refusing)
    outcome = run_task(Task(mine, "numpy", arrays=arrays))
    assert outcome.failures == ()
    assert [plain(result) for result in outcome.results] == expected
    assert refused == [4]


def test_a_unit_that_does_not_fit_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def refusing(*_: Any) -> Any:
        raise MemoryError

    with_linear_of_numpy(monkeypatch, refusing)
    outcome = run_task(Task((study()[0],), "numpy"))
    ((_, reason),) = outcome.failures
    assert "a single network does not fit into memory" in reason


def test_other_data_than_the_study_was_made_for() -> None:
    clean = msgspec.structs.replace(study()[0], data_checksum="0" * 64)
    outcome = run_task(Task((clean,), "numpy"))
    ((_, text),) = outcome.failures
    assert "fashion-mini has the checksum " in text
    assert "the study was made for 0000000000000000…: use the same files everywhere" in text


def test_a_worker_of_another_version() -> None:
    outcome = run_task(Task((study()[0],), "numpy", numerics=0))
    ((_, text),) = outcome.failures
    assert "the driver has numerics 0: install the same wn everywhere" in text


def test_a_clean_network_that_does_not_fit() -> None:
    mine = tuple(unit for unit in study() if unit.phase == INFERENCE)[:2]
    outcome = run_task(Task(mine, "numpy", arrays=(np.zeros(3),)))
    assert len(outcome.failures) == 2
    assert "does not have the arrays that the unit needs" in outcome.failures[0][1]


def test_a_training_that_leaves_the_range_of_its_type() -> None:
    text = TINY.replace("learning_rate = 0.01", "learning_rate = 1e30")
    outcome = run_task(Task((study(text)[0],), "numpy"))
    ((_, reason),) = outcome.failures
    assert "OutOfRange" in reason
    assert outcome.arrays == ()


def test_every_result_knows_where_it_comes_from() -> None:
    outcome = run_task(Task((study()[0],), "numba"))
    assert outcome.environment.backend == "numba"
    assert "numba" in outcome.environment.versions
    assert outcome.results[0].seconds > 0


def test_tasks_can_be_sent() -> None:
    """Through pickle, as processes and clusters do."""
    import pickle

    task = Task(tuple(study()[:1]), "numpy")
    outcome = pickle.loads(pickle.dumps(run_task(pickle.loads(pickle.dumps(task)))))
    assert plain(outcome.results[0]) == plain(run_task(task).results[0])
    assert [a.tobytes() for a in outcome.arrays] == [a.tobytes() for a in run_task(task).arrays]
