"""Gradients of MyGrad: functions, layers and losses."""

from collections.abc import Callable, Iterator
from typing import Any

import mygrad as mg
import numpy as np
from mygrad import nnet
from mygrad.nnet import activations, losses
from mygrad.nnet.layers import batchnorm, conv_nd, gru, max_pool

from tests.wild.cases import Case, Draws, elementwise

ELEMENTWISE = """
    real: abs absolute negative positive reciprocal exp exp2 expm1 sin cos tan arctan sinh cosh tanh arcsinh
    real: square sinc cbrt sec csc cot csch sech coth arccot arccsch
    positive: log log2 log10 log1p sqrt
    interval: arcsin arccos arctanh
    above one: arccosh arcsec arccsc arccoth
    wide: log sqrt reciprocal log1p square cbrt
    small: expm1 sin tanh arctan log1p sinh sinc
    with zero: exp sin tan tanh sinc arctan expm1
    steep: tanh arctan arcsinh sech
    large: arctan arcsinh
"""
BINARY = "add subtract multiply divide true_divide maximum minimum logaddexp logaddexp2 arctan2"


def _case(name: str, function: Callable[..., Any], *arrays: Any, **known: Any) -> Case:
    def f(*given: Any) -> Any:
        return function(*map(mg.tensor, given)).data

    def vjp(dy: Any, *given: Any) -> tuple[Any, ...]:
        leaves = [mg.tensor(array) for array in given]
        function(*leaves).backward(dy)
        return tuple(leaf.grad for leaf in leaves)

    return Case(name, f, vjp, arrays, **known)


def cases() -> Iterator[Case]:
    """Elementwise functions, reductions, layouts, and what networks are made of."""
    for name, domain, x in elementwise(ELEMENTWISE):
        yield _case(f"{name}, {domain}", getattr(mg, name), x)
    yield from _binary(Draws("mygrad binary"))
    yield from _reductions(Draws("mygrad reductions"))
    yield from _layouts(Draws("mygrad layouts"))
    yield from _activations(Draws("mygrad activations"))
    yield from _layers(Draws("mygrad layers"))
    yield from _losses(Draws("mygrad losses"))


def _binary(draw: Draws) -> Iterator[Case]:
    for name in BINARY.split():
        yield _case(name, getattr(mg, name), draw.normal(3, 4), draw.normal(4))
    yield _case("power", mg.power, draw.positive(3, 4), draw.normal(3, 1))
    zeros = np.array([0.0, 1.0, -2.0])
    for exponent in (0, 1, 2, 3.0):
        yield _case(f"x**{exponent} at 0", lambda x, e=exponent: x**e, zeros)
    yield _case("x * x", lambda x: x * x, draw.normal(4))
    yield _case("x - x", lambda x: x - x, draw.normal(4))
    yield _case("x / x**2", lambda x: x / x**2, draw.normal(4))
    yield _case("x**x", lambda x: x**x, draw.positive(4))
    yield _case("logaddexp, far apart", mg.logaddexp, np.array([800.0, -800.0]), np.array([-800.0, 790.0]))
    yield _case("where", lambda x, y: mg.where(x.data > 0, x, y), draw.normal(3, 4), draw.normal(4))
    yield _case("clip", lambda x: mg.clip(x, -1, 1), draw.normal(3, 4))
    yield _case("clip by arrays", mg.clip, draw.normal(3, 4), np.full(4, -0.8), np.full((3, 1), 0.9))
    yield _case("add_sequence", mg.add_sequence, draw.normal(4), draw.normal(3, 4), draw.normal(3, 1))
    yield _case(
        "multiply_sequence", mg.multiply_sequence, draw.normal(4), draw.normal(3, 4), draw.normal(3, 1)
    )
    yield _case("multiply_sequence, twice the same", lambda x: mg.multiply_sequence(x, x, x), draw.normal(4))
    yield _case(
        "multi_matmul", lambda *x: mg.multi_matmul(x), draw.normal(3, 4), draw.normal(4, 2), draw.normal(2, 5)
    )


def _reductions(draw: Draws) -> Iterator[Case]:
    x, zeros = draw.normal(3, 4, 2), np.array([[2.0, 0.0, -1.5], [0.0, 0.0, 3.0], [1.0, 2.0, 3.0]])
    for name in ("sum", "mean", "prod", "var", "std", "max", "min", "amax"):
        function = getattr(mg, name)
        yield _case(f"{name} of all", function, x)
        yield _case(f"{name} along 1", lambda x, f=function: f(x, axis=1), x)
        yield _case(f"{name} along 0, 2, kept", lambda x, f=function: f(x, axis=(0, 2), keepdims=True), x)
        yield _case(f"{name} along -1, 0", lambda x, f=function: f(x, axis=(-1, 0)), x)
    for name in ("var", "std"):
        yield _case(f"{name}, ddof=1", lambda x, n=name: getattr(mg, n)(x, axis=0, ddof=1), x)
    for axis in (0, 1):
        yield _case(f"prod with zeros along {axis}", lambda x, axis=axis: mg.prod(x, axis=axis), zeros)
        yield _case(f"cumprod with zeros along {axis}", lambda x, axis=axis: mg.cumprod(x, axis=axis), zeros)
    for name in ("cumsum", "cumprod"):
        yield _case(f"{name} of all", getattr(mg, name), draw.normal(2, 3))
        yield _case(f"{name} along 1", lambda x, n=name: getattr(mg, n)(x, axis=1), x)
    for order in (1, 2, 3, 1.5, None):
        yield _case(f"norm, {order}", lambda x, order=order: mg.linalg.norm(x, order, axis=1), x)
    yield _case("norm, kept", lambda x: mg.linalg.norm(x, axis=0, keepdims=True), x)


