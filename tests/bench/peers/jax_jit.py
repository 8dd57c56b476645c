"""JAX: batch, loss, gradients and Adam in one function compiled by jax.jit, the draws of a step in another.

For an MLP without noise, all steps of an epoch are one lax.scan, which is a fifth faster; with convolutions
it takes four times as long. What else was tried and did not pay, or cost time: drawing inside the step's
function (half as long again), draws in the shape of an activation (three times the time), one long draw in
place of one for each site, the generator rbg, images as (B, C, H, W) instead of (B, H, W, C), convolutions as
products of windows, and pooling by reduce_window.
"""

# mypy: disable-error-code="import-not-found", allow-untyped-calls

import os
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from numpy.typing import NDArray

from tests.bench.peers import Peer, Task

# C channels of a 5×5 convolution, N batch norm, R ReLU, M max pooling 2, F flatten, L features.
PLANS = {"mlp-64": f"F {'L64 N R ' * 3}L10", "lenet5": "C6 N R M C16 N R M F L120 N R L84 N R L10"}
KERNEL = 5
MOMENTUM, EPSILON = 0.1, 1e-5  # of batch norm
RATE, BETA1, BETA2, ADAM_EPSILON = 1e-3, 0.9, 0.999, 1e-8


def plan(model: str, batch_norm: str) -> list[str]:
    """Return the layers of a network, one code each."""
    return [code for code in PLANS[model].split() if code != "N" or batch_norm != "none"]


