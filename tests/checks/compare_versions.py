"""Compare all results of two checkouts of the project, byte for byte:

    python tests/checks/compare_versions.py --before DIR [--after DIR] [--only PATTERN…] [--mnist DIR]

For changes that must change no result. Each case is a few command lines `python -m wn …`, run first with one
checkout and then with the other in temporary folders; all files that they leave and what they print are
compared. Only the command line is used: inside, the checkouts may differ as they like. Compiled loops and
modules go to temporary folders too, so that each run compiles anew, and no checkout is written to.

`--keep` keeps what the checkout before gave, and `--before` takes such a folder in place of a checkout: a
reference is recorded once and used many times, on the same machine with the same libraries.

Prints a line for each case and backend: number of files, seconds of both sides, and "same" or the files that
differ with the first difference. Exit code 1 if anything differs or a command fails. Not compared (BLANKED
and UNCOMPARED below) are times, commits, the version of wn and the names of the computer and its system: they
say when, where and from what the numbers were computed.
"""

import argparse
import csv
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from itertools import product, zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
BACKENDS = ("numpy", "numba")
RECORD = "kept.json"  # of a case that is kept
PRINTED = "printed.txt"  # what the commands of a case print
LINE = "{:36} {:7} {:>5}  {:>8}  {:>8}  {}"

# In run.json and in the record of a network: when it was computed, and with which version on which system. In
# networks the record is text within text, where each quote has a backslash before it.
BLANKED = (
    (re.compile(rb'((\\?")(?:finished|walking-noise|platform)\2: ?\2)[^"\\]*'), rb"\1-"),
    (re.compile(rb'(\\?"seconds\\?": ?)[-+.\de]+'), rb"\1-"),
)
# Columns of a study's table provenance: where and when each unit was computed.
UNCOMPARED = {"provenance.csv": {"machine", "versions", "commit", "seconds", "finished"}}


class Case(NamedTuple):
    """Commands of wn that leave files in the folder results; `mnist`: the files of MNIST are needed."""

    name: str
    commands: tuple[str, ...]
    mnist: bool = False

    def lines(self, backend: str) -> list[str]:
        """Return the commands with a backend."""
        return [command.replace("BACKEND", f"--backend {backend}") for command in self.commands]


def _walk(options: str) -> tuple[str, ...]:
    return (f"walk BACKEND --out results/walk {options}".rstrip(),)


def _train(options: str) -> tuple[str, ...]:
    return (f"train BACKEND --out results/network.safetensors {options}",)


def _study(study: str) -> tuple[str, ...]:
    return (
        f"study run {study} BACKEND --out work/study",
        "study export work/study --tables all --out results/tables",
        "study fit work/study",
    )


SMALL = "--train-limit 2000 --test-limit 500 --epochs 2"
PLOT = ("study plot work/study --out results/plots",)
EXPORT = ("export results/network.safetensors --out results/member.safetensors",)
CASES = (
    Case("walk", _walk("")),
    Case("walk-multiplicative", _walk(f"{SMALL} -n multiplicative --sigma lin:0:4:9 --repeats 2")),
    Case("walk-mixed", _walk(f"{SMALL} -n mixed --ratio 0.3 --sigma 0.1:100:4 --batch-norm hidden --seed 3")),
    Case(
        "walk-mixed-add-mul",  # R draws at each site, at three sites at once
        _walk(
            f"{SMALL} -n mixed-direct --order add_mul --mean-mul 0.9 --mean-add 0.1 --sigma 0.01:3:4 -R 3 "
            "--execution each --where 0:0.5,relu1:2,logits:1 --clamp --dtype float64"
        ),
    ),
    Case("walk-lenet5-batch-norm", _walk(f"{SMALL} -m lenet5 --batch-norm sites --sigma 0.1:100:3")),
    Case("study-walking-quick", _study("walking-quick") + PLOT),
    Case("study-walking-mnist-mlp-quick", _study("walking-mnist-mlp-quick") + PLOT, mnist=True),
    Case("study-repetitions", _study(shlex.quote(str(ROOT / "tests" / "checks" / "repetitions.toml")))),
    Case("train-mlp-additive", _train("--noise additive --sigma 0.5") + EXPORT),
    Case(
        "train-mlp-batch-norm-multiplicative",
        _train("--batch-norm sites --noise multiplicative --sigma 0.7 --where 0,bn1,relu2") + EXPORT,
    ),
    Case("train-lenet5-batch-norm", _train(f"{SMALL} -m lenet5 --batch-norm sites") + EXPORT),
    Case(
        "train-vgg11-batch-norm",  # 37 MB of weights
        _train(
            "--train-limit 128 --test-limit 64 --epochs 1 --batch-size 64 -m vgg11-28 --batch-norm sites "
            "--noise additive --sigma 0.1"
        ),
    ),
)