def _layouts(draw: Draws) -> Iterator[Case]:
    x, index = draw.normal(3, 4), np.array([2, 0, 2, 2])

    def assigned(x: Any) -> Any:
        y = +x
        y[1, ::2] = x[0, :2] ** 2
        return y

    def augmented(x: Any) -> Any:
        y = +x
        y[::2] *= x[:2]
        return y

    def several(x: Any) -> Any:
        y = +x
        y[index[:2]] = x[0] * x[1]
        return y * x

    functions: dict[str, Callable[[Any], Any]] = {
        "reshape": lambda x: mg.reshape(x, (2, 6)),
        "ravel": mg.ravel,
        "transpose": mg.transpose,
        "transpose, axes": lambda x: mg.transpose(x.reshape(3, 2, 2), (2, 0, 1)),
        "roll": lambda x: mg.roll(x, 2, axis=1),
        "roll, two axes": lambda x: mg.roll(x, (1, 2), axis=(0, 1)),
        "repeat": lambda x: mg.repeat(x, 3, axis=0),
        "repeat of all": lambda x: mg.repeat(x, 2),
        "repeat, counts": lambda x: mg.repeat(x, [1, 3, 2], axis=0),
        "repeat, a count of 0": lambda x: mg.repeat(x, [2, 0, 1], axis=0),
        "index, repeated": lambda x: x[index],
        "index, both": lambda x: x[index, [1, 0, 1, 3]],
        "index, mask": lambda x: x[np.arange(12).reshape(3, 4) % 3 == 0],
        "slice, negative step": lambda x: x[::-2, 1:],
        "slice, new axis": lambda x: x[:, None, ..., 1:],
        "set item": assigned,
        "set item, *=": augmented,
        "set item, index": several,
        "concatenate": lambda x: mg.concatenate([x, x[:1] ** 2], axis=0),
        "concatenate of all": lambda x: mg.concatenate([x, x], axis=None),
        "stack": lambda x: mg.stack([x, x**2], axis=1),
        "moveaxis": lambda x: mg.moveaxis(x.reshape(3, 2, 2), 0, -1),
        "swapaxes": lambda x: mg.swapaxes(x, 0, 1),
        "broadcast_to": lambda x: mg.broadcast_to(x, (2, 3, 4)),
        "expand_dims": lambda x: mg.expand_dims(x, 1),
        "squeeze": lambda x: mg.squeeze(x[:1]),
        "atleast_3d": mg.atleast_3d,
        "einsum ii->i": lambda x: mg.einsum("ii->i", x[:, :3]),
        "einsum ii": lambda x: mg.einsum("ii", x[:, :3]),
        "einsum ij,ij->i": lambda x: mg.einsum("ij,ij->i", x, x),
    }
    for name, function in functions.items():
        yield _case(name, function, x)
    b = draw.normal(4, 2)
    yield _case("matmul", mg.matmul, x, b)
    yield _case("matmul, vectors", mg.matmul, x[0], b[:, 0])
    yield _case("matmul, broadcast", mg.matmul, draw.normal(2, 1, 3, 4), draw.normal(3, 4, 2))
    yield _case("matmul, vector and stack", mg.matmul, x[0], draw.normal(3, 4, 2))
    yield _case("matmul, stack and vector", mg.matmul, draw.normal(3, 2, 4), x[0])
    for path in ("ij,jk->ik", "ij,jk", "ij,jk->", "ij,jk->j", "ij,jl->lji"):
        yield _case(f"einsum {path}", lambda x, y, path=path: mg.einsum(path, x, y), x, b)
    yield _case("einsum, three", lambda *t: mg.einsum("ij,jk,k->i", *t), x, b, b[0])


def _activations(draw: Draws) -> Iterator[Case]:
    for name in ("relu", "sigmoid", "tanh", "selu", "soft_sign", "hard_tanh", "softmax", "logsoftmax"):
        function = getattr(activations, name)
        yield _case(name, function, draw.normal(3, 4))
        yield _case(f"{name}, steep", function, np.array([[-20.0, -9.0, -3.0, 2.0, 8.0, 20.0]]))
    yield _case("softmax along 0", lambda x: activations.softmax(x, axis=0), draw.normal(3, 4))
    yield _case("softmax of all", lambda x: activations.softmax(x, axis=None), draw.normal(3, 4))
    yield _case("logsoftmax along 0", lambda x: activations.logsoftmax(x, axis=0), draw.normal(3, 4))
    yield _case("logsoftmax, two axes", lambda x: activations.logsoftmax(x, axis=(0, 1)), draw.normal(3, 4))
    yield _case("elu", lambda x: activations.elu(x, 0.7), draw.normal(3, 4))
    yield _case("leaky_relu", lambda x: activations.leaky_relu(x, 0.1), draw.normal(3, 4))
    yield _case("leaky_relu, slope above 1", lambda x: activations.leaky_relu(x, 1.5), draw.normal(3, 4))
    yield _case("leaky_relu, slope below 0", lambda x: activations.leaky_relu(x, -0.5), draw.normal(3, 4))
    yield _case("glu", activations.glu, draw.normal(3, 4))
    yield _case("glu along 0", lambda x: activations.glu(x, axis=0), draw.normal(4, 3))


