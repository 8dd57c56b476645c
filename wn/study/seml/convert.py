"""Import of the experiment files that the authors of Walking Noise published for seml, as study files.

Several files become one study, in which networks trained clean are shared. Nothing is dropped silently: runs
that a study can't express, or that a parameter without a place in a study may make other experiments, are
left out with the reason; parameters that change nothing are named. Both are comments of the study file.
"""

import os
from collections.abc import Collection, Iterator
from itertools import islice, product
from math import prod
from pathlib import Path
from typing import NamedTuple

from wn.basics.errors import WnError
from wn.files.whole import StrPath
from wn.study.declare.schema import RecipeKeys, StudySpec, at
from wn.study.declare.spec import parse_study, to_toml
from wn.study.seml.agree import Contradiction, Repeats, alike, shared_recipe
from wn.study.seml.axes import Axis
from wn.study.seml.entries import study_of
from wn.study.seml.grid import TOP, Leaf, bundles, duplicates, leaves
from wn.study.seml.names import Case, LeftOut, Parameters, cases
from wn.study.seml.yaml import read_yaml
from wn.study.units import count, planned_facts

MOST_PARTS = 2000  # noise entries: each is checked on its network


class ImportedFile(NamedTuple):
    """The number of runs of an experiment file.

    `duplicates` of them have the parameters of another run of the file (None: too many to compare), and
    `left_out` are not in the study.
    """

    name: str
    runs: int
    duplicates: int | None
    left_out: int


class Units(NamedTuple):
    """Numbers of units of a study: noisy ones, and networks trained clean."""

    noisy: int
    clean: int


class Imported(NamedTuple):
    """A study file made of experiment files, the numbers of their runs, and notes.

    `units` are those of the study, `apart` those of all files if each had a study of its own; `notes` are the
    comments of the study file.
    """

    toml: str
    files: tuple[ImportedFile, ...]
    units: Units
    apart: Units
    notes: tuple[str, ...]

    @property
    def runs(self) -> int:
        """Runs of all files."""
        return sum(file.runs for file in self.files)

    @property
    def duplicates(self) -> int | None:
        """Runs with the parameters of another run of their file."""
        found = [file.duplicates for file in self.files if file.duplicates is not None]
        return sum(found) if len(found) == len(self.files) else None

    @property
    def left_out(self) -> int:
        """Runs that are not in the study."""
        return sum(file.left_out for file in self.files)


def import_seml(*paths: StrPath, ignored: Collection[str] = ()) -> Imported:
    """Return experiment files as one study file.

    `ignored` are names of parameters without a place in a study that change nothing: the runs of others that
    are not known are left out, as they may be other experiments. Raises WnError, in one line, if a file is no
    experiment file or given twice, if the files contradict each other, and if nothing is left.
    """
    if not paths:
        raise WnError("an import needs at least one experiment file")
    names = _names([Path(path) for path in paths])
    sources = [_Source(Path(path), name, ignored) for path, name in zip(paths, names, strict=True)]
    _check_ignored(ignored, sources)
    recipe = _recipe(sources)
    repeats = Repeats(case for source in sources for case in source.cases)
    for source in sources:
        source.leave_out(repeats)
    chosen = [case for source in sources for case in source.cases]
    if not chosen:
        raise WnError(f"{paths[0]}: nothing is left for a study: {sources[0].reasons[0]}")
    if len(chosen) > MOST_PARTS:
        raise WnError(
            f"{paths[0]}: the runs come to more than {MOST_PARTS} noise entries, the most of a study"
        )
    several = len(sources) > 1
    apart = [source.units() for source in sources if several and source.cases]  # first: errors name the file
    files = tuple(source.counted() for source in sources)
    notes = tuple(dict.fromkeys(note for source in sources for note in source.all_notes(several)))
    heads = tuple(f"{file.name}, an experiment file of seml with {file.runs} runs." for file in files)
    name = "study" if several else sources[0].study_name  # the default: that of the file
    toml = to_toml(study_of(name, chosen, recipe, repeats.of), (*heads, *notes))
    with at("the files together" if several else str(paths[0])):
        units = _units(parse_study(toml, "as a study"))
    return Imported(toml, files, units, Units(*map(sum, zip(*(apart or [units]), strict=True))), notes)


def _names(paths: list[Path]) -> list[str]:
    """Return a short name for each file, which tells it from the others. Raises WnError if one is twice."""
    resolved = [path.resolve() for path in paths]
    for index, path in enumerate(resolved):
        if path in resolved[:index]:
            raise WnError(f"{paths[index]}: given twice: its runs would count twice")
    if len({path.name for path in paths}) == len(paths):
        return [path.name for path in paths]
    try:
        common = os.path.commonpath(resolved)
    except ValueError:  # on several drives
        return [str(path) for path in paths]
    return [path.relative_to(common).as_posix() for path in resolved]


