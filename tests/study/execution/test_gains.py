"""The allocation "gains" in a study that is run: its maps, its record, and what happens when it goes on."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from tests.study.runs import TINY, run
from wn.analysis.repetitions import optimal
from wn.data import catalogue
from wn.engine import backends
from wn.engine.files import checkpoint
from wn.study.execution.clean_gains import GAINS
from wn.study.execution.clean_networks import FOLDER
from wn.study.report.whole import report
from wn.study.store.rows import EXPLICIT
from wn.study.store.writer import Store
from wn.study.tables.results import read_table
from wn.theory.gains import site_gains

MAPS = """
[[noise]]
kind = "multiplicative"
sigma = 0.5
where = "global"
phases = "inference"
allocation = ["uniform", "gains"]
budget = ["3x"]
"""
STUDY = TINY.replace('phases = "', 'phases = "') + MAPS


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("gains") / "study"
    assert run(found, STUDY).failed == 0
    return found


def meta(folder: Path) -> dict[str, str]:
    with Store.read(folder) as store:
        return store.meta


def test_the_map_is_that_of_the_clean_networks_on_disk(folder: Path) -> None:
    data = catalogue.load("fashion-mini").limited(300, 100)
    files = sorted((folder / FOLDER).glob("*.safetensors"))
    assert len(files) == 2
    loaded = [checkpoint.load(path) for path in files]
    gains = [
        site_gains(backends.get("numpy"), one.network, one.population, data).multiplicative for one in loaded
    ]
    c = np.sqrt(np.concatenate(gains).mean(axis=0))
    sites = len(loaded[0].network.site_names)
    expected = " ".join(map(str, optimal(1 / c, 3 * sites)))
    rows = read_table(folder)
    by_label = {row["label"]: row["repetitions"] for row in rows if row["noise"] == "multiplicative"}
    assert by_label == {"uniform": "3", "gains": expected}


def test_the_record_has_every_network_and_site(folder: Path) -> None:
    (record,) = msgspec.json.decode(meta(folder)[GAINS])
    assert (record["dataset"], record["model"], record["images"]) == ("fashion-mini", "mlp-8", 100)
    assert np.shape(record["additive"]) == (2, len(record["sites"]))
    assert [repeat[-1] for repeat in record["additive"]] == [2, 2]


def test_a_study_that_goes_on_keeps_its_maps_even_without_its_networks(folder: Path) -> None:
    before = meta(folder)
    for path in (folder / FOLDER).glob("*.safetensors"):
        path.unlink()
    assert run(folder, STUDY).total == 0
    assert meta(folder) == before
    larger = STUDY.replace('["3x"]', '["3x", "4x"]')  # trains the networks again, which are the same
    assert run(folder, larger).failed == 0
    after = meta(folder)
    assert after[GAINS] == before[GAINS]
    assert after[EXPLICIT] != before[EXPLICIT]


def test_the_report_tells_of_them(folder: Path) -> None:
    page = report(folder)
    assert "Accuracy against budget" in page
    assert "gains" in page
