"""Write wn/front.pyi, the keywords of `wn.walk` and its like for type checkers and editors:

    python -m tests.checks.front_stub

At run time the keywords are made of the settings, which no static tool sees. A test compares the two.
"""

import inspect
from collections.abc import Callable
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args, get_origin

from numpy.typing import NDArray

from wn import front

STUB = Path(front.__file__).with_suffix(".pyi")
HEADER = '''"""Written by `python -m tests.checks.front_stub` from the signatures of front.py."""

from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from typing import Any

from numpy.typing import NDArray

from wn.data.dataset import Dataset
from wn.engine.network import Network
from wn.engine.networks.weighted import Weighted
from wn.walking.api import Trained
from wn.walking.evaluation.evaluate import Evaluated
from wn.walking.evaluation.predicting import PredictedWalk
from wn.walking.gains.gained import Gained
from wn.walking.results import WalkResult
'''


def stub() -> str:
    """The text of the stub."""
    functions = (front.walk, front.train, front.evaluate, front.gains, front.predict)
    return f"{HEADER}\n{''.join(map(declaration, functions))}"


def declaration(function: Callable[..., Any]) -> str:
    """The declaration of a function whose parameters are all keywords."""
    signature = inspect.signature(function)
    keywords = "".join(f"    {parameter(p)},\n" for p in signature.parameters.values())
    return f"def {function.__name__}(\n    *,\n{keywords}) -> {type_name(signature.return_annotation)}: ...\n"


def parameter(keyword: inspect.Parameter) -> str:
    """A keyword with its type and default."""
    stars = "**" if keyword.kind is keyword.VAR_KEYWORD else ""
    declared = f"{stars}{keyword.name}: {type_name(keyword.annotation)}"
    if keyword.default is keyword.empty:
        return declared
    default = f'"{keyword.default}"' if isinstance(keyword.default, str) else repr(keyword.default)
    return f"{declared} = {default}"


def type_name(kind: Any) -> str:
    """A type as the names of the header spell it, the same with every version of NumPy."""
    if kind == NDArray[Any]:
        return "NDArray[Any]"
    if kind is NoneType or kind is None:
        return "None"
    if isinstance(kind, list):
        return f"[{', '.join(map(type_name, kind))}]"
    if isinstance(kind, UnionType) or get_origin(kind) is UnionType:
        return " | ".join(map(type_name, get_args(kind)))
    arguments = ", ".join(map(type_name, get_args(kind)))
    return f"{(get_origin(kind) or kind).__name__}[{arguments}]" if arguments else str(kind.__name__)


if __name__ == "__main__":
    STUB.write_text(stub(), encoding="utf-8")
