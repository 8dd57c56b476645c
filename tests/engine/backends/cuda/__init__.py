"""Tests of the CuPy backend without a GPU: its kernels built by a C++ compiler, CuPy replaced by a stand-in.

`CUDA` is the backend with NumPy's arrays going in and coming out, so that it can be compared with others.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.engine.backends.cuda import host
from wn.engine.backends.plain.base import Backend, DrawKey, Draws

DTYPES = [np.float32, np.float64]

needs_compiler = pytest.mark.skipif(host.COMPILER is None, reason=host.NO_COMPILER)

IN_PLACE = ("adam_update", "adam_updates", "clip")
THERE = (
    *("gather", "gather_augmented", "standardise", "uniforms", "standard_draws", "draw", "apply_draws"),
    *("multiply", "count_correct", "update_running", "forward", "backward", *IN_PLACE),
)


class OnHost(Backend):
    """A backend of a device for arrays of the host: what is done there takes them there and back."""

    xp = np

    def __init__(self, be: Any) -> None:
        self.be, self.name = be, f"{be.name} on the host"

    def __getattribute__(self, name: str) -> Any:
        if name not in THERE:
            return super().__getattribute__(name)

        def there(*arguments: Any, **named: Any) -> Any:
            given = sent(self.be, arguments)
            result = getattr(self.be, name)(*given, **sent(self.be, named))
            if name in IN_PLACE:
                fetch_into(arguments, given)
            return fetched(result)

        return there


def sent(be: Any, value: Any) -> Any:
    """The arguments on the device; noise values and formulas stay on the host."""
    if isinstance(value, np.ndarray):
        return be.asarray(value)
    if isinstance(value, DrawKey):
        return value._replace(samples=be.asarray(value.samples))
    if isinstance(value, Draws):
        return value._replace(key=sent(be, value.key))
    if isinstance(value, dict):
        return {name: sent(be, part) for name, part in value.items()}
    if isinstance(value, list):
        return [sent(be, part) for part in value]
    return mapped(lambda part: sent(be, part), value) if isinstance(value, tuple) else value


def mapped(function: Callable[[Any], Any], parts: Any) -> Any:
    """Return a function's results for the parts of a tuple, named if they are."""
    new = [function(part) for part in parts]
    return type(parts)(*new) if hasattr(parts, "_fields") else tuple(new)


def fetched(value: Any) -> Any:
    """Return a result on the host."""
    if isinstance(value, tuple):
        return mapped(fetched, value)
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
