"""Gradients of numpy-ml: activations, losses and layers, all written by hand."""

import collections
from collections.abc import Callable, Hashable, Iterator
from typing import Any

import numpy as np

collections.Hashable = Hashable  # numpy-ml 0.1.2 still looks for it there

from numpy_ml.neural_nets import activations, layers, losses  # noqa: E402  (after the line above)

from tests.wild.cases import Case, Draws  # noqa: E402

ACTIVATIONS = "Sigmoid ReLU LeakyReLU Tanh Affine Identity ELU Exponential SELU HardSigmoid SoftPlus"


def _activation(name: str, function: Any, x: Any, second: bool = False, **known: Any) -> Case:
    """fn with grad, or grad with grad2."""
    f, slope = (function.grad, function.grad2) if second else (function.fn, function.grad)
    return Case(
        name,
        lambda x: np.asarray(f(x), np.float64),
        lambda dy, x: dy * np.asarray(slope(x), dtype=np.float64),
        (x,),
        **known,
    )


def _layer(name: str, make: Callable[[], Any], *inputs: Any, **known: Any) -> Case:
    """A layer, its inputs and all of its parameters; drawn parameters instead of zeros and ones."""
    first = make()
    first.forward(*_as_given(first, inputs))
    draw = Draws(name)
    names = [key for key in first.parameters if np.size(first.parameters[key]) and "running" not in key]
    values = tuple(draw.normal(*first.parameters[key].shape, scale=0.5) for key in names)

    def made(given: tuple[Any, ...]) -> tuple[Any, Any]:
        layer, x = make(), _as_given(first, given[: len(inputs)])
        if names:
            layer.forward(*x)  # makes the parameters
            layer.flush_gradients()
        for key, value in zip(names, given[len(inputs) :], strict=True):
            layer.parameters[key] = np.array(value)
        return layer, layer.forward(*x)

    def f(*given: Any) -> Any:
        y = made(given)[1]
        return y[0] if isinstance(y, tuple) else y

    def vjp(dy: Any, *given: Any) -> tuple[Any, ...]:
        layer, _ = made(given)
        dx = layer.backward(dy)
        several = tuple(dx) if isinstance(dx, list | tuple) else (dx,)
        return (*several, *(layer.gradients[key] for key in names))

    return Case(name, f, vjp, (*inputs, *values), **known)


