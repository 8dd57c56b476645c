"""The house: imports point one way, folders stay small, reference and wn know nothing of each other."""

import ast
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LONGEST = 400  # lines of a file
MOST_FILES = 13  # in a folder

# The parts of a folder from the ground up: each imports those of the rows above it, and nothing else of the
# folder. The order within other folders is free, but there is no circle in any.
ORDER: dict[str, tuple[str, ...]] = {
    "wn": (
        "basics",
        "analysis files random",
        "data",
        "engine",
        "fit theory",
        "walking",
        "front layers study",
        "cli testing",  # nothing in wn is built on its testing tools
        "__main__",
    ),
}
LARGE = {"wn/testing": 18}  # one public toolkit

IMPORTED_AS = {"PyYAML": "yaml"}  # where the names differ

Arrows = dict[tuple[str, str], str]  # (importing part, imported part) → where


def imports(source: str) -> Iterator[tuple[str, int]]:
    """Yield every imported name with dots, `from a import b` as a.b, and its line; relative ones as '.…'."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = "." * node.level + (node.module or "")
            yield from ((f"{start}.{alias.name}".replace("..", "."), node.lineno) for alias in node.names)


def modules_of(files: dict[str, str]) -> dict[str, str]:
    """The dotted names of the modules and packages of wn, with their paths."""
    return {
        name.removesuffix(".py").replace("/", ".").removesuffix(".__init__"): name
        for name in files
        if name.startswith("wn/")
    }


def module_of(name: str, modules: dict[str, str]) -> str:
    """The module that an imported name belongs to: wn.data.dataset.Split → wn.data.dataset."""
    while name not in modules:
        name = name.rpartition(".")[0]
    return name


def arrows(folder: str, files: dict[str, str]) -> Arrows:
    """What the parts of a folder, its files and folders, import of each other; with one place for each."""
    modules, found = modules_of(files), dict[tuple[str, str], str]()
    inside = folder.replace("/", ".") + "."
    for module, path in modules.items():
        if not module.startswith(inside):
            continue  # a folder's own __init__ may show what is in it
        for name, line in imports(files[path]):
            if name.split(".")[0] != "wn":
                continue
            other = module_of(name, modules)
            if not other.startswith(inside):
                continue
            pair = module.removeprefix(inside).split(".")[0], other.removeprefix(inside).split(".")[0]
            if pair[0] != pair[1]:
                found.setdefault(pair, f"{path}:{line}")
    return found


def circle(pairs: Arrows) -> list[str]:
    """Parts of a folder that import each other in a circle, [] if none do."""
    left = {part for pair in pairs for part in pair}
    while True:  # take away what imports nothing that is left
        leaves = {part for part in left if not any(a == part and b in left for a, b in pairs)}
        if not leaves:
            return sorted(left)
        left -= leaves


def folders_of(files: dict[str, str]) -> dict[str, list[str]]:
    """The folders of wn with the names of their files."""
    found: dict[str, list[str]] = {}
    for name in files:
        if name.startswith("wn/"):
            found.setdefault(name.rpartition("/")[0], []).append(name.rpartition("/")[2].removesuffix(".py"))
    return found


def problems(files: dict[str, str], declared: set[str] | None = None) -> list[str]:
    """What is wrong with the imports, folders and lengths of files: {path from the root: source}.

    declared: the libraries that wn may import besides the standard one; None: any.
    """
    found = [
        f"{path}: has {len(source.splitlines())} lines, more than {LONGEST}"
        for path, source in files.items()
        if len(source.splitlines()) > LONGEST
    ]
    for path, source in files.items():
        top = path.split("/")[0]
        if top == "tests":
            continue  # tests may import what they like
        for name, line in imports(source):
            problem = _wn_problem(name, declared) if top == "wn" else _reference_problem(Path(path), name)
            if problem:
                found.append(f"{path}:{line}: {problem}")
    for folder, names in folders_of(files).items():
        found += _folder_problems(folder, names) + _order_problems(folder, files)
    return found


def _wn_problem(name: str, declared: set[str] | None) -> str:
    top = name.split(".")[0]
    if top in ("", "reference", "tests"):
        return f"wn must not import {name}"
    if name == "wn" or name.startswith("wn._"):
        return "import what is needed of wn, not the package"
    known = top == "wn" or declared is None or top in declared or top in sys.stdlib_module_names
    return "" if known else f"imports {top}, which pyproject.toml does not declare"


def _reference_problem(path: Path, name: str) -> str:
    top = name.split(".")[0]
    allowed = {"numpy", "scipy", "reference"} | ({"torch"} if path.name == "torch_peer.py" else set())
    return "" if top in allowed or top in sys.stdlib_module_names else f"reference must not import {name}"


def _folder_problems(folder: str, names: list[str]) -> list[str]:
    own, most = folder.rpartition("/")[2], LARGE.get(folder, MOST_FILES)
    count = sum(name != "__init__" for name in names)
    found = [f"{folder}: {count} files, more than {most}"] if count > most else []
    named = [name for name in names if name.startswith(f"{own}_") or name == own]
    return found + [f"{folder}/{name}.py: carries the name of its folder" for name in named]


def _order_problems(folder: str, files: dict[str, str]) -> list[str]:
    pairs = arrows(folder, files)
    if folder not in ORDER:
        round_ = circle(pairs)
        places = sorted(place for pair, place in pairs.items() if set(pair) <= set(round_))
        return [f"{places[0]}: a circle of {', '.join(round_)}"] if round_ else []
    floors = {part: floor for floor, row in enumerate(ORDER[folder]) for part in row.split()}
    parts = {name.removeprefix(f"{folder}/").split("/")[0].removesuffix(".py") for name in files}
    parts = {
        part for part in parts if f"{folder}/{part}.py" in files or f"{folder}/{part}/__init__.py" in files
    }
    found = [f"{folder}/{part}: has no place in ORDER" for part in sorted(parts - set(floors) - {"__init__"})]
    for (part, other), place in pairs.items():
        if floors.get(other, 0) >= floors.get(part, len(floors)):
            found.append(f"{place}: {part} must not import {other}, which stands above or beside it")
    return found


def layer_problems(source: str) -> list[str]:
    """The places where a layer asks which backend it runs on: such differences are primitives."""
    asked = ("be.name", "isinstance(be, ", "type(be)")
    return [
        f"{node.lineno}: {ast.unparse(node)}"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute | ast.Call)
        and (ast.unparse(node) in asked or ast.unparse(node).startswith(asked[1]))
    ]


# ---- the house as it stands -----------------------------------------------------------------------------


def house() -> dict[str, str]:
    files = [path for folder in ("wn", "reference", "tests") for path in ROOT.glob(f"{folder}/**/*.py")]
    return {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in sorted(files)}


def declared() -> set[str]:
    """The libraries of pyproject.toml, by the names under which they are imported."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    texts = project["dependencies"] + [
        text for extra in project["optional-dependencies"].values() for text in extra
    ]
    names = {text.split(">")[0].split("[")[0] for text in texts}
    return {"cupy" if name.startswith("cupy") else IMPORTED_AS.get(name, name) for name in names}


