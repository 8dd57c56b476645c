"""On a machine with a GPU: all GPU tests, the parity table and the benchmark, in one call of under ten minutes.

    python -m tests.gpu.run [--out DIR] [--quick]

Everything is printed as it is found, and written to DIR; a short table comes last.
"""

import argparse
import json
import subprocess
import sys
import time
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from tests.gpu import bench, parity
from wn import backends, models
from wn.errors import WnError

PATIENCE = 240  # seconds for the tests


def main() -> None:
    """Run everything; the exit code says whether tests passed and all rows are within their limits."""
    parser = argparse.ArgumentParser(prog="python -m tests.gpu.run", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("wn-gpu"), help="folder for all figures")
    parser.add_argument("--quick", action="store_true", help="few networks, no benchmark")
    chosen = parser.parse_args()
    try:
        gpu: Any = backends.get("cupy")
    except WnError as error:
        sys.exit(str(error))
    started = time.perf_counter()
    chosen.out.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {"machine": machine(gpu)}
    for name, value in found["machine"].items():
        print(f"{name}: {value}", flush=True)
    tests = run_tests(chosen.out)
    found["tests"] = tests
    names = ("mlp-8", "lenet5") if chosen.quick else models.names()
    rows = list(printed(parity.rows(gpu, names)))
    found["parity"] = [row._asdict() | {"good": row.good} for row in rows]
    write(chosen.out, found)
    if not chosen.quick:
        with gpu.working():
            limits = bench.limits(gpu)
            print(limits, flush=True)
            found["limits"] = limits._asdict()
            found["kernels"] = [one._asdict() for one in printed(bench.kernels(gpu, limits))]
        found["populations"] = [one._asdict() for one in printed(bench.populations(gpu))]
        write(chosen.out, found)
    print(table(found, time.perf_counter() - started))
    sys.exit(not (tests["passed"] and all(row.good for row in rows)))


def machine(gpu: Any) -> dict[str, str]:
    """Return what the figures are measured on."""
    runtime, device = gpu.xp.cuda.runtime, gpu.xp.cuda.Device()
    properties = runtime.getDeviceProperties(device.id)
    versions = {"cupy": gpu.xp.__version__, "CUDA runtime": str(runtime.runtimeGetVersion())}
    for library in ("torch", "numpy"):
        try:
            versions[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            continue
    return {
        "date": datetime.now(UTC).isoformat(timespec="minutes"),
        "GPU": properties["name"].decode(),
        "memory": f"{device.mem_info[1] / 2**30:.0f} GiB",
        "driver": str(runtime.driverGetVersion()),
        **versions,
    }


def run_tests(out: Path) -> dict[str, Any]:
    """Run the GPU tests in a process of their own."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/gpu"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
        code, text = done.returncode, done.stdout + done.stderr
    except subprocess.TimeoutExpired as error:
        code, text = -1, f"{error.stdout!r}\ntests took more than {PATIENCE} s"
    (out / "tests.txt").write_text(text, encoding="utf-8")
    lines = text.strip().splitlines() or ["no output"]
    print("\n".join(lines[-30:] if code else lines[-1:]), flush=True)
    return {"passed": code == 0, "summary": lines[-1]}


def printed(rows: Any) -> Any:
    """Yield rows, and print each when it is there."""
    for row in rows:
        print(row, flush=True)
        yield row


def write(out: Path, found: dict[str, Any]) -> None:
    """Write all figures so far."""
    (out / "figures.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def table(found: dict[str, Any], seconds: float) -> str:
    """Return the short table."""
    rows = found["parity"]
    bad = [f"{row['network']} {row['noise']}" for row in rows if not row["good"]]
    lines = [
        "",
        f"{found['machine']['GPU']}, {found['machine']['date']}, {seconds:.0f} s in all",
        f"tests: {found['tests']['summary']}",
        f"parity: {len(rows) - len(bad)} of {len(rows)} rows within limits {bad or ''}",
        f"parity, largest: float64 {max(row['float64'] for row in rows):.1e}, "
        f"float32 {max(row['gpu32'] for row in rows):.1e} (NumPy {max(row['numpy32'] for row in rows):.1e}), "
        f"noise bits {'identical' if all(row['same_bits'] for row in rows) else 'DIFFERENT'}",
    ]
    if "kernels" in found:
        product, copy = found["limits"]["product"], found["limits"]["copy"]
        lines.append(f"limits: float32 products {product / 1e12:.1f} TFLOP/s, copies {copy / 1e12:.2f} TB/s")
        lines += [
            f"{one['name']:45} {1e6 * one['seconds']:9.0f} µs  {100 * one['share']:4.0f} % of {one['limit']}"
            for one in found["kernels"]
        ]
        speeds = {one["name"]: one["images"] for one in found["populations"]}
        lines += [f"{name:45} {images:12.3g} network-images/s" for name, images in speeds.items()]
        ours = max(images for name, images in speeds.items() if name.startswith(f"wn, {bench.MEMBERS} "))
        lines += [
            f"{ours / images:6.1f} × {name}" for name, images in speeds.items() if name.startswith("torch")
        ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
