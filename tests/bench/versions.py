"""Time rows of the benchmark with two checkouts of the project, in turns:

    python tests/bench/versions.py --before DIR [--after DIR] [--rows PATTERN…]

Each checkout has a process of its own, with its own copy of this file, which builds a row with its
`tests.bench` and `wn` and waits for its turn, so what disturbs the machine for a while disturbs both. Prints
seconds of what is timed, in long rows a part of an epoch, as medians and min–max, and the median of the
paired ratios before/after with its 95 % interval: above 1 the later version is the faster one.
"""

import argparse
import json
import math
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import IO, Any

ROOT = Path(__file__).resolve().parents[2]
WORKER = "--worker"
PAUSE = 0.1  # seconds
LINE = "{:30} {:>9}  {:17}  {:>9}  {:17}  {}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the rows in turns, print a line for each, and write the JSON."""
    from tests.bench.timing import geometric_mean

    parser = argparse.ArgumentParser(prog="python tests/bench/versions.py", description=__doc__)
    parser.add_argument("--before", type=Path, required=True, metavar="DIR")
    parser.add_argument("--after", type=Path, default=ROOT, metavar="DIR", help="default: this checkout")
    parser.add_argument("--rows", nargs="+", metavar="PATTERN", help="default: all")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--backend", default="auto", help="of both; default: auto")
    parser.add_argument("--quick", action="store_true", help="tiny rows: to see that they run")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write all figures")
    chosen = parser.parse_args(arguments)
    options = ["--backend", chosen.backend, *(["--quick"] if chosen.quick else [])]
    entries: list[dict[str, Any]] = []
    with ExitStack() as stack:
        before, after = (stack.enter_context(_checkout(path)) for path in (chosen.before, chosen.after))
        names = before.ask(rows=chosen.rows)["names"]
        print(LINE.format("row", "before, s", "min–max", "after, s", "min–max", "ratio [95 %]"))
        for name in names:
            for checkout in (before, after):
                checkout.ask(build=name, options=options)
            found = _figures(name, before, after, chosen.repeats)
            entries.append(found)
            print(_line(found), flush=True)
            if chosen.json:
                chosen.json.write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")
    ratios = [found["ratio"] for found in entries]
    print(f"geometric mean {geometric_mean(ratios):.3f} of {len(ratios)} rows, least {min(ratios):.3f}")


def _figures(name: str, before: "_Checkout", after: "_Checkout", repeats: int) -> dict[str, Any]:
    """Seconds of both sides, and the median of the paired ratios before/after with its 95 % interval.

    Pairs change their order, so that being first is no advantage; a first pair is not counted.
    """
    pairs = [_pair(before, after) if turn % 2 else _pair(after, before)[::-1] for turn in range(repeats + 1)]
    old, new = (sorted(seconds) for seconds in zip(*pairs[1:], strict=True))
    ratios = sorted(one / two for one, two in pairs[1:])
    low, high = interval_of_median(repeats)
    return {
        "row": name,
        "before": median(old),
        "before_range": [old[0], old[-1]],
        "after": median(new),
        "after_range": [new[0], new[-1]],
        "ratio": median(ratios),
        "ratio_interval": [ratios[low], ratios[high]],
        "repeats": repeats,
    }


def _pair(first: "_Checkout", second: "_Checkout") -> tuple[float, float]:
    """Seconds of a run of each, after a pause in which the other's threads go to sleep."""
    seconds = []
    for checkout in (first, second):
        time.sleep(PAUSE)
        started = time.perf_counter()
        checkout.ask(run=True)
        seconds.append(time.perf_counter() - started)
    return seconds[0], seconds[1]


def interval_of_median(count: int, confidence: float = 0.95) -> tuple[int, int]:
    """Places of the order statistics between which the median of a distribution lies with that confidence.

    The number of values below the median is Binomial(count, 1/2), whatever the distribution. With fewer than
    six values even the ends hold it less often, and are taken.
    """
    below, tail = 0.0, (1 - confidence) / 2
    for place in range(count):
        below += math.comb(count, place) / 2**count
        if below > tail:
            low = max(place - 1, 0)
            return low, count - 1 - low
    return 0, count - 1


def _line(found: dict[str, Any]) -> str:
    old, new = ("{:.4g}–{:.4g}".format(*found[f"{side}_range"]) for side in ("before", "after"))
    ratio = "{:.3f} [{:.3f}, {:.3f}]".format(found["ratio"], *found["ratio_interval"])
    return LINE.format(found["row"], f"{found['before']:.4g}", old, f"{found['after']:.4g}", new, ratio)


class _Checkout:
    """The process of one checkout, asked in lines of JSON."""

    def __init__(self, ask: IO[str], answers: IO[str]) -> None:
        self._ask, self._answers = ask, answers

    def ask(self, **request: Any) -> dict[str, Any]:
        """Send a request and wait for its answer; RuntimeError if the process has ended."""
        self._ask.write(json.dumps(request) + "\n")
        self._ask.flush()
        answer = self._answers.readline()
        if not answer:
            raise RuntimeError(f"the process of a checkout ended at the request {request}")
        found: dict[str, Any] = json.loads(answer)
        return found


@contextmanager
def _checkout(path: Path) -> Iterator[_Checkout]:
    command = [sys.executable, str(path.resolve() / Path(__file__).resolve().relative_to(ROOT)), WORKER]
    with subprocess.Popen(
        command, cwd=path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield _Checkout(process.stdin, process.stdout)
        finally:
            process.stdin.close()


def worker() -> None:
    """Answer requests for rows of the checkout in the current folder: names, build, run."""
    from tests.bench import rows
    from tests.bench.command import make_parser, settings_of
    from wn.engine.backends.threads import single_threaded_blas

    run = None
    with ExitStack() as threads:
        for line in sys.stdin:
            request = json.loads(line)
            answer: dict[str, Any] = {}
            if "rows" in request:
                answer["names"] = [row.name for row in rows.chosen(request["rows"])]
            elif "build" in request:
                settings = settings_of(make_parser().parse_args(request["options"]))
                threads.close()
                threads.enter_context(single_threaded_blas())
                threads.enter_context(settings.be.working(settings.threads))
                (row,) = rows.chosen([request["build"]])
                run = row.build(settings, ()).ours.run
            elif run is not None:
                run()
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    if WORKER in sys.argv:
        sys.path[0] = str(Path.cwd())
        worker()
    else:
        sys.path[0] = str(ROOT)
        main()
