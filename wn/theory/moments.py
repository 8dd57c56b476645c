"""Closed-form moments of the noise operators of docs/noise.md, for one draw and for R averaged draws."""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wn.errors import WnError

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Operator:
    """y = x·M + D ("mul_add") or y = (x + D)·M ("add_mul") with M ~ N(mean_mul, sigma_mul²), D ~ N(mean_add, …).

    Additive noise is mean_mul = 1, sigma_mul = 0; multiplicative noise mean_add = sigma_add = 0.
    repetitions: R ≥ 1. execution: "each" averages R draws on the same x, "single" takes one draw with σ/√R.
    elements: N ≥ 1, both σ are divided by it (normalisation to the input size). All σ ≥ 0 and finite.
    Raises WnError otherwise. Derived in docs/noise.md.
    """

    sigma_mul: float = 0.0
    mean_mul: float = 1.0
    sigma_add: float = 0.0
    mean_add: float = 0.0
    order: Literal["mul_add", "add_mul"] = "mul_add"
    repetitions: int = 1
    execution: Literal["each", "single"] = "each"
    elements: int = 1

    def __post_init__(self) -> None:
        for name in ("sigma_mul", "sigma_add"):
            if not 0 <= getattr(self, name) < math.inf:
                raise WnError(f"{name} must be finite and not negative, not {getattr(self, name)}")
        for name in ("mean_mul", "mean_add"):
            if not math.isfinite(getattr(self, name)):
                raise WnError(f"{name} must be finite, not {getattr(self, name)}")
        for name in ("repetitions", "elements"):
            if getattr(self, name) < 1:
                raise WnError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.order not in ("mul_add", "add_mul"):
            raise WnError(f"order must be 'mul_add' or 'add_mul', not {self.order!r}")
        if self.execution not in ("each", "single"):
            raise WnError(f"execution must be 'each' or 'single', not {self.execution!r}")

    def one_draw(self) -> "tuple[float, float, int]":
        """(std of M, std of D, number of draws averaged), normalisation and execution worked in."""
        scale = 1 / self.elements
        if self.execution == "single":
            return self.sigma_mul * scale / math.sqrt(self.repetitions), self.sigma_add * scale / math.sqrt(
                self.repetitions
            ), 1
        return self.sigma_mul * scale, self.sigma_add * scale, self.repetitions


class Moments(NamedTuple):
    """Mean and variance per element; elements are independent of each other given x."""

    mean: Floats
    variance: Floats


class Cumulants(NamedTuple):
    """First four cumulants per element, given x: mean, variance, third central moment, κ₄ = μ₄ − 3μ₂²."""

    mean: Floats
    variance: Floats
    third: Floats
    fourth: Floats

    @property
    def fourth_moment(self) -> Floats:
        """Fourth central moment μ₄ = κ₄ + 3κ₂²."""
        return self.fourth + 3 * self.variance**2
