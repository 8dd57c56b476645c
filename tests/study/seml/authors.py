"""The grids of the authors' experiment files, from authors_grids.toml, and those of a study, in one form."""

import hashlib
import json
import tomllib
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from pathlib import Path
from textwrap import fill
from typing import Any, NamedTuple

from wn.study import StudySpec, planned_facts
from wn.study.units import sigma_grids
from wn.walking.grids import sigma_grid

FACTS = Path(__file__).parent / "authors_grids.toml"
SITES = {  # by network and batch norm, as in the paper
    ("mlp-64", "none"): 8,
    ("mlp-64", "sites"): 11,
    ("mlp-64", "hidden"): 8,
    ("lenet5", "none"): 12,
    ("lenet5", "sites"): 16,
    ("lenet5", "hidden"): 12,
    ("cnn-s", "none"): 8,
    ("cnn-s", "sites"): 11,
    ("cnn-s", "hidden"): 8,
}
PHASES = ["inference", "training"]
HEAD = (
    "The grids of the 52 experiment files of H. Borras, B. Klein, H. Fröning, Walking Noise",
    "(arXiv 2212.10430), in github.com/UniHD-CEG/walking-noise, folder experiment_configs: facts, written by",
    "python -m tests.checks.authors_files CHECKOUT --write",
    "A grid min:max:number has both ends, logarithmic or (lin) linear; where: a site, each site alone, or",
    "all of them (global); phases are both unless given; budgets are the sums of repetition maps, sha256",
    "begins a checksum of them; again is the number of runs that differ from others in nothing that the",
    "authors' code reads.",
)


class Curve(NamedTuple):
    """What units have in common that differ in σ and repeat only."""

    dataset: str
    model: str
    recipe: tuple[int, int, float]  # epochs, batch size, learning rate
    batch_norm: str
    clamped: bool
    phase: str = "clean"
    kind: str = "none"
    order: str | None = None
    ratio: float | None = None
    sigma_mul: float | None = None
    repetitions: int | tuple[int, ...] = 1
    site: int = -3


Grids = dict[Curve, dict[float, int]]  # the number of repeats of each σ


def files() -> list[dict[str, Any]]:
    """The facts, a table for each file."""
    return tables(FACTS.read_text(encoding="utf-8"))


def tables(text: str) -> list[dict[str, Any]]:
    """The tables of a text of facts."""
    found: list[dict[str, Any]] = tomllib.loads(text)["file"]
    return found


def runs_of(file: dict[str, Any]) -> int:
    """The number of runs that a file has by the product of its axes."""
    return file.get("again", 0) + sum(_runs(file, noise) for noise in file["noise"])


def _runs(file: dict[str, Any], noise: dict[str, Any]) -> int:
    number = 0
    for batch_norm in noise["batch_norm"]:
        sites = SITES[file["model"], batch_norm] if noise.get("where") == "each" else 1
        number += file["repeats"] * sites
    for axis in ("order", "ratio", "repetitions", "budgets"):
        number *= len(noise.get(axis, [0]))
    number *= 1 if noise["kind"] == "none" else len(noise.get("phases", PHASES))
    for axis in ("sigma", "sigma_mul", "sigma_add"):
        number *= len(sigma_grid(noise[axis])) if axis in noise else 1
    return number


def grids_of_files(chosen: Sequence[dict[str, Any]], kinds: Sequence[str] = ()) -> Grids:
    """The grids of some files, of some kinds of noise (default: all), without those of repetition maps."""
    found: Grids = {}
    for file in chosen:
        for noise in file["noise"]:
            if kinds and noise["kind"] not in kinds:
                continue
            for batch_norm in noise["batch_norm"]:
                recipe = (file["epochs"], file["batch_size"], file["learning_rate"])
                network = (file["data"], file["model"], recipe, batch_norm, noise.get("clamped", False))
                _add(found, Curve(*network), (0.0,), file["repeats"])
                if "budgets" not in noise and noise["kind"] != "none":
                    for curve in _curves(network, noise):
                        sigma = sigma_grid(noise["sigma_add" if "sigma_add" in noise else "sigma"])
                        _add(found, curve, tuple(sigma), file["repeats"])
    return found


def _curves(network: tuple[Any, ...], noise: dict[str, Any]) -> Iterator[Curve]:
    mixed = noise["kind"].startswith("mixed")
    where = noise["where"]
    sites = range(SITES[network[1], network[3]]) if where == "each" else [-1 if where == "global" else where]
    orders = noise.get("order", ["mul_add"]) if mixed else [None]
    shares = sigma_grid(noise["sigma_mul"]) if "sigma_mul" in noise else [None]
    axes = (orders, noise.get("ratio", [None]), shares, noise.get("repetitions", [1]), sites)
    for phase, chosen in product(noise.get("phases", PHASES), product(*axes)):
        yield Curve(*network, phase, noise["kind"], *chosen)


