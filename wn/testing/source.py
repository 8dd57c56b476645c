"""Python code that makes a value again: arrays, containers, functions with what they refer to.

Functions that can be imported are imported; others, also lambdas and functions inside of functions, are
written out from their source, inside of a factory that holds the values they refer to.
"""

import ast
import base64
import linecache
import math
import sys
import tempfile
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

SHOWN = 32  # arrays of up to that many elements are written as numbers
INLINE = 3000  # bytes of larger ones that are written as text; those of more are saved in a file
LONGEST = 30  # definitions of a snippet


class Writer:
    """Collects the imports and definitions that the expressions it gives need."""

    def __init__(self) -> None:
        self.imports: dict[str, None] = {"import numpy as np": None}
        self.definitions: list[str] = []
        self.known: dict[int, str] = {}
        self.kept: list[Any] = []  # so that ids stay theirs

    def text(self) -> str:
        """Return the imports and definitions so far."""
        return "\n".join([*self.imports, *self.definitions])

    def expression(self, value: Any) -> str:
        """Return an expression that makes the value again; `...` with its type for what cannot be written."""
        if isinstance(value, np.ndarray):
            return self._array(value)
        if isinstance(value, np.generic):
            return f"np.{value.dtype.name}({self._array(np.asarray(value))}[()])"
        if value is None or value is Ellipsis or isinstance(value, bool | int | str | bytes | complex):
            return repr(value)
        if isinstance(value, float):
            return repr(value) if math.isfinite(value) else f"float({str(value)!r})"
        if isinstance(value, Mapping):
            entries = (f"{key!r}: {self.expression(part)}" for key, part in value.items())
            return "{" + ", ".join(entries) + "}"
        if isinstance(value, tuple | list):
            return self._sequence(value)
        return self._object(value)

    def name(self, wished: str, value: Any) -> str:
        """Define a name for a value and return it, or the expression if that is as short."""
        expression = self.expression(value)
        if len(expression) <= len(wished) or expression.isidentifier():
            return expression
        self.definitions.append(f"{wished} = {expression}")
        return wished

    def _array(self, array: np.ndarray[Any, Any]) -> str:
        if array.dtype.kind not in "biufc" or array.dtype == np.longdouble:
            return f"np.load({self._saved(array)!r}, allow_pickle=False)"
        dtype = f"np.{array.dtype.name}" if array.dtype.kind != "b" else "bool"
        if array.size <= SHOWN and np.all(np.isfinite(array)):
            numbers = f"np.array({array.tolist()!r}, {dtype})"
            return numbers if array.size else f"np.zeros({array.shape}, {dtype})"
        if array.nbytes > INLINE:
            return f"np.load({self._saved(array)!r})"
        self.imports["import base64"] = None
        text = base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()
        flat = f"np.frombuffer(base64.b64decode({text!r}), {dtype})"
        return f"{flat}.reshape({array.shape}).copy()"

    def _saved(self, array: np.ndarray[Any, Any]) -> str:
        path = Path(tempfile.mkdtemp(prefix="wn-repro-")) / "array.npy"
        np.save(path, array)
        return str(path)

    def _sequence(self, value: Any) -> str:
        parts = [self.expression(part) for part in value]
        if hasattr(value, "_fields"):
            fields = ", ".join(f"{name}={part}" for name, part in zip(value._fields, parts, strict=True))
            return f"{self._type(type(value))}({fields})"
        if isinstance(value, list):
            return f"[{', '.join(parts)}]"
        return f"({', '.join(parts)}{',' if len(parts) == 1 else ''})"

    def _type(self, kind: type) -> str:
        """Return a name for a class: imported, or a named tuple of the same fields."""
        if _importable(kind):
            return self._imported(kind)
        if not hasattr(kind, "_fields"):
            return self._unknown(kind)
        self.imports["from collections import namedtuple"] = None
        return self._define(kind, kind.__name__, f"namedtuple({kind.__name__!r}, {list(kind._fields)!r})")

    def _define(self, value: Any, wished: str, expression: str) -> str:
        if id(value) in self.known:
            return self.known[id(value)]
        name = self._free(wished)
        self.definitions.append(f"{name} = {expression}")
        self._keep(value, name)
        return name

    def _keep(self, value: Any, name: str) -> None:
        self.known[id(value)] = name
        self.kept.append(value)

    def _free(self, wished: str) -> str:
        wished = wished if wished.isidentifier() else "function"
        taken, number, name = set(self.known.values()), 2, wished
        while name in taken:
            name, number = f"{wished}_{number}", number + 1
        return name

    def _object(self, value: Any) -> str:
        if id(value) in self.known:
            return self.known[id(value)]
        if isinstance(value, types.ModuleType):
            return self._module(value)
        if isinstance(value, np.ufunc):
            name = str(value.__name__)
            return f"np.{name}" if hasattr(np, name) else self._unknown(value)
        if isinstance(value, types.MethodType):
            return f"{self.expression(value.__self__)}.{_place(value)[1].rpartition('.')[2]}"
        if isinstance(value, type):
            return self._type(value)
        if _importable(value):
            return self._imported(value)
        if isinstance(value, types.FunctionType):
            return self._function(value)
        return self._instance(value)

    def _module(self, module: types.ModuleType, alias: str = "") -> str:
        name = module.__name__
        alias = alias or name.replace(".", "_")
        self.imports[f"import {name}" + (f" as {alias}" if alias != name else "")] = None
        return alias

    def _imported(self, value: Any) -> str:
        module, names = _place(value)
        top, _, rest = names.partition(".")
        self.imports[f"from {module} import {top}"] = None
        return f"{top}.{rest}" if rest else top

    def _instance(self, value: Any) -> str:
        """Return an object of an importable class with the same attributes."""
        if not _importable(type(value)) or not hasattr(value, "__dict__"):
            return self._unknown(value)
        kind = self._imported(type(value))
        name = self._define(value, type(value).__name__.lower(), f"object.__new__({kind})")
        if vars(value):
            self.definitions.append(f"{name}.__dict__.update({self.expression(vars(value))})")
        return name

    def _unknown(self, value: Any) -> str:
        kind = value.__qualname__ if hasattr(value, "__qualname__") else type(value).__name__
        self.definitions.append(f"# {kind} cannot be written out here: take it from the test")
        return "..."

    def _function(self, function: types.FunctionType) -> str:
        node = _definition(function)
        if node is None or len(self.definitions) > LONGEST:
            return self._unknown(function)
        name = self._free(function.__name__)
        self._keep(function, name)
        names, values = [], []
        for used, value in _referred(function, node).items():
            if value is function:
                continue
            if isinstance(value, types.ModuleType):
                self._module(value, used)
            else:
                names.append(used)
                values.append(self.expression(value))
        defaults = [self.expression(value) for value in function.__defaults__ or ()]
        self.definitions.append(_factory(name, node, names, values, defaults))
        return name


