"""Every checker must catch the bugs that it is there for: each is planted here and must be reported."""

import numpy as np
import pytest

from tests.testing import toys
from tests.testing.toys import LinearParams, NormParams
from wn.testing import (
    LayerCase,
    check_dtype,
    check_gradient,
    check_inputs_unchanged,
    check_isolation,
    check_layer,
    check_layout,
    check_population,
    check_repeatable,
    check_shapes,
)

# ---- linear: gradients ----------------------------------------------------------------------------------


def changed_linear(change):
    """The correct linear layer with `change(dx, dw, db, dy, cache)` applied to its gradients."""

    def backward(be, dy, cache):
        dx, (dw, db) = toys.linear_backward(be, dy, cache)
        dx, dw, db = change(dx, dw, db, dy, cache)
        return dx, LinearParams(dw, db)

    return toys.linear_forward, backward


LINEAR_BUGS = {
    "factor 2 missing in dw": lambda dx, dw, db, dy, cache: (dx, dw / 2, db),
    "dw transposed": lambda dx, dw, db, dy, cache: (dx, dw.transpose(0, 2, 1), db),
    "dx with w instead of its transpose": lambda dx, dw, db, dy, cache: (cache.params.w @ dy, dw, db),
    "db a mean instead of a sum": lambda dx, dw, db, dy, cache: (dx, dw, dy.mean(axis=2)),
    "db without the last sample": lambda dx, dw, db, dy, cache: (dx, dw, dy[:, :, :-1].sum(axis=2)),
    "sign of dx": lambda dx, dw, db, dy, cache: (-dx, dw, db),
    "dx of zeros": lambda dx, dw, db, dy, cache: (0 * dx, dw, db),
    "dx off by one in a million": lambda dx, dw, db, dy, cache: (dx * (1 + 1e-6), dw, db),
    "dw wrong in a single element": lambda dx, dw, db, dy, cache: (dx, _spoil_last(dw), db),
    "dx computed in float32": lambda dx, dw, db, dy, cache: (_through_float32(dx), dw, db),
    "samples reversed in dx": lambda dx, dw, db, dy, cache: (dx[:, :, ::-1], dw, db),
    "sign of dy instead of dy": lambda dx, dw, db, dy, cache: (
        cache.params.w.transpose(0, 2, 1) @ np.sign(dy),
        dw,
        db,
    ),
    "gradient clipped": lambda dx, dw, db, dy, cache: (dx, np.clip(dw, -1, 1), db),
    "dx is NaN": lambda dx, dw, db, dy, cache: (dx * np.nan, dw, db),
}


def _spoil_last(array):
    array = array.copy()
    array[-1, -1, -1] *= 1.001
    return array


def _through_float32(array):
    return array.astype(np.float32).astype(array.dtype)


@pytest.mark.parametrize("bug", LINEAR_BUGS)
def test_wrong_linear_gradients(bug):
    case = LayerCase(changed_linear(LINEAR_BUGS[bug]), None, *toys.linear_case())
    with pytest.raises(AssertionError, match="gradient is wrong: "):
        check_gradient(case)


def test_the_failure_names_the_place_and_the_ratio():
    case = LayerCase(changed_linear(LINEAR_BUGS["factor 2 missing in dw"]), None, *toys.linear_case(), seed=5)
    with pytest.raises(AssertionError, match=r"w\[\d, \d, \d\].*ratio 0\.5\b") as failure:
        check_gradient(case)
    assert "# repro, seed 5" in str(failure.value)


# ---- ReLU and batch norm: gradients ---------------------------------------------------------------------


