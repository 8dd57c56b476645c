"""The house: imports point one way, reference and wn know nothing of each other, no file is too long."""

import ast
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LONGEST = 400  # lines of a file

# A module may import those of the rows above it, and those of its own package (as `backends`), no others.
# "wn" is the package itself: its version and its public names, which it imports when they are first used.
ROWS = (
    ("wn", "errors", "installed", "originals"),
    ("files", "locks"),
    ("claims",),
    ("outputs",),
    ("falling", "groups", "numbers", "ranges"),
    ("counts", "logistic"),
    ("profile",),
    ("random", "noise", "midpoint", "grids", "theory"),
    ("intervals", "backends"),
    ("data", "layers", "optim"),
    ("network",),
    ("models",),
    ("training",),
    ("halving", "jobs", "places"),
    ("curves",),
    ("walking", "sites"),
    ("analysis", "results", "scales"),
    ("plots", "checkpoint", "settings", "walk_tables"),
    ("exchange",),
    ("api", "study"),
    ("front", "plain", "flags"),
    ("console",),
    ("study_console", "options"),
    ("commands",),
    ("study_commands",),
    ("cli", "testing"),  # nothing in wn is built on its testing tools
    ("__main__",),
)
RANKS = {module: rank for rank, row in enumerate(ROWS) for module in row}

IMPORTED_AS = {"PyYAML": "yaml"}  # where the names differ

# results.save imports the pictures when it is called; pictures are made of results.
LATE = {("results", "plots")}


def imports(source: str) -> Iterator[tuple[str, int]]:
    """Yield every imported name with dots, `from a import b` as a.b, and its line; relative ones as '.…'."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = "." * node.level + (node.module or "")
            yield from ((f"{start}.{alias.name}".replace("..", "."), node.lineno) for alias in node.names)


def part_of(name: str, modules: set[str]) -> str:
    """Return which part of the house a dotted name in wn belongs to: wn.data.idx → data, wn.walk → wn."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in modules else "wn"


def problems(files: dict[str, str], declared: set[str] | None = None) -> list[str]:
    """Return what is wrong with the imports and the length of files: {path from the root: source}.

    declared: the libraries that wn may import besides the standard one; None: any.
    """
    paths = [Path(name) for name in files]
    modules = {path.parts[1].removesuffix(".py") for path in paths if path.parts[0] == "wn"} - {"__init__"}
    found = [f"{part}: has no row in tests/test_imports.py" for part in sorted(modules - set(RANKS))]
    for path, source in zip(paths, files.values(), strict=True):
        lines = len(source.splitlines())
        if lines > LONGEST:
            found.append(f"{path}: has {lines} lines, more than {LONGEST}")
        if path.parts[0] == "tests":
            continue  # tests may import what they like
        check = _wn_problem if path.parts[0] == "wn" else _reference_problem
        for name, line in imports(source):
            problem = check(path, name, modules, declared)
            if problem:
                found.append(f"{path}:{line}: {problem}")
    return found


def _wn_problem(path: Path, name: str, modules: set[str], declared: set[str] | None) -> str:
    top = name.split(".")[0]
    if top in ("", "reference", "tests"):
        return f"wn must not import {name}"
    if top != "wn":
        known = declared is None or top in declared or top in sys.stdlib_module_names
        return "" if known else f"imports {top}, which pyproject.toml does not declare"
    own = path.parts[1].removesuffix(".py")
    other = part_of(name, modules)
    if own in ("__init__", other) or (own, other) in LATE or RANKS.get(other, 0) < RANKS.get(own, 99):
        return ""
    return f"{own} must not import {other}, which stands above or beside it"


def _reference_problem(path: Path, name: str, _modules: set[str], _declared: set[str] | None) -> str:
    top = name.split(".")[0]
    allowed = {"numpy", "scipy", "reference"} | ({"torch"} if path.name == "torch_peer.py" else set())
    return "" if top in allowed or top in sys.stdlib_module_names else f"reference must not import {name}"


def layer_problems(source: str) -> list[str]:
    """Return the places where a layer asks which backend it runs on: such differences are primitives."""
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


def test_imports_point_one_way_and_no_file_is_too_long() -> None:
    assert {name.split("/")[0] for name in house()} == {"wn", "reference", "tests"}
    assert len(house()) > 80
    assert problems(house(), declared()) == []


