"""Noise operators: which kinds there are, and where in a network they apply. Derived in docs/noise.md.

Every kind is a case of one operator with a multiplicative part M and an additive part D,

    mul→add: y = x·M + D        add→mul: y = (x + D)·M,
    M = mean_mul + σ_mul z,    D = mean_add + σ_add z',

where z and z' have mean 0 and variance 1 and are normal, uniform or Laplace-distributed, with draws of their
own for every element and sample, in training anew in every epoch (Borras, Klein, Fröning, arXiv 2212.10430,
section 3, for normal draws).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from msgspec import UNSET
from numpy.typing import NDArray

from wn.basics.errors import WnError
from wn.basics.numbers import check_switch, is_integer
from wn.engine.noise_spec import (
    ADDING,
    DEFAULT_RATIO,
    MULTIPLYING,
    RULES,
    NoiseSpec,
    check_choice,
    check_option,
    may_be_single,
)

MOST_DRAWS = 4096  # repetitions with draws of their own: as many as the addresses of wn.random hold

Order = Literal["mul_add", "add_mul"]
Execution = Literal["single", "each"]
FloatOrMembers = float | NDArray[np.float64]  # one number, or one per member (P,)


@dataclass(frozen=True, eq=False)
class Noise:
    """One noise operator; make it with `additive`, `multiplicative`, `mixed`, `mixed_direct` or `none`.

    `sigma_mul`, `sigma_add` ≥ 0 and the means are numbers, or arrays (P,) with a value per member: lists
    become float64 arrays.
    `repetitions` R executes the operator R times on the same x and averages; `execution` says how: "each"
    draws R times, "single" draws once with σ/√R, which has the same distribution (but not for add→mul, nor
    for draws that are not normal: there the operator always draws R times; see docs/noise.md). `distribution`
    is that of the draws; means and σ stay. `normalize_to_input_size` divides σ by the number N of elements
    per sample. Raises WnError for values out of range, for values and an order that the kind has not, and for
    more than 4096 repetitions that are drawn separately.
    """

    kind: str = "none"
    sigma_mul: FloatOrMembers = 0.0
    mean_mul: FloatOrMembers = 1.0
    sigma_add: FloatOrMembers = 0.0
    mean_add: FloatOrMembers = 0.0
    order: Order = "mul_add"
    in_training: bool = True
    in_inference: bool = True
    normalize_to_input_size: bool = False
    repetitions: int = 1
    execution: Execution = "single"
    distribution: str = "normal"
    recordable: ClassVar[bool] = True  # as layers have it, see `wn.engine.layers.base`

    def __post_init__(self) -> None:
        for name in ("kind", "order", "execution", "distribution"):
            check_choice(name, getattr(self, name))
        for name, least in (("sigma_mul", 0), ("sigma_add", 0), ("mean_mul", -np.inf), ("mean_add", -np.inf)):
            value = _checked(name, getattr(self, name), at_least=least)
            object.__setattr__(self, name, value)  # the one way to set a field of a frozen dataclass
        self.members()
        for name in ("in_training", "in_inference", "normalize_to_input_size"):
            check_switch(name, getattr(self, name))
        if not is_integer(self.repetitions):
            raise WnError(f"repetitions is {self.repetitions!r}: it must be an integer of at least 1")
        if self.repetitions < 1:
            raise WnError(f"repetitions is {self.repetitions}: it must be at least 1")
        if self.draws_each and self.repetitions > MOST_DRAWS:
            raise WnError(
                f"repetitions is {self.repetitions}: at most {MOST_DRAWS} can be drawn separately (execution "
                "each, order add_mul, or draws that are not normal); else execution single has no limit"
            )
        _check_kind(self)

    def __eq__(self, other: object) -> bool:
        return self._values() == other._values() if isinstance(other, Noise) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._values())

    def _values(self) -> tuple[Any, ...]:
        values = (getattr(self, field.name) for field in fields(self))
        return tuple(tuple(v.tolist()) if isinstance(v, np.ndarray) else v for v in values)

    @cached_property
    def has_multiplier(self) -> bool:
        """Whether M differs from the constant 1."""
        return bool(np.any(np.asarray(self.sigma_mul) != 0) or np.any(np.asarray(self.mean_mul) != 1))

    @cached_property
    def has_offset(self) -> bool:
        """Whether D differs from the constant 0."""
        return bool(np.any(np.asarray(self.sigma_add) != 0) or np.any(np.asarray(self.mean_add) != 0))

    def active(self, training: bool) -> bool:
        """Whether the operator does anything in this phase."""
        return (self.in_training if training else self.in_inference) and (
            self.has_multiplier or self.has_offset
        )

    @property
    def draws_each(self) -> bool:
        """Whether R repetitions are R draws (else one draw with σ/√R).

        It does not depend on the values, or a member's draws would change with those of its neighbours.
        """
        return self.repetitions > 1 and (self.execution == "each" or not may_be_single(self))

    def for_elements(self, elements: int) -> "Noise":
        """Return the operator at a site of N elements per sample: with σ/N, if it is normalised."""
        if not self.normalize_to_input_size:
            return self
        if elements < 1:
            raise WnError(f"elements is {elements}: it must be at least 1")
        sigma_mul, sigma_add = self.sigma_mul / elements, self.sigma_add / elements
        return replace(self, sigma_mul=sigma_mul, sigma_add=sigma_add, normalize_to_input_size=False)

    def scales(self, dtype: Any, elements: int) -> "NoiseScales":
        """Factor and shift of the standardised draws of M and of D, in `dtype`; None for a constant 1 or 0.

        `elements` is the number N of elements per sample. Where one draw stands for R, σ is divided by √R.
        Raises WnError for a value beyond `dtype`.
        """
        key = np.dtype(dtype), elements if self.normalize_to_input_size else 1
        if key not in self._scales:  # made once: layers ask in every step
            shrink = (1 if self.draws_each else self.repetitions) ** -0.5 / key[1]
            self._scales[key] = NoiseScales(
                _scale(self.sigma_mul, shrink, self.mean_mul, key[0]) if self.has_multiplier else None,
                _scale(self.sigma_add, shrink, self.mean_add, key[0]) if self.has_offset else None,
            )
        return self._scales[key]

    @cached_property
    def _scales(self) -> "dict[tuple[Any, int], NoiseScales]":
        return {}

    def members(self) -> int:
        """Return the number of members that the values are given for (1 if all are numbers)."""
        sizes = {
            np.size(value) for value in (self.sigma_mul, self.mean_mul, self.sigma_add, self.mean_add)
        } - {1}
        if len(sizes) > 1:
            raise WnError(f"noise values are given for different numbers of members: {sorted(sizes)}")
        return sizes.pop() if sizes else 1


class Scale(NamedTuple):
    """Draws scale·z + shift: arrays (P|1,)."""

    scale: NDArray[Any]
    shift: NDArray[Any]


class NoiseScales(NamedTuple):
    """The draws of M and D; None for the constants M = 1 and D = 0."""

    multiplier: Scale | None
    offset: Scale | None


def _scale(sigma: FloatOrMembers, shrink: float, mean: FloatOrMembers, dtype: Any) -> Scale:
    largest, found = float(np.finfo(dtype).max), []
    for values in (np.asarray(sigma) * shrink, mean):
        array = np.atleast_1d(np.asarray(values, np.float64))
        if np.abs(array).max() > largest:
            raise WnError(f"a noise value of {np.abs(array).max():g} is beyond {dtype} (at most {largest:g})")
        found.append(array.astype(dtype))
    return Scale(*found)


def none() -> Noise:
    """Return the operator that does nothing: y = x."""
    return Noise()


def additive(sigma: FloatOrMembers, mean: FloatOrMembers = 0.0, **options: Any) -> Noise:
    """Return additive noise: y = x + N(mean, σ²)."""
    sigma = _checked("sigma of additive noise", sigma, at_least=0)
    return _noise("additive", options, sigma_add=sigma, mean_add=mean)


def multiplicative(sigma: FloatOrMembers, mean: FloatOrMembers = 1.0, **options: Any) -> Noise:
    """Return multiplicative noise: y = x · N(mean, σ²)."""
    sigma = _checked("sigma of multiplicative noise", sigma, at_least=0)
    return _noise("multiplicative", options, sigma_mul=sigma, mean_mul=mean)


def mixed(amplitude: FloatOrMembers, ratio: float, **options: Any) -> Noise:
    """Return mixed noise of amplitude A ≥ 0 and ratio r in [0, 1]: σ_add = A·r, σ_mul = A·(1−r)."""
    amplitude = _checked("amplitude of mixed noise", amplitude, at_least=0)
    share = _checked("ratio of mixed noise", ratio, at_least=0, at_most=1)
    return _noise("mixed", options, sigma_mul=amplitude * (1 - share), sigma_add=amplitude * share)


def mixed_direct(sigma_mul: FloatOrMembers, sigma_add: FloatOrMembers, **options: Any) -> Noise:
    """Return mixed noise with both standard deviations given."""
    return _noise("mixed-direct", options, sigma_mul=sigma_mul, sigma_add=sigma_add)


def of_kind(kind: str, sigma: FloatOrMembers, ratio: float | None = None, **options: Any) -> Noise:
    """Return the operator of that kind at strength σ (for mixed noise: amplitude σ and ratio, by default
    ½; for mixed-direct: σ_mul = σ_add = σ).

    `options` are those of `NoiseOptions`, and `in_training` and `in_inference`; unknown kinds and options,
    and options of other kinds, raise WnError with what is allowed.
    """
    check_choice("kind", kind)
    if kind == "none":
        return _noise("none", _given(options, ratio))
    if kind == "additive":
        return additive(sigma, **_given(options, ratio))
    if kind == "multiplicative":
        return multiplicative(sigma, **_given(options, ratio))
    if kind == "mixed":
        return mixed(sigma, DEFAULT_RATIO if ratio is None else ratio, **options)
    if kind == "mixed-direct":
        return mixed_direct(sigma, sigma, **_given(options, ratio))
    raise WnError(f"noise kind {kind!r} has no operator")


def of_spec(spec: NoiseSpec, sigma: FloatOrMembers) -> Noise:
    """Return the operator of a specification at strength σ, a number or one per member (P,).

    With repetitions for each site the operator has one: who places it sets them. Raises WnError for values
    out of range.
    """
    values = {name: getattr(spec, name) for name in _OF_SPEC if getattr(spec, name) is not UNSET}
    if isinstance(spec.repetitions, int):
        values["repetitions"] = spec.repetitions
    operator = of_kind(spec.kind, sigma, spec.ratio)
    values |= {} if spec.sigma_mul is None else {"sigma_mul": spec.sigma_mul}
    return replace(operator, **values)


# What an operator has under the same name, whatever its σ.
_OF_SPEC = tuple(set(NoiseSpec.__struct_fields__) - {"kind", "ratio", "sigma_mul", "repetitions"})
_SWITCHES = ("in_training", "in_inference")


def _given(options: dict[str, Any], ratio: float | None) -> dict[str, Any]:
    return options if ratio is None else {**options, "ratio": ratio}


def _noise(kind: str, options: dict[str, Any], **values: FloatOrMembers) -> Noise:
    for name in sorted(options):
        check_option(kind, name, _SWITCHES)
    settings: dict[str, Any] = {**values, **options}
    return Noise(kind, **settings)


SiteNoise = Mapping[int, Noise]  # where noise applies: site index → operator


def everywhere(sites: int, noise: Noise) -> dict[int, Noise]:
    """Global noise: the same operator, drawn separately, at each of `sites` sites."""
    return dict.fromkeys(range(sites), noise)


def mapped(noise: Noise, factors: Mapping[int, float]) -> dict[int, Noise]:
    """Mapped noise: the operator with its σ multiplied by a factor ≥ 0 of each site."""
    checked = {site: _checked(f"factor of site {site}", f, at_least=0) for site, f in factors.items()}
    with np.errstate(over="ignore"):  # an infinite σ is refused by Noise
        return {
            site: replace(noise, sigma_mul=noise.sigma_mul * factor, sigma_add=noise.sigma_add * factor)
            for site, factor in checked.items()
        }


def repeated(at_sites: SiteNoise, repetitions: Sequence[int]) -> dict[int, Noise]:
    """The operators with a number of executions each, in the order of the sites."""
    return {
        site: replace(noise, repetitions=number)
        for (site, noise), number in zip(at_sites.items(), repetitions, strict=True)
    }


def _check_kind(noise: Noise) -> None:
    if noise.kind not in MULTIPLYING and noise.has_multiplier:
        raise WnError(f"{noise.kind} noise does not multiply: sigma_mul must be 0 and mean_mul 1")
    if noise.kind not in ADDING and noise.has_offset:
        raise WnError(f"{noise.kind} noise does not add: sigma_add and mean_add must be 0")
    if noise.kind not in RULES["order"].kinds and noise.order != "mul_add":
        raise WnError(f"{noise.kind} noise has no order {noise.order}: an order goes with mixed noise")


def _checked(what: str, value: Any, at_least: float = -np.inf, at_most: float = np.inf) -> FloatOrMembers:
    """Return `value` as a float or a float64 array (P,), after checking that it is finite and in range."""
    try:
        array = np.asarray(value)
    except ValueError:  # a list of lists of different lengths
        array = np.asarray(None)
    if array.dtype.kind not in "iuf":
        raise WnError(f"{what} is {value!r}: it must be a number or one number per member")
    if array.ndim > 1 or array.size == 0:
        raise WnError(f"{what} has shape {array.shape}: it must be a number or one number per member")
    array = array.astype(np.float64)
    bounds = ["finite"]
    bounds += [f"≥ {at_least:g}"] if at_least > -np.inf else []
    bounds += [f"≤ {at_most:g}"] if at_most < np.inf else []
    allowed = " and ".join(filter(None, [", ".join(bounds[:-1]), bounds[-1]]))
    wrong = array[~np.isfinite(array) | (array < at_least) | (array > at_most)]
    if wrong.size:
        raise WnError(f"{what} is {wrong.flat[0]:g}: it must be {allowed}")
    return array if array.ndim else float(array)
