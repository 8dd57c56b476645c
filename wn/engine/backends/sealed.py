"""Arrays of a step that is being recorded: kernels compute with them, plain array code can't.

A repeated step calls kernels only. Whatever else computed with an array while the step was recorded – an
operator, a function of NumPy, an index, a comparison – would be done once and its result used for good. So
a step is recorded with arrays that show their shape and can be seen in another one, and refuse the rest.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

# Special methods that every object has, and that an array answers by its values.
OF_VALUES = {f"__{name}__" for name in ("eq", "ne", "lt", "le", "gt", "ge", "reduce", "reduce_ex")}


class NotRecordable(RuntimeError):
    """A step did what can't be repeated; nothing has been changed in place by then."""


class Sealed:
    """An array that only a primitive of the backend can look into."""

    __slots__ = ("_array", "_refuse")
    __hash__ = None  # type: ignore[assignment]  # as arrays have it

    def __init__(self, array: Any, refuse: Callable[[str], Any]) -> None:
        self._array, self._refuse = array, refuse

    @property
    def shape(self) -> tuple[int, ...]:
        """The lengths of its axes."""
        return tuple(self._array.shape)

    @property
    def ndim(self) -> int:
        """The number of its axes."""
        return int(self._array.ndim)

    @property
    def size(self) -> int:
        """The number of its elements."""
        return int(self._array.size)

    @property
    def dtype(self) -> Any:
        """The type of its elements."""
        return self._array.dtype

    @property
    def T(self) -> "Sealed":
        """All axes in reverse order."""
        return self.transpose()

    def __len__(self) -> int:
        return len(self._array)

    def reshape(self, *shape: Any) -> "Sealed":
        """The same elements in another shape; where they would have to be copied, it is refused."""
        return self._seen(self._array.reshape(*shape), "a copy in another shape")

    def transpose(self, *axes: Any) -> "Sealed":
        """The axes in another order."""
        return self._seen(self._array.transpose(*axes), "")

    def __getitem__(self, key: Any) -> "Sealed":
        return self._seen(self._array[key], "picking elements")

    def _seen(self, result: Any, what: str) -> "Sealed":
        """Seal a result that lies in the same memory; anything else is a value, read off once."""
        view = isinstance(result, np.ndarray) and (
            not result.size or np.may_share_memory(result, self._array)
        )
        return Sealed(result, self._refuse) if view else self._refuse(what)

    def __array_ufunc__(self, ufunc: Any, method: str, *_: Any, **__: Any) -> Any:
        return self._refuse(f"NumPy's {ufunc.__name__} of an array")

    def __array_function__(self, function: Any, *_: Any) -> Any:
        return self._refuse(f"NumPy's {function.__name__} of an array")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._refuse(f"{name} of an array")


class SealedNamespace:
    """NumPy in a step that is being recorded: it may be passed on, and whatever is asked of it is refused."""

    __slots__ = ("_refuse",)

    def __init__(self, refuse: Callable[[str], Any]) -> None:
        self._refuse = refuse

    def __getattr__(self, name: str) -> Any:
        return self._refuse("plain array code")


def _refusing(name: str) -> Callable[..., Any]:
    return lambda self, *_, **__: self._refuse(f"{name.strip('_')} of an array")


for _name in (set(dir(np.ndarray)) - set(dir(object)) | OF_VALUES) - set(vars(Sealed)):
    if _name.startswith("__") and callable(getattr(np.ndarray, _name)):  # operators, conversions, copies
        setattr(Sealed, _name, _refusing(_name))


def sealed(value: Any, refuse: Callable[[str], Any]) -> Any:
    """The arrays in a structure of tuples sealed; `refuse(what)` is called for all that they can't do."""
    if isinstance(value, np.ndarray):
        return Sealed(value, refuse)
    return _mapped(value, lambda part: sealed(part, refuse)) if isinstance(value, tuple) else value


def opened(value: Any) -> Any:
    """The arrays in a structure of tuples and lists as kernels take them."""
    if isinstance(value, Sealed):
        return value._array
    return _mapped(value, opened) if isinstance(value, tuple | list) else value


def _mapped(parts: Any, function: Callable[[Any], Any]) -> Any:
    new = [function(part) for part in parts]
    return type(parts)(*new) if hasattr(parts, "_fields") else type(parts)(new)