def grids_of_study(spec: StudySpec) -> Grids:
    """The grids of a study, without those of repetition maps."""
    found: Grids = {}
    for grid in sigma_grids(spec, planned_facts(spec)):
        unit = grid.first
        recipe = (unit.epochs, unit.batch_size, unit.learning_rate)
        network = (unit.dataset, unit.model, recipe, unit.batch_norm, unit.clamp_weights)
        if unit.noise is None:
            _add(found, Curve(*network), grid.sigma, unit.repeat + 1)
        elif isinstance(unit.noise.repetitions, int):
            noise = unit.noise
            mixed = noise.kind.startswith("mixed")
            curve = Curve(
                *network,
                unit.phase,
                noise.kind,
                noise.order if mixed else None,
                noise.ratio if noise.kind == "mixed" else None,
                noise.sigma_mul if noise.kind == "mixed-direct" else None,
                noise.repetitions,
                unit.site,
            )
            _add(found, curve, grid.sigma, unit.repeat + 1)
    return found


def _add(found: Grids, curve: Curve, sigma: Sequence[float], repeats: int) -> None:
    there = found.setdefault(curve, {})
    for value in sigma:
        there[value] = max(there.get(value, 0), repeats)


def checksum(maps: Sequence[Sequence[int]]) -> str:
    """The first 16 digits of the SHA-256 of repetition maps, in their order."""
    return hashlib.sha256(json.dumps([list(numbers) for numbers in maps]).encode()).hexdigest()[:16]


def preset_of(path: str) -> str:
    """The preset that has the grid of a file, by the words of its name."""
    words = {
        "MAX_noise": "extreme",
        "layer_5": "layer5",
        "layer_wise": "walking",
        "global_noise": "global",
        "no_noise": "clean",
        "multi_run": "multi-execution",
    }
    return next(preset for word, preset in words.items() if word in path)


def written(paths: Sequence[Path], root: Path, read: Callable[[Path], tuple[int, StudySpec]]) -> str:
    """The text of authors_grids.toml; `read` returns the number of runs of a file, and its study."""
    lines = [f"# {line}" for line in HEAD]
    for path in paths:
        name = path.relative_to(root).as_posix()
        runs, spec = read(path)
        file = {
            "path": name,
            "preset": preset_of(name),
            "runs": runs,
            "data": spec.data.names,
            "model": spec.models[0].name,
            "repeats": spec.repeats,
        }
        file |= {key: getattr(spec.recipe, key) for key in ("epochs", "batch_size", "learning_rate")}
        noise = [_written_noise(spec, entry) for entry in spec.noise]
        if again := runs - runs_of(file | {"noise": noise}):
            file["again"] = again
        lines += ["", "[[file]]", *(f"{key} = {json.dumps(value)}" for key, value in file.items())]
        lines += ["noise = [", *(line for one in noise for line in _wrapped(one)), "]"]
    return "\n".join(lines) + "\n"


def _written_noise(spec: StudySpec, entry: Any) -> dict[str, Any]:
    """An entry of a study in words of the facts."""
    found: dict[str, Any] = {}
    if entry.label is not None:
        found["label"] = entry.label
    found["kind"] = entry.kind
    for axis in ("sigma", "sigma_mul", "sigma_add"):
        if getattr(entry, axis) is not None:
            found[axis] = getattr(entry, axis)
    for axis in ("ratio", "order", "repetitions"):
        if getattr(entry, axis) is not None:
            found[axis] = _listed(getattr(entry, axis))
    if entry.repetition_maps is not None:
        found["budgets"] = [sum(numbers) for numbers in entry.repetition_maps]
        found["sha256"] = checksum(entry.repetition_maps)
    if entry.kind != "none":
        where = entry.where or "each"
        found["where"] = where[0] if isinstance(where, list) else where
    if entry.clamp_weights:
        found["clamped"] = True
    if entry.phases is not None:
        found["phases"] = _listed(entry.phases)
    found["batch_norm"] = _listed(entry.batch_norm or spec.models[0].batch_norm)
    return found


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _wrapped(noise: dict[str, Any]) -> list[str]:
    """A noise of the facts as an inline table; TOML 1.0 allows line breaks in its lists alone."""
    parts = []
    for key, value in noise.items():
        text = json.dumps(value)
        if len(text) > 70:
            text = (
                "[\n" + fill(text[1:-1], 112, initial_indent=" " * 8, subsequent_indent=" " * 8) + ",\n    ]"
            )
        parts.append(f"{key} = {text}")
    return f"    {{ {', '.join(parts)} }},".split("\n")
