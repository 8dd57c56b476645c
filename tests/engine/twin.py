"""Small networks and their naive twins: the same parameters, and the same noise draws by another way."""

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np

from reference import naive_network
from wn import random
from wn.data.dataset import Dataset, Split
from wn.data.recipes import Preprocessing, Recipe
from wn.engine import backends
from wn.engine import loss as losses
from wn.engine.layers.batch_norm import BatchNorm
from wn.engine.layers.convolution import Convolution
from wn.engine.layers.flatten import Flatten
from wn.engine.layers.linear import Linear
from wn.engine.layers.max_pooling import MaxPooling
from wn.engine.layers.relu import Relu
from wn.engine.network import Conditions, Network, Node
from wn.engine.noise import Noise
from wn.random import Purpose

BE = backends.get("auto")

DENSE = Network(
    "dense",
    (
        Node("flatten", Flatten(), site=False),
        Node("fc1", Linear(4)),
        Node("relu1", Relu()),
        Node("logits", Linear(3)),
    ),
    (1, 2, 3),
)
CONVOLUTIONAL = Network(
    "convolutional",
    (
        Node("conv1", Convolution(2, (2, 3), padding=(1, 0))),
        Node("bn1", BatchNorm()),
        Node("relu1", Relu()),
        Node("pool1", MaxPooling((2, 2))),
        Node("flatten", Flatten(), site=False),
        Node("logits", Linear(3)),
    ),
    (2, 4, 6),
)


def tiny_data(
    network: Network = DENSE, train_samples: int = 50, test_samples: int = 300, augment: bool = False
) -> Dataset:
    """Images of three classes, each with a bright pixel of its own, under byte noise."""
    rng = np.random.default_rng(8)

    def split(count: int) -> Split:
        labels = rng.integers(0, 3, count)
        images = rng.integers(0, 120, (count, *network.input_shape), np.uint8)
        images[np.arange(count), 0, 0, labels] += 80
        return Split(images, labels)

    preprocessing = Preprocessing(mean=(0.5,), std=(0.5,), crop_padding=int(augment), flip=augment)
    recipe = Recipe(1, 1, 16, 1e-3, preprocessing)
    return Dataset("tiny", ("a", "b", "c"), split(train_samples), split(test_samples), recipe)


def random_network(network: Network, population: int, seed: int, dtype: Any = np.float64) -> tuple[Any, Any]:
    """Return (params, states) of standard normal parameters, none of them at its initial value."""
    rng = np.random.default_rng([seed, 1])
    params = network.initial_parameters(BE, (0,) * population, dtype)
    states = network.initial_states(BE, population, dtype)
    params = tuple(
        type(layer)(*(rng.standard_normal(array.shape).astype(dtype) for array in layer)) if layer else ()
        for layer in params
    )
    return params, states


def reference_draws(
    noise: Noise, shape: tuple[int, ...], conditions: Conditions, site: int
) -> tuple[Any, Any, str]:
    """Return gain and offset (R, P, *shape, B) in float64 and the order, for `reference.naive_statistics`.

    Straight from the streams: M = mean_mul + σ_mul·z, D = mean_add + σ_add·z', a repetition number for each
    of R executions, or one draw with σ/√R.
    """
    each = noise.execution == "each" or noise.order == "add_mul" or noise.distribution != "normal"
    repetitions = noise.repetitions if each else 1
    shrink = 1.0 if each else noise.repetitions**-0.5
    if noise.normalize_to_input_size:
        shrink /= prod(shape)
    mul, add = (
        (Purpose.TRAIN_MUL, Purpose.TRAIN_ADD)
        if conditions.training
        else (Purpose.EVAL_MUL, Purpose.EVAL_ADD)
    )

    def part(purpose: Purpose, sigma: Any, mean: Any) -> Any:
        z = np.array(
            [
                [
                    random.standard_draws(
                        *(
                            np,
                            seed,
                            conditions.samples,
                            prod(shape),
                            conditions.epoch,
                            purpose,
                            site,
                            repetition,
                        ),
                        distribution=noise.distribution,
                    )
                    for seed in conditions.seeds
                ]
                for repetition in range(repetitions)
            ],
            np.float64,
        ).reshape(repetitions, len(conditions.seeds), *shape, len(conditions.samples))
        sigma, mean = (np.asarray(v, np.float64).reshape(-1, *[1] * (len(shape) + 1)) for v in (sigma, mean))
        return mean + sigma * shrink * z

    return (
        part(mul, noise.sigma_mul, noise.mean_mul),
        part(add, noise.sigma_add, noise.mean_add),
        noise.order,
    )


