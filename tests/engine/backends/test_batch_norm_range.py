"""Batch norm wherever the values lie: accuracy to roundings on every backend, and what is beyond the range.

The kind: a statistic that is right for values of size 1 and silently wrong where they are far from zero, or
hardly differ, or are tiny or huge. Every pass is held against sums that are rounded once.
"""

from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from reference.naive_statistics import BatchNormExact, batch_norm_exact, without_mean
from tests.engine.backends.cuda import needs_compiler, on_host
from tests.engine.layers import max_pooling, norms, relu
from wn.basics.errors import WnError
from wn.engine import backends, fusion
from wn.engine.backends.plain.base import Backend
from wn.engine.layers.batch_norm import (
    EPSILON,
    BatchNorm,
    BatchNormParams,
    BatchStatistics,
    RunningStatistics,
)
from wn.testing import assert_close

Array = NDArray[Any]

BACKENDS = ["numpy", "numba", pytest.param("cuda", marks=needs_compiler)]
DTYPES = [np.float32, np.float64]
COUNTS = st.sampled_from([2, 3, 17, 128, 300, 2049])
EDGE = 1.8e19  # the variance of ±EDGE is about the largest float32
LONG = 73_728  # values of a channel of 24×24 pixels in a batch of 128
TERMS = 4  # 16 roundings: sums are taken in pairs, blocks or by 256 threads, so their length hardly matters

pytestmark = [
    pytest.mark.parametrize("dtype", DTYPES),
    pytest.mark.parametrize("backend", BACKENDS),
]
FEW = settings(max_examples=15)  # for each backend and dtype


def backend_of(name: str) -> Backend:
    return on_host() if name == "cuda" else backends.get(name)


def sizes(smallest: int, largest: int) -> st.SearchStrategy[float]:
    """Zero, or ± a power of ten in a range, not a round one."""
    powers = st.floats(smallest, largest).map(lambda power: float(10**power))
    return st.just(0.0) | powers | powers.map(lambda size: -size)


class Row(NamedTuple):
    """offset + scale·z in a dtype; z: standard normal, ±1, with an outlier at the start, all but one 0."""

    kind: str
    count: int
    offset: float
    scale: float
    seed: int

    def values(self, dtype: Any, limit: float = EDGE) -> Array:
        generator = np.random.default_rng(self.seed)
        z = generator.standard_normal(self.count)
        if self.kind == "signs":
            z = np.sign(z)
        elif self.kind == "outlier":
            z[0] = 1000
        elif self.kind == "one":
            z[:-1] = 0
        return np.clip(self.offset + self.scale * z, -limit, limit).astype(dtype)


KINDS = st.sampled_from(["normal", "signs", "outlier", "one"])
SEEDS = st.integers(0, 99)
ROWS = st.builds(Row, KINDS, COUNTS, sizes(-30, 19), sizes(-30, 19), SEEDS)
UPSTREAM = st.builds(Row, KINDS, st.just(2), sizes(-5, 19), sizes(-5, 19), SEEDS)


def params_of(dtype: Any, members: int = 2) -> tuple[BatchNormParams, Array, Array]:
    gamma, beta = np.random.default_rng(9).standard_normal((2, members, 1)).astype(dtype)
    return BatchNormParams(gamma, beta), gamma.astype(np.float64), beta.astype(np.float64)


def check_training(be: Backend, x: Array, dy: Array, dtype: Any) -> None:
    """Hold forward and backward of a row that two members share, x (N,), dy (N,), against exact sums."""
    params, gamma, beta = params_of(dtype)
    exact = [batch_norm_exact(x, dy, float(gamma[p, 0]), float(beta[p, 0])) for p in range(2)]
    y, cache, found = norms.forward_training(be, params, x[None, None])
    dx, grads = norms.backward_training(be, np.stack([dy[None]] * 2), cache)
    one = exact[0]
    rest = (found.mean.astype(np.float64) - one.mean) + (found.residual.astype(np.float64) - one.rest)
    width = 1 / np.sqrt(one.variance + EPSILON)
    largest = float(np.abs(one.normalised).max())
    size = float(np.abs(one.upstream).max()) * (1 + largest * float(np.abs(one.normalised).mean()))
    products = float(np.abs(one.normalised * one.upstream).sum())
    for name, actual, wanted, magnitude in (
        ("mean", rest, np.zeros((1, 1)), largest / width),
        ("variance", found.variance, np.full((1, 1), one.variance), one.variance),
        ("y", y[:, 0], np.stack([e.y for e in exact]), np.abs(gamma) * largest + np.abs(beta)),
        ("dx", dx[:, 0], np.stack([e.dx for e in exact]), np.abs(gamma) * width * size),
        ("dgamma", grads.gamma, np.array([[e.dgamma] for e in exact]), products),
        ("dbeta", grads.beta, np.array([[e.dbeta] for e in exact]), float(np.abs(dy).sum(dtype=np.float64))),
    ):
        assert_close(actual, wanted, reduction_length=TERMS, dtype=dtype, magnitude=magnitude, name=name)


