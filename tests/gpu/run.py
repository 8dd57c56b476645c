"""On a machine with a GPU, in under ten minutes: all GPU tests, the benchmark and the parity table.

    python -m tests.gpu.run [--out DIR] [--quick]

Everything is printed as it is found, and written to DIR/figures.json; a short table comes last. The exit code
is 0 if all tests passed and all rows are within their limits, 1 if not, and 2 without a GPU.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from tests.gpu import bench, parity
from wn import backends, models
from wn.errors import WnError

ALL = 570  # seconds: parity rows that are not begun by then are missing
TESTS = 240  # seconds for the tests
TARGETS = {"torch eager": 10.0, "torch.func.vmap": 2.0}  # how many times their speed is asked for

Figures = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run everything; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.gpu.run", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("wn-gpu"), help="folder for all figures")
    parser.add_argument("--quick", action="store_true", help="two networks, no benchmark")
    chosen = parser.parse_args(arguments)
    try:
        gpu: Any = backends.get("cupy")
    except WnError as error:
        print(f"wn: {error}", file=sys.stderr)
        return 2
    started = time.perf_counter()
    chosen.out.mkdir(parents=True, exist_ok=True)
    found: Figures = {"machine": machine(gpu)}
    for name, value in found["machine"].items():
        print(f"{name}: {value}", flush=True)
    found["tests"] = run_tests(chosen.out, ["tests/gpu"], TESTS)
    write(chosen.out, found)
    if not chosen.quick:
        for name, figures in measured(gpu):
            found[name] = figures
            write(chosen.out, found)
    names = ("mlp-8", "lenet5") if chosen.quick else models.names()
    found |= parity_table(gpu, names, parity.NOISES, lambda: time.perf_counter() - started < ALL)
    found["seconds"] = round(time.perf_counter() - started)
    write(chosen.out, found)
    print(table(found))
    return int(not good(found))


def machine(gpu: Any) -> dict[str, str]:
    """Return what the figures are measured on."""
    runtime, device = gpu.xp.cuda.runtime, gpu.xp.cuda.Device()
    found = {
        "date": datetime.now(UTC).isoformat(timespec="minutes"),
        "GPU": runtime.getDeviceProperties(device.id)["name"].decode(),
        "memory": f"{device.mem_info[1] / 2**30:.0f} GiB",
        "driver": driver(),
        "CUDA of the driver": str(runtime.driverGetVersion()),
        "CUDA runtime": str(runtime.runtimeGetVersion()),
        "cupy": gpu.xp.__version__,
    }
    for library in ("torch", "numpy"):
        try:
            found[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            found[library] = "not installed"
    return found


def driver() -> str:
    """Return the version of NVIDIA's driver, as nvidia-smi gives it."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown: nvidia-smi does not answer"


def run_tests(out: Path, paths: list[str], patience: float) -> Figures:
    """Run tests in a process of their own; return whether they passed, and pytest's last line."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *paths]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=patience)
        code, text = done.returncode, done.stdout + done.stderr
    except subprocess.TimeoutExpired as error:
        so_far = error.stdout.decode(errors="replace") if error.stdout else ""
        code, text = -1, f"{so_far}\ntests took more than {patience:g} s"
    (out / "tests.txt").write_text(text, encoding="utf-8")
    lines = text.strip().splitlines() or ["no output"]
    print("\n".join(lines[-30:] if code else lines[-1:]), flush=True)
    return {"passed": code == 0, "summary": lines[-1].strip("= ")}


def measured(gpu: Any) -> Iterator[tuple[str, Any]]:
    """Yield the figures of the benchmark by name."""
    with gpu.working():
        limits = bench.limits(gpu)
        print(limits, flush=True)
        yield "limits", limits._asdict()
        yield "kernels", printed(bench.kernels(gpu, limits))
    yield "populations", printed(bench.populations(gpu))
    try:
        from tests.gpu import peers
    except ImportError as error:
        print(f"no peers: {error}", flush=True)
        yield "peers", []
    else:
        yield "peers", printed(peers.speeds())


def parity_table(
    be: Any, names: Iterable[str], kinds: Iterable[str], in_time: Callable[[], bool]
) -> dict[str, Any]:
    """Return the rows of the parity table, and which are missing because time was up."""
    cases = [(name, kind) for name in names for kind in kinds]
    rows = []
    for case in cases:
        if not in_time():
            break
        rows.append(parity.row(be, *case))
        print(rows[-1], flush=True)
    figures = [row._asdict() | {"good": row.good} for row in rows]
    return {"parity": figures, "missing": [" ".join(case) for case in cases[len(rows) :]]}


def printed(rows: Iterable[Any]) -> list[Figures]:
    """Return rows as they are written, and print each when it is there."""
    found = []
    for row in rows:
        print(row, flush=True)
        found.append(row._asdict())
    return found


def write(out: Path, found: Figures) -> None:
    """Write all figures so far."""
    (out / "figures.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def good(found: Figures) -> bool:
    """Return whether all tests passed, and all rows are there and within their limits."""
    rows = found["parity"]
    return found["tests"]["passed"] and not found["missing"] and bool(rows) and all(r["good"] for r in rows)


# ---- the short table --------------------------------------------------------------------------------------


def table(found: Figures) -> str:
    """Return the short table."""
    machine = found["machine"]
    lines = [
        "",
        f"{machine['GPU']}, driver {machine['driver']}, CuPy {machine['cupy']}, {machine['date']}, "
        f"{found['seconds']} s in all",
        f"tests: {found['tests']['summary']}",
        *_parity_lines(found["parity"], found["missing"]),
    ]
    if "kernels" in found:
        lines += _speed_lines(found)
    return "\n".join(lines)


def _parity_lines(rows: list[Figures], missing: list[str]) -> Iterator[str]:
    bad = [f"{row['network']} {row['noise']}" for row in rows if not row["good"]]
    yield f"parity: {len(rows) - len(bad)} of {len(rows) + len(missing)} rows within limits"
    if bad:
        yield f"parity, not within limits: {', '.join(bad)}"
    if missing:
        yield f"parity, no time for: {', '.join(missing)}"
    if rows:
        float64, float32, numpy32 = (max(r[name] for r in rows) for name in ("float64", "float32", "numpy32"))
        bits = "identical" if all(row["same_bits"] for row in rows) else "DIFFERENT"
        yield f"parity, largest: float64 {float64:.1e}, float32 {float32:.1e} (NumPy's own {numpy32:.1e})"
        yield f"noise bits: {bits}"


def _speed_lines(found: Figures) -> Iterator[str]:
    product, copy = found["limits"]["product"], found["limits"]["copy"]
    yield f"limits: float32 products {product / 1e12:.1f} TFLOP/s, copies {copy / 1e12:.2f} TB/s"
    for one in found["kernels"]:
        yield f"{one['name']:45} {1e6 * one['seconds']:9.0f} µs {100 * one['share']:5.0f} % of {one['limit']}"
    for one in (*found["populations"], *found["peers"]):
        yield f"{one['name']:45} {one['images']:12.4g} network-images/s"
    ours = max(one["images"] for one in found["populations"])
    for one in found["peers"]:
        times = ours / one["images"]
        asked = [target for name, target in TARGETS.items() if one["name"].startswith(name)]
        verdict = f" (asked: {asked[0]:g}, {'reached' if times >= asked[0] else 'MISSED'})" if asked else ""
        yield f"{times:8.1f} × {one['name']}{verdict}"


if __name__ == "__main__":
    sys.exit(main())
