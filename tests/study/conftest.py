"""A small study that was run once, for all tests that compare with it."""

import shutil
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import pytest

from tests.study.runs import UNITS, run
from wn.data import catalogue
from wn.data.dataset import Dataset
from wn.study.driver import Progress


@pytest.fixture(autouse=True, scope="session")
def _data_in_memory() -> Iterator[None]:
    """Have the data of the package read once, not by each of hundreds of small studies."""
    load = catalogue.load
    remembered = lru_cache(load)

    def loaded(name: str, data_dir: str | Path | None = None) -> Dataset:
        return remembered(name) if name == "fashion-mini" and data_dir is None else load(name, data_dir)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(catalogue, "load", loaded)
        yield


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny study, run in one go."""
    folder = tmp_path_factory.mktemp("study") / "whole"
    assert run(folder) == Progress(UNITS, 0, UNITS, 1.0)
    return folder


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    shutil.copytree(whole, tmp_path / "copy")
    return tmp_path / "copy"