@FEW
@given(ROWS, UPSTREAM)
@example(Row("signs", 128, 0.0, EDGE, 0), Row("normal", 2, 0.0, 1.0, 0))
@example(Row("normal", 128, 1e4, 0.01, 0), Row("normal", 2, 1e4, 0.01, 0))
@example(Row("outlier", 2049, 0.0, 1e16, 0), Row("outlier", 2, 1e6, 1.0, 0))
def test_training_is_accurate_at_any_offset_and_scale(dtype: Any, backend: str, row: Row, up: Row) -> None:
    """Constants, offsets and scales from 1e-30 to 1e19, of x and of dy."""
    x, dy = row.values(dtype), up._replace(count=row.count).values(dtype)
    check_training(backend_of(backend), x, dy, dtype)


@pytest.mark.parametrize(
    ("kind", "offset", "scale"),
    [
        ("normal", 0.0, 1e-30),
        ("normal", 1e4, 0.01),
        ("one", 123456.7, 0.0078125),
        ("outlier", 1.0, 1.0),
        ("normal", 1e18, 1e12),
        ("signs", 0.0, 1e17),
        ("signs", 0.0, EDGE),
    ],
)
def test_long_rows_are_accurate(dtype: Any, backend: str, kind: str, offset: float, scale: float) -> None:
    x = Row(kind, LONG, offset, scale, 1).values(dtype)
    check_training(backend_of(backend), x, Row("normal", LONG, 100.0, 1.0, 2).values(dtype), dtype)


def test_float64_is_accurate_to_the_ends_of_its_range(dtype: Any, backend: str) -> None:
    limit = float(np.sqrt(np.finfo(dtype).max))
    for scale in (limit * (1 - 1e-6), limit / 3e4, 1.0):
        x = Row("signs", LONG, 0.0, scale, 1).values(dtype, limit=limit)
        params, gamma, beta = params_of(dtype)
        y, cache, found = norms.forward_training(backend_of(backend), params, x[None, None])
        deviations = without_mean(x / scale)[2]
        normalised = deviations / np.sqrt(np.mean(deviations**2) + EPSILON / scale / scale)
        assert_close(y[:, 0], gamma * normalised + beta, reduction_length=TERMS, dtype=dtype, magnitude=3.0)
        assert np.isfinite(found.variance).all()
        assert np.isfinite(norms.update_running(backend_of(backend), *started(dtype), found)[1]).all()
        assert (cache.inverse > 0).all()


def started(dtype: Any) -> tuple[RunningStatistics]:
    return (BatchNorm().initial_state(backends.get("numpy"), (1,), 2, dtype),)


@FEW
@given(st.data(), COUNTS)
def test_a_constant_gives_beta_exactly(dtype: Any, backend: str, data: Any, count: int) -> None:
    """Whatever the number: y = β, not a step of the dtype times 1/√ε beside it."""
    bound = float(np.finfo(dtype).max)
    value = data.draw(st.floats(-bound, bound, width=32 if dtype == np.float32 else 64, allow_nan=False))
    params, _, _ = params_of(dtype)
    x = np.full((1, 1, count), value, dtype)
    y, cache, found = norms.forward_training(backend_of(backend), params, x)
    np.testing.assert_array_equal(y, np.broadcast_to(params.beta[:, :, None], y.shape))
    np.testing.assert_array_equal(found.mean, x[:, :, 0])
    assert (found.residual, found.variance) == (0, 0)
    dx, _ = norms.backward_training(backend_of(backend), np.ones(y.shape, dtype), cache)
    np.testing.assert_array_equal(dx, np.zeros_like(dx))


# ---- running statistics and inference ---------------------------------------------------------------------