def norm_backward(terms):
    """Batch norm's backward with some of its terms: 'mean', 'variance', 'epsilon', 'biased', 'gamma'."""

    def backward(be, dy, cache):
        normalised, inverse, gamma = cache
        count = dy.shape[2] if "biased" in terms else dy.shape[2] - 1
        d = gamma * dy if "gamma" in terms else dy
        if "epsilon" not in terms:
            inverse = (inverse**-2 - 1e-5) ** -0.5
        dx = d.copy()
        if "mean" in terms:
            dx -= d.sum(axis=2, keepdims=True) / count
        if "variance" in terms:
            dx -= normalised * (d * normalised).sum(axis=2, keepdims=True) / count
        return dx * inverse, NormParams((dy * normalised).sum(axis=2), dy.sum(axis=2))

    return toys.norm_forward, backward


TERMS = {"mean", "variance", "epsilon", "biased", "gamma"}


def test_batch_norm_with_all_terms_is_right():
    check_layer(norm_backward(TERMS), None, *toys.norm_case())


@pytest.mark.parametrize("missing", sorted(TERMS))
def test_batch_norm_with_a_term_missing(missing):
    with pytest.raises(AssertionError, match="gradient is wrong: x"):
        check_gradient(LayerCase(norm_backward(TERMS - {missing}), None, *toys.norm_case()))


def zero_dx(be, dy, cache):
    _, grads = toys.norm_backward(be, dy, cache)
    return np.zeros_like(dy), grads


def test_batch_norm_that_only_an_upstream_of_ones_would_pass():
    """With dy = 1 the true dx is 0, so a zero gradient looks right; a random dy shows that it is not."""
    params, x = toys.norm_case()
    y, cache = toys.norm_forward(None, params, x)
    true_dx, _ = toys.norm_backward(None, np.ones_like(y), cache)
    assert np.max(np.abs(true_dx)) < 1e-14
    with pytest.raises(AssertionError, match="gradient is wrong: x"):
        check_gradient(LayerCase((toys.norm_forward, zero_dx), None, params, x))


RELU_BUGS = {
    "sign error in the mask": lambda dy, mask: dy * ~mask,
    "no mask": lambda dy, mask: dy.copy(),
    "mask of dy": lambda dy, mask: dy * (dy > 0),
    "mask of both": lambda dy, mask: dy * (mask & (dy > 0)),
}


@pytest.mark.parametrize("bug", RELU_BUGS)
def test_wrong_relu_gradients(bug):
    layer = (toys.relu_forward, lambda be, dy, cache: (RELU_BUGS[bug](dy, cache.mask), ()))
    with pytest.raises(AssertionError, match="gradient is wrong: x"):
        check_gradient(LayerCase(layer, None, *toys.relu_case()))


def test_upstream_is_not_the_stream_that_x_was_drawn_from():
    """An x from default_rng(seed) must not meet a dy of the same numbers: masks of x and dy would agree."""
    for seed in range(3):
        x = np.random.default_rng(seed).standard_normal((3, 4, 5))
        case = LayerCase(toys.RELU, None, (), x, seed=seed)
        assert abs(np.corrcoef(case.upstream().ravel(), x.ravel())[0, 1]) < 0.5


# ---- the other parts of the contract --------------------------------------------------------------------


def leak_in_y(be, params, x):
    y, cache = toys.linear_forward(be, params, x)
    return y + 1e-9 * y[::-1], cache


def leak_in_scale(be, params, x):
    """Normalising by a maximum over all members, as a shared numerical safeguard would."""
    scale = np.abs(x).max()
    y, cache = toys.linear_forward(be, params, x / scale)
    return scale * y, cache._replace(x=x)


def leak_in_gradient(be, dy, cache):
    dx, (dw, db) = toys.linear_backward(be, dy, cache)
    return dx, LinearParams(dw + 1e-9 * dw.mean(axis=0), db)


def first_member_for_all(be, params, x):
    return toys.linear_forward(be, LinearParams(*(np.repeat(a[:1], len(a), axis=0) for a in params)), x)


def writes_into_x(be, params, x):
    np.maximum(x, 0, out=x)
    return x.copy(), toys.MaskCache(x > 0)


