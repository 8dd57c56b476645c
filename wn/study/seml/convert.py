"""Import of the experiment files that the authors of Walking Noise published for seml, as study files.

Nothing is dropped silently: runs that a study can't express, or that a parameter without a place in a study
may make other experiments, are left out with the reason; parameters that change nothing are named. Both are
in the comments of the study file.
"""

from collections.abc import Collection, Iterator
from itertools import islice, product
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from wn.basics.errors import WnError
from wn.files.whole import StrPath
from wn.study.declare.schema import DataKeys, ModelKeys, NoiseKeys, StudySpec, at
from wn.study.declare.spec import parse_study, to_toml
from wn.study.seml.axes import Axis
from wn.study.seml.grid import Leaf, bundles, duplicates, leaves
from wn.study.seml.names import Case, LeftOut, Parameters, cases
from wn.study.seml.yaml import read_yaml
from wn.walking.places import INFERENCE, TRAINING

MOST_PARTS = 2000  # noise entries: each is checked on its network


class Imported(NamedTuple):
    """A study file made of an experiment file, the number of its runs, and notes.

    `runs` are those of the original grid; `duplicates` of them have the parameters of another (None: too many
    to compare), and `left_out` are not in the study. `notes` are the comments of the study file.
    """

    toml: str
    runs: int
    duplicates: int | None
    left_out: int
    notes: tuple[str, ...]


def import_seml(path: StrPath, ignored: Collection[str] = ()) -> Imported:
    """Return an experiment file as a study file; WnError, in one line, if it is none or nothing is left.

    `ignored` are names of parameters without a place in a study that change nothing: the runs of others that
    are not known are left out, as they may be other experiments.
    """
    path = Path(path)
    document, words = read_yaml(path)
    with at(str(path)):
        found, notes = leaves(document)
        notes = words + notes + _unseeded(found)
        _check_ignored(ignored, found)
        parts = (part for leaf in found for part in _translated(leaf, ignored))
        translated = list(islice(parts, MOST_PARTS + 1))
        if len(translated) > MOST_PARTS:
            raise WnError(f"its runs come to more than {MOST_PARTS} noise entries: no study has so many")
        chosen, reasons, left_out = _agreeing(translated)
        notes += _without_place(chosen) + reasons
        spec = _study(_name(document, path), chosen)
        runs, again = sum(leaf.runs for leaf in found), duplicates(found)
        if again:
            notes.append(f"{again} runs have the parameters of another one: seml adds them once")
        comments = (f"{path.name}, an experiment file of seml with {runs} runs.", *dict.fromkeys(notes))
        toml = to_toml(spec, comments)
        parse_study(toml, "as a study")
    return Imported(toml, runs, again, left_out, tuple(dict.fromkeys(notes)))


def _unseeded(found: list[Leaf]) -> list[str]:
    return [
        f"{leaf.name}: {', '.join(leaf.unseeded)}: drawn without a seed (seml seeds no choice), so the runs "
        "are others each time the file is added"
        for leaf in found
        if leaf.unseeded
    ]


class _Translation(NamedTuple):
    """Some of the runs of a leaf, and their noise entry, or the reason for none."""

    leaf: str
    runs: int
    case: Case | LeftOut


def _check_ignored(ignored: Collection[str], found: list[Leaf]) -> None:
    there = {name for leaf in found for name in (*leaf.fixed, *leaf.grid)}
    for name in ignored:
        if name not in there:
            raise WnError(f"--ignore {name}: the file has no parameter of this name")


def _translated(leaf: Leaf, ignored: Collection[str]) -> Iterator[_Translation]:
    if leaf.random:
        yield _Translation(
            leaf.name, leaf.runs, LeftOut(f"{', '.join(leaf.random)} are drawn, and a study has grids")
        )
        return
    for parameters in _unzipped(leaf):
        for own, case in cases(parameters, ignored):
            yield _Translation(
                leaf.name, prod(len(axis.values) for axis in own.values()) * leaf.samples, case
            )


