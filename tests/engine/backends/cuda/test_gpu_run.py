"""What measures on a GPU, as far as it goes without one: on the stand-in, and PyTorch on the CPU."""

import json
import sys
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest

from tests import gpu
from tests.engine.backends.cuda import fake_cupy, needs_compiler
from tests.gpu import bench, parity, run
from wn.basics.errors import WnError
from wn.engine import backends
from wn.engine.backends.cuda import device as cuda_device
from wn.engine.backends.plain.base import Backend

FEW = ("none", "mixed, add first", "three executions")


@pytest.fixture(scope="module")
def be() -> Any:
    """The backend on the stand-in."""
    return fake_cupy.backend()


# ---- parity -----------------------------------------------------------------------------------------------


@needs_compiler
def test_the_stand_in_is_within_the_limits_of_the_parity_table(be: Any) -> None:
    rows = list(parity.rows(be, ["mlp-8"]))
    assert [row.noise for row in rows] == list(parity.NOISES)
    assert all(row.good for row in rows)
    assert all(0 < row.float64 < 1e-12 < row.numpy32 < 1e-3 for row in rows)


@needs_compiler
def test_products_of_less_precision_are_seen_by_the_parity_table(
    be: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    product = be.product
    monkeypatch.setattr(be, "product", lambda a, b, c, **how: product(a, b * (1 + 1e-3), c, **how))
    row = parity.row(be, "mlp-8", "none")
    assert row.same_bits
    assert not row.good


def test_an_error_by_chance_is_none_of_the_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    """One input of three may have it, with any size; not two, and never in float64."""

    def of_input(float64: dict[int, float], float32: dict[int, float]) -> parity.Row:
        def one(be: Backend, name: str, kind: str, seed: int) -> parity.Row:
            return parity.Row(name, kind, float64.get(seed, 1e-15), float32.get(seed, 1e-6), 1e-6, True)

        monkeypatch.setattr(parity, "row_of", one)
        return parity.row(backends.get("numpy"), "mlp-8", "none")

    assert of_input({}, {3: 0.1}).good
    assert not of_input({}, {3: 1e-3, 5: 1e-3}).good
    assert not of_input({3: 1e-8}, {}).good


def test_other_draws_are_seen_by_the_parity_table(monkeypatch: pytest.MonkeyPatch) -> None:
    numpy = backends.get("numpy")
    draws = Backend.standard_draws
    other = type(numpy)()
    monkeypatch.setattr(other, "standard_draws", lambda *of: draws(numpy, *of) * np.float32(2))
    row = parity.row(other, "mlp-8", "none")
    assert not row.same_bits
    assert not row.good


def test_a_difference_is_relative_to_the_largest_value() -> None:
    wanted = [np.array([4.0]), np.array([2.0, -8.0]), np.array([1e-9])]
    found = [np.array([4.4]), np.array([2.0, -6.0]), np.array([0.0])]
    assert parity.difference(found, wanted) == 0.25
    assert parity.difference([wanted[0], wanted[1], found[2]], wanted) == pytest.approx(1e-9 / 8e-3)


# ---- benchmark --------------------------------------------------------------------------------------------


@needs_compiler
def test_kernels_are_measured_against_the_limits(be: Any) -> None:
    limits = bench.limits(be, 16, 1 << 10)
    assert min(limits) > 0
    small = (bench.Convolved("small", 2, 1, 3, 6, 3, 1, shared=True),)
    rows = list(bench.kernels(be, limits, 2, 3, small, repeats=2))
    names = [row.name for row in rows]
    assert len(set(names)) == len(names) > 15
    assert all(row.seconds > 0 and row.share > 0 and row.limit in limits._fields for row in rows)


@needs_compiler
def test_populations_are_timed_with_graphs_and_without(be: Any) -> None:
    found = list(bench.populations(be, sizes=(1,), batch=2, batches=3))
    assert [one.name for one in found] == [
        "wn, 1 networks, launch by launch",
        "wn, 1 networks, CUDA graph",
    ]
    assert all(one.images > 0 for one in found)
    assert (be.graphs, be.not_recorded) == (True, 0)


def test_peers_are_timed_on_any_device_of_pytorch() -> None:
    pytest.importorskip("torch", reason="the peers are PyTorch's")
    from tests.gpu import peers

    found = list(peers.speeds(peers.Setting("cpu", batch=4, steps=2), members=3))
    assert [one.name for one in found] == ["torch eager, one after the other", "torch.func.vmap, 3 networks"]
    assert all(one.images > 0 for one in found)


# ---- the call ---------------------------------------------------------------------------------------------


def figures() -> run.Figures:
    row = {"network": "mlp-8", "noise": "none", "float64": 1e-14, "float32": 2e-6, "numpy32": 1e-6}
    return {
        "machine": {"GPU": "X", "driver": "1.2", "cupy": "14", "date": "2026-01-01"},
        "tests": {"passed": True, "summary": "9 passed in 3 s"},
        "parity": [row | {"same_bits": True, "good": True}, row | {"same_bits": True, "good": True}],
        "missing": [],
        "errors": [],
        "seconds": 500,
        "limits": {"product": 6e13, "copy": 4e12},
        "kernels": [{"name": "ReLU", "seconds": 2e-5, "share": 0.75, "limit": "copy"}],
        "populations": [
            {"name": "wn, 64 networks, CUDA graph", "images": 3e6},
            {"name": "wn, 256 networks, launch by launch", "images": 9e5},
            {"name": "wn, 256 networks, CUDA graph", "images": 1e6},
        ],
        "peers": [
            {"name": "torch eager, one after the other", "images": 4e4},
            {"name": "torch CUDA graph, one after the other", "images": 1e5},
            {"name": "torch.func.vmap, 256 networks", "images": 6.25e5},
        ],
    }


def test_the_table_says_what_was_found() -> None:
    found = figures()
    lines = run.table(found).splitlines()[1:]
    assert lines[0] == "X, driver 1.2, CuPy 14, 2026-01-01, 500 s in all"
    assert "tests: 9 passed in 3 s" in lines
    assert "parity: 2 of 2 rows within limits" in lines
    assert "noise bits: identical" in lines
    assert "limits: float32 products 60.0 TFLOP/s, copies 4.00 TB/s" in lines
    assert any(line.split() == ["ReLU", "20", "µs", "75", "%", "of", "copy"] for line in lines)
    assert [line.strip() for line in lines[-3:]] == [
        "25.0 × torch eager, one after the other (asked: 10, reached)",
        "10.0 × torch CUDA graph, one after the other",
        "1.6 × torch.func.vmap, 256 networks (asked: 2, MISSED)",
    ]
    assert run.good(found)


def test_the_table_names_what_is_wrong() -> None:
    found = figures()
    found["parity"][1] |= {"same_bits": False, "good": False}
    found["missing"] = ["vgg11 mixed"]
    lines = run.table(found).splitlines()
    assert "parity: 1 of 3 rows within limits" in lines
    assert "parity, not within limits: mlp-8 none" in lines
    assert "parity, no time for: vgg11 mixed" in lines
    assert "noise bits: DIFFERENT" in lines


def test_the_table_comes_without_what_failed() -> None:
    found = figures()
    for name in ("limits", "kernels", "populations"):
        del found[name]
    run.failed(found, "kernels: OutOfMemoryError: no\nmemory")
    lines = run.table(found).splitlines()
    assert lines[-1] == "FAILED: kernels: OutOfMemoryError: no memory"
    assert not any("asked" in line for line in lines)  # there is nothing to compare


@pytest.mark.parametrize("what", ["tests", "parity", "missing", "nothing", "errors"])
def test_all_has_to_be_good(what: str) -> None:
    found = figures()
    if what == "tests":
        found["tests"]["passed"] = False
    elif what == "parity":
        found["parity"][0]["good"] = False
    elif what == "missing":
        found["missing"] = ["vgg11 mixed"]
    elif what == "errors":
        found["errors"] = ["peers: no CUDA"]
    else:
        found["parity"] = []
    assert not run.good(found)


def test_rows_that_there_is_no_time_for_are_missing() -> None:
    left = iter([True, False])
    found: run.Figures = {}
    run.parity_table(found, backends.get("numpy"), ["mlp-8"], FEW, lambda: next(left))
    assert [row["noise"] for row in found["parity"]] == ["none"]
    assert found["missing"] == ["mlp-8 mixed, add first", "mlp-8 three executions"]


def test_tests_are_run_in_a_process_with_limited_patience(tmp_path: Path) -> None:
    path = tmp_path / "test_some.py"
    path.write_text("def test_one():\n    pass\n")
    found = run.run_tests(tmp_path, [str(path)], 60)
    assert found["passed"]
    assert "1 passed" in found["summary"]
    path.write_text("import time\ndef test_one():\n    time.sleep(60)\n")
    found = run.run_tests(tmp_path, [str(path)], 0.2)
    assert found == {"passed": False, "summary": "tests took more than 0.2 s"}
    assert "more than 0.2 s" in (tmp_path / "tests.txt").read_text()


def test_peers_that_fail_leave_the_others() -> None:
    """PyTorch's CPU build has no CUDA: each way says so in a line."""
    torch = pytest.importorskip("torch", reason="the peers are PyTorch's")
    if torch.cuda.is_available():
        pytest.skip("CUDA is there")
    found: run.Figures = {"errors": []}
    run.peer_speeds(found, 300)
    assert found["peers"] == []
    assert len(found["errors"]) == 3
    assert all(error.startswith("peers: torch") for error in found["errors"])


def test_peers_are_measured_in_a_process_of_their_own() -> None:
    pytest.importorskip("torch", reason="the peers are PyTorch's")
    found: run.Figures = {"errors": []}
    run.peer_speeds(found, 300, "--device", "cpu", "--batch", "4", "--steps", "2", "--members", "3")
    assert found["errors"] == []
    assert [one["name"] for one in found["peers"]] == [
        "torch eager, one after the other",
        "torch.func.vmap, 3 networks",
    ]


def test_peers_have_limited_patience() -> None:
    found: run.Figures = {"errors": []}
    run.peer_speeds(found, -1)  # there is no time left
    assert found == {"errors": ["peers: they took more than -1 s"], "peers": []}


@needs_compiler
def test_the_whole_call_on_the_stand_in(
    be: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(backends, "get", lambda name: be)
    monkeypatch.setattr(run, "run_tests", lambda *_: {"passed": True, "summary": "1 passed"})
    monkeypatch.setattr(parity, "NOISES", {"additive": parity.NOISES["additive"]})
    assert run.main(["--quick", "--out", str(tmp_path / "found")]) == 0
    written = json.loads((tmp_path / "found" / "figures.json").read_text())
    assert [row["network"] for row in written["parity"]] == ["mlp-8", "lenet5"]
    shown = capsys.readouterr().out.splitlines()
    assert "GPU: stand-in" in shown
    assert "parity: 2 of 2 rows within limits" in shown
    monkeypatch.setattr(run, "run_tests", lambda *_: {"passed": False, "summary": "1 failed"})
    assert run.main(["--quick", "--out", str(tmp_path / "found")]) == 1


def test_where_libraries_are_missing_the_tests_are_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_device, "missing", lambda: None)
    monkeypatch.setitem(sys.modules, "cupy", None)  # importing it fails
    assert "backend cupy can't be used: CuPy does not find what it needs of CUDA" in str(gpu.missing())


def test_without_a_gpu_it_ends_at_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def missing(name: str) -> NoReturn:
        raise WnError(f"backend {name} can't be used: no GPU")

    monkeypatch.setattr(backends, "get", missing)
    assert run.main(["--out", str(tmp_path / "found")]) == 2
    assert capsys.readouterr().err == "wn: backend cupy can't be used: no GPU\n"
    assert not (tmp_path / "found").exists()