def writes_into_params(be, params, x):
    result = toys.linear_forward(be, params, x)
    params.b[...] = 0
    return result


def writes_into_dy(be, dy, cache):
    dy *= cache.mask
    return dy, ()


def caches_y(be, params, x):
    y = np.maximum(x, 0)
    return y, toys.MaskCache(y)


def writes_into_y(be, dy, cache):
    np.greater(cache.mask, 0, out=cache.mask, casting="unsafe")
    return dy * cache.mask, ()


def list_cache(be, params, x):
    y, cache = toys.linear_forward(be, params, x)
    return y, [cache]


def pops_the_cache(be, dy, cache):
    return toys.linear_backward(be, dy, cache.pop())


def scales_the_cache(be, dy, cache):
    result = toys.relu_backward(be, dy, toys.MaskCache(cache.mask.copy()))
    cache.mask[...] = False
    return result


class Stateful:
    """Keeps the cache in the layer instead of returning it, like many frameworks do."""

    def forward(self, be, params, x):
        y, self.cache = toys.linear_forward(be, params, x)
        return y, None

    def backward(self, be, dy, cache):
        return toys.linear_backward(be, dy, self.cache)


class RememberingBackward(Stateful):
    """Adds the last upstream to the next one."""

    last = 0.0

    def forward(self, be, params, x):
        return toys.linear_forward(be, params, x)

    def backward(self, be, dy, cache):
        used, self.last = dy + self.last, 1e-3 * dy
        return toys.linear_backward(be, used, cache)


class Random:
    """Draws noise that depends on how often it was called."""

    def __init__(self):
        self.rng = np.random.default_rng(0)

    def forward(self, be, params, x):
        y, cache = toys.linear_forward(be, params, x)
        return y + self.rng.standard_normal(y.shape).astype(y.dtype), cache

    def backward(self, be, dy, cache):
        return toys.linear_backward(be, dy, cache)


def y_in_float64(be, params, x):
    y, cache = toys.linear_forward(be, params, x)
    return y.astype(np.float64), cache


def y_in_float32(be, params, x):
    y, cache = toys.linear_forward(be, params, x)
    return y.astype(np.float32), cache


def db_in_float64(be, dy, cache):
    dx, (dw, db) = toys.linear_backward(be, dy, cache)
    return dx, LinearParams(dw, db.astype(np.float64))


def memory_order(be, params, x):
    """Right for contiguous arrays only: it walks through x as it lies in memory."""
    y = np.maximum(x.ravel(order="K"), 0).reshape(x.shape)
    return y, toys.MaskCache(x > 0)


def memory_order_backward(be, dy, cache):
    return dy.ravel(order="K").reshape(dy.shape) * cache.mask, ()


def plain_tuple(be, dy, cache):
    dx, grads = toys.linear_backward(be, dy, cache)
    return dx, tuple(grads)


def no_db(be, dy, cache):
    dx, (dw, _) = toys.linear_backward(be, dy, cache)
    return dx, LinearParams(dw, None)


def db_of_every_sample(be, dy, cache):
    dx, (dw, _) = toys.linear_backward(be, dy, cache)
    return dx, LinearParams(dw, dy)


def only_dx(be, dy, cache):
    return toys.linear_backward(be, dy, cache)[0]