def _unzipped(leaf: Leaf) -> Iterator[Parameters]:
    """Yield the parameters of a leaf; axes that are zipped together are taken apart, value by value."""
    fixed = {name: Axis((value,)) for name, value in leaf.fixed.items()}
    choices: list[list[Parameters]] = []
    for bundle in bundles(leaf.grid):
        number = len(next(iter(bundle.values())).values)
        apart = [{name: Axis((axis.values[i],)) for name, axis in bundle.items()} for i in range(number)]
        choices.append([bundle] if len(bundle) == 1 else apart)
    for chosen in product(*choices):
        yield {name: axis for part in (fixed, *chosen) for name, axis in part.items()}


def _agreeing(parts: list[_Translation]) -> tuple[list[Case], list[str], int]:
    """Return the cases that fit one study, with the recipe of the first, and notes and runs of the others."""
    chosen: list[Case] = []
    first, notes, left_out = "", [], 0
    for part in parts:
        reason = str(part.case)
        if isinstance(part.case, Case):
            first = first or part.leaf
            if not chosen or part.case.recipe == chosen[0].recipe:
                chosen.append(part.case)
                continue
            reason = (
                f"its recipe is not that of {first}, and a study has one: import it from a file of its own"
            )
        left_out += part.runs
        notes.append(f"{part.leaf}: left out, {part.runs} runs: {reason}")
    if not chosen:
        raise WnError(f"nothing is left for a study: {notes[0]}")
    return chosen, notes, left_out


def _without_place(cases: list[Case]) -> list[str]:
    """Return a note for each parameter that means nothing to a study, or loses values on the way."""
    used = {name for case in cases for name in case.used}
    most: dict[str, int] = {}
    for case in cases:
        for name, number in case.unused.items():
            if number > 1 or name not in used:
                most[name] = max(number, most.get(name, 1))
    return [note for case in cases for note in case.said] + [
        f"{name} has no place in a study" + (f": its {number} values become one" if number > 1 else "")
        for name, number in most.items()
    ]


def _study(name: str, cases: list[Case]) -> StudySpec:
    """Return the study of some cases: their data sets and networks, and an entry for each."""
    datasets = list(dict.fromkeys(case.dataset for case in cases))
    kinds: dict[str, dict[str, None]] = {}  # kinds of batch norm by model, in order
    of_data: dict[str, dict[str, None]] = {}
    for case in cases:
        kinds.setdefault(case.model, {}).update(dict.fromkeys(case.batch_norm))
        of_data.setdefault(case.model, {})[case.dataset] = None
    models = [
        ModelKeys(
            name=model,
            batch_norm=_one_or_list(list(found)),
            data=None if list(of_data[model]) == datasets else list(of_data[model]),
        )
        for model, found in kinds.items()
    ]
    repeats = max(case.noise.repeats or 1 for case in cases)
    entries = [
        msgspec.structs.replace(
            case.noise,
            data=None if len(datasets) == 1 else case.dataset,
            models=None if len(models) == 1 else case.model,
            batch_norm=None if set(case.batch_norm) == set(kinds[case.model]) else case.batch_norm,
            repeats=None if case.noise.repeats == repeats else case.noise.repeats,
            clamp_weights=case.noise.clamp_weights or None,
        )
        for case in cases
    ]
    return StudySpec(
        name=name,
        repeats=repeats,
        data=DataKeys(names=_one_or_list(datasets)),
        models=models,
        recipe=cases[0].recipe,
        noise=_short(entries),
    )


def _short(entries: list[NoiseKeys]) -> list[NoiseKeys]:
    """The entries, each once: non-default values, lists of one as values."""
    axes = ("ratio", "order", "repetitions", "phases", "batch_norm")
    defaults = {"where": "each", "order": ["mul_add"], "repetitions": 1, "mean_add": 0.0, "mean_mul": 1.0}
    both = {INFERENCE, TRAINING}
    found = []
    for entry in entries:
        defaults["mean"] = 1.0 if entry.kind == "multiplicative" else 0.0
        kept = {
            name: _one_or_list(value) if name in axes else value
            for name, value in msgspec.structs.asdict(entry).items()
            if value != defaults.get(name) and not (name == "phases" and set(value or ()) == both)
        }
        short = NoiseKeys(**kept)
        if short not in found:
            found.append(short)
    return found


def _one_or_list(values: Any) -> Any:
    return values[0] if isinstance(values, list) and len(values) == 1 else values


def _name(document: dict[str, Any], path: Path) -> str:
    name = document["seml"].get("name")
    return name if isinstance(name, str) and name else path.stem
