"""From the keys of a [[noise]] entry to its operators and σ values.

Every WnError begins with the path of the key that is wrong.
"""

from typing import Any

from wn.engine import noise as noises
from wn.engine.noise import Noise
from wn.errors import WnError
from wn.study.declare.schema import NoiseKeys, as_axis, at
from wn.study.unit import NoiseSpec
from wn.walking.grids import sigma_grid
from wn.walking.settings import NoiseSettings, noise_factory

_OPERATOR_KEYS = (
    "mean",
    "mean_mul",
    "mean_add",
    "ratio",
    "order",
    "normalize_to_input_size",
    "repetitions",
    "execution",
)
MOST_OPERATORS = 20_000  # of an entry
_NOISY = noises.KINDS[1:]
_MIXED = ("mixed", "mixed-direct")
_KINDS_WITH = {  # the kinds that a key goes with
    **dict.fromkeys(("where", "factors", "phases", "repetition_maps", *_OPERATOR_KEYS), _NOISY),
    **dict.fromkeys(("mean_mul", "mean_add", "order"), _MIXED),
    **dict.fromkeys(("sigma_mul", "sigma_add"), ("mixed-direct",)),
    "sigma": ("additive", "multiplicative", "mixed"),
    "mean": ("additive", "multiplicative"),
    "ratio": ("mixed",),
}


def check_kind(path: str, keys: NoiseKeys) -> None:
    """Raise WnError for an unknown kind, for keys that go with other kinds, and for those that it lacks."""
    if keys.kind not in noises.KINDS:
        raise WnError(f"{path}.kind: unknown noise kind {keys.kind!r}: allowed are {', '.join(noises.KINDS)}")
    for name, kinds in _KINDS_WITH.items():
        if getattr(keys, name) is not None and keys.kind not in kinds:
            raise WnError(f"{path}.{name}: goes with the kinds {', '.join(kinds)}, and kind is {keys.kind}")
    for name in ("sigma", "sigma_mul", "sigma_add"):
        if getattr(keys, name) is None and keys.kind in _KINDS_WITH[name]:
            raise WnError(f'{path}.{name}: {keys.kind} noise needs a σ grid, for example "0.01:100:17"')
    if keys.kind == "mixed" and keys.ratio is None:
        raise WnError(f"{path}.ratio: mixed noise needs a ratio in 0…1: σ_add = σ·ratio, σ_mul = σ·(1−ratio)")


def sigma(path: str, keys: NoiseKeys) -> tuple[float, ...]:
    """Return the σ values of an entry: those of σ_add for mixed-direct noise, none without noise."""
    if keys.kind == "none":
        return ()
    return _grid(path, keys, "sigma_add" if keys.kind == "mixed-direct" else "sigma")


def _grid(path: str, keys: NoiseKeys, name: str) -> tuple[float, ...]:
    with at(f"{path}.{name}"):
        return tuple(float(value) for value in sigma_grid(getattr(keys, name)))


def resolved(path: str, keys: NoiseKeys) -> tuple[NoiseSpec, ...]:
    """Return the operators of an entry: σ_mul × ratio × order × repetitions; none without noise."""
    if keys.kind == "none":
        return ()
    axes = {name: _axis(path, keys, name) for name in ("ratio", "order", "repetitions")}
    for name in _OPERATOR_KEYS:  # each alone, so that what is wrong gets the path of its key
        for value in axes.get(name) or (getattr(keys, name),):
            with at(f"{path}.{name}"):
                _operator(keys, {name: value})
    sigma_mul: tuple[float | None, ...]
    sigma_mul = _grid(path, keys, "sigma_mul") if keys.kind == "mixed-direct" else (None,)
    fixed = {name: getattr(keys, name) for name in _OPERATOR_KEYS if name not in axes}
    executions = _repetitions(path, keys, axes["repetitions"])
    number = len(sigma_mul) * len(axes["ratio"] or "1") * len(axes["order"] or "1") * len(executions)
    if number > MOST_OPERATORS:
        raise WnError(
            f"{path}: {number} operators (sigma_mul × ratio × order × repetitions): at most {MOST_OPERATORS}"
        )
    found = []
    for share in sigma_mul:
        for ratio in axes["ratio"] or (None,):
            for order in axes["order"] or (None,):
                for repetitions in executions:
                    options = fixed | {"ratio": ratio, "order": order}
                    found.append(_resolved(path, keys, share, repetitions, options))
    return tuple(found)


def _axis(path: str, keys: NoiseKeys, name: str) -> tuple[Any, ...] | None:
    value = getattr(keys, name)
    return None if value is None else as_axis(f"{path}.{name}", value)


def _repetitions(
    path: str, keys: NoiseKeys, repetitions: tuple[int, ...] | None
) -> tuple[int | tuple[int, ...], ...]:
    maps = keys.repetition_maps
    if maps is None:
        return repetitions or (1,)
    if repetitions is not None:
        raise WnError(
            f"{path}.repetition_maps: leave repetitions out: the maps say how often each site is executed"
        )
    if keys.where != "global":
        raise WnError(
            f'{path}.repetition_maps: goes with where = "global": a number of executions for every site'
        )
    return tuple(tuple(numbers) for numbers in as_axis(f"{path}.repetition_maps", maps))


def _operator(keys: NoiseKeys, options: dict[str, Any]) -> Noise:
    given = {name: value for name, value in options.items() if value is not None}
    return noise_factory(NoiseSettings(noise=keys.kind, **given))(0.0)


def _resolved(
    path: str,
    keys: NoiseKeys,
    sigma_mul: float | None,
    repetitions: int | tuple[int, ...],
    options: dict[str, Any],
) -> NoiseSpec:
    """Return the operator with everything resolved: an execution that makes no difference is "single"."""
    numbers = (repetitions,) if isinstance(repetitions, int) else repetitions
    with at(path if keys.repetition_maps is None else f"{path}.repetition_maps"):
        if not numbers:
            raise WnError("a map is empty: it needs a number of executions for every site")
        executed = [_operator(keys, options | {"repetitions": number}) for number in numbers]
    operator = executed[0]
    each = any(one.draws_each and one.order == "mul_add" for one in executed)
    return NoiseSpec(
        kind=keys.kind,
        ratio=None if options["ratio"] is None else _number(options["ratio"]),
        sigma_mul=sigma_mul,
        mean_mul=_number(operator.mean_mul),
        mean_add=_number(operator.mean_add),
        order=operator.order,
        normalize_to_input_size=operator.normalize_to_input_size,
        repetitions=numbers[0] if len(set(numbers)) == 1 else numbers,
        execution="each" if each else "single",
    )


def _number(value: Any) -> float:
    return float(value) + 0.0  # -0.0 becomes 0.0