def _recipe(sources: list["_Source"]) -> RecipeKeys:
    """Return the recipe of all files. Raises WnError, with both files, where two contradict each other."""
    try:
        return shared_recipe(case for source in sources for case in source.cases)
    except Contradiction as error:
        one, other = (
            next(source for source in sources if any(case is found for found in source.cases))
            for case in (error.one, error.other)
        )
        raise WnError(
            f"{other.path}: {error} in {one.path}: a study has one recipe, or those of its data sets: import "
            "them apart"
        ) from None


def _units(spec: StudySpec) -> Units:
    counts = count(spec, planned_facts(spec))
    return Units(sum(c.inference + c.training + c.matrix for c in counts), sum(c.clean for c in counts))


class _Translation(NamedTuple):
    """Some of the runs of a leaf, and their noise entry, or the reason for none."""

    leaf: str
    runs: int
    case: Case | LeftOut


class _Source:
    """One experiment file: its leaves, and the cases that fit one study, with the reasons for the others."""

    def __init__(self, path: Path, name: str, ignored: Collection[str]) -> None:
        self.path = path
        self.name = name
        document, words = read_yaml(path)
        given = document["seml"].get("name")
        self.study_name = given if isinstance(given, str) and given else path.stem
        self.reasons: list[str] = []
        self.left_out = 0
        with at(str(path)):
            self.leaves, notes = leaves(document)
            self.notes = words + notes + _unseeded(self.leaves)
            parts = (part for leaf in self.leaves for part in _translated(leaf, ignored))
            translated = list(islice(parts, MOST_PARTS + 1))
            if len(translated) > MOST_PARTS:
                raise WnError(f"its runs come to more than {MOST_PARTS} noise entries, the limit of a study")
        self.duplicates = duplicates(self.leaves)
        self._recipes: list[Case] = []  # a case for each recipe
        self._chosen: list[_Translation] = []
        for part in translated:
            self._add(part)

    @property
    def cases(self) -> list[Case]:
        """The cases that are in the study."""
        return [part.case for part in self._chosen if isinstance(part.case, Case)]

    def _add(self, part: _Translation) -> None:
        """Take a part of the file in, if it is a case and has the recipe of those before it."""
        reason = str(part.case)
        if isinstance(part.case, Case):
            try:
                shared_recipe([*self._recipes, part.case])
            except Contradiction as error:
                reason = (
                    f"its recipe is not that of {self._chosen[0].leaf}, and a study has one: import it "
                    f"from a file of its own ({error})"
                )
            else:
                self._chosen.append(part)
                if not any(alike(part.case, case) for case in self._recipes):
                    self._recipes.append(part.case)
                return
        self._leave_out(part, reason)

    def _leave_out(self, part: _Translation, reason: str) -> None:
        self.left_out += part.runs
        self.reasons.append(f"{part.leaf}: left out, {part.runs} runs: {reason}")

    def leave_out(self, repeats: Repeats) -> None:
        """Leave out the cases whose repeats a study can't number."""
        kept = []
        for part in self._chosen:
            reason = repeats.check(part.case) if isinstance(part.case, Case) else ""
            if reason:
                self._leave_out(part, reason)
            else:
                kept.append(part)
        self._chosen = kept

    def counted(self) -> ImportedFile:
        """Return the numbers of the file's runs."""
        runs = sum(leaf.runs for leaf in self.leaves)
        return ImportedFile(self.name, runs, self.duplicates, self.left_out)

    def all_notes(self, named: bool) -> list[str]:
        """Return all that is to be said of the file, with its name if there are several."""
        found = self.notes + _without_place(self.cases) + self.reasons
        if self.duplicates:
            found.append(f"{self.duplicates} runs have the parameters of another one: seml adds them once")
        return [f"{self.name}: {note}" if named else note for note in found]

    def units(self) -> Units:
        """Return the numbers of units in a study of this file alone. Raises WnError if it can't be one."""
        repeats = Repeats(self.cases)
        spec = study_of(self.study_name, self.cases, shared_recipe(self.cases), repeats.of)
        with at(str(self.path)):
            return _units(parse_study(to_toml(spec), "as a study"))


def _check_ignored(ignored: Collection[str], sources: list[_Source]) -> None:
    there = {name for source in sources for leaf in source.leaves for name in (*leaf.fixed, *leaf.grid)}
    for name in ignored:
        if name not in there:
            known = "the file has no parameter" if len(sources) == 1 else "no file has a parameter"
            raise WnError(f"--ignore {name}: {known} of this name")


def _unseeded(found: list[Leaf]) -> list[str]:
    return [
        f"{leaf.name}: {', '.join(leaf.unseeded)}: drawn without a seed (seml seeds no choice), so the runs "
        "are others each time the file is added"
        for leaf in found
        if leaf.unseeded
    ]


def _translated(leaf: Leaf, ignored: Collection[str]) -> Iterator[_Translation]:
    if leaf.random:
        yield _Translation(
            leaf.name, leaf.runs, LeftOut(f"{', '.join(leaf.random)} are drawn, and a study has grids")
        )
        return
    for parameters in _unzipped(leaf):
        for own, case in cases(parameters, "" if leaf.name == TOP else leaf.name, ignored):
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
