"""Parameters of the grid and random blocks of an experiment file of seml: values, or a distribution."""

import ast
from typing import Any, NamedTuple

import numpy as np

from wn.basics.errors import WnError
from wn.basics.numbers import is_number
from wn.study.seml.yaml import MOST

_KEYS = {
    "choice": ("options",),
    "range": ("min", "max", "step"),
    "uniform": ("min", "max", "num"),
    "loguniform": ("min", "max", "num"),
}
_DRAWN = {
    "choice": ("options",),
    **dict.fromkeys(("uniform", "loguniform", "randint", "randint_unique"), ("min", "max")),
}
_LARGEST = 1e300  # of a number: there is room for sums
_LONGEST = 1000  # characters of text that may be a literal of Python


class Axis(NamedTuple):
    """The values of a parameter of the grid; those with the same zip_id go together instead of crosswise.

    `text` is the grid as wn.walking.grids writes it, where it is one.
    """

    values: tuple[Any, ...]
    zip_id: str | None = None
    text: str | None = None


def axis_of(name: str, keys: dict[str, Any], notes: list[str]) -> Axis:
    """Return the values of a grid parameter; `max` is left out by range, and included by the others."""
    kind = keys.get("type")
    if kind not in _KEYS:
        raise WnError(f"{name}: unknown type {kind!r}: allowed in a grid are {', '.join(_KEYS)}")
    needed = _KEYS[kind]
    _check_keys(name, kind, keys, needed, "zip_id")
    zip_id = None if keys.get("zip_id") is None else str(keys["zip_id"])
    if kind == "choice":
        return Axis(_options(name, keys), zip_id)
    for key in needed:
        _check_number(f"{name}.{key}", keys[key])
    if kind == "range":
        return Axis(_range(name, keys["min"], keys["max"], keys["step"], notes), zip_id)
    return _spaced(name, kind, zip_id, *(keys[key] for key in needed))


def _spaced(name: str, kind: str, zip_id: str | None, first: float, last: float, number: float) -> Axis:
    """Return an axis of a number of values that are evenly spaced in x or log x, both ends included."""
    if not 1 <= number <= MOST or number != int(number):
        raise WnError(f"{name}.num: {number} is out of range: it must be a whole number in 1…{MOST}")
    number = int(number)
    if kind == "loguniform" and not (first > 0 and last > 0):
        raise WnError(f"{name}.min: log spacing needs min and max above 0")
    if kind == "uniform":
        values = np.linspace(first, last, number)
    else:
        values = np.logspace(float(np.log10(float(first))), float(np.log10(float(last))), number)
    text = f"{'lin:' if kind == 'uniform' else ''}{_text(first)}:{_text(last)}:{number}"
    return Axis(tuple(values.tolist()), zip_id, text if 0 <= first < last and number > 1 else None)


def _range(name: str, first: float, last: float, step: float, notes: list[str]) -> tuple[Any, ...]:
    """Return first, first + step, … without `last`, which rounding may leave in: that is noted."""
    if step == 0 or not (last - first) / step > 0:
        raise WnError(f"{name}: the range from {first} to {last} in steps of {step} has no values")
    if (last - first) / step > MOST:
        raise WnError(f"{name}: the range has more than {MOST} values")
    values = np.arange(first, last, step)
    if (last - values[-1]) / step < 0.5:
        notes.append(
            f"{name}: the range from {first} to {last} in steps of {step} has its end in it, by rounding, as "
            f"in seml: {len(values)} values"
        )
    return tuple(values.tolist())


def _text(number: float) -> str:
    return next(text for text in (f"{number:g}", repr(number)) if float(text) == number)


def literal(value: Any) -> Any:
    """Return text that is a literal of Python as its value: seml does, as YAML takes 1e-3 for text."""
    if isinstance(value, list):
        return [literal(item) for item in value]
    if not isinstance(value, str) or len(value) > _LONGEST:
        return value
    try:
        found = ast.literal_eval(value)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return value
    found = list(found) if isinstance(found, tuple) else found
    return found if isinstance(found, int | float | str | list | None) else value


def seeded(name: str, keys: dict[str, Any], seed: Any) -> bool:
    """Whether a random parameter is drawn with a seed; WnError for what seml can't draw.

    seml seeds NumPy's generator, and draws choices with Python's, which it never seeds.
    """
    kind = keys.get("type")
    if kind not in _DRAWN:
        raise WnError(f"{name}: unknown type {kind!r}: allowed in random are {', '.join(_DRAWN)}")
    _check_keys(name, kind, keys, _DRAWN[kind], "seed")
    if kind == "choice":
        _options(name, keys)
        return False
    for key in _DRAWN[kind]:
        _check_number(f"{name}.{key}", keys[key])
    if kind == "loguniform" and not keys["min"] > 0:
        raise WnError(f"{name}.min: log spacing needs min and max above 0")
    return keys.get("seed", seed) is not None


def _check_keys(name: str, kind: str, keys: dict[str, Any], needed: tuple[str, ...], also: str) -> None:
    for key in dict.fromkeys((*needed, *keys)):
        if key not in keys or key not in ("type", also, *needed):
            raise WnError(
                f"{name}.{key}: the keys of type {kind} are {', '.join(needed)}, and {also} if need be"
            )


def _options(name: str, keys: dict[str, Any]) -> tuple[Any, ...]:
    options = keys["options"]
    if not isinstance(options, list) or not options:
        raise WnError(f"{name}.options: must be a list with at least one value")
    return tuple(options)


def _check_number(path: str, value: Any) -> None:
    if not is_number(value):
        raise WnError(f"{path}: must be a number, not {value!r}")
    if not -_LARGEST <= value <= _LARGEST:
        raise WnError(f"{path}: must be a finite number, not {value}")