def reference_layers(network: Network, params: Any, states: Any, training: bool) -> list[Any]:
    """Return the network as the tuples that `reference.naive_network` takes."""
    layers: list[Any] = []
    for node, layer_params, state in zip(network.nodes, params, states, strict=True):
        match node.layer:
            case Linear():
                layers.append(("linear", *layer_params))
            case Convolution(stride=stride, padding=padding):
                layers.append(("convolution", *layer_params, stride, padding))
            case BatchNorm():
                kind = ("batch_norm", *layer_params)
                layers.append(
                    kind if training else ("batch_norm_inference", *layer_params, state.mean, state.variance)
                )
            case MaxPooling(window=window):
                layers.append(("max_pool", window))
            case layer:
                layers.append((type(layer).__name__.lower(),))
    return layers


def reference_gradients(
    network: Network, params: Any, states: Any, x: Any, labels: Any, conditions: Conditions
) -> naive_network.NetworkGradients:
    """Return loss and gradients by the naive network, under the noise of the conditions."""
    shapes = network.site_shapes()
    draws = {
        site: reference_draws(noise, shapes[site], conditions, site)
        for site, noise in conditions.noise.items()
        if (noise.in_training if conditions.training else noise.in_inference)
    }
    layers = reference_layers(network, params, states, conditions.training)
    return naive_network.network_gradients(layers, x, labels, draws=draws)


def gradients(
    network: Network, params: Any, states: Any, x: Any, labels: Any, conditions: Conditions
) -> dict[str, Any]:
    """Return loss (P,), logits, dx and each parameter's gradient, by name, as `wn` computes them."""
    logits, cache, _ = network.forward(BE, params, states, x, conditions)
    loss, loss_cache = losses.forward(BE, logits, labels)
    dx, grads = network.backward(BE, losses.backward(BE, loss_cache), cache, need_dx=True)
    return {"loss": loss, "logits": logits, "dx": dx, **by_name(network, grads)}


def expected_gradients(
    network: Network, params: Any, states: Any, x: Any, labels: Any, conditions: Conditions
) -> dict[str, Any]:
    """The result of `gradients`, as the naive network computes it."""
    found = reference_gradients(network, params, states, x, labels, conditions)
    return {
        "loss": found.loss,
        "logits": found.logits,
        "dx": found.dx,
        **by_name(network, tuple(found.gradients), params),
    }


def by_name(network: Network, trees: Any, fields_of: Any = None) -> dict[str, Any]:
    """Return the arrays of a network's parameters or gradients by layer and field: "fc1.w"."""
    fields_of = trees if fields_of is None else fields_of
    return {
        f"{node.name}.{field}": array
        for node, tree, named in zip(network.nodes, trees, fields_of, strict=True)
        if named
        for field, array in zip(named._fields, tree, strict=True)
    }


def member(tree: Any, p: int) -> Any:
    """Return member p of a structure of (named) tuples of arrays, as a population of one."""
    if isinstance(tree, tuple):
        parts = [member(part, p) for part in tree]
        return type(tree)(*parts) if hasattr(tree, "_fields") else tuple(parts)
    return tree[p : p + 1]


def assert_within(actual: Mapping[str, Any], expected: Mapping[str, Any], relative: float) -> None:
    """Compare arrays by name: |actual − expected| ≤ relative · largest |expected| of each, or 1e-14.

    1e-14, because a gradient may be 0, with terms of order 1 that cancel: that of a bias before batch norm.
    """
    assert set(actual) == set(expected)
    for name, value in expected.items():
        assert np.shape(actual[name]) == np.shape(value), name
        error, size = np.max(np.abs(actual[name] - value)), np.max(np.abs(value))
        assert error <= max(relative * size, 1e-14), (
            f"{name}: off by {error:.3g}, the largest value is {size:.3g}"
        )


def same_bits(first: Any, second: Any) -> bool:
    """Whether two arrays have the same dtype, shape and bits; a zero may have either sign."""
    same = first.dtype == second.dtype and first.shape == second.shape
    return bool(same and np.array_equal(first, second))