def test_imports_point_one_way_and_folders_stay_small() -> None:
    assert {name.split("/")[0] for name in house()} == {"wn", "reference", "tests"}
    assert len(house()) > 80
    assert problems(house(), declared()) == []


def test_layers_do_not_ask_for_the_backend() -> None:
    layers = {name: source for name, source in house().items() if name.startswith("wn/engine/layers/")}
    assert len(layers) > 5
    assert {name: layer_problems(source) for name, source in layers.items() if layer_problems(source)} == {}


# ---- the checker itself: every planted violation is found -----------------------------------------------

CLEAN = {
    "wn/__init__.py": "from wn.walking import walk\n",
    "wn/basics/__init__.py": "",
    "wn/basics/errors.py": "import sys\n",
    "wn/random.py": "from wn.basics.errors import WnError\nimport numpy as np\n",
    "wn/data/__init__.py": "from wn.data.dataset import Dataset\n",
    "wn/data/dataset.py": "from wn.data.formats import idx\nfrom wn.random import words\n",
    "wn/data/formats/__init__.py": "",
    "wn/data/formats/idx.py": "",
    "wn/engine/__init__.py": "",
    "wn/engine/network.py": "def f():\n    from wn.engine import noise\n",
    "wn/engine/noise.py": "from wn import random\n",
    "wn/walking/__init__.py": "from wn.engine import network\nfrom wn.data import Dataset\n",
    "reference/naive.py": "import numpy.linalg\nfrom scipy import special\nfrom reference.streams import z\n",
    "reference/streams.py": "import math\n",
    "reference/torch_peer.py": "import torch\n",
}