def _as_given(layer: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Add and Multiply take a list of inputs."""
    return (list(inputs),) if isinstance(layer, layers.Add | layers.Multiply) else inputs


def cases() -> Iterator[Case]:
    """Activations and their second derivatives, losses, layers."""
    draw = Draws("numpy-ml activations")
    for name in ACTIVATIONS.split():
        function = getattr(activations, name)()
        x = draw.normal(3, 4)
        yield _activation(name, function, x)
        yield _activation(f"{name}, steep", function, np.array([-20.0, -9.0, -3.1, 2.0, 8.0, 20.0]))
        yield _activation(f"{name}, second derivative", function, x, second=True)
    yield _activation("Affine, slope", activations.Affine(slope=-0.7, intercept=2.0), draw.normal(4))
    yield _activation("LeakyReLU, 1.5", activations.LeakyReLU(1.5), draw.normal(4))
    yield from _losses(Draws("numpy-ml losses"))
    yield from _layers(Draws("numpy-ml layers"))
    yield from _convolutions(Draws("numpy-ml convolutions"))


def _losses(draw: Draws) -> Iterator[Case]:
    y, z = draw.normal(3, 4), draw.normal(3, 4)
    for name in ("Tanh", "Sigmoid", "Affine", "ELU"):
        act = getattr(activations, name)()
        yield Case(
            f"SquaredError after {name}",
            lambda z, act=act: losses.SquaredError.loss(y, act.fn(z)),
            lambda dy, z, act=act: dy * losses.SquaredError.grad(y, act.fn(z), z, act),
            (z,),
        )
    one_hot = np.eye(4)[[2, 0, 3]]

    def softmax(z: Any) -> Any:
        e = np.exp(z - z.max(axis=1, keepdims=True))
        return e / e.sum(axis=1, keepdims=True)

    yield Case(
        "CrossEntropy after softmax",
        lambda z: losses.CrossEntropy.loss(one_hot, softmax(z)),
        lambda dy, z: dy * losses.CrossEntropy.grad(one_hot, softmax(z)),
        (z,),
    )
    target = draw.uniform(0.0, 1.0, 3, 4)
    yield Case(
        "VAELoss",
        lambda p, mean, log_var: losses.VAELoss.loss(target, p, mean, log_var),
        lambda dy, p, mean, log_var: _vae(dy, losses.VAELoss.grad(target, p, mean, log_var)),
        (draw.uniform(0.1, 0.9, 3, 4), draw.normal(3, 2), draw.normal(3, 2)),
    )
    wasserstein = losses.WGAN_GPLoss()
    yield Case(
        "WGAN_GPLoss of the critic",
        lambda fake, real, slope: wasserstein.loss(fake, "C", real, slope),
        lambda dy, fake, real, slope: tuple(dy * g for g in wasserstein.grad(fake, "C", real, slope)),
        (draw.normal(4), draw.normal(4), draw.normal(4, 3)),
    )
    yield Case(
        "WGAN_GPLoss of the generator",
        lambda fake: wasserstein.loss(fake, "G"),
        lambda dy, fake: dy * wasserstein.grad(fake, "G"),
        (draw.normal(4),),
    )


def _vae(dy: Any, gradients: tuple[Any, Any, Any]) -> tuple[Any, Any, Any]:
    """grad gives those of y_pred, t_log_var and t_mean in this order, as documented."""
    of_p, of_log_var, of_mean = gradients
    return dy * of_p, dy * of_mean, dy * of_log_var


def _embedding(name: str, pool: str | None, tokens: Any, draw: Draws, **known: Any) -> Case:
    def layer(w: Any) -> Any:
        made = layers.Embedding(3, 5, pool=pool)
        made.parameters["W"] = np.array(w)
        return made

    def f(w: Any) -> Any:
        return layer(w).forward(tokens)

    def vjp(dy: Any, w: Any) -> Any:
        made = layer(w)
        made.forward(tokens)
        made.backward(dy)
        return made.gradients["W"]

    return Case(name, f, vjp, (draw.normal(5, 3),), **known)


def _layers(draw: Draws) -> Iterator[Case]:
    for name in ("Tanh", "ELU", "Identity"):
        act = None if name == "Identity" else getattr(activations, name)()
        x = [draw.normal(3, 4) for _ in range(3)]
        yield _layer(f"Add, {name}", lambda act=act: layers.Add(act), *x)
        yield _layer(f"Multiply, {name}", lambda act=act: layers.Multiply(act), *x)
        yield _layer(
            f"FullyConnected, {name}", lambda act=act: layers.FullyConnected(3, act), draw.normal(5, 4)
        )
    yield _layer("Flatten", lambda: layers.Flatten(), draw.normal(2, 3, 4))
    yield _layer("Flatten, last", lambda: layers.Flatten(keep_dim="last"), draw.normal(2, 3, 4))
    yield _layer("Flatten, of all", lambda: layers.Flatten(keep_dim=-1), draw.normal(2, 3, 4))
    for dim in (-1, 1):
        yield _layer(f"Softmax, dim={dim}", lambda d=dim: layers.Softmax(d), draw.normal(3, 4))
    yield _layer("Softmax, 3 axes", lambda: layers.Softmax(), draw.normal(2, 3, 4))
    yield _layer("Softmax along 0", lambda: layers.Softmax(0), draw.normal(3, 4))
    yield _layer("BatchNorm1D", lambda: layers.BatchNorm1D(), draw.normal(6, 3))
    yield _layer("BatchNorm2D", lambda: layers.BatchNorm2D(), draw.normal(3, 2, 2, 3))
    yield _layer("LayerNorm1D", lambda: layers.LayerNorm1D(), draw.normal(4, 5))
    yield _layer("LayerNorm2D", lambda: layers.LayerNorm2D(), draw.normal(2, 3, 2, 3))
    for scale in (True, False):
        yield _layer(
            f"DotProductAttention, scale={scale}",
            lambda s=scale: layers.DotProductAttention(scale=s),
            draw.normal(3, 4),
            draw.normal(5, 4),
            draw.normal(5, 2),
        )
    yield _layer(
        "DotProductAttention, batch",
        lambda: layers.DotProductAttention(),
        draw.normal(2, 3, 4),
        draw.normal(2, 5, 4),
        draw.normal(2, 5, 3),
    )
    for pool in (None, "sum", "mean"):
        yield _embedding(f"Embedding, {pool}", pool, np.array([[0, 2], [4, 1]]), draw)
        yield _embedding(f"Embedding, {pool}, a repeated token", pool, np.array([[0, 2], [3, 3]]), draw)
    yield _cell("RNNCell", lambda: layers.RNNCell(2), "ba bx Wax Waa", draw)
    yield _cell("LSTMCell", lambda: layers.LSTMCell(2), "Wf Wu Wc Wo bf bu bc bo", draw)


def _cell(name: str, make: Callable[[], Any], parameters: str, draw: Draws, **known: Any) -> Case:
    """Three steps of a cell, (batch, features, steps)."""
    first = make()
    first.forward(draw.normal(2, 3))
    names = parameters.split()

    def run(x: Any, *given: Any) -> tuple[Any, Any]:
        cell = make()
        cell.n_in = x.shape[1]
        cell._init_params()
        cell.parameters.update(zip(names, map(np.array, given), strict=True))
        steps = [cell.forward(x[:, :, t]) for t in range(x.shape[2])]
        return cell, np.dstack([step[0] if isinstance(step, tuple) else step for step in steps])

    def vjp(dy: Any, x: Any, *given: Any) -> tuple[Any, ...]:
        cell, _ = run(x, *given)
        dx = [cell.backward(dy[:, :, t]) for t in reversed(range(x.shape[2]))]
        return (np.dstack(dx[::-1]), *(cell.gradients[key] for key in names))

    values = [draw.normal(*first.parameters[key].shape, scale=0.5) for key in names]
    return Case(name, lambda *given: run(*given)[1], vjp, (draw.normal(2, 3, 3), *values), **known)


def _convolutions(draw: Draws) -> Iterator[Case]:
    tanh = activations.Tanh()
    for stride, pad, dilation in ((1, 0, 0), (2, 1, 0), (1, "same", 1), (1, "causal", 0), (1, "causal", 1)):
        yield _layer(
            f"Conv1D, stride {stride}, pad {pad}, dilation {dilation}",
            lambda s=stride, p=pad, d=dilation: layers.Conv1D(2, 3, pad=p, stride=s, dilation=d, act_fn=tanh),
            draw.normal(2, 8, 3),
        )
    for stride, pad, dilation in ((1, 0, 0), (2, 1, 0), (1, "same", 0), (1, 2, 1), (1, (1, 0, 2, 1), 0)):
        yield _layer(
            f"Conv2D, stride {stride}, pad {pad}, dilation {dilation}",
            lambda s=stride, p=pad, d=dilation: layers.Conv2D(
                2, (3, 2), pad=p, stride=s, dilation=d, act_fn=tanh
            ),
            draw.normal(2, 6, 5, 2),
        )
    for stride, pad in ((1, 0), (2, 0), (1, 1), (2, 1)):
        yield _layer(
            f"Deconv2D, stride {stride}, pad {pad}",
            lambda s=stride, p=pad: layers.Deconv2D(2, (3, 3), pad=p, stride=s, act_fn=tanh),
            draw.normal(2, 3, 4, 2),
        )
    for mode in ("max", "average"):
        for stride, pad in ((1, 0), (2, 0), (2, 1), (1, "same")):
            yield _layer(
                f"Pool2D, {mode}, stride {stride}, pad {pad}",
                lambda m=mode, s=stride, p=pad: layers.Pool2D((2, 2), stride=s, pad=p, mode=m),
                draw.distinct(2, 4, 5, 2),
            )