LINEAR, RELU = toys.linear_case(), toys.relu_case()
CONTRACT_BUGS = {
    # name: (layer, arguments, the check that must see it, its message)
    "leak in y": ((leak_in_y, toys.linear_backward), LINEAR, check_isolation, "y of other members"),
    "leak in y, alone": ((leak_in_y, toys.linear_backward), LINEAR, check_population, "y of the population"),
    "leak in a scale": ((leak_in_scale, toys.linear_backward), LINEAR, check_isolation, "y of other members"),
    "leak in dw": ((toys.linear_forward, leak_in_gradient), LINEAR, check_isolation, "dw of other members"),
    "leak in dw, alone": (
        (toys.linear_forward, leak_in_gradient),
        LINEAR,
        check_population,
        "dw of the population",
    ),
    "member 0 for all": (
        (first_member_for_all, toys.linear_backward),
        LINEAR,
        check_population,
        "y of the pop",
    ),
    "x overwritten": (
        (writes_into_x, toys.relu_backward),
        RELU,
        check_inputs_unchanged,
        "forward changed .* x",
    ),
    "b overwritten": ((writes_into_params, toys.linear_backward), LINEAR, check_inputs_unchanged, "input b"),
    "dy overwritten": ((toys.relu_forward, writes_into_dy), RELU, check_inputs_unchanged, "backward .* dy"),
    "y overwritten": ((caches_y, writes_into_y), RELU, check_inputs_unchanged, "backward changed .* y"),
    "cache spoiled": ((toys.relu_forward, scales_the_cache), RELU, check_repeatable, "backward twice"),
    "cache in the layer": (Stateful(), LINEAR, check_repeatable, "depends on a later forward"),
    "upstream remembered": (RememberingBackward(), LINEAR, check_repeatable, "backward"),
    "random forward": (Random(), LINEAR, check_repeatable, "forward twice"),
    "y in float64": ((y_in_float64, toys.linear_backward), LINEAR, check_dtype, "y is float64"),
    "y in float32": ((y_in_float32, toys.linear_backward), LINEAR, check_dtype, "y is float32"),
    "db in float64": ((toys.linear_forward, db_in_float64), LINEAR, check_dtype, "db is float64"),
    "memory order": ((memory_order, toys.relu_backward), RELU, check_layout, "y of transposed arrays"),
    "memory order of dy": (
        (toys.relu_forward, memory_order_backward),
        RELU,
        check_layout,
        "dx of transposed",
    ),
    "plain tuple": ((toys.linear_forward, plain_tuple), LINEAR, check_shapes, "must be of params' type"),
    "db left out": ((toys.linear_forward, no_db), LINEAR, check_shapes, r"arrays for \['w'\]"),
    "db not summed": (
        (toys.linear_forward, db_of_every_sample),
        LINEAR,
        check_shapes,
        "gradient of b has shape",
    ),
    "only dx returned": ((toys.linear_forward, only_dx), LINEAR, check_shapes, "not the pair"),
}


@pytest.mark.parametrize("bug", CONTRACT_BUGS)
def test_broken_contracts(bug):
    layer, arguments, check, message = CONTRACT_BUGS[bug]
    with pytest.raises(AssertionError, match=message) as failure:
        check(LayerCase(layer, None, *arguments))
    assert "# repro, seed 0:" in str(failure.value)


@pytest.mark.parametrize("bug", CONTRACT_BUGS)
def test_check_layer_catches_them_too(bug):
    layer, arguments, *_ = CONTRACT_BUGS[bug]
    with pytest.raises(AssertionError):
        check_layer(layer, None, *arguments)


@pytest.mark.parametrize("bug", CONTRACT_BUGS)
def test_the_same_check_passes_the_correct_layer(bug):
    _, arguments, check, _ = CONTRACT_BUGS[bug]
    correct = toys.LINEAR if arguments is LINEAR else toys.RELU
    result = check(LayerCase(correct, None, *arguments))
    assert (result is None) == (check is not check_shapes)


def test_a_cache_that_is_used_up():
    with pytest.raises(IndexError, match="pop from empty list"):
        check_repeatable(LayerCase((list_cache, pops_the_cache), None, *LINEAR))


def test_shared_input_gradient_of_the_first_member_only():
    """dx of a shared input must add up over the members."""

    def backward(be, dy, cache):
        dx, grads = toys.linear_backward(be, dy, cache)
        return dx[:1], grads

    params, x = LINEAR
    with pytest.raises(AssertionError, match="gradient is wrong: x"):
        check_gradient(LayerCase((toys.linear_forward, backward), None, params, x[:1]))
