"""Gradients of npnn: operations on (batch, rows, columns) with a Jacobian each."""

from collections.abc import Callable, Iterator
from typing import Any

import npnn
import numpy as np
from npnn import functional as F
from npnn import nn

from tests.wild.cases import Case, Draws


def _case(name: str, function: Callable[..., Any], *arrays: Any, **known: str) -> Case:
    """Differentiate with respect to parameters, as npnn does: tensors of one batch.

    npnn goes back from scalars, (B, 1, 1): y is weighted with dy by its own product, dyᵀ·y.
    """

    def tensors(given: tuple[Any, ...]) -> list[Any]:
        return [npnn.Tensor(np.array(array), requires_grad=True) for array in given]

    def f(*given: Any) -> Any:
        return function(*tensors(given)).data

    def vjp(dy: Any, *given: Any) -> tuple[Any, ...]:
        leaves = tensors(given)
        F.Inner()(npnn.Tensor(dy.transpose(0, 2, 1)), function(*leaves)).backward()
        return tuple(leaf.grad for leaf in leaves)

    return Case(name, f, vjp, arrays, **known)


def _jacobian(name: str, operation: Any, x: Any, **known: str) -> Case:
    """An operation by its own method `gradient`, a Jacobian for each of the batch."""

    def f(given: Any) -> Any:
        return operation(npnn.Tensor(given)).data

    def vjp(dy: Any, given: Any) -> Any:
        jacobian = operation.gradient((npnn.Tensor(given),))
        flat = jacobian.reshape(len(given), -1, given[0].size)
        return np.einsum("bo,boi->bi", dy.reshape(len(given), -1), flat).reshape(given.shape)

    return Case(name, f, vjp, (x,), **known)


def cases() -> Iterator[Case]:
    """Operations, layers and losses of npnn."""
    draw = Draws("npnn")
    column, positive = draw.normal(1, 5, 1), draw.positive(1, 5, 1)
    yield _case("Add", F.Add(), column, draw.normal(1, 5, 1))
    yield _case("Inner, matrix and column", F.Inner(), draw.normal(1, 3, 5), column)
    yield _case("Norm", F.Norm(), column)
    yield _case("NLL", F.NLL(), column, draw.normal(1, 5, 1))
    yield _case("Log", F.Log(), positive)
    yield _case("Log, wide", F.Log(), np.geomspace(1e-4, 1e4, 5).reshape(1, 5, 1))
    yield _case("Softmax", F.Softmax(), column)
    yield _case("LogSoftmax", F.LogSoftmax(), column)
    yield _case("ReLU", F.ReLU(), column)
    yield _case("Sum of ReLU", lambda x: F.Sum()(F.ReLU()(x)), column)
    yield _case("Norm of Softmax", lambda x: F.Norm()(F.Softmax()(x)), column)
    yield _case("ReLU after Inner", lambda a, x: F.ReLU()(F.Inner()(a, x)), draw.normal(1, 3, 5), column)
    yield _case(
        "two layers",
        lambda a, b, x: F.LogSoftmax()(F.Inner()(b, F.ReLU()(F.Inner()(a, x)))),
        draw.normal(1, 4, 5),
        draw.normal(1, 3, 4),
        column,
    )
    for name, x in (
        ("Softmax", draw.normal(3, 4, 1)),
        ("LogSoftmax", draw.normal(3, 4, 1)),
        ("LogSoftmax, far below zero", draw.normal(2, 4, 1) - 300.0),
        ("LogSoftmax, spread", 100.0 * draw.distinct(2, 4, 1)),
        ("Norm", draw.normal(3, 4, 1)),
        ("Sum", draw.normal(3, 4, 1)),
        ("ReLU", draw.normal(3, 4, 1)),
        ("Log", draw.positive(3, 4, 1)),
        ("Flatten", draw.normal(3, 4, 1)),
    ):
        operation = getattr(F, name.split(",")[0])()
        yield _jacobian(f"{name}, batch of {len(x)}", operation, x)
    for rows, columns in ((3, 3), (2, 5), (5, 2)):
        yield _jacobian(f"Flatten {rows}×{columns}", F.Flatten(), draw.normal(2, rows, columns))
    yield _linear(draw)


def _linear(draw: Draws) -> Case:
    layer = nn.Linear(4, 3)

    def function(a: Any, b: Any, x: Any) -> Any:
        layer.A, layer.b = a, b
        return layer(x)

    return _case("Linear", function, draw.normal(1, 3, 4), draw.normal(1, 3, 1), draw.normal(1, 4, 1))
