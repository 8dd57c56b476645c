"""Layers, noise and images of a user's own, in plain array code, for tests of recorded steps."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from tests.engine.layers import linear, relu
from wn.engine.layers.base import DrawUniform, Formula, Shape, Stateless
from wn.engine.layers.linear import Linear, LinearParams
from wn.engine.layers.max_pooling import MaxPooling
from wn.engine.layers.relu import Relu, ReluCache
from wn.engine.noise import Noise


class Same(Stateless):
    """A layer whose output has the shape of its input."""

    def output_shape(self, shape: Shape) -> Shape:
        return shape


class Tanh(Same):
    """y = tanh x, by NumPy's function."""

    def forward(self, be: Any, params: Any, x: Any, state: Any) -> tuple[Any, Any, Any]:
        y = np.tanh(x)
        return y, y, state

    def backward(self, be: Any, dy: Any, cache: Any, need_dx: bool) -> tuple[Any, tuple[()]]:
        return dy * (1 - cache * cache), ()


class TanhThatLies(Tanh):
    """A tanh that says its steps may be recorded: on a CPU they may not."""

    recordable: ClassVar[bool] = True


class Leaky(Relu):
    """max(x, 0.3x): a subclass of a layer that is recorded, and that is fused with its neighbours."""

    def forward(self, be: Any, params: Any, x: Any, state: Any) -> tuple[Any, Any, Any]:
        return be.xp.maximum(x, x.dtype.type(0.3) * x), x, state

    def backward(self, be: Any, dy: Any, cache: Any, need_dx: bool) -> tuple[Any, tuple[()]]:
        return be.xp.where(cache > 0, dy, dy.dtype.type(0.3) * dy), ()


class Binary(Linear):
    """A linear layer with the signs of its weights: a subclass that computes with parameters."""

    def forward(self, be: Any, params: Any, x: Any, state: Any) -> tuple[Any, Any, Any]:
        signs = params._replace(w=np.sign(params.w))
        return super().forward(be, signs, x, state)


class MeanPooling(MaxPooling):
    """A pooling whose subclass has another formula, and no forward of its own."""

    @staticmethod
    def mean(xp: Any, params: Any, x: Any, window: Any) -> tuple[Any, Any]:
        tiles = x.reshape(*x.shape[:2], x.shape[2] // 2, 2, x.shape[3] // 2, 2, x.shape[4])
        return tiles.mean(axis=(3, 5)), None

    @staticmethod
    def spread(xp: Any, dy: Any, cache: Any) -> tuple[Any, tuple[()]]:
        return np.repeat(np.repeat(dy / 4, 2, axis=2), 2, axis=3), ()

    formula = Formula(mean.__func__, spread.__func__)


@dataclass(frozen=True)
class Residual(Same):
    """y = W relu(V x) + x: a layer made of layers of the package, and one operator between arrays."""

    features: int
    learns: ClassVar[bool] = True

    def initial_parameters(self, be: Any, shape: Shape, draw: DrawUniform) -> Any:
        v, w = (
            (draw(2 * i, (self.features,) * 2, 0.2), draw(2 * i + 1, (self.features,), 0.2)) for i in (0, 1)
        )
        return LinearParams(*v), LinearParams(*w)

    def forward(self, be: Any, params: Any, x: Any, state: Any) -> tuple[Any, Any, Any]:
        hidden, first = linear.forward(be, params[0], x)
        cut, mask = relu.forward(be, (), hidden)
        y, second = linear.forward(be, params[1], cut)
        return y + x, (first, mask, second), state

    def backward(self, be: Any, dy: Any, cache: Any, need_dx: bool) -> tuple[Any, Any]:
        first, mask, second = cache
        dcut, dw = linear.backward(be, dy, second)
        dhidden, _ = relu.backward(be, dcut, mask)
        dx, dv = linear.backward(be, dhidden, first)
        return dx + dy, (dv, dw)


class Counting(Same):
    """y = x at odd steps, relu(x) at even ones: primitives alone, but Python decides which."""

    recordable: ClassVar[bool] = True

    def __init__(self) -> None:
        self.steps = 0

    def forward(self, be: Any, params: Any, x: Any, state: Any) -> tuple[Any, Any, Any]:
        self.steps += 1
        y = relu.forward(be, (), x)[0] if self.steps % 2 == 0 else x
        return y, y if self.steps % 2 == 0 else None, state

    def backward(self, be: Any, dy: Any, cache: Any, need_dx: bool) -> tuple[Any, tuple[()]]:
        return dy if cache is None else relu.backward(be, dy, ReluCache(cache))[0], ()


class Twice(Same):
    """y = relu(x) by primitives alone: it may be recorded."""

    recordable: ClassVar[bool] = True

    def forward(self, be: Any, params: Any, x: Any, state: Any) -> tuple[Any, Any, Any]:
        cut, _ = relu.forward(be, (), x)
        y, cache = relu.forward(be, (), cut)
        return y, cache, state

    def backward(self, be: Any, dy: Any, cache: Any, need_dx: bool) -> tuple[Any, tuple[()]]:
        return relu.backward(be, dy, cache)


class Louder(Noise):
    """Noise that grows with every use."""

    def scales(self, dtype: Any, elements: int) -> Any:
        found = super().scales(dtype, elements)
        if found.offset is not None:
            found.offset.scale[...] *= 1.1
        return found._replace(offset=found.offset._replace(scale=found.offset.scale.copy()))