class Outcome(NamedTuple):
    """What a case left: {name: content}, seconds, and why it is not to be compared ("" if it is)."""

    files: dict[str, bytes]
    seconds: float = 0.0
    problem: str = ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the cases on both sides, print a line for each, and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python tests/checks/compare_versions.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--before", type=Path, required=True, metavar="DIR", help="checkout or kept results")
    parser.add_argument("--after", type=Path, default=ROOT, metavar="DIR", help="default: this checkout")
    parser.add_argument("--only", nargs="+", metavar="PATTERN", help="cases: walk, 'train-*', '*/numba'")
    parser.add_argument("--mnist", type=Path, metavar="DIR", help="folder with the four files of MNIST")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="where to keep the results of before")
    chosen = parser.parse_args(arguments)
    asked = [pair for pair in product(CASES, BACKENDS) if _is_asked(*pair, chosen.only)]
    work = [(case, backend) for case, backend in asked if chosen.mnist or not case.mnist]
    if not work:
        parser.error(f"--only: no case, or --mnist is missing; cases are {', '.join(c.name for c in CASES)}")
    if chosen.mnist is not None and not chosen.mnist.is_dir():
        parser.error(f"--mnist: {chosen.mnist} is no folder")
    kept = any(chosen.before.glob(f"*/*/{RECORD}"))
    if kept and chosen.keep:
        parser.error("--keep: the results of before are kept already")
    with tempfile.TemporaryDirectory() as folder:
        places = [Path(folder, side) for side in ("before", "after")]
        try:
            before = (
                Kept(chosen.before) if kept else Checkout(chosen.before, places[0], chosen.mnist, chosen.keep)
            )
            after = Checkout(chosen.after, places[1], chosen.mnist)
        except ValueError as error:
            parser.error(str(error))
        return _compare(before, after, work, len(asked) - len(work))


def _is_asked(case: Case, backend: str, patterns: Sequence[str] | None) -> bool:
    names = (case.name, f"{case.name}/{backend}")
    return patterns is None or any(fnmatchcase(name, pattern) for name in names for pattern in patterns)


def _compare(
    before: "Checkout | Kept", after: "Checkout", work: Sequence[tuple[Case, str]], left_out: int
) -> int:
    print(f"before: {before}\nafter: {after}")
    print(LINE.format("case", "backend", "files", "before", "after", "result"))
    different = 0
    for case, backend in work:
        old = before.outcome(case, backend)
        new = after.outcome(case, backend)
        sides = {"before": old, "after": new}
        found = [f"{side}: {outcome.problem}" for side, outcome in sides.items() if outcome.problem]
        found = found or differences(old.files, new.files)
        different += bool(found)
        count = "/".join(dict.fromkeys(str(len(outcome.files)) for outcome in sides.values()))
        seconds = (f"{outcome.seconds:.1f} s" for outcome in sides.values())
        verdict = "\n    ".join([f"{len(found)} different", *found]) if found else "same"
        print(LINE.format(case.name, backend, count, *seconds, verdict), flush=True)
    print(f"{len(work)} compared, {different} different, {left_out} left out for want of --mnist")
    return 1 if different else 0


# ---- the two sides ----------------------------------------------------------------------------------------


