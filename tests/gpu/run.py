"""On a machine with a GPU, in under ten minutes: all GPU tests, the benchmark and the parity table.

    python -m tests.gpu.run [--out DIR] [--quick]

Everything is printed as it is found, and written to DIR/figures.json; a short table comes last, whatever
fails before. The exit code is 0 if all tests passed, all rows are within their limits and nothing failed, 1
if not, and 2 without a GPU.
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
from wn.basics.errors import WnError
from wn.engine import backends, models

TESTS = 200  # seconds for the tests
PARITY, KERNELS, ALL = 400, 500, 570  # seconds from the start: what is not begun by then is missing
# The speed asked for, in units of the peers', by the size of the population
TARGETS = {"torch eager, one after the other": 10.0, f"torch.func.vmap, {bench.MEMBERS} networks": 2.0}

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
    found: Figures = {"machine": machine(gpu), "errors": []}
    for name, value in found["machine"].items():
        print(f"{name}: {value}", flush=True)
    found["tests"] = run_tests(chosen.out, ["tests/gpu"], TESTS)
    write(chosen.out, found)
    names = ("mlp-8", "lenet5") if chosen.quick else models.OF_THE_STUDY

    def left(until: float) -> float:
        return until - (time.perf_counter() - started)

    sections: dict[str, Callable[[], None]] = {
        "parity": lambda: parity_table(found, gpu, names, parity.NOISES, lambda: left(PARITY) > 0)
    }
    if not chosen.quick:
        sections |= {
            "kernels": lambda: kernel_speeds(found, gpu, lambda: left(KERNELS) > 0),
            "populations": lambda: added(found, "populations", bench.populations(gpu), lambda: left(ALL) > 0),
            "peers": lambda: peer_speeds(found, left(ALL)),
        }
    for name, work in sections.items():
        try:
            work()
        except Exception as error:  # the others are of use all the same
            failed(found, f"{name}: {type(error).__name__}: {error}")
        write(chosen.out, found)
    found["seconds"] = round(time.perf_counter() - started)
    write(chosen.out, found)
    print(table(found))
    return int(not good(found))


def machine(gpu: Any) -> dict[str, str]:
    """The GPU and the versions that the figures are measured with."""
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


def failed(found: Figures, what: str) -> None:
    """Note in a line that something failed."""
    line = " ".join(what.split())
    found["errors"].append(line)
    print(f"FAILED: {line}", flush=True)


def added(found: Figures, name: str, rows: Iterable[Any], in_time: Callable[[], bool]) -> None:
    """Add rows to the figures of that name, and print each, as they come; end when time is up."""
    figures = found.setdefault(name, [])
    for row in rows:
        print(row, flush=True)
        figures.append(row._asdict())
        if not in_time():
            failed(found, f"{name}: time was up after {len(figures)} rows")
            return


def kernel_speeds(found: Figures, gpu: Any, in_time: Callable[[], bool]) -> None:
    """Add the limits of the GPU, and the kernels measured against them."""
    with gpu.working():
        limits = bench.limits(gpu)
        print(limits, flush=True)
        found["limits"] = limits._asdict()
        added(found, "kernels", bench.kernels(gpu, limits), in_time)


def peer_speeds(found: Figures, patience: float, *options: str) -> None:
    """Add the speeds of the peers, which have a process of their own: it may fail, or take too long."""
    command = [sys.executable, "-m", "tests.gpu.peers", *options]
    found["peers"] = []
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=max(patience, 0))
        said, errors = done.stdout, done.stderr
        if done.returncode:
            failed(found, f"peers: {(errors.strip().splitlines() or ['no reason given'])[-1]}")
    except subprocess.TimeoutExpired as error:
        said = error.stdout.decode(errors="replace") if error.stdout else ""
        failed(found, f"peers: they took more than {patience:.0f} s")
    for line in said.splitlines():
        print(line, flush=True)
        if line.startswith("{"):
            found["peers"].append(json.loads(line))
        elif line.startswith("FAILED "):
            failed(found, f"peers: {line.removeprefix('FAILED ')}")


def parity_table(
    found: Figures, be: Any, names: Iterable[str], kinds: Iterable[str], in_time: Callable[[], bool]
) -> None:
    """Add the rows of the parity table, and which are missing because time was up or something failed."""
    cases = [(name, kind) for name in names for kind in kinds]
    found |= {"parity": [], "missing": [" ".join(case) for case in cases]}
    for case in cases:
        if not in_time():
            return
        row = parity.row(be, *case)
        print(row, flush=True)
        found["parity"].append(row._asdict() | {"good": row.good})
        found["missing"].pop(0)


def write(out: Path, found: Figures) -> None:
    """Write all figures so far."""
    (out / "figures.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def good(found: Figures) -> bool:
    """Whether all tests passed, nothing failed, and all rows are there and within their limits."""
    rows = found["parity"]
    whole = found["tests"]["passed"] and not found["errors"] and not found["missing"]
    return whole and bool(rows) and all(row["good"] for row in rows)


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
        *_speed_lines(found),
        *(f"FAILED: {error}" for error in found["errors"]),
    ]
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
    if "limits" in found:
        product, copy = found["limits"]["product"], found["limits"]["copy"]
        yield f"limits: float32 products {product / 1e12:.1f} TFLOP/s, copies {copy / 1e12:.2f} TB/s"
    for one in found.get("kernels", []):
        yield f"{one['name']:45} {1e6 * one['seconds']:9.0f} µs {100 * one['share']:5.0f} % of {one['limit']}"
    populations, peers = found.get("populations", []), found.get("peers", [])
    for one in (*populations, *peers):
        yield f"{one['name']:45} {one['images']:12.4g} network-images/s"
    ours = [one["images"] for one in populations if one["name"].startswith(f"wn, {bench.MEMBERS} networks")]
    for one in peers if ours else []:
        times = max(ours) / one["images"]
        asked = TARGETS.get(one["name"])
        verdict = f" (asked: {asked:g}, {'reached' if times >= asked else 'MISSED'})" if asked else ""
        yield f"{times:8.1f} × {one['name']}{verdict}"


if __name__ == "__main__":
    sys.exit(main())
