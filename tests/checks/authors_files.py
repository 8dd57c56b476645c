"""Import the experiment files of the paper's authors, and compare them with the presets.

    git clone https://github.com/UniHD-CEG/walking-noise
    python -m tests.checks.authors_files walking-noise [--write]

Each file has to have as many runs as tests/study/seml/authors_grids.toml says, 635,120 in 52 files together,
all of them expressed; one study of all files of a preset has to have the units of the preset, key by key (the
data need not be there); and all files of a data set become one study. `--write` writes the facts anew. Exit
code 1 with a line for each difference.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

from tests.study.seml import authors
from wn.study import StudySpec, find_study, parse_study, planned_facts, units
from wn.study.seml.convert import import_seml

FILES, RUNS = 52, 635_120


def _read(path: Path) -> tuple[int, StudySpec]:
    found = import_seml(path)
    return found.runs, parse_study(found.toml)


def _keys(spec: StudySpec) -> set[str]:
    return {unit.key for unit in units(spec, planned_facts(spec))}


def problems(root: Path) -> Iterator[str]:
    """Yield what differs between the files below experiment_configs, the facts and the presets."""
    paths = sorted(root.rglob("*.yaml"))
    facts = {file["path"]: file for file in authors.files()}
    groups: dict[str, list[Path]] = {}
    total = 0
    for path in paths:
        name = path.relative_to(root).as_posix()
        found = import_seml(path)
        total += found.runs
        if found.left_out:
            yield f"{name}: {found.left_out} runs are left out"
        if name not in facts:
            yield f"{name}: not among the facts"
        elif facts[name]["runs"] != found.runs:
            yield f"{name}: {found.runs} runs, and {facts[name]['runs']} in the facts"
        groups.setdefault(authors.preset_of(name), []).append(path)
    if (len(paths), total) != (FILES, RUNS):
        yield f"{len(paths)} files with {total} runs, and {FILES} with {RUNS} are expected"
    for preset, chosen in groups.items():
        imported = _keys(parse_study(import_seml(*chosen).toml))
        shipped = _keys(find_study(preset))
        print(f"{preset}: {len(chosen)} files, {len(imported)} units; the preset has {len(shipped)}")
        if imported != shipped:
            missing, more = len(imported - shipped), len(shipped - imported)
            yield f"{preset}: {missing} units of the files are not in the preset, and {more} the reverse"
    for data in dict.fromkeys(file["data"] for file in facts.values()):
        names = [name for name, file in facts.items() if file["data"] == data and root / name in paths]
        if not names:
            continue
        found = import_seml(*(root / name for name in names))
        print(
            f"{data}: {len(names)} files, {found.runs} runs, {found.units.noisy} noisy units; "
            f"{found.units.clean} clean networks, {found.apart.clean} for the files apart"
        )
        if found.left_out:
            yield f"{data}: {found.left_out} runs are left out of one study of all files"


def main(arguments: list[str]) -> int:
    """Compare, or write the facts; return the exit code."""
    folders = [argument for argument in arguments if argument != "--write"]
    root = Path(folders[0]) / "experiment_configs" if len(folders) == 1 else Path()
    if len(folders) != 1 or not root.is_dir():
        print("usage: python -m tests.checks.authors_files CHECKOUT [--write]")
        return 2
    if "--write" in arguments:
        text = authors.written(sorted(root.rglob("*.yaml")), root, _read)
        authors.FACTS.write_text(text, encoding="utf-8")
        return 0
    found = list(problems(root))
    for problem in found:
        print(problem)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
