"""Numbers of executions for each site with noise, in walks and trainings."""

from pathlib import Path
from typing import Any

import pytest

import wn
from tests.study.runs import SIGMA, TINY, run
from wn.basics.errors import WnError
from wn.study.tables.results import read_table

SMALL: dict[str, Any] = {"model": "mlp-8", "train_limit": 300, "test_limit": 200, "epochs": 2, "lr": 0.01}
SMALL |= {"noise": "additive", "sigma": "0.5,2", "backend": "numpy", "threads": 1}
MAP = [5, 1, 3, 1, 2, 1, 1, 4]


def counts(**settings: Any) -> list[int]:
    found: list[int] = wn.walk(**(SMALL | settings)).curves["correct"].tolist()
    return found


@pytest.mark.parametrize("execution", ["single", "each"])
def test_a_map_is_that_of_a_study(tmp_path: Path, execution: str) -> None:
    """Bit by bit, in training and at inference."""
    entry = f'where = "global"\nrepetition_maps = [{MAP}]\nexecution = "{execution}"'
    text = TINY.replace(SIGMA, "sigma = [0.5, 2]").replace('where = ["input", "relu2"]', entry)
    run(tmp_path, text.replace("test_limit = 100", "test_limit = 200").replace("repeats = 2", "repeats = 1"))
    study = {phase: read_table(tmp_path, phase=phase)["correct"] for phase in ("inference", "training")}
    for phase, correct in study.items():
        found = counts(where="global", repetitions=MAP, execution=execution, phase=phase)
        assert found == correct.tolist()
    assert counts(where="global", phase="inference") != study["inference"].tolist()


@pytest.mark.parametrize("several", [[3] * 8, (3,) * 8, "3,3,3,3,3,3,3,3", "3"])
def test_the_same_number_everywhere_is_one_number(several: Any) -> None:
    settings = {"where": "global", "phase": "inference", "execution": "each"}
    assert counts(repetitions=several, **settings) == counts(repetitions=3, **settings)


def test_each_site_of_a_walk_has_its_own() -> None:
    """In the order of --where, for sites one after the other as for a map."""
    both = counts(where="relu2,0", repetitions="4,1", phase="inference")
    assert both == counts(where="relu2", repetitions=4, phase="inference") + counts(
        where="0", phase="inference"
    )
    mapped = {"phase": "inference", "noise": "multiplicative"}
    one = counts(where="relu2:1,0:1", repetitions="9,1", **mapped)
    assert one == counts(where="0:1,relu2:1", repetitions="1,9", **mapped)
    assert one != counts(where="0:1,relu2:1", repetitions="9,1", **mapped)


def test_a_training_has_them_too_and_records_say_so() -> None:
    settings = SMALL | {"where": "0,relu1", "sigma": 2.0}
    same = wn.train(**settings, repetitions=[3, 3]).correct
    assert same == wn.train(**settings, repetitions=3).correct
    other = wn.train(**settings, repetitions=(30, 1))
    assert other.correct != same
    assert other.record["asked"]["repetitions"] == [30, 1]
    assert wn.train(**other.record["asked"]).correct == other.correct


@pytest.mark.parametrize(
    ("repetitions", "message"),
    [
        (
            [1, 2],
            "repetitions has 2 numbers: allowed are one for all sites, or 8, one for each site with noise",
        ),
        ([1] * 9, "repetitions has 9 numbers"),
        ([], "repetitions has 0 numbers"),
        ("1,2,", "repetitions '1,2,': a whole number is missing; write R, or one for each site: 5,1,3"),
        ("two", "repetitions 'two': 'two' is no whole number"),
        ("1.5", "repetitions '1.5'"),
        ([0, *MAP[1:]], "repetitions is 0: it must be at least 1"),
        (0, "repetitions is 0: it must be at least 1"),
        ([1.5] * 8, r"setting repetitions\[0\]: expected `int`, got `float`"),
        (True, "setting repetitions: expected"),
    ],
)
def test_mistakes(repetitions: Any, message: str) -> None:
    with pytest.raises(WnError, match=message):
        wn.walk(**SMALL, where="global", repetitions=repetitions)
