"""Mean and covariance through each layer: against draws, dense matrices, and one form against another."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from wn.basics.errors import WnError
from wn.engine.layers.activations.clip import Clip, Relu6
from wn.engine.layers.activations.leaky_relu import LeakyRelu
from wn.engine.layers.average_pooling import AveragePooling
from wn.engine.layers.batch_norm import BatchNorm, BatchNormParams, RunningStatistics
from wn.engine.layers.convolution import Convolution, ConvolutionParams
from wn.engine.layers.flatten import Flatten
from wn.engine.layers.linear import Linear, LinearParams
from wn.engine.layers.max_pooling import MaxPooling
from wn.engine.layers.relu import Relu
from wn.theory.rectified import relu_covariance_exact
from wn.theory.through.forms import Diagonal, Factored, Full, certain, covariances, signs, variances
from wn.theory.through.layers import affine_of, correlated, max_pooling, through

RNG = np.random.default_rng(0)
IMAGE, BATCH = (2, 4, 6), 3
AFFINE: dict[str, tuple[Any, Any, Any, tuple[int, ...]]] = {
    "linear": (Linear(4), LinearParams(RNG.normal(size=(1, 4, 5)), RNG.normal(size=(1, 4))), (), (5,)),
    "convolution": (
        Convolution(3, (3, 2), (1, 2), (1, 0)),
        ConvolutionParams(RNG.normal(size=(1, 3, 2, 3, 2)), RNG.normal(size=(1, 3))),
        (),
        IMAGE,
    ),
    "batch norm": (
        BatchNorm(),
        BatchNormParams(RNG.normal(size=(1, 2)), RNG.normal(size=(1, 2))),
        RunningStatistics(RNG.normal(size=(1, 2)), RNG.uniform(0.2, 3, size=(1, 2)), np.full((1, 2), 1e-3)),
        IMAGE,
    ),
    "average pooling": (AveragePooling((2, 3)), (), (), IMAGE),
    "average pooling, rows dropped": (AveragePooling((3, 2)), (), (), IMAGE),
    "flatten": (Flatten(), (), (), IMAGE),
    "batch norm, eps 0.5, no scales": (
        BatchNorm(eps=0.5, affine=False),
        (),
        RunningStatistics(RNG.normal(size=(1, 2)), RNG.uniform(0.2, 3, size=(1, 2))),
        IMAGE,
    ),
}
LAYERS = AFFINE | {
    "relu": (Relu(), (), (), IMAGE),
    "leaky relu": (LeakyRelu(0.2), (), (), IMAGE),
    "clip": (Clip(-0.5, 1.5), (), (), IMAGE),
    "relu6": (Relu6(), (), (), IMAGE),
    "max pooling": (MaxPooling((2, 2)), (), (), IMAGE),
}
RECTIFIERS = ("relu", "leaky relu", "clip", "relu6")
EACH_AFFINE = pytest.mark.parametrize("name", AFFINE)
EACH = pytest.mark.parametrize("name", LAYERS)


def full(shape: tuple[int, ...], seed: int, scale: float = 0.6) -> Full:
    """Random mean and covariance of an activation."""
    rng, features = np.random.default_rng(seed), math.prod(shape)
    root = scale * rng.normal(size=(BATCH, features, 4))
    matrix = root @ root.transpose(0, 2, 1) + 0.1 * np.eye(features)
    return Full(rng.normal(size=(*shape, BATCH)), np.ascontiguousarray(matrix.transpose(1, 2, 0)))


def diagonal(shape: tuple[int, ...], seed: int) -> Diagonal:
    rng = np.random.default_rng(seed)
    return Diagonal(rng.normal(size=(*shape, BATCH)), rng.uniform(0.1, 2, size=(*shape, BATCH)))


def factored(shape: tuple[int, ...], seed: int, rank: int = 3) -> Factored:
    rng = np.random.default_rng(seed)
    factor = 0.5 * rng.normal(size=(*shape, rank, BATCH))
    return Factored(*diagonal(shape, seed)[:1], factor, rng.uniform(0.1, 0.5, size=(*shape, BATCH)))


def run(layer: Any, params: Any, state: Any, x: Any) -> Any:
    """The layer of the engine on (*features, N)."""
    from wn.engine import backends

    return layer.for_phase(False).forward(backends.get("numpy"), params, x[None], state)[0][0]


def dense(function: Callable[[Any], Any], shape: tuple[int, ...]) -> tuple[Any, Any]:
    """The matrix (O, F) and the constant (O,) of an affine function, from its values at 0 and the axes."""
    features = math.prod(shape)
    constant = function(np.zeros((*shape, 1))).reshape(-1)
    matrix = function(np.eye(features).reshape(*shape, features)).reshape(len(constant), features)
    return matrix - constant[:, None], constant


def transformed(matrix: Any, covariance: Any) -> Any:
    return np.einsum("of,fgb,pg->opb", matrix, covariance, matrix)


# ---- affine layers ----------------------------------------------------------------------------------------


@EACH_AFFINE
def test_affine_layers_map_mean_and_covariance_as_their_matrix_does(name: str) -> None:
    layer, params, state, shape = AFFINE[name]
    matrix, constant = dense(lambda x: run(layer, params, state, x), shape)
    given = full(shape, 1)
    result = through(layer, params, state, given)
    assert isinstance(result, Full)
    mean = matrix @ given.mean.reshape(-1, BATCH) + constant[:, None]
    np.testing.assert_allclose(result.mean.reshape(-1, BATCH), mean, rtol=1e-11, atol=1e-12)
    expected = transformed(matrix, given.covariance)
    np.testing.assert_allclose(result.covariance, expected, rtol=1e-11, atol=1e-12)
    np.testing.assert_array_equal(correlated(layer, params, state, given).covariance, result.covariance)


@EACH_AFFINE
def test_independent_elements_give_the_diagonal_and_the_whole_of_the_covariance(name: str) -> None:
    layer, params, state, shape = AFFINE[name]
    matrix, _ = dense(lambda x: run(layer, params, state, x), shape)
    given = diagonal(shape, 2)
    expected = transformed(matrix, covariances(given))
    alone, whole = through(layer, params, state, given), correlated(layer, params, state, given)
    assert isinstance(alone, Diagonal)
    np.testing.assert_allclose(whole.covariance, expected, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(alone.variance, variances(whole), rtol=1e-11)
    np.testing.assert_allclose(alone.mean, whole.mean, rtol=1e-12)


@EACH_AFFINE
def test_factors_are_right_in_the_mean_over_signs(name: str) -> None:
    layer, params, state, shape = AFFINE[name]
    matrix, _ = dense(lambda x: run(layer, params, state, x), shape)
    given = factored(shape, 3)
    expected = transformed(matrix, covariances(given))
    np.testing.assert_allclose(
        correlated(layer, params, state, given).covariance, expected, rtol=1e-11, atol=1e-12
    )
    seeds = 400
    found = np.stack([covariances(through(layer, params, state, given, seed=s)) for s in range(seeds)])
    error = np.maximum(found.std(axis=0) / math.sqrt(seeds), 1e-12)
    z = (found.mean(axis=0) - expected) / error
    print(f"{name}: max |z| {np.abs(z).max():.2f}, seeds 0 … {seeds - 1}")
    assert np.abs(z).max() < 6


def test_a_factor_without_independent_part_is_exact() -> None:
    layer, params, state, shape = AFFINE["convolution"]
    given = factored(shape, 4)._replace(variance=np.zeros((*shape, BATCH)))
    result = covariances(through(layer, params, state, given))
    expected = through(layer, params, state, Full(given.mean, covariances(given)))
    assert isinstance(expected, Full)
    np.testing.assert_allclose(result, expected.covariance, rtol=1e-11, atol=1e-12)


@EACH_AFFINE
def test_the_maps_of_a_layer_are_its_matrix_and_its_squares(name: str) -> None:
    layer, params, state, shape = AFFINE[name]
    matrix, _ = dense(lambda x: run(layer, params, state, x), shape)
    maps = affine_of(layer, params, state)
    np.testing.assert_allclose(dense(maps.linear, shape)[0], matrix, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(dense(maps.squared, shape)[0], matrix**2, rtol=1e-12, atol=1e-13)
    assert not maps.linear(np.zeros((*shape, 1))).any()
    assert not maps.squared(np.zeros((*shape, 1))).any()


# ---- ReLU and max pooling ---------------------------------------------------------------------------------


def test_a_relu_has_the_exact_variance_in_every_form_and_its_series_in_the_full_one() -> None:
    shape = (2, 2, 3)
    given = full(shape, 5)
    exact = relu_covariance_exact(given.mean.reshape(-1, BATCH), given.covariance)
    result = through(Relu(), (), (), given, terms=40)
    np.testing.assert_allclose(covariances(result), exact, atol=5e-3)
    of_factor = factored(shape, 5)
    same = Full(of_factor.mean, covariances(of_factor))
    one_term = through(Relu(), (), (), same, terms=1)
    np.testing.assert_allclose(
        covariances(through(Relu(), (), (), of_factor)), covariances(one_term), rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize("name", RECTIFIERS)
def test_variances_and_means_behind_rectifiers_are_those_of_every_form(name: str) -> None:
    layer, params, state, shape = LAYERS[name]
    given = factored(shape, 5)
    whole = through(layer, params, state, Full(given.mean, covariances(given)))
    for other in (given, Diagonal(given.mean, variances(given))):
        result = through(layer, params, state, other)
        np.testing.assert_allclose(result.mean, whole.mean, rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(variances(result), variances(whole), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", RECTIFIERS)
def test_rectifiers_without_variance_are_the_engines(name: str) -> None:
    layer, params, state, shape = LAYERS[name]
    x = np.random.default_rng(8).normal(scale=4, size=(*shape, BATCH))
    result = through(layer, params, state, certain(x))
    np.testing.assert_allclose(result.mean, run(layer, params, state, x), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(variances(result), 0, atol=1e-12)


@pytest.mark.parametrize("low", [None, 0.0])
def test_windows_of_independent_elements_are_the_same_in_all_forms_but_for_clark(low: float | None) -> None:
    given = diagonal(IMAGE, 6)
    zeros = np.zeros((*IMAGE, 2, BATCH))
    alone = max_pooling((2, 3), given, low)
    for other in (Full(given.mean, covariances(given)), Factored(given.mean, zeros, given.variance)):
        result = max_pooling((2, 3), other, low)
        assert result.mean.shape == alone.mean.shape == (2, 2, 2, BATCH)
        np.testing.assert_allclose(result.mean, alone.mean, atol=0.05)
        np.testing.assert_allclose(variances(result), variances(alone), atol=0.15)
        matrix = covariances(result)
        index = np.arange(len(matrix))
        matrix[index, index] = 0
        np.testing.assert_allclose(matrix, 0, atol=1e-12)  # windows do not overlap


def test_full_and_factored_pooling_agree() -> None:
    given = factored(IMAGE, 7)
    one, other = (
        max_pooling((2, 2), given, 0.0),
        max_pooling((2, 2), Full(given.mean, covariances(given)), 0.0),
    )
    np.testing.assert_allclose(one.mean, other.mean, rtol=1e-10)
    np.testing.assert_allclose(covariances(one), covariances(other), rtol=1e-9, atol=1e-12)


def test_pooling_without_variance_is_the_engines() -> None:
    layer, _, _, shape = LAYERS["max pooling"]
    x = np.random.default_rng(8).normal(size=(*shape, BATCH))
    result = through(layer, (), (), certain(x))
    np.testing.assert_array_equal(result.mean, run(layer, (), (), x))
    assert not variances(result).any()


# ---- all layers -------------------------------------------------------------------------------------------


@EACH
def test_covariances_are_symmetric_and_semidefinite(name: str) -> None:
    layer, params, state, shape = LAYERS[name]
    for given in (full(shape, 9), factored(shape, 9)):
        matrix = covariances(through(layer, params, state, given))
        np.testing.assert_allclose(matrix, matrix.transpose(1, 0, 2), rtol=1e-10, atol=1e-12)
        assert np.linalg.eigvalsh(matrix.transpose(2, 0, 1)).min() > -1e-10


@EACH
def test_each_layer_against_draws(name: str) -> None:
    """The windows' elements lie far apart: there Clark's error is far below that of the draws."""
    n, seed = 40_000, 13
    layer, params, state, shape = LAYERS[name]
    rng, features = np.random.default_rng(seed), math.prod(shape)
    given = full(shape, 10)
    mean, matrix = given.mean[..., 0], given.covariance[:, :, 0]
    if name == "max pooling":
        mean = 3 * rng.permuted(np.arange(float(features))).reshape(shape)
    x = mean.reshape(-1, 1) + np.linalg.cholesky(matrix) @ rng.standard_normal((features, n))
    y = run(layer, params, state, x.reshape(*shape, n)).reshape(-1, n)
    result = through(layer, params, state, Full(mean[..., None], matrix[:, :, None]), terms=40)
    assert isinstance(result, Full)
    centred = y - result.mean.reshape(-1, 1)
    z_mean = centred.mean(axis=1) / (y.std(axis=1) / math.sqrt(n))
    second = centred @ centred.T / n
    fourth = (centred**2) @ (centred**2).T / n
    error = np.sqrt(np.maximum(fourth - second**2, 1e-12) / n)
    z = (second - result.covariance[:, :, 0]) / error
    print(f"{name}: max |z| {np.abs(z_mean).max():.2f}, {np.abs(z).max():.2f}, n = {n}, seed = {seed}")
    assert np.abs(z_mean).max() < 6
    assert np.abs(z).max() < 6


def test_signs_are_of_a_seed_and_uncorrelated() -> None:
    drawn = signs((3, 5, 7), 100, 1)
    assert drawn.shape == (3, 5, 100, 7)
    assert set(np.unique(drawn)) == {-1.0, 1.0}
    np.testing.assert_array_equal(drawn, signs((3, 5, 7), 100, 1))
    np.testing.assert_array_equal(drawn[..., 4:], signs((3, 5, 3), 100, 1, first=4))
    assert (drawn != signs((3, 5, 7), 100, 2)).any()
    flat = drawn.transpose(0, 1, 3, 2).reshape(-1, 100)
    products = flat @ flat.T / 10  # of variance 1 off the diagonal
    assert np.abs(products - 10 * np.eye(len(flat))).max() < 6
    with pytest.raises(WnError, match="allowed are 1 … 128"):
        signs((3, 2), 129, 0)


# ---- layers that theory does not know ---------------------------------------------------------------------


def test_other_layers_are_refused_by_name() -> None:
    class Softplus(Relu):
        """A layer of the user's own that inherits from one that is known."""

    with pytest.raises(WnError, match="no moments of layer Softplus"):
        through(Softplus(), (), (), diagonal((3,), 0))
    changed = Flatten()
    object.__setattr__(changed, "forward", lambda *given: given)
    with pytest.raises(WnError, match="Flatten with methods of its own"):
        through(changed, (), (), diagonal(IMAGE, 0))
    with pytest.raises(WnError, match="a Clip with one bound: only with both"):
        through(Clip(0.0), (), (), diagonal((3,), 0))
    with pytest.raises(WnError, match="Relu is not affine"):
        correlated(Relu(), (), (), diagonal((3,), 0))