def test_layers_do_not_ask_for_the_backend() -> None:
    layers = {name: source for name, source in house().items() if name.startswith("wn/layers/")}
    assert len(layers) > 5
    assert {name: layer_problems(source) for name, source in layers.items() if layer_problems(source)} == {}


def test_late_imports_are_late() -> None:
    """What is imported against the direction is imported inside a function."""
    for importer, imported in LATE:
        tree = ast.parse(house()[f"wn/{importer}.py"])
        outside = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        assert all(imported not in ast.unparse(node) for node in outside)
        assert f"import {imported}" in ast.unparse(tree)


# ---- the checker itself: every planted violation is found -----------------------------------------------

CLEAN = {
    "wn/__init__.py": "from wn.api import walk\n",
    "wn/errors.py": "import sys\n",
    "wn/random.py": "from wn.errors import WnError\nimport numpy as np\n",
    "wn/backends/__init__.py": "from wn.backends.base import Backend\n",
    "wn/backends/base.py": "from wn import random\n",
    "wn/layers/relu.py": "from wn.layers.base import Layer\nfrom wn.backends.base import Backend\n",
    "wn/layers/base.py": "",
    "wn/network.py": "def f():\n    from wn.layers import relu\n",
    "wn/api.py": "import wn\nfrom wn import network\nprint(wn.__version__)\n",
    "reference/naive.py": "import numpy.linalg\nfrom scipy import special\nfrom reference.streams import z\n",
    "reference/streams.py": "import math\n",
    "reference/torch_peer.py": "import torch\n",
}


def test_a_clean_house_has_no_problems() -> None:
    assert problems(CLEAN, {"numpy"}) == []


@pytest.mark.parametrize(
    ("path", "line", "part"),
    [
        ("wn/random.py", "from wn.backends import base", "random must not import backends"),
        ("wn/random.py", "import wn.api", "random must not import api"),
        ("wn/random.py", "from wn import network as n", "random must not import network"),
        ("wn/backends/base.py", "from wn.layers.relu import forward", "backends must not import layers"),
        ("wn/backends/base.py", "def f():\n    from wn.network import Network", "must not import network"),
        ("wn/layers/relu.py", "if True:\n    import wn.network", "layers must not import network"),
        ("wn/network.py", "from wn import (\n    api,\n    random,\n)", "network must not import api"),
        ("wn/network.py", "from wn import models", "network must not import models"),
        ("wn/network.py", "from wn import optim", ""),
        ("wn/errors.py", "from wn.random import words", "errors must not import random"),
        ("wn/layers/relu.py", "from . import base", "must not import .base"),
        ("wn/layers/relu.py", "from ..network import Network", "must not import .network"),
        ("wn/random.py", "import reference", "wn must not import reference"),
        ("wn/random.py", "from reference.naive import relu", "wn must not import reference.naive"),
        ("wn/api.py", "from tests.populations import example", "wn must not import tests"),
        ("wn/api.py", "import torch", "torch, which pyproject.toml does not declare"),
        ("wn/api.py", "import os.path, scipy.io", "scipy, which pyproject.toml does not declare"),
        ("wn/novelty.py", "x = 1", "novelty: has no row"),
        ("wn/network.py", "x = 1\n" * 400, "more than 400"),
        ("reference/naive.py", "x = 1\n" * 400, "more than 400"),
        ("tests/layers/test_x.py", "x = 1\n" * 400, "more than 400"),
        ("tests/layers/test_x.py", "import torch, reference, wn.cli", ""),
        ("reference/naive.py", "import wn", "reference must not import wn"),
        ("reference/naive.py", "def f():\n    from wn.noise import additive", "must not import wn.noise"),
        ("reference/naive.py", "import torch", "reference must not import torch"),
        ("reference/torch_peer.py", "from wn import models", "reference must not import wn.models"),
        ("reference/streams.py", "import numba", "reference must not import numba"),
        ("reference/streams.py", "from tests import populations", "must not import tests"),
        ("reference/streams.py", "from . import naive", "must not import .naive"),
    ],
)
def test_planted_violations_are_found(path: str, line: str, part: str) -> None:
    files = CLEAN | {"wn/models.py": "", "wn/optim.py": ""}
    found = problems(files | {path: files.get(path, "") + line + "\n"}, {"numpy"})
    assert len(found) == bool(part)
    assert all(part in problem for problem in found)


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
    assert not layer_problems("y = be.relu(x)\nname = be.named(x)")
