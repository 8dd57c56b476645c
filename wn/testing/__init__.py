"""Tools to test numerical code: gradient and layer checks, moment checks, tolerances, Hypothesis
strategies, and a check of recorded training steps.

`strategies` is imported when it is first used, since it alone needs Hypothesis; the check of recorded steps,
since it alone trains.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from wn.testing.adapters.batch_first import batch_first
from wn.testing.case import LayerCase
from wn.testing.errors import CheckFailure, KinkError, UnresolvedError
from wn.testing.functions import check_vjp, numerical_gradient
from wn.testing.gradients import check_gradient, check_shapes
from wn.testing.layers import (
    check_dtype,
    check_inputs_unchanged,
    check_isolation,
    check_layer,
    check_layout,
    check_population,
    check_repeatable,
)
from wn.testing.moments import MomentCheck, check_covariance, check_independence, check_mean, check_variance
from wn.testing.tolerances import assert_close, tolerance

if TYPE_CHECKING:
    from wn.testing.recording import check_recorded, check_recorded_step

__all__ = [
    "CheckFailure",
    "KinkError",
    "LayerCase",
    "MomentCheck",
    "UnresolvedError",
    "assert_close",
    "batch_first",
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
    "check_recorded",
    "check_recorded_step",
    "check_repeatable",
    "check_shapes",
    "check_variance",
    "check_vjp",
    "numerical_gradient",
    "tolerance",
]


def __getattr__(name: str) -> Any:
    if name == "strategies":
        return import_module("wn.testing.strategies")
    if name in ("check_recorded", "check_recorded_step"):
        return getattr(import_module("wn.testing.recording"), name)
    raise AttributeError(f"module 'wn.testing' has no attribute {name!r}")