def test_a_clean_house_has_no_problems() -> None:
    assert problems(CLEAN, {"numpy"}) == []


@pytest.mark.parametrize(
    ("path", "line", "part"),
    [
        ("wn/random.py", "from wn.engine import noise", "random must not import engine"),
        ("wn/random.py", "import wn.walking", "random must not import walking"),
        ("wn/random.py", "from wn import engine as e", "random must not import engine"),
        ("wn/data/dataset.py", "from wn.engine.noise import forward", "data must not import engine"),
        ("wn/data/formats/idx.py", "def f():\n    import wn.walking", "data must not import walking"),
        ("wn/engine/network.py", "if True:\n    import wn.walking", "engine must not import walking"),
        ("wn/engine/network.py", "from wn import (\n    walking,\n    random,\n)", "must not import walking"),
        ("wn/engine/noise.py", "from wn.engine import network", "a circle of network, noise"),
        ("wn/data/formats/idx.py", "from wn.data.dataset import Split", "a circle of dataset, formats"),
        ("wn/engine/noise.py", "from wn import data", ""),
        ("wn/basics/errors.py", "from wn.random import words", "basics must not import random"),
        ("wn/engine/noise.py", "from . import base", "must not import .base"),
        ("wn/engine/noise.py", "from ..network import Network", "must not import .network"),
        ("wn/random.py", "import reference", "wn must not import reference"),
        ("wn/random.py", "from reference.naive import relu", "wn must not import reference.naive"),
        ("wn/engine/noise.py", "import wn", "not the package"),
        ("wn/engine/noise.py", "from wn import __version__", "not the package"),
        (
            "wn/walking/__init__.py",
            "from tests.engine.populations import example",
            "wn must not import tests",
        ),
        ("wn/walking/__init__.py", "import torch", "torch, which pyproject.toml does not declare"),
        ("wn/engine/noise.py", "import os.path, scipy.io", "scipy, which pyproject.toml does not declare"),
        ("wn/novelty.py", "x = 1", "wn/novelty: has no place"),
        ("wn/engine/engine_noise.py", "x = 1", "carries the name of its folder"),
        ("wn/engine/noise.py", "x = 1\n" * 400, "more than 400"),
        ("reference/naive.py", "x = 1\n" * 400, "more than 400"),
        ("tests/engine/layers/test_x.py", "x = 1\n" * 400, "more than 400"),
        ("tests/engine/layers/test_x.py", "import torch, reference, wn.cli", ""),
        ("reference/naive.py", "import wn", "reference must not import wn"),
        (
            "reference/naive.py",
            "def f():\n    from wn.engine import noise",
            "must not import wn.engine.noise",
        ),
        ("reference/naive.py", "import torch", "reference must not import torch"),
        ("reference/torch_peer.py", "from wn import engine", "reference must not import wn.engine"),
        ("reference/streams.py", "import numba", "reference must not import numba"),
        ("reference/streams.py", "from tests import populations", "must not import tests"),
        ("reference/streams.py", "from . import naive", "must not import .naive"),
    ],
)
def test_planted_violations_are_found(path: str, line: str, part: str) -> None:
    found = problems(CLEAN | {path: CLEAN.get(path, "") + line + "\n"}, {"numpy"})
    assert len(found) == bool(part)
    assert all(part in problem for problem in found)


def test_a_crowded_folder_is_found() -> None:
    crowd = {f"wn/engine/part{number}.py": "" for number in range(MOST_FILES - 1)}
    assert problems(CLEAN | crowd) == [f"wn/engine: {MOST_FILES + 1} files, more than {MOST_FILES}"]


@pytest.mark.parametrize(
    "line",
    [
        "if be.name == 'cupy': pass",
        "if isinstance(be, NumpyBackend): pass",
        "x = be.name in NAMES",
        "type(be)",
    ],
)
def test_planted_questions_for_the_backend_are_found(line: str) -> None:
    assert layer_problems(line)
    assert not layer_problems("y = be.draw(x)\nname = be.named(x)")
