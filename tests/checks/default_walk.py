"""Check the output of `wn walk` with its defaults: python -m tests.checks.default_walk wn-out.

Networks trained under additive noise tolerate more of it, at every site: the midpoint of the phase `training`
is reached and above that of the phase `inference`. Exit code 1 with one line for each site where it is not.
"""

import csv
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

PHASES = {"inference", "training"}


def problems(rows: Iterable[Mapping[str, str]]) -> list[str]:
    """The faults of the rows of midpoints.csv, a line for each site."""
    sites: dict[str, dict[str, Mapping[str, str]]] = {}
    for row in rows:
        sites.setdefault(f"site {row['site']} {row['site_name']}", {})[row["phase"]] = row
    if not sites:
        return ["no sites"]
    found = ((site, _problem(phases)) for site, phases in sites.items())
    return [f"{site}: {problem}" for site, problem in found if problem]


def _problem(phases: Mapping[str, Mapping[str, str]]) -> str:
    """The fault of one site, "" if there is none."""
    if set(phases) != PHASES:
        return f"has the phases {', '.join(sorted(phases))}, not inference and training"
    for phase, row in sorted(phases.items()):
        if row["reached"] != "true":
            return f"midpoint of {phase} is not reached"
    inference, training = (float(phases[phase]["midpoint"]) for phase in ("inference", "training"))
    if training > inference:
        return ""
    return f"midpoint of training, {training:.4g}, is not above that of inference, {inference:.4g}"


def main(arguments: list[str]) -> int:
    """Check midpoints.csv in the folder that is named; return the exit code."""
    if len(arguments) != 1:
        print("usage: python -m tests.checks.default_walk FOLDER")
        return 2
    path = Path(arguments[0]) / "midpoints.csv"
    try:
        with path.open(encoding="utf-8", newline="") as file:
            found = problems(csv.DictReader(file))
    except OSError as error:
        found = [str(error.strerror)]
    for problem in found:
        print(f"{path}: {problem}")
    if not found:
        print(f"{path}: at every site, training under noise has a higher midpoint than clean training")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
