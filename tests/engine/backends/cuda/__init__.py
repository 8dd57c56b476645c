"""Tests of the CuPy backend without a GPU: its kernels built by a C++ compiler, CuPy replaced by a stand-in.

`CUDA` is the backend with NumPy's arrays going in and coming out, so that it can be compared with others.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import pytest

from tests.engine.backends.cuda import host
from wn.engine.backends import by_primitives
from wn.engine.backends.plain.base import Backend, DrawKey, Draws
from wn.engine.layers.base import Formula

DTYPES = [np.float32, np.float64]

needs_compiler = pytest.mark.skipif(host.COMPILER is None, reason=host.NO_COMPILER)

IN_PLACE = ("adam_update", "adam_updates", "clip")
PRIMITIVES = (
    *("gather", "gather_augmented", "standardise", "linear", "linear_gradients", "linear_input_gradient"),
    *("relu", "relu_backward", "uniforms", "standard_draws", "draw", "apply_draws", "multiply"),
    *("shares", "cross_entropy", "cross_entropy_backward", "log_softmax", "count_correct", *IN_PLACE),
    *("convolution", "convolution_gradients", "convolution_input_gradient"),
    *("max_pool", "max_pool_backward", "average_pool", "average_pool_backward"),
    *("batch_norm", "batch_norm_backward", "moments", "running_statistics"),
    *("normalise", "normaliser", "normalise_sums"),
)


class OnHost(Backend):
    """A backend of a device for arrays of the host: a primitive sends them there and fetches its results."""

    xp = np
    own: ClassVar[Mapping[Formula, Formula]] = by_primitives.ALL

    def __init__(self, be: Any) -> None:
        self.be, self.name = be, f"{be.name} on the host"

    def __getattribute__(self, name: str) -> Any:
        if name not in PRIMITIVES:
            return super().__getattribute__(name)

        def primitive(*arguments: Any, **named: Any) -> Any:
            given = sent(self.be, arguments)
            result = getattr(self.be, name)(*given, **sent(self.be, named))
            if name in IN_PLACE:
                fetch_into(arguments, given)
            return fetched(result)

        return primitive


def sent(be: Any, value: Any) -> Any:
    """Return what a primitive is given on the device; noise values stay on the host."""
    if isinstance(value, np.ndarray):
        return be.asarray(value)
    if isinstance(value, DrawKey):
        return value._replace(samples=be.asarray(value.samples))
    if isinstance(value, Draws):
        return value._replace(key=sent(be, value.key))
    if isinstance(value, dict):
        return {name: sent(be, part) for name, part in value.items()}
    return type(value)(sent(be, part) for part in value) if type(value) in (list, tuple) else value


def fetched(value: Any) -> Any:
    """Return a result on the host."""
    if isinstance(value, tuple):
        return tuple(map(fetched, value))
    return value.get() if hasattr(value, "get") else value


def fetch_into(targets: Any, changed: Any) -> None:
    """Write what was changed on the device to the arrays of the host."""
    for target, array in zip(targets, changed, strict=True):
        if isinstance(target, np.ndarray):
            target[...] = array.get()
        elif isinstance(target, list | tuple):
            fetch_into(target, array)


def on_host(tf32: bool = False) -> OnHost:
    """Return the CuPy backend on the stand-in, for arrays of the host."""
    from tests.engine.backends.cuda import fake_cupy

    return OnHost(fake_cupy.backend(tf32))


def same_bits(first: Any, second: Any) -> bool:
    return bool(first.dtype == second.dtype and first.shape == second.shape) and (
        first.tobytes() == second.tobytes()
    )