def _factory(name: str, node: ast.AST, names: list[str], values: list[str], defaults: list[str]) -> str:
    """Return the definition of a function, in a factory if it refers to anything."""
    if isinstance(node, ast.Lambda):
        lines = [f"{name} = {ast.unparse(node)}"]
    else:
        assert isinstance(node, ast.FunctionDef)
        node.name = name
        lines = ast.unparse(node).splitlines()
    if names:
        body = ["    " + line for line in [*lines, f"return {name}"]]
        lines = [f"def make_{name}({', '.join(names)}):", *body, f"{name} = make_{name}({', '.join(values)})"]
    if defaults:
        lines.append(f"{name}.__defaults__ = ({', '.join(defaults)},)")
    return "\n".join(lines)


def _definition(function: types.FunctionType) -> Any:
    """Return the syntax tree of a function without decorators, annotations and defaults, or None."""
    code = function.__code__
    source = "".join(linecache.getlines(code.co_filename, function.__globals__))
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return None
    lines = {line for _, _, line in code.co_lines() if line}
    found = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Lambda | ast.FunctionDef) and _is(node, code, lines)
    ]
    if not found:
        return None
    node = min(found, key=lambda node: (node.end_lineno or 0) - node.lineno)
    arguments = node.args
    arguments.defaults = [ast.Constant(None) for _ in arguments.defaults]
    for argument in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]:
        argument.annotation = None
    if isinstance(node, ast.FunctionDef):
        node.decorator_list, node.returns = [], None
    return node


def _is(node: ast.Lambda | ast.FunctionDef, code: types.CodeType, lines: set[int]) -> bool:
    """Whether a node is what the code was compiled from: by name, arguments and place."""
    names = [argument.arg for argument in [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]]
    if (
        tuple(names) != code.co_varnames[: len(names)]
        or len(names) != code.co_argcount + code.co_kwonlyargcount
    ):
        return False
    if isinstance(node, ast.FunctionDef):
        starts = [node.lineno, *(decorator.lineno for decorator in node.decorator_list)]
        return node.name == code.co_name and code.co_firstlineno in starts
    if code.co_name != "<lambda>" or code.co_firstlineno != node.lineno:
        return False
    inside = ((node.body.lineno, node.body.col_offset), (node.body.end_lineno, node.body.end_col_offset))
    places = [(line, column) for line, _, column, _ in code.co_positions() if line and column]
    return all(inside[0] <= place <= inside[1] for place in places if place[0] in lines and place[1])


def _referred(function: types.FunctionType, node: ast.AST) -> dict[str, Any]:
    """The values outside of a function that its names stand for."""
    used = {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    outer = {**function.__globals__, **{name: _content(cell) for name, cell in cells}}
    own = set(function.__code__.co_varnames)
    return {name: outer[name] for name in sorted(used - own) if name in outer}


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not filled yet
        return None


def _importable(value: Any) -> bool:
    """Whether a function or class can be imported by its name, and is then this very object."""
    module, name = _place(value)
    if not module or module == "__main__" or "<" in name or not name:
        return False
    found: Any = sys.modules.get(module)
    if found is None or not (getattr(found, "__file__", None) or module in sys.builtin_module_names):
        return False
    for part in name.split("."):
        found = getattr(found, part, None)
    return found is value


def _place(value: Any) -> tuple[str, str]:
    """Return the module and the qualified name of a function or class."""
    return str(getattr(value, "__module__", None) or ""), str(getattr(value, "__qualname__", ""))
