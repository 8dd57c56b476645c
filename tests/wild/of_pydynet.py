"""Gradients of PyDyNet: operators, functions, layers and losses."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pydynet as pdn
from pydynet import nn
from pydynet.core.tensor import Graph
from pydynet.nn import functional as F

from tests.wild.cases import Case, Draws


def _case(name: str, function: Callable[..., Any], *arrays: Any, **known: Any) -> Case:
    def tensors(given: tuple[Any, ...]) -> list[Any]:
        Graph.node_list.clear()  # the only graph of the library keeps what an error has left
        Graph.size = 0
        return [pdn.Tensor(np.array(array), requires_grad=True, dtype=np.float64) for array in given]

    def f(*given: Any) -> Any:
        return np.array(function(*tensors(given)).data)

    def vjp(dy: Any, *given: Any) -> tuple[Any, ...]:
        leaves = tensors(given)  # PyDyNet goes back from a single number: Σ dy·y
        pdn.sum(function(*leaves) * pdn.Tensor(np.array(dy), dtype=np.float64)).backward()
        return tuple(np.array(leaf.grad, dtype=np.float64).reshape(leaf.shape) for leaf in leaves)

    return Case(name, f, vjp, arrays, **known)


def _layer(name: str, make: Callable[[], Any], *arrays: Any, **known: Any) -> Case:
    """A layer: its parameters, drawn once, are checked with its input."""
    parameters = [np.array(p.data, dtype=np.float64) for p in make().parameters()]
    draw = Draws(name)
    parameters = [np.where(p == 0, draw.normal(*p.shape, scale=0.3), p) for p in parameters]

    def function(*leaves: Any) -> Any:
        layer = make()
        own = list(layer.parameters())
        for holder, attribute, number in _places(layer, own):
            setattr(holder, attribute, leaves[len(arrays) + number])
        y = layer(*leaves[: len(arrays)])
        return y[0] if isinstance(y, tuple) else y

    return _case(name, function, *arrays, *parameters, **known)


def _places(layer: Any, own: list[Any]) -> list[tuple[Any, str, int]]:
    """Where the parameters of a layer and of its parts are kept."""
    found, todo, seen = [], [layer], set()
    while todo:
        holder = todo.pop()
        if id(holder) in seen:
            continue
        seen.add(id(holder))
        for attribute, value in list(vars(holder).items()):
            for number, parameter in enumerate(own):
                if value is parameter:
                    found.append((holder, attribute, number))
            todo += [part for part in _parts(value) if isinstance(part, nn.Module)]
    return found


def _parts(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return list(value) if isinstance(value, list | tuple) else [value]


def cases() -> Iterator[Case]:
    """Operators, reductions, layouts, and what networks are made of."""
    yield from _elementwise(Draws("pydynet elementwise"))
    yield from _reductions(Draws("pydynet reductions"))
    yield from _layouts(Draws("pydynet layouts"))
    yield from _functional(Draws("pydynet functional"))
    yield from _layers(Draws("pydynet layers"))


def _elementwise(draw: Draws) -> Iterator[Case]:
    x, y, positive = draw.normal(3, 4), draw.normal(4), draw.positive(3, 4)
    for name in ("exp", "abs", "sigmoid", "tanh", "sign", "square"):
        yield _case(name, getattr(pdn, name), x)
    for name in ("log", "sqrt"):
        yield _case(name, getattr(pdn, name), positive)
        yield _case(f"{name}, wide", getattr(pdn, name), np.geomspace(1e-4, 1e4, 5))
    for name in ("sigmoid", "tanh"):
        yield _case(f"{name}, steep", getattr(pdn, name), np.array([-20.0, -9.0, -3.0, 2.0, 8.0, 20.0]))
    for name in ("add", "sub", "mul", "div", "maximum", "minimum"):
        yield _case(name, getattr(pdn, name), x, y)
        yield _case(f"{name}, column", getattr(pdn, name), x, draw.normal(3, 1))
    yield _case("pow", pdn.pow, positive, y)
    yield _case("pow, number", lambda x: x**3, x)
    yield _case("x**2 at 0", lambda x: x**2, np.array([0.0, 1.0, -2.0]))
    yield _case("x**3 at 0", lambda x: x**3, np.array([0.0, 1.0, -2.0]))
    yield _case("number ** x", lambda x: 2.0**x, x)
    yield _case("1 / x", lambda x: 1.0 / x, x)
    yield _case("1 - x", lambda x: 1.0 - x, x)
    yield _case("x + x", lambda x: x + x, x)
    yield _case("x * x", lambda x: x * x, x)
    yield _case("x - x", lambda x: x - x, x)
    yield _case("x / x", lambda x: x / x, x)
    yield _case("x ** x", lambda x: x**x, positive)
    yield _case("-x", lambda x: -x, x)
    yield _case("used twice", lambda x: pdn.exp(x) * x + x, x)


def _reductions(draw: Draws) -> Iterator[Case]:
    x = draw.distinct(3, 4, 2)
    for name in ("sum", "mean", "max", "min"):
        function = getattr(pdn, name)
        yield _case(f"{name} of all", function, x)
        yield _case(f"{name} along 1", lambda x, f=function: f(x, axis=1), x)
        yield _case(f"{name} along 0, 2", lambda x, f=function: f(x, axis=(0, 2)), x)
        yield _case(f"{name} along -1, kept", lambda x, f=function: f(x, axis=-1, keepdims=True), x)


def _layouts(draw: Draws) -> Iterator[Case]:
    x, index = draw.normal(3, 4), np.array([2, 0, 2, 2])
    functions: dict[str, Callable[[Any], Any]] = {
        "reshape": lambda x: pdn.reshape(x, (2, 6)),
        "transpose": lambda x: x.T,
        "transpose, axes": lambda x: x.reshape(3, 2, 2).transpose(1, 2, 0),
        "swapaxes": lambda x: pdn.swapaxes(x, 0, 1),
        "index": lambda x: x[1],
        "index, list": lambda x: x[[2, 0]],
        "index, repeated": lambda x: x[index],
        "index, both": lambda x: x[[2, 0, 1], [1, 0, 3]],
        "index, both, repeated": lambda x: x[[2, 0, 2], [1, 0, 1]],
        "index, mask": lambda x: x[np.arange(12).reshape(3, 4) % 3 == 0],
        "slice, negative step": lambda x: x[::-2, 1:],
        "concat": lambda x: pdn.concat([x, x * 2.0], axis=1),
        "concat, twice the same": lambda x: pdn.concat([x, x], axis=0),
        "split": lambda x: pdn.split(x, 2, axis=1)[1],
        "hsplit": lambda x: pdn.hsplit(x, [1, 3])[1],
        "unsqueeze": lambda x: pdn.unsqueeze(x, 1),
        "squeeze": lambda x: pdn.squeeze(x[:1]),
    }
    for name, function in functions.items():
        yield _case(name, function, x)
    b = draw.normal(4, 2)
    yield _case("matmul", pdn.matmul, x, b)
    yield _case("matmul of itself", lambda x: x @ x, draw.normal(3, 3))
    yield _case("matmul, vectors", pdn.matmul, x[0], b[:, 0])
    yield _case("matmul, matrix and vector", pdn.matmul, x, b[:, 0])
    yield _case("matmul, vector and matrix", pdn.matmul, x[0], b)
    yield _case("matmul, stack", pdn.matmul, draw.normal(2, 3, 4), draw.normal(2, 4, 2))
    yield _case("matmul, broadcast", pdn.matmul, draw.normal(2, 1, 3, 4), draw.normal(3, 4, 2))
    yield _case("matmul, stack and matrix", pdn.matmul, draw.normal(2, 3, 4), b)
    yield _case("matmul, stack and vector", pdn.matmul, draw.normal(2, 3, 4), b[:, 0])
    yield _case("matmul, vector and stack", pdn.matmul, x[0], draw.normal(2, 4, 2))


def _functional(draw: Draws) -> Iterator[Case]:
    x = draw.normal(3, 4)
    for name in ("sigmoid", "tanh", "relu", "silu"):
        yield _case(f"F.{name}", getattr(F, name), x)
    for alpha in (0.1, 1.5):
        yield _case(f"F.leaky_relu, {alpha}", lambda x, a=alpha: F.leaky_relu(x, a), x)
    for axis in (None, 0, 1, -1):
        yield _case(f"F.softmax, axis={axis}", lambda x, a=axis: F.softmax(x, a), x)
        yield _case(f"F.log_softmax, axis={axis}", lambda x, a=axis: F.log_softmax(x, a, True), x)
    yield _case("F.linear", F.linear, x, draw.normal(4, 2), draw.normal(2))
    tokens = pdn.Tensor(np.array([[0, 2], [3, 1]]))
    repeated = pdn.Tensor(np.array([[0, 2], [2, 1]]))
    yield _case("F.embedding", lambda w: F.embedding(tokens, w, None), draw.normal(4, 3))
    yield _case("F.embedding, padding", lambda w: F.embedding(tokens, w, 2), draw.normal(4, 3))
    yield _case("F.embedding, a repeated token", lambda w: F.embedding(repeated, w, None), draw.normal(4, 3))
    for stride, padding in ((1, 0), (2, 1)):
        name = f"stride {stride}, padding {padding}"
        yield _case(
            f"F.conv1d, {name}",
            lambda x, w, s=stride, p=padding: F.conv1d(x, w, p, s),
            draw.normal(2, 3, 8),
            draw.normal(4, 3, 3),
        )
        yield _case(
            f"F.conv2d, {name}",
            lambda x, w, s=stride, p=padding: F.conv2d(x, w, p, s),
            draw.normal(2, 2, 5, 6),
            draw.normal(3, 2, 3, 3),
        )
        for pool in ("max", "avg"):
            for axes in (1, 2):
                function = getattr(F, f"{pool}_pool{axes}d")
                yield _case(
                    f"F.{pool}_pool{axes}d, {name}",
                    lambda x, f=function, s=stride, p=padding: f(x, 3, s, p),
                    draw.distinct(*((2, 2, 8) if axes == 1 else (2, 2, 5, 6))),
                )
    target = pdn.Tensor(draw.normal(3, 4))
    labels, one_hot = pdn.Tensor(np.array([2, 0, 3])), pdn.Tensor(np.eye(4)[[2, 0, 3]])
    for reduction in ("mean", "sum"):
        yield _case(f"F.mse_loss, {reduction}", lambda x, r=reduction: F.mse_loss(x, target, r), x)
        yield _case(f"F.nll_loss, {reduction}", lambda x, r=reduction: F.nll_loss(x, one_hot, r), x)
        yield _case(
            f"F.cross_entropy_loss, one-hot, {reduction}",
            lambda x, r=reduction: F.cross_entropy_loss(x, one_hot, r),
            x,
        )
        yield _case(
            f"F.cross_entropy_loss, labels, {reduction}",
            lambda x, r=reduction: F.cross_entropy_loss(x, labels.data, r),
            x,
        )


def _layers(draw: Draws) -> Iterator[Case]:
    kind = {"dtype": np.float64}
    yield _layer("Linear", lambda: nn.Linear(4, 3, **kind), draw.normal(5, 4))
    yield _layer("BatchNorm1d", lambda: nn.BatchNorm1d(3, **kind), draw.normal(6, 3))
    yield _layer("LayerNorm", lambda: nn.LayerNorm(4, **kind), draw.normal(5, 4))
    yield _layer("RMSNorm", lambda: nn.RMSNorm(4, **kind), draw.normal(5, 4))
    yield _layer("Conv1d", lambda: nn.Conv1d(2, 3, 3, padding=1, **kind), draw.normal(2, 2, 6))
    yield _layer("Conv2d", lambda: nn.Conv2d(2, 3, 3, stride=2, **kind), draw.normal(2, 2, 5, 5))
    for name in ("RNNCell", "GRUCell"):
        yield _layer(name, lambda n=name: getattr(nn, n)(3, 2, **kind), draw.normal(4, 3), draw.normal(4, 2))
    yield _layer("LSTMCell", lambda: nn.LSTMCell(3, 2, **kind), draw.normal(4, 3))
    for name in ("RNN", "LSTM", "GRU"):
        make = getattr(nn, name)
        yield _layer(name, lambda f=make: f(3, 2, **kind), draw.normal(4, 2, 3))
        yield _layer(
            f"{name}, two layers", lambda f=make: f(3, 2, num_layers=2, **kind), draw.normal(3, 2, 3)
        )
        yield _layer(
            f"{name}, both ways", lambda f=make: f(3, 2, bidirectional=True, **kind), draw.normal(3, 2, 3)
        )
        yield _layer(
            f"{name}, batch first", lambda f=make: f(3, 2, batch_first=True, **kind), draw.normal(2, 4, 3)
        )