def _layers(draw: Draws) -> Iterator[Case]:
    gamma, beta = draw.positive(3), draw.normal(3)
    for shape in ((5, 3), (4, 3, 2), (3, 3, 2, 2)):
        yield _case(
            f"batchnorm {shape}",
            lambda x, g, b: batchnorm(x, gamma=g, beta=b, eps=1e-5),
            draw.normal(*shape),
            gamma,
            beta,
        )
    yield _case(
        "batchnorm, only gamma",
        lambda x, g: batchnorm(x, gamma=g, eps=1e-3),
        draw.normal(5, 3),
        gamma,
    )
    yield _case("batchnorm, bare", lambda x: batchnorm(x, eps=0.1), draw.normal(5, 3))
    for stride, padding, dilation in ((1, 0, 1), (2, 1, 1), (1, 2, 2), (3, 0, 1)):
        yield _case(
            f"conv_nd 1d, stride {stride}, padding {padding}, dilation {dilation}",
            lambda x, w, s=stride, p=padding, d=dilation: conv_nd(x, w, stride=s, padding=p, dilation=d),
            draw.normal(2, 3, 9),
            draw.normal(4, 3, 3),
        )
    for stride, padding, dilation in ((1, 0, 1), ((2, 1), (1, 0), 1), (2, 2, (2, 1))):
        yield _case(
            f"conv_nd 2d, stride {stride}, padding {padding}, dilation {dilation}",
            lambda x, w, s=stride, p=padding, d=dilation: conv_nd(x, w, stride=s, padding=p, dilation=d),
            draw.normal(2, 2, 7, 5),
            draw.normal(3, 2, 3, 3),
        )
    for pool, stride in (((2,), 1), ((3,), 2), ((2, 2), (2, 1))):
        yield _case(
            f"max_pool {pool}, stride {stride}",
            lambda x, p=pool, s=stride: max_pool(x, p, s),
            draw.distinct(2, 5, 7) if len(pool) == 1 else draw.distinct(2, 4, 4),
        )
    n_in, n_out = 3, 2
    weights = [
        array
        for _ in range(3)
        for array in (draw.normal(n_in, n_out), draw.normal(n_out, n_out), draw.normal(n_out))
    ]
    yield _case("gru", gru, draw.normal(4, 2, n_in), *weights)
    start = draw.normal(2, n_out)
    yield _case("gru, s0", lambda *given: gru(*given, s0=start), draw.normal(3, 2, n_in), *weights)


def _losses(draw: Draws) -> Iterator[Case]:
    labels, scores = np.array([1, 0, 2, 2]), draw.normal(4, 3)
    yield _case("softmax_crossentropy", lambda x: losses.softmax_crossentropy(x, labels), scores)
    yield _case("softmax_crossentropy, spread", lambda x: losses.softmax_crossentropy(x, labels), 9 * scores)
    yield _case("negative_log_likelihood", lambda x: losses.negative_log_likelihood(x, labels), scores)
    yield _case(
        "negative_log_likelihood, weights",
        lambda x: losses.negative_log_likelihood(x, labels, weights=[0.2, 0.5, 3.0]),
        scores,
    )
    yield _case("multiclass_hinge", lambda x: losses.multiclass_hinge(x, labels), scores)
    yield _case(
        "multiclass_hinge, hinge=0.3", lambda x: losses.multiclass_hinge(x, labels, hinge=0.3), scores
    )
    yield _case(
        "margin_ranking_loss",
        lambda a, b: losses.margin_ranking_loss(a, b, np.array([1, -1, 1, -1]), 0.5),
        draw.normal(4),
        draw.normal(4),
    )
    yield _case(
        "margin_ranking_loss, 2d",
        lambda a, b: nnet.losses.margin_ranking_loss(a, b, -1, 0.5),
        draw.normal(4, 3),
        draw.normal(4, 3),
    )
    chances = draw.probabilities(4, 3)
    for gamma in (0.0, 0.5, 1.0, 2.0):
        yield _case(
            f"focal_loss, gamma={gamma}",
            lambda p, g=gamma: losses.focal_loss(p, labels, alpha=0.7, gamma=g),
            chances,
        )
        yield _case(
            f"softmax_focal_loss, gamma={gamma}",
            lambda x, g=gamma: losses.softmax_focal_loss(x, labels, alpha=0.7, gamma=g),
            scores,
        )