def site_shapes(layers: list[str], x: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Return the shape of a sample at each noise site: the input, and behind each layer but flattening."""
    shapes = [x]
    for code in layers:
        x = _output(code, x)
        shapes += [] if code == "F" else [x]
    return shapes


def _output(code: str, x: tuple[int, ...]) -> tuple[int, ...]:
    match code[0]:
        case "C":
            return (x[0] - KERNEL + 1, x[1] - KERNEL + 1, int(code[1:]))
        case "M":
            return (x[0] // 2, x[1] // 2, x[2])
        case "F":
            return (prod(x),)
        case "L":
            return (int(code[1:]),)
    return x


def initial(layers: list[str], x: tuple[int, ...]) -> tuple[list[Any], list[Any]]:
    """Return parameters and running statistics, layer by layer: weights U(±1/√n) with n inputs."""
    rng = np.random.default_rng(0)
    params, stats = [], []
    for code in layers:
        features = _output(code, x)[-1]
        kernel = (KERNEL, KERNEL, x[-1]) if code[0] == "C" else (x[-1],)
        bound = prod(kernel) ** -0.5
        if code[0] in "CL":
            shapes = ((*kernel, features), (features,))
            params.append([rng.uniform(-bound, bound, shape).astype(np.float32) for shape in shapes])
        elif code == "N":
            params.append([np.ones(features, np.float32), np.zeros(features, np.float32)])
            stats.append([np.zeros(features, np.float32), np.ones(features, np.float32)])
        else:
            params.append([])
        x = _output(code, x)
    return params, stats


def forward(layers: list[str], params: Any, stats: Any, x: Any, noise: Any) -> tuple[Any, Any]:
    """Return logits (B, K) and new running statistics; `noise` is applied at each site, in order."""
    moved: list[Any] = []
    x = noise(x, 0)
    site = 0
    for code, layer in zip(layers, params, strict=True):
        match code[0]:
            case "C":
                x = lax.conv_general_dilated(
                    x, layer[0], (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
                )
                x = x + layer[1]
            case "L":
                x = x @ layer[0] + layer[1]
            case "N":
                x, running = _batch_norm(x, *layer, *stats[len(moved)])
                moved.append(running)
            case "R":
                x = jax.nn.relu(x)
            case "M":
                samples, height, width, channels = x.shape
                x = x.reshape(samples, height // 2, 2, width // 2, 2, channels).max((2, 4))
            case "F":
                x = x.reshape(len(x), -1)
        if code != "F":
            site += 1
            x = noise(x, site)
    return x, moved


def _batch_norm(x: Any, gamma: Any, beta: Any, mean: Any, variance: Any) -> tuple[Any, list[Any]]:
    axes = tuple(range(x.ndim - 1))
    count = x.size // x.shape[-1]
    m, v = x.mean(axes), x.var(axes)
    y = (x - m) * (lax.rsqrt(v + EPSILON) * gamma) + beta
    moved = [mean + MOMENTUM * (m - mean), variance + MOMENTUM * (v * (count / (count - 1)) - variance)]
    return y, moved


def cross_entropy(logits: Any, labels: Any) -> Any:
    """Return the mean cross-entropy of logits (B, K)."""
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=1).mean()


def make_draws(shapes: list[tuple[int, ...]], batch: int) -> Any:
    """Return draws(key, t), compiled: standard normals for each site, in one dimension, new for each t."""

    def draws(key: Any, t: Any) -> list[Any]:
        keys = jax.random.split(jax.random.fold_in(key, t), len(shapes))
        sizes = [batch * prod(shape) for shape in shapes]
        return [jax.random.normal(own, (size,)) for own, size in zip(keys, sizes, strict=True)]

    return jax.jit(draws)


def noise_of(kind: str, sigma: float, draws: list[Any]) -> Any:
    """Return noise(x, site), which adds the site's draws to x or multiplies it with them."""
    if kind == "none":
        return lambda x, site: x
    if kind == "additive":
        return lambda x, site: x + sigma * draws[site].reshape(x.shape)
    return lambda x, site: x * (1 + sigma * draws[site].reshape(x.shape))


def make_step(task: Task, layers: list[str]) -> Any:
    """Return step(state, images, labels, samples, draws) → state, compiled; it uses the state's memory again.

    The state: parameters, Adam's two moments, running statistics, number of steps, sum of the losses.
    """

    def loss_of(params: Any, stats: Any, x: Any, y: Any, draws: list[Any]) -> Any:
        noise = noise_of(task.noise, task.sigma, draws)
        logits, stats = forward(layers, params, stats, x, noise)
        return cross_entropy(logits, y), stats

    def step(state: Any, images: Any, labels: Any, samples: Any, draws: list[Any]) -> Any:
        params, first, second, stats, t, total = state
        gradient = jax.value_and_grad(loss_of, has_aux=True)
        (loss, stats), grads = gradient(params, stats, images[samples], labels[samples], draws)
        t = t + 1
        size, correction = RATE / (1 - BETA1**t), (1 - BETA2**t) ** -0.5
        first = jax.tree.map(lambda m, g: BETA1 * m + (1 - BETA1) * g, first, grads)
        second = jax.tree.map(lambda v, g: BETA2 * v + (1 - BETA2) * g * g, second, grads)
        params = jax.tree.map(
            lambda p, m, v: p - size * m / (jnp.sqrt(v) * correction + ADAM_EPSILON), params, first, second
        )
        return params, first, second, stats, t, total + loss

    return jax.jit(step, donate_argnums=0)


def make_epoch(step: Any) -> Any:
    """Return epoch(state, images, labels, order) → state, compiled: steps without draws in turn."""

    def epoch(state: Any, images: Any, labels: Any, order: Any) -> Any:
        return lax.scan(lambda now, samples: (step(now, images, labels, samples, []), None), state, order)[0]

    return jax.jit(epoch, donate_argnums=0)


def first_state(layers: list[str], x: tuple[int, ...]) -> tuple[Any, ...]:
    """Return the state before the first step: see `make_step`."""
    params, stats = jax.tree.map(jnp.asarray, initial(layers, x))
    first, second = jax.tree.map(jnp.zeros_like, (params, params))
    return params, first, second, stats, jnp.float32(0), jnp.float32(0)


def training(task: Task) -> Peer:
    """Make the compiled step and its data ready; it is compiled at the first run."""
    os.environ["NPROC"] = str(task.threads)  # read once, when JAX first computes
    jax.config.update("jax_platforms", "cpu")
    layers = plan(task.model, task.batch_norm)
    images: NDArray[Any] = np.moveaxis(task.images, 1, -1)  # (N, H, W, C)
    shapes = site_shapes(layers, images.shape[1:])
    state = first_state(layers, images.shape[1:])
    step, draws, key = make_step(task, layers), make_draws(shapes, task.batch), jax.random.key(0)
    x, y = jnp.asarray(images), jnp.asarray(task.labels.astype(np.int32))
    rng = np.random.default_rng(0)
    done = 0
    epoch = make_epoch(step) if task.noise == "none" and task.model.startswith("mlp") else None

    def run() -> float:
        nonlocal state, done
        order = rng.permutation(len(task.labels)).astype(np.int32).reshape(-1, task.batch)
        if epoch is not None:
            state = epoch(state, x, y, order)
        else:
            for samples in order:
                z = [] if task.noise == "none" else draws(key, done)
                state = step(state, x, y, samples, z)
                done += 1
        return float(state[-1])  # waits for all steps

    return Peer(run, sum(leaf.size for leaf in jax.tree.leaves(state[0])), len(shapes))
