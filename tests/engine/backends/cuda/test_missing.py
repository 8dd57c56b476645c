"""Without CuPy, a GPU or a library of CUDA: one line that says which, and exit code 2."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from tests.cli.command_line import one_line, run
from tests.engine.backends.cuda import fake_cupy
from tests.study.runs import TINY
from wn.basics.errors import WnError
from wn.engine import backends
from wn.engine.backends.cuda import device as cuda_device
from wn.study.execution import executors


def without(module: str, message: str, **parts: Any) -> Callable[[pytest.MonkeyPatch], None]:
    """A patch that puts a CuPy in place of which one part raises an error."""

    def fail(*_: Any) -> Any:
        raise ImportError(f"{message}\nand more lines")

    def put(patch: pytest.MonkeyPatch) -> None:
        modules = fake_cupy.modules()
        cuda: Any = modules["cupy.cuda"]
        setattr(cuda, module, SimpleNamespace(**dict.fromkeys(parts, fail)))
        for name, found in modules.items():
            patch.setitem(sys.modules, name, found)
        patch.setattr(cuda_device, "gpu_count", lambda: 1)

    return put


def no_cupy(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(cuda_device, "find_spec", lambda name: None)


def no_gpu(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(cuda_device, "find_spec", lambda name: name)
    patch.setattr(cuda_device, "gpu_count", lambda: 0)


CASES = [
    (no_cupy, "CuPy is not installed: pip install 'walking-noise[gpu]' for CUDA 12"),
    (no_gpu, "no NVIDIA GPU answers"),
    (without("nvrtc", "libnvrtc.so.13 is not there", getVersion=1), "(libnvrtc.so.13 is not there): pip"),
    (
        without("runtime", "driver too old", getDeviceCount=1),
        "CuPy does not find what it needs of CUDA (driver too old)",
    ),
]


@pytest.fixture(autouse=True)
def nothing_known() -> None:
    """Let each test ask anew whether there is a GPU."""
    backends._made.cache_clear()
    backends._fastest.cache_clear()
    cuda_device.gpu_count.cache_clear()


@pytest.mark.parametrize(("put", "message"), CASES, ids=["cupy", "gpu", "nvrtc", "runtime"])
@pytest.mark.parametrize("name", ["cupy", "cupy-tf32"])
def test_what_is_missing_is_said_in_one_line(
    name: str, put: Callable[[pytest.MonkeyPatch], None], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(monkeypatch)
    with pytest.raises(WnError) as error:
        backends.get(name)
    assert str(error.value).startswith(f"backend {name} can't be used: ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_cublas_that_is_not_there_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """CuPy loads it when it is first asked for, as an attribute."""
    without("nvtx", "")(monkeypatch)
    del sys.modules["cupy.cuda"].cublas

    def late(name: str) -> Any:
        raise ImportError(f"{name}: no libcublasLt.so.13")

    cuda: ModuleType = sys.modules["cupy.cuda"]
    monkeypatch.setattr(cuda, "__getattr__", late, raising=False)
    with pytest.raises(WnError, match=r"\(cublas: no libcublasLt.so.13\): pip"):
        backends.get("cupy")


@pytest.mark.parametrize("command", ["walk", "train"])
@pytest.mark.parametrize(("put", "message"), CASES[:2], ids=["cupy", "gpu"])
def test_a_command_ends_at_once_with_one_line_and_exit_code_2(
    command: str,
    put: Callable[[pytest.MonkeyPatch], None],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    put(monkeypatch)
    out = str(tmp_path / "out")
    outcome = run(command, "--backend", "cupy", "--dataset", "fashion-mini", "--out", out)
    assert outcome.code == 2
    assert message in one_line(outcome)


@pytest.mark.parametrize("name", ["cupy", "cupy-tf32"])
@pytest.mark.parametrize("words", [("run", "walking-quick", "--out"), ("retry",)], ids=["run", "retry"])
def test_a_study_with_workers_here_ends_at_once_and_makes_no_folder(
    words: tuple[str, ...], name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    no_gpu(monkeypatch)
    outcome = run("study", *words, tmp_path / "out", "--backend", name)
    assert outcome.code == 2
    assert one_line(outcome).startswith(f"wn: backend {name} can't be used: no NVIDIA GPU answers")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("flag", ["--scheduler", "--scheduler-file"])
def test_workers_of_a_cluster_may_have_the_gpu_that_this_machine_has_not(
    flag: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def asked(*_: Any) -> Any:
        raise WnError("the cluster was asked")

    no_gpu(monkeypatch)
    monkeypatch.setattr(executors, "cluster", asked)
    file, out = tmp_path / "study.toml", tmp_path / "out"
    file.write_text(TINY)
    outcome = run("study", "run", file, "--out", out, "--backend", "cupy", flag, "there")
    assert outcome.code == 2
    assert outcome.err.splitlines()[-1] == "wn: the cluster was asked"


def test_auto_takes_numba_where_the_gpu_is_of_no_use(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        no_gpu(patch)
        assert backends.get("auto").name == "numba"
        assert caplog.records == []
    backends._fastest.cache_clear()
    without("nvrtc", "no libnvrtc", getVersion=1)(monkeypatch)
    assert backends.get("auto").name == "numba"
    assert ["numba is used instead" in record.message for record in caplog.records] == [True]
    backends._fastest.cache_clear()


def test_auto_takes_a_gpu_that_answers() -> None:
    with fake_cupy.installed():
        assert backends.get("auto").name == "cupy"
    backends._fastest.cache_clear()
    backends._made.cache_clear()


def test_a_record_names_the_cupy_that_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_device, "DISTRIBUTIONS", ("cupy-of-nobody", "numpy"))
    assert cuda_device.distributions() == ("numpy",)


def test_a_machine_without_a_driver_has_no_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_driver(name: str) -> Any:
        raise OSError(name)

    monkeypatch.setattr(cuda_device.ctypes, "CDLL", no_driver)
    assert cuda_device.gpu_count() == 0


@pytest.mark.parametrize(("failing", "count"), [("", 2), ("cuInit", 0), ("cuDeviceGetCount", 0)])
def test_the_driver_is_asked_how_many_gpus_there_are(
    failing: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def counted(found: Any) -> int:
        found._obj.value = 2
        return int(failing == "cuDeviceGetCount")

    driver = SimpleNamespace(cuInit=lambda flags: int(failing == "cuInit"), cuDeviceGetCount=counted)
    monkeypatch.setattr(cuda_device.ctypes, "CDLL", lambda name: driver)
    assert cuda_device.gpu_count() == count