def test_the_running_mean_reaches_its_limit(dtype: Any, backend: str) -> None:
    """A step of momentum that rounds to nothing leaves the mean beside its limit, and y beside β."""
    values = np.array([1000.3, -3606367232.0, 123456.7, 1e11 + 0.3, 1e-30, -1.7e19], dtype)
    be, (gamma, beta) = backend_of(backend), params_of(dtype)[0]
    params = BatchNormParams(*(np.tile(array, len(values)) for array in (gamma, beta)))
    x = np.tile(values[None, :, None], 3)
    running = BatchNorm().initial_state(backends.get("numpy"), (len(values),), 2, dtype)
    _, _, found = norms.forward_training(be, params, x)
    for _ in range(1000):
        running = norms.update_running(be, running, found)
    y, _ = norms.forward_inference(be, params, running, x)
    np.testing.assert_allclose(y, np.broadcast_to(params.beta[:, :, None], y.shape), atol=1e-6)


def test_a_running_mean_may_go_from_one_end_of_the_range_to_the_other(dtype: Any, backend: str) -> None:
    """The difference of two means in range is not: the step of momentum is."""
    be, largest = backend_of(backend), np.finfo(dtype).max
    running = RunningStatistics(np.full((2, 1), largest * dtype(0.9)), np.ones((2, 1), dtype))
    batch = BatchStatistics(np.full((1, 1), -largest), np.ones((1, 1), dtype), 9, np.zeros((1, 1), dtype))
    for moved in (0.71, 0.539):  # 0.9 · 0.9 − 0.1, and once more
        running = norms.update_running(be, running, batch)
        np.testing.assert_allclose(running.mean / largest, moved, rtol=1e-5)
    assert np.isfinite(running.residual).all()


def test_the_layout_of_an_input_changes_no_bit(dtype: Any, backend: str) -> None:
    """Rows that do not lie one after another, as a transpose leaves them: summed in the same order."""
    be = backend_of(backend)
    params, *_ = params_of(dtype)
    arrays = Row("normal", 3000, 1e4, 0.1, 0), Row("normal", 3000, 1.0, 1.0, 1)
    plain = [np.stack([row.values(dtype)[None]] * 2) for row in arrays]
    other = [np.asfortranarray(array) for array in plain]
    running = RunningStatistics(*(np.full((2, 1), value, dtype) for value in (1e4, 0.01)))

    def everything(x: Array, dy: Array) -> list[bytes]:
        y, cache, found = norms.forward_training(be, params, x)
        dx, grads = norms.backward_training(be, dy, cache)
        z, kept = norms.forward_inference(be, params, running, x)
        dz, sums = norms.backward_inference(be, dy, kept)
        return [np.asarray(array).tobytes() for array in (y, *found[:2], dx, *grads, z, dz, *sums)]

    assert everything(*plain) == everything(*other)


def test_the_running_mean_lies_between_numbers_of_the_dtype(dtype: Any, backend: str) -> None:
    """Values on two neighbouring numbers: their mean is neither, and half a step is half a deviation."""
    be, (params, gamma, beta) = backend_of(backend), params_of(dtype)
    low = dtype(1e4)
    x = np.where(np.arange(100) % 4 == 0, np.nextafter(low, dtype(np.inf)), low).astype(dtype)[None, None]
    (running,) = started(dtype)
    _, _, found = norms.forward_training(be, params, x)
    for _ in range(600):
        running = norms.update_running(be, running, found)
    y, _ = norms.forward_inference(be, params, running, x)
    deviations = without_mean(x[0, 0])[2]
    expected = gamma * deviations / np.sqrt(running.variance.astype(np.float64) + EPSILON) + beta
    assert_close(y[:, 0], expected, reduction_length=TERMS, dtype=dtype, magnitude=float(np.abs(beta).max()))


def normalised_relu(be: Any, params: Any, running: Any, x: Any) -> tuple[Any, Any]:
    """The ReLU of a batch norm at inference, at once where the backend can."""
    if fusion.INFERENCE_RELU in be.own:
        return be.forward(fusion.INFERENCE_RELU, params, x, running)
    y, cache = norms.forward_inference(be, params, running, x)
    return relu.forward(be, (), y)[0], cache


