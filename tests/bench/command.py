"""Time the engine against its peers, both in one run and in turns, and print the table.

Training is timed on random images of MNIST's shape unless --data-dir names a folder with its IDX files: no
timing depends on the pixels. Long rows time a slice and scale it; the JSON says how much was timed.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from tests.bench import machine, peers, rows
from tests.bench.settings import BATCH, Contest, Row, Settings
from tests.bench.timing import alternate, entry, geometric_mean, with_rates
from wn.basics.errors import WnError
from wn.engine import backends
from wn.engine.backends.threads import processors

FEWEST = 7  # repeats for figures that are to be believed
COLUMNS = "{:30} {:>9}  {:17}  {:28} {:>9}  {:17}  {:>6}"
HEAD = COLUMNS.format("row", "seconds", "min–max", "peer", "seconds", "min–max", "ratio")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the rows that are asked for, print each when it is done, and write the JSON."""
    parser = make_parser()
    chosen = parser.parse_args(arguments)
    peers.load_openmp()
    try:
        wanted = rows.chosen(chosen.rows)
        settings = settings_of(chosen)
    except (ValueError, WnError) as error:
        parser.error(str(error))
    if chosen.list:
        print("\n".join(row.name for row in wanted))
        return
    names = peers_to_use(wanted, chosen.peers)
    print_machine(settings)
    print(HEAD)
    entries: list[dict[str, Any]] = []
    for row in wanted:
        try:
            found = measure(row, settings, [name for name in row.peers if name in names])
        except WnError as error:  # of the folder with the data
            parser.error(str(error))
        for one in found:
            print(line(one), flush=True)
        entries += found
        if chosen.json:  # after each row, so that nothing is lost when the rest is given up
            chosen.json.write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")
    print_means(entries)
    print(f"at the end the machine's load was {machine.load()}")


def make_parser() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = argparse.ArgumentParser(prog="python tests/bench/run.py", description=__doc__)
    parser.add_argument(
        "--rows", nargs="+", metavar="PATTERN", help="such as 'train/mlp*' normals; default: all"
    )
    parser.add_argument(
        "--peers", nargs="+", metavar="PATTERN", help="such as 'torch*'; default: all that are installed"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write all figures")
    parser.add_argument("--list", action="store_true", help="print the names of the rows, and stop")
    parser.add_argument("--backend", default="auto", choices=backends.NAMES)
    parser.add_argument("--threads", type=positive, help="on all sides; default: all processors")
    parser.add_argument("--repeats", type=positive, default=FEWEST, help=f"default: {FEWEST}")
    parser.add_argument("--images", type=positive, default=60_000, help="of an epoch; default: 60000")
    parser.add_argument(
        "--steps",
        type=positive,
        help="how many steps of an epoch are timed; default: 469 of the MLPs, 40 of LeNet-5",
    )
    parser.add_argument("--data-dir", type=Path, metavar="DIR", help="folder with the IDX files of MNIST")
    parser.add_argument(
        "--quick", action="store_true", help="all rows tiny: to see that they run, not how fast"
    )
    return parser


def positive(text: str) -> int:
    """Return a number of at least 1; argparse reports the ValueError of any other text."""
    value = int(text)
    if value < 1:
        raise ValueError
    return value


def settings_of(chosen: argparse.Namespace) -> Settings:
    """Return the settings of the command line."""
    if chosen.images < BATCH:
        raise ValueError(f"--images {chosen.images}: an epoch needs at least {BATCH}, a whole batch")
    settings = Settings(
        be=backends.get(chosen.backend),
        threads=chosen.threads or processors(),
        repeats=chosen.repeats,
        data_dir=chosen.data_dir,
        images=chosen.images,
    )
    if chosen.quick:
        settings = replace(
            settings,
            mlp_steps=2,
            conv_steps=1,
            population_steps=1,
            normals=1 << 12,
            walk_images=2,
            walk_sigmas=2,
            pause=0.0,
        )
    if chosen.steps:
        settings = replace(settings, mlp_steps=chosen.steps, conv_steps=chosen.steps)
    return settings


def peers_to_use(wanted: Sequence[Row], patterns: Sequence[str] | None) -> list[str]:
    """Return the peers that can run here and fit a pattern; say which can't."""
    names = dict.fromkeys(name for row in wanted for name in row.peers)
    fitting = [
        name for name in names if patterns is None or any(fnmatchcase(name, pattern) for pattern in patterns)
    ]
    for name in fitting:
        if peers.missing(name):
            print(f"without {name}: {peers.missing(name)}")
    return [name for name in fitting if not peers.missing(name)]


def measure(row: Row, settings: Settings, names: Sequence[str]) -> list[dict[str, Any]]:
    """Return an entry for each peer, one without a peer if there are none.

    Our threads are set here, as `wn walk` and `wn train` set them: the backend divides the work among
    `threads` processors, and calls BLAS with one thread each.
    """
    with settings.be.working(settings.threads):
        contest = row.build(settings, names)
        ours, *theirs = alternate([contest.ours, *contest.peers], settings.repeats, settings.pause)
    pairs = [(side.name, timing) for side, timing in zip(contest.peers, theirs, strict=True)]
    found = [entry(row.name, ours, *pair) for pair in pairs] or [entry(row.name, ours, None, None)]
    if contest.flops is not None:
        found = [with_rates(one, contest.flops) for one in found]
    return [one | facts(row, settings, contest) for one in found]


def facts(row: Row, settings: Settings, contest: Contest) -> dict[str, Any]:
    """The fields of a row in the JSON besides its figures."""
    return {
        "what": row.what,
        **contest.facts,
        "repeats": settings.repeats,
        "backend": settings.be.name,
        "threads": settings.threads,
        "processor": machine.processor(),
        "versions": machine.versions(),
    }


def print_machine(settings: Settings) -> None:
    """Say what the figures are measured on."""
    print(f"processor: {machine.processor()}, {processors()} cores, load {machine.load()}")
    print("versions: " + ", ".join(f"{name} {version}" for name, version in machine.versions().items()))
    print(f"BLAS: {machine.blas()}")
    print(f"backend {settings.be.name}, {settings.threads} threads, medians of {settings.repeats}")
    if settings.repeats < FEWEST:
        print(f"fewer than {FEWEST} repeats: the figures are rough")


def line(found: dict[str, Any]) -> str:
    """Return a line of the table."""
    theirs = ("no peer", "", "", "")
    if found["peer"] is not None:
        theirs = (found["peer"], *_seconds(found, "peer_seconds"), f"{found['ratio']:.2f}")
    return COLUMNS.format(found["row"], *_seconds(found, "seconds"), *theirs).rstrip()


def _seconds(found: dict[str, Any], name: str) -> tuple[str, str]:
    least, most = found[f"{name}_min"], found[f"{name}_max"]
    return f"{found[name]:.4g}", f"{least:.4g}–{most:.4g}"


def print_means(entries: Sequence[dict[str, Any]]) -> None:
    """Say for each peer of the training rows how far ahead we are, in the mean and at least."""
    ratios: dict[str, list[float]] = defaultdict(list)
    for one in entries:
        if one["row"].startswith("train/") and one["peer"] is not None:
            ratios[one["peer"]].append(one["ratio"])
    for name, found in ratios.items():
        mean = geometric_mean(found)
        print(f"training, {name}: geometric mean {mean:.2f} of {len(found)} rows, least {min(found):.2f}")


if __name__ == "__main__":
    main()
