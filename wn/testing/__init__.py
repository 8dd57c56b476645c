"""Tools to test numerical code: gradient and layer checks, moment checks, tolerances, Hypothesis
strategies.

`strategies` is imported when it is first used: it alone needs Hypothesis.
"""

from importlib import import_module
from types import ModuleType

from wn.testing.case import LayerCase
from wn.testing.gradients import KinkError, UnresolvedError, check_gradient, check_shapes
from wn.testing.layers import (
    check_dtype,
    check_inputs_unchanged,
    check_isolation,
    check_layer,
    check_layout,
    check_population,
    check_repeatable,
)
from wn.testing.moments import (
    MomentCheck,
    check_covariance,
    check_independence,
    check_mean,
    check_variance,
)
from wn.testing.tolerances import assert_close, tolerance

__all__ = [
    "KinkError",
    "LayerCase",
    "MomentCheck",
    "UnresolvedError",
    "assert_close",
    "check_covariance",
    "check_dtype",
    "check_gradient",
    "check_independence",
    "check_inputs_unchanged",
    "check_isolation",
    "check_layer",
    "check_layout",
    "check_mean",
    "check_population",
    "check_repeatable",
    "check_shapes",
    "check_variance",
    "tolerance",
]


def __getattr__(name: str) -> ModuleType:
    if name == "strategies":
        return import_module("wn.testing.strategies")
    raise AttributeError(f"module 'wn.testing' has no attribute {name!r}")