def pooled_relu(be: Any, params: Any, running: Any, x: Any, window: tuple[int, int]) -> Any:
    """The largest values of that ReLU, at once where the backend can."""
    if fusion.INFERENCE_RELU_POOLING in be.own:
        return be.forward(fusion.INFERENCE_RELU_POOLING, params, x, window, running)[0]
    return max_pooling.forward(be, (), normalised_relu(be, params, running, x)[0], window)[0]


@FEW
@given(ROWS, st.floats(-3, 3))
def test_inference_is_accurate_at_any_offset_and_scale(
    dtype: Any, backend: str, row: Row, beside: float
) -> None:
    """With the ReLU and the max pooling after it too; the running mean lies beside that of the values."""
    be, (params, gamma, beta) = backend_of(backend), params_of(dtype)
    x = row.values(dtype)
    mean, rest, deviations = without_mean(x)
    variance = np.full((2, 1), np.mean(deviations**2)).astype(dtype)
    shift = float(np.sqrt(variance[0, 0].astype(np.float64)) * beside)
    high, low = _pair(mean, rest + shift, dtype)
    running = RunningStatistics(np.full((2, 1), high), variance, np.full((2, 1), low))
    width = 1 / np.sqrt(variance.astype(np.float64) + EPSILON)
    left = (mean - float(high)) + (rest - float(low))  # of the mean, beside what the pair says: 0 or −shift
    normalised = (deviations + left) * width
    expected = gamma * normalised + beta
    size = np.abs(gamma) * np.abs(normalised).max() + np.abs(beta)
    y, _ = norms.forward_inference(be, params, running, x[None, None])
    assert_close(y[:, 0], expected, reduction_length=TERMS, dtype=dtype, magnitude=size)
    y, _ = normalised_relu(be, params, running, x[None, None])
    assert_close(y[:, 0], np.maximum(expected, 0), reduction_length=TERMS, dtype=dtype, magnitude=size)
    image = x[: len(x) // 2 * 2].reshape(1, 1, 2, -1, 1)
    y = pooled_relu(be, params, running, image, (2, 1))
    pooled = np.maximum(expected[:, : len(x) // 2 * 2].reshape(2, 2, -1).max(axis=1), 0)
    assert_close(y[:, 0, 0, :, 0], pooled, reduction_length=TERMS, dtype=dtype, magnitude=size)


def _pair(mean: float, rest: float, dtype: Any) -> tuple[Any, Any]:
    high = dtype(mean)
    high = dtype(float(high) + ((mean - float(high)) + rest))
    return high, dtype((mean - float(high)) + rest)


@FEW
@given(ROWS)
def test_gradients_at_inference_are_accurate(dtype: Any, backend: str, row: Row) -> None:
    be, (params, gamma, _) = backend_of(backend), params_of(dtype)
    x = row.values(dtype)
    exact: BatchNormExact = batch_norm_exact(x, x * 0, 1.0, 0.0)
    high, low = _pair(exact.mean, exact.rest, dtype)
    full = [np.full((2, 1), value, dtype) for value in (high, exact.variance, low)]
    _, cache = norms.forward_inference(be, params, RunningStatistics(*full), x[None, None])
    dy = Row("normal", row.count, 0.0, 1.0, row.seed).values(dtype)
    dx, grads = norms.backward_inference(be, np.stack([dy[None]] * 2), cache)
    width = 1 / np.sqrt(full[1].astype(np.float64) + EPSILON)
    left = (exact.mean - float(high)) + (exact.rest - float(low))
    products = dy.astype(np.float64) * (without_mean(x)[2] + left) * width
    assert_close(dx[:, 0], gamma * width * dy, reduction_length=TERMS, dtype=dtype)
    size = float(np.abs(products).sum() + np.abs(dy).sum() * (width * abs(float(low))).max())
    wanted = products.sum(axis=1, keepdims=True)
    assert_close(grads.gamma, wanted, reduction_length=TERMS, dtype=dtype, magnitude=size, name="dgamma")


# ---- beyond the range: y = β; what is not finite: never a number ----------------------------------------


@pytest.mark.parametrize("size", [1.03, 10.0, 1e10, "largest"])
@pytest.mark.parametrize("count", [128, LONG])
def test_beyond_the_range_y_is_beta(dtype: Any, backend: str, size: Any, count: int) -> None:
    """A variance that cannot be represented, on every backend, in every pass; a mean that can is kept."""
    be, (params, _, _) = backend_of(backend), params_of(dtype)
    limits = np.finfo(dtype)
    largest = float(limits.max) if size == "largest" else float(np.sqrt(limits.max)) * size
    x = np.full((1, 1, 2, count // 2, 1), -largest, dtype)
    x[:, :, 0] = largest
    x[0, 0, 1, 0, 0] = largest  # a mean that is not 0: x − mean overflows
    expected = np.broadcast_to(params.beta[:, :, None, None, None], (2, *x.shape[1:]))
    y, cache, found = norms.forward_training(be, params, x)
    np.testing.assert_array_equal(y, expected)
    assert np.isfinite(found.mean).all()
    assert np.isinf(found.variance).all()
    assert (cache.inverse == 0).all()
    dy = Row("normal", count, 1.0, 1.0, 0).values(dtype).reshape(1, *x.shape[1:]).repeat(2, axis=0)
    dx, grads = norms.backward_training(be, dy, cache)
    np.testing.assert_array_equal(dx, np.zeros_like(dx))
    np.testing.assert_array_equal(grads.gamma, np.zeros_like(grads.gamma))
    assert_close(grads.beta, dy.sum(axis=(2, 3, 4), dtype=np.float64), reduction_length=TERMS, dtype=dtype)
    running = norms.update_running(be, *started(dtype), found)
    assert np.isfinite(running.mean).all()
    assert np.isinf(running.variance).all()
    for values in (x, x * 0, x / dtype(2)):
        y, _ = norms.forward_inference(be, params, running, values)
        np.testing.assert_array_equal(y, expected)
    y = pooled_relu(be, params, running, x, (2, 1))
    np.testing.assert_array_equal(y, np.maximum(expected[:, :, :1], 0))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 5])
def test_what_is_not_finite_is_never_a_number(
    dtype: Any, backend: str, bad: float, place: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NaN of the whole feature, and of no other; the layer says so at once where it does not have to wait."""
    be, (params, _, _) = backend_of(backend), params_of(dtype)
    x = np.random.default_rng(0).standard_normal((1, 1, 40)).astype(dtype)
    x[0, 0, place] = bad
    given = np.concatenate([x, np.ones_like(x)], axis=1)
    gamma, beta = (np.repeat(array, 2, axis=1) for array in params)
    with monkeypatch.context() as patch:
        patch.setattr(be, "check_finite", lambda *_: None)
        y, cache, _ = norms.forward_training(be, BatchNormParams(gamma, beta), given)
    assert np.isnan(y[:, 0]).all()
    assert np.isfinite(y[:, 1]).all()
    for array in cache[2:]:
        assert np.isnan(array[0, 0])
        assert np.isfinite(array[0, 1])
    with np.errstate(invalid="ignore"):  # as in a network
        dx, (dgamma, _) = norms.backward_training(be, np.ones_like(y), cache)
    assert np.isnan(dx[:, 0]).all()
    assert np.isnan(dgamma[:, 0]).all()
    assert np.isfinite(dx[:, 1]).all()
    if backend != "cuda":
        with pytest.raises(WnError, match=f"batch norm: an activation is not finite in {np.dtype(dtype)}"):
            norms.forward_training(be, params, x)
    running = RunningStatistics(*(np.array([[v]] * 2, dtype) for v in (0.0, np.inf)))
    image = x[:, :, :, None, None]
    with np.errstate(invalid="ignore"):  # as in a network
        assert np.isnan(pooled_relu(be, params, running, image, (40, 1))).all()


def test_a_row_out_of_the_ordinary_changes_no_other(dtype: Any, backend: str) -> None:
    """Rows that are computed again at another scale, beside those that are not: the bits of each alone."""
    be, limit = backend_of(backend), float(np.sqrt(np.finfo(dtype).max))
    x = np.random.default_rng(0).standard_normal((4, 2, 300)).astype(dtype)
    x[1], x[2, 1], x[3, 0] = x[1] * dtype(limit / 5), x[2, 1] * dtype(limit * 9), x[3, 0] + dtype(1e5)
    gamma, beta = np.random.default_rng(1).standard_normal((2, 4, 2)).astype(dtype)

    def results(members: slice) -> tuple[Any, ...]:
        params = BatchNormParams(gamma[members], beta[members])
        y, cache, _ = norms.forward_training(be, params, x[members])
        return y, *cache[2:]

    together = results(slice(None))
    for p in range(4):
        for one, whole in zip(results(slice(p, p + 1)), together, strict=True):
            assert one.tobytes() == whole[p : p + 1].tobytes()
