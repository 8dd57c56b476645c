"""Code that makes a failed check again, in a fresh interpreter, with the values that it failed with."""

from collections.abc import Callable, Mapping
from typing import Any

from wn.testing.errors import running
from wn.testing.source import Writer


def of_layer(
    layer: Any,
    be: Any,
    params: Any,
    x: Any,
    static: Mapping[str, Any],
    per_member: tuple[str, ...],
    seed: int,
) -> str:
    """Return code that makes the check of a layer that is running, `check_layer` if none is."""
    writer = Writer()
    check, _, options = running.get() or ("check_layer", (), {})
    given = [
        writer.name(name, value)
        for name, value in zip(("layer", "be", "params", "x"), (layer, be, params, x), strict=True)
    ]
    if static:
        given.append(f"static={writer.name('static', static)}")
    if per_member:
        given.append(f"per_member={per_member!r}")
    given.append(f"seed={seed}")
    if check == "check_layer":
        call = (
            f"check_layer({', '.join([*given, *_options(writer, options, 'static', 'per_member', 'seed')])})"
        )
    else:
        case = f"LayerCase({', '.join(given)})"
        call = f"{check}({', '.join([case, *_options(writer, options, 'case', 'dy')])})"
    names = check if check == "check_layer" else f"LayerCase, {check}"
    return _snippet(writer, seed, names, call)


def of_function(
    f: Callable[..., Any], vjp: Callable[..., Any] | None, arrays: tuple[Any, ...], seed: int
) -> str:
    """Return code that makes the check of a function that is running."""
    writer = Writer()
    check, _, options = running.get() or ("check_vjp", (), {})
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
