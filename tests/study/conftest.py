"""A small study that was run once, for all tests that compare with it."""

import shutil
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import pytest

from tests.engine.backends.cuda import fake_cupy, needs_compiler
from tests.study.runs import UNITS, run
from wn.data import catalogue
from wn.data.dataset import Dataset
from wn.engine import backends
from wn.engine.backends.cuda import device as cuda_device
from wn.study.execution.driver import Progress
from wn.study.execution.environment import environment


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


@pytest.fixture(params=["numpy", "numba", pytest.param("cupy", marks=needs_compiler)])
def backend(request: pytest.FixtureRequest) -> str:
    """The name of each backend in turn, CuPy's on the stand-in for a GPU."""
    if request.param == "cupy":
        request.getfixturevalue("gpu")
    return str(request.param)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let this machine have CuPy and a GPU: the stand-in for them."""
    made, get = lru_cache(fake_cupy.backend), backends.get

    def found(name: str = "auto") -> backends.Backend:
        return made(name == "cupy-tf32") if backends.on_gpu(name) else get(name)

    monkeypatch.setattr(backends, "get", found)
    monkeypatch.setattr(cuda_device, "missing", lambda: None)
    environment.cache_clear()
    yield
    environment.cache_clear()


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this machine have none."""
    monkeypatch.setattr(cuda_device, "missing", lambda: "no NVIDIA GPU answers")
