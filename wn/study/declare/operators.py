"""From the keys of a [[noise]] entry to its operators and σ values.

Every WnError begins with the path of the key that is wrong.
"""

from itertools import product
from math import prod
from typing import Any

import msgspec

from wn.basics.errors import WnError
from wn.engine import noise as noises
from wn.engine.noise_spec import KINDS, OPTIONS, RULES, NoiseSpec, check_choice, check_option, specified
from wn.study.declare.schema import NoiseKeys, as_axis, at, is_derived
from wn.walking.grids import sigma_grid

MOST_OPERATORS = 20_000  # of an entry
_SIGMA_OF = {  # the kinds that a σ grid goes with
    "sigma": ("additive", "multiplicative", "mixed"),
    "sigma_mul": ("mixed-direct",),
    "sigma_add": ("mixed-direct",),
}
_OF_NOISE = (
    "where",
    "factors",
    "phases",
    "repetition_maps",
    "allocation",
    "budget",
    "label",
    "sigma_train",
    *OPTIONS,
)  # what clean networks have not


def check_kind(path: str, keys: NoiseKeys) -> None:
    """Raise WnError for an unknown kind, for keys that go with other kinds, and for those that it lacks."""
    with at(f"{path}.kind"):
        check_choice("kind", keys.kind)
    kinds = _SIGMA_OF | (dict.fromkeys(_OF_NOISE, KINDS[1:]) if keys.kind == "none" else {})
    for name, some in kinds.items():
        if getattr(keys, name) is not None and keys.kind not in some:
            raise WnError(f"{path}.{name}: goes with the kinds {', '.join(some)}, and kind is {keys.kind}")
    given = {name for name in OPTIONS if getattr(keys, name) is not None}
    for name in OPTIONS:
        with at(f"{path}.{name}"):
            if name in given:
                check_option(keys.kind, name)
    for name, some in _SIGMA_OF.items():
        if getattr(keys, name) is None and keys.kind in some:
            raise WnError(f'{path}.{name}: {keys.kind} noise needs a σ grid, for example "0.01:100:17"')
    if keys.kind == "mixed" and "ratio" not in given:
        raise WnError(f"{path}.ratio: mixed noise needs a ratio in 0…1: σ_add = σ·ratio, σ_mul = σ·(1−ratio)")


def sigma(path: str, keys: NoiseKeys) -> tuple[float, ...]:
    """The σ values of an entry: those of σ_add for mixed-direct noise; none without noise or midpoints."""
    if keys.kind == "none" or is_derived(keys):
        return ()
    return _grid(path, keys, "sigma_add" if keys.kind == "mixed-direct" else "sigma")


def sigma_train(path: str, keys: NoiseKeys) -> tuple[float, ...]:
    """The σ of training in the phase "matrix": those at inference unless the entry gives others."""
    return sigma(path, keys) if keys.sigma_train is None else _grid(path, keys, "sigma_train")


def _grid(path: str, keys: NoiseKeys, name: str) -> tuple[float, ...]:
    with at(f"{path}.{name}"):
        return tuple(float(value) for value in sigma_grid(getattr(keys, name)))


def resolved(path: str, keys: NoiseKeys) -> tuple[NoiseSpec, ...]:
    """The operators of an entry, σ_mul × the options that are axes; none without noise or midpoints."""
    if keys.kind == "none" or is_derived(keys):
        return ()
    values = {name: _values(path, keys, name) for name in OPTIONS}
    for name, some in values.items():  # each alone, so that what is wrong gets the path of its key
        for value in some:
            with at(f"{path}.{name}"):
                _checked(specified(keys.kind, {name: value}))
    values["repetitions"] = _repetitions(path, keys, values["repetitions"])
    sigma_mul: tuple[float | None, ...]
    sigma_mul = _grid(path, keys, "sigma_mul") if keys.kind == "mixed-direct" else (None,)
    number = len(sigma_mul) * prod(map(len, values.values()))
    if number > MOST_OPERATORS:
        axes = " × ".join(name for name in OPTIONS if RULES[name].axis)
        raise WnError(f"{path}: {number} operators (sigma_mul × {axes}): at most {MOST_OPERATORS}")
    with at(path if keys.repetition_maps is None else f"{path}.repetition_maps"):
        return tuple(
            _checked(specified(keys.kind, dict(zip(values, chosen, strict=True)), share))
            for share in sigma_mul
            for chosen in product(*values.values())
        )


def _values(path: str, keys: NoiseKeys, name: str) -> tuple[Any, ...]:
    """The values of an option: one, unless it is an axis; None where it is not given."""
    value = getattr(keys, name)
    return (value,) if value is None or not RULES[name].axis else as_axis(f"{path}.{name}", value)


def _repetitions(path: str, keys: NoiseKeys, repetitions: tuple[Any, ...]) -> tuple[Any, ...]:
    """The numbers of executions, each for all sites, or one for each site."""
    maps = keys.repetition_maps
    if maps is None:
        return repetitions
    if repetitions != (None,):
        raise WnError(
            f"{path}.repetition_maps: leave repetitions out: the maps say how often each site is executed"
        )
    if keys.where != "global":
        raise WnError(
            f'{path}.repetition_maps: goes with where = "global": a number of executions for every site'
        )
    found = tuple(tuple(numbers) for numbers in as_axis(f"{path}.repetition_maps", maps))
    if () in found:
        raise WnError(
            f"{path}.repetition_maps: a map is empty: it needs a number of executions for every site"
        )
    return found


def _checked(spec: NoiseSpec) -> NoiseSpec:
    """The operator, after a look at the ranges of all that does not depend on σ."""
    numbers = (spec.repetitions,) if isinstance(spec.repetitions, int) else spec.repetitions
    for number in set(numbers):
        noises.of_spec(msgspec.structs.replace(spec, repetitions=number), 0.0)
    return spec
