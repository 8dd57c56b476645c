"""A small study that was run once, for all tests that compare with it."""

import shutil
from pathlib import Path

import pytest

from tests.study.runs import UNITS, run
from wn.study.driver import Progress


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
