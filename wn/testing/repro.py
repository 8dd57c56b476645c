"""Code that makes a failed check again, in a fresh interpreter, with the values that it failed with."""

from collections.abc import Callable, Mapping
from typing import Any

from wn.testing.errors import running
from wn.testing.source import Writer


def of_layer(
    arguments: Mapping[str, Any], static: Mapping[str, Any], per_member: tuple[str, ...], seed: int
) -> str:
    """Return code that makes the check of a layer that is running, `check_layer` if none is.

    arguments: the layer, backend, parameters and input by the names that they get.
    """
    writer = Writer()
    check, options = running.get() or ("check_layer", {})
    given = [writer.name(name, value) for name, value in arguments.items()]
    if static:
        given.append(f"static={writer.name('static', static)}")
    if per_member:
        given.append(f"per_member={per_member!r}")
    given.append(f"seed={seed}")
    names = check
    if check != "check_layer":
        given, names = [f"LayerCase({', '.join(given)})"], f"LayerCase, {check}"
    given += _options(writer, options, "static", "per_member", "seed", "case", "dy")
    return _snippet(writer, seed, names, f"{check}({', '.join(given)})")


def of_function(
    f: Callable[..., Any], vjp: Callable[..., Any] | None, arrays: tuple[Any, ...], seed: int
) -> str:
    """Return code that makes the check of a function that is running."""
    writer = Writer()
    check, options = running.get() or ("check_vjp", {})
    given = [writer.name("f", f)]
    if vjp is not None:
        given.append(writer.name("vjp", vjp))
    given += [writer.name(f"array_{number}", array) for number, array in enumerate(arrays)]
    call = f"{check}({', '.join([*given, *_options(writer, options, 'seed'), f'seed={seed}'])})"
    return _snippet(writer, seed, check, call)


def _options(writer: Writer, options: Mapping[str, Any], *without: str) -> list[str]:
    named = ((name, value) for name, value in options.items() if name not in without)
    return [f"{name}={writer.name(name, value)}" for name, value in named]


def _snippet(writer: Writer, seed: int, names: str, call: str) -> str:
    return f"# repro, seed {seed}:\n{writer.text()}\nfrom wn.testing import {names}\n{call}"
