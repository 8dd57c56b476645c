"""The stub of `wn.walk` and `wn.train` has the signatures that the functions have."""

import ast

import wn
from tests.checks.front_stub import STUB, stub


def test_the_stub_is_that_of_the_live_signatures() -> None:
    """The kind: a setting that an editor does not complete, or completes with another default."""
    assert STUB.read_text(encoding="utf-8") == stub(), "run python -m tests.checks.front_stub"


def test_the_stub_has_all_that_the_package_takes_from_the_module() -> None:
    declared = {node.name for node in ast.parse(stub()).body if isinstance(node, ast.FunctionDef)}
    assert declared == {name for name, home in wn._HOME.items() if home == "wn.front"}