class Checkout:
    """A checkout whose `python -m wn` is run, in a folder of its own; what it leaves is kept in `keep`."""

    def __init__(self, path: Path, folder: Path, mnist: Path | None, keep: Path | None = None) -> None:
        self.path, self._folder, self._keep = path.resolve(), folder, keep
        folder.mkdir()
        changed = {
            "PYTHONPATH": str(self.path),
            "PYTHONPYCACHEPREFIX": str(folder / "modules"),
            "NUMBA_CACHE_DIR": str(folder / "loops"),
            "COLUMNS": "80",
            **({"WN_DATA": str(mnist.resolve())} if mnist else {}),
        }
        other = {"WN_DATA", "FORCE_COLOR", "PY_COLORS", "GITHUB_ACTIONS", "TTY_COMPATIBLE"}
        self._environment = {name: value for name, value in os.environ.items() if name not in other} | changed
        code = "import importlib.util; print(importlib.util.find_spec('wn').origin)"
        found = self._process("-c", code, cwd=folder).stdout.decode().strip()
        if not found or self.path not in Path(found).resolve().parents:
            raise ValueError(f"{path}: neither a checkout nor results that were kept with --keep")

    def __str__(self) -> str:
        return f"{self.path}, commit {self.commit()}"

    def commit(self) -> str:
        """Return the git commit, "+" at its end if files are changed."""
        hash_, changed = (
            subprocess.run(["git", *line], cwd=self.path, capture_output=True, text=True, check=False).stdout
            for line in (["rev-parse", "HEAD"], ["status", "--porcelain"])
        )
        return (hash_.strip() or "unknown") + ("+" if changed else "")

    def outcome(self, case: Case, backend: str) -> Outcome:
        """Run a case."""
        with tempfile.TemporaryDirectory(dir=self._folder) as name:
            (Path(name) / "results").mkdir()
            started = time.perf_counter()
            printed, problem = b"", ""
            for line in case.lines(backend):
                process = self._process("-m", "wn", *shlex.split(line), cwd=Path(name))
                printed += f"$ wn {line}\n".encode() + process.stdout
                if process.returncode:
                    said = process.stderr.decode(errors="replace").strip().rpartition("\n")[2]
                    problem = f"wn {line}: exit code {process.returncode}: {said}"
                    break
            seconds = time.perf_counter() - started
            files = _read(Path(name) / "results")
        if not (files or problem):
            problem = "no files"
        outcome = Outcome(files | {PRINTED: printed}, seconds, problem)
        if self._keep and not problem:
            self._kept(self._keep / case.name / backend, outcome, case.lines(backend))
        return outcome

    def _kept(self, folder: Path, outcome: Outcome, commands: list[str]) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        for name, content in outcome.files.items():
            path = folder / "files" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        record = {"commands": commands, "commit": self.commit(), "seconds": round(outcome.seconds, 1)}
        (folder / RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")

    def _process(self, *arguments: str, cwd: Path) -> "subprocess.CompletedProcess[bytes]":
        line = [sys.executable, *arguments]
        return subprocess.run(line, cwd=cwd, env=self._environment, capture_output=True, check=False)


class Kept:
    """Results that were kept."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __str__(self) -> str:
        commits = {json.loads(path.read_bytes())["commit"] for path in self.path.glob(f"*/*/{RECORD}")}
        return f"{self.path}, kept results of {', '.join(sorted(commits))}"

    def outcome(self, case: Case, backend: str) -> Outcome:
        """The kept results of a case, if they come from the same commands."""
        folder = self.path / case.name / backend
        if not (folder / RECORD).is_file():
            return Outcome({}, problem="not kept")
        record = json.loads((folder / RECORD).read_bytes())
        if record["commands"] != case.lines(backend):
            return Outcome({}, problem="kept with other commands")
        return Outcome(_read(folder / "files"), record["seconds"])


def _read(folder: Path) -> dict[str, bytes]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


# ---- what differs -----------------------------------------------------------------------------------------


def differences(before: Mapping[str, bytes], after: Mapping[str, bytes]) -> list[str]:
    """Return a line for each file that differs: its first difference, or the side that has it."""
    found = []
    for name in sorted({*before, *after}):
        if name not in after or name not in before:
            found.append(f"{name}: only {'after' if name in after else 'before'}")
        elif before[name] != after[name]:
            try:
                first = first_difference(name, before[name], after[name])
            except (ValueError, LookupError, csv.Error):  # not what its name says, or cut off
                first = _first_byte(before[name], after[name])
            found += [f"{name}: {first}"] if first else []
    return found


def comparable(name: str, content: bytes) -> bytes:
    """The compared content of a file: all but the time, place and version of the computation."""
    if name.endswith("run.json"):
        return _blanked(content)
    if name.endswith(".safetensors"):
        header, numbers = _parts(content)
        return _blanked(header) + numbers
    columns = UNCOMPARED.get(name.rpartition("/")[2])
    if not columns:
        return content
    header_row, *rows = _rows(content)
    places = [place for place, column in enumerate(header_row) if column in columns]
    for row in rows:
        for place in places:
            row[place] = row[place] and "-"
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header_row, *rows])
    return text.getvalue().encode()


def _blanked(content: bytes) -> bytes:
    for pattern, replacement in BLANKED:
        content = pattern.sub(replacement, content)
    return content


def _rows(content: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(content.decode(), newline=""))) or [[]]


def _parts(content: bytes) -> tuple[bytes, bytes]:
    """Return the header, without the spaces that fill it up, and the numbers of a safetensors file."""
    end = 8 + int.from_bytes(content[:8], "little")
    return content[8:end].rstrip(), content[end:]


def first_difference(name: str, before: bytes, after: bytes) -> str:
    """The first difference of two contents of a file: its place and both sides; "" if there is none."""
    one, two = comparable(name, before), comparable(name, after)
    if one == two:
        return ""
    if name.endswith(".safetensors"):
        headers, numbers = zip(_parts(before), _parts(after), strict=True)
        one, two = (_blanked(header) for header in headers)
        return _first_number(one, *numbers) if one == two else f"header, {_first_letter(one, two)}"
    if name.endswith(".csv"):
        return _first_cell(one, two)
    if name.endswith((".json", ".txt")):
        lines = zip_longest(one.splitlines(keepends=True), two.splitlines(keepends=True), fillvalue=b"")
        place, pair = next((place, pair) for place, pair in enumerate(lines, 1) if pair[0] != pair[1])
        return f"line {place}, {_first_letter(*pair)}"
    return _first_byte(one, two)


def _first_cell(before: bytes, after: bytes) -> str:
    header, *_ = old = _rows(before)
    for place, (one, two) in enumerate(zip_longest(old, _rows(after)), 1):
        if one is None or two is None:
            return f"line {place}: only {'after' if one is None else 'before'}"
        for column, a, b in zip_longest(header, one, two, fillvalue=""):
            if a != b:
                return f"line {place}, column {column}, {_first_letter(a.encode(), b.encode())}"
    return _first_byte(before, after)  # the same cells, written otherwise


def _first_letter(before: bytes, after: bytes) -> str:
    """Return both texts from a little before the first letter that differs."""
    start = max(_in_common(before, after) - 20, 0)
    one, two = (text[start:][:60].decode(errors="replace") for text in (before, after))
    return f"letter {start + 1}: {one!r}, {two!r}" if start else f"{one!r}, {two!r}"


def _first_byte(before: bytes, after: bytes) -> str:
    return f"byte {_in_common(before, after)} of {len(before)}, {len(after)}"


def _in_common(before: bytes, after: bytes) -> int:
    """The length of the common beginning, in bytes."""
    shorter = min(len(before), len(after))
    return next((i for i in range(shorter) if before[i] != after[i]), shorter)


def _first_number(header: bytes, before: bytes, after: bytes) -> str:
    """Return the first number that differs, and how many of its tensor do; headers are the same."""
    tensors: dict[str, Any] = json.loads(header)
    for name, entry in sorted(tensors.items()):
        start, end = entry.get("data_offsets", (0, 0))
        if before[start:end] == after[start:end]:
            continue
        one, two = (np.frombuffer(content[start:end], np.uint8) for content in (before, after))
        kind = np.dtype({"F64": "<f8", "F32": "<f4", "I64": "<i8"}[entry["dtype"]])
        places = np.flatnonzero((one != two).reshape(-1, kind.itemsize).any(axis=1))
        index = [int(place) for place in np.unravel_index(places[0], entry["shape"])]
        a, b = one.view(kind)[places[0]], two.view(kind)[places[0]]
        return f"{name}{index}: {a}, {b}; {len(places)} of {len(one) // kind.itemsize} numbers differ"
    return f"numbers, {_first_byte(before, after)}"


if __name__ == "__main__":
    sys.exit(main())
