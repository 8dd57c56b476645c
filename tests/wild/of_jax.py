"""Gradients of JAX in float64 on the CPU."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy import linalg, special, stats

from tests.wild.cases import Case, Draws, elementwise

ELEMENTWISE = """
    real: reciprocal exp2 expm1 tan sinh cosh arcsinh sinc cbrt i0 deg2rad nan_to_num trunc
    positive: log2 log10 log1p sqrt
    interval: arcsin arccos arctanh
    above one: arccosh
    wide: log sqrt reciprocal
    small: expm1 tanh log1p sinc
    with zero: sinc tan i0
"""
SPECIAL = """
    real: gamma erf erfc i0 i0e i1 i1e gammaln digamma log_ndtr ndtr expi expit
    positive: gamma gammaln digamma exp1 expi entr bessel_jn
    unit: erfinv logit ndtri spence
    small: erf i1
    with zero: i0 i1 i1e erf
    steep: log_ndtr i0e i1e erfc
"""
ACTIVATIONS = """
    real: gelu silu mish softplus soft_sign hard_silu hard_sigmoid hard_tanh elu selu celu relu relu6
    real: squareplus leaky_relu log_sigmoid sparse_plus standardize softmax log_softmax
    steep: gelu silu mish softplus elu selu celu log_sigmoid squareplus
"""


def _case(name: str, function: Callable[..., Any], *arrays: Any, **known: Any) -> Case:
    forward = jax.jit(function)

    @jax.jit
    def back(dy: Any, *given: Any) -> Any:
        y, pull = jax.vjp(function, *given)
        return pull(dy.astype(y.dtype))

    def f(*given: Any) -> Any:
        return np.asarray(forward(*given))

    def vjp(dy: Any, *given: Any) -> tuple[Any, ...]:
        return tuple(np.asarray(gradient) for gradient in back(jnp.asarray(dy), *given))

    return Case(name, f, vjp, arrays, **known)


def cases() -> Iterator[Case]:
    """Elementwise functions, reductions, layouts, linear algebra, and what networks are made of."""
    jax.config.update("jax_enable_x64", True)
    for name, domain, x in elementwise(ELEMENTWISE):
        yield _case(f"{name}, {domain}", getattr(jnp, name), x)
    for name, domain, x in elementwise(SPECIAL):
        if name == "bessel_jn":
            yield _case("special.bessel_jn", lambda x: special.bessel_jn(x, v=3), x)
        else:
            yield _case(f"special.{name}, {domain}", getattr(special, name), x)
    for name, domain, x in elementwise(ACTIVATIONS):
        yield _case(f"nn.{name}, {domain}", getattr(jax.nn, name), x)
    yield from _binary(Draws("jax binary"))
    yield from _reductions(Draws("jax reductions"))
    yield from _layouts(Draws("jax layouts"))
    yield from _linear_algebra(Draws("jax linear algebra"))
    yield from _networks(Draws("jax networks"))
    yield from _distributions(Draws("jax distributions"))


def _binary(draw: Draws) -> Iterator[Case]:
    for name in ("logaddexp", "logaddexp2", "arctan2", "hypot", "maximum", "fmin"):
        yield _case(name, getattr(jnp, name), draw.normal(3, 4), draw.normal(4))
    for name in ("fmod", "remainder"):
        yield _case(name, getattr(jnp, name), draw.uniform(2.2, 2.8, 3, 4), draw.uniform(0.9, 1.0, 3, 1))
    for name in ("xlogy", "xlog1py", "rel_entr", "kl_div", "beta", "betaln", "poch"):
        yield _case(f"special.{name}", getattr(special, name), draw.positive(5), draw.positive(5))
    for name in ("gammainc", "gammaincc"):
        yield _case(f"special.{name}", getattr(special, name), draw.positive(5), draw.positive(5))
    yield _case("special.betainc of x", lambda x: special.betainc(2.0, 3.5, x), draw.uniform(0.1, 0.9, 5))
    yield _case(
        "special.betainc", special.betainc, draw.positive(5), draw.positive(5), draw.uniform(0.1, 0.9, 5)
    )
    yield _case("special.zeta of q", lambda q: special.zeta(3.0, q), draw.positive(5))
    yield _case("special.polygamma", lambda x: special.polygamma(2, x), draw.positive(5))
    yield _case("special.multigammaln", lambda x: special.multigammaln(x, 3), draw.positive(5) + 2)
    yield _case("special.expn", lambda x: special.expn(3, x), draw.positive(5))
    yield _case("special.factorial", special.factorial, draw.positive(5))
    yield _case("special.hyp1f1 of x", lambda x: special.hyp1f1(1.5, 2.5, x), draw.positive(5))
    yield _case("special.hyp1f1", special.hyp1f1, draw.positive(5), draw.positive(5), draw.positive(5))
    yield _case("power", jnp.power, draw.positive(3, 4), draw.normal(3, 1))
    for exponent in (0, 1, 2, 3.0):
        yield _case(f"x**{exponent} at 0", lambda x, e=exponent: x**e, np.array([0.0, 1.0, -2.0]))
    yield _case("clip by arrays", jnp.clip, draw.normal(3, 4), np.full(4, -0.8), np.full((3, 1), 0.9))
    yield _case("where", lambda x, y: jnp.where(x > 0, x, y), draw.normal(3, 4), draw.normal(4))
    yield _case("ldexp", lambda x: jnp.ldexp(x, 3), draw.normal(4))


def _reductions(draw: Draws) -> Iterator[Case]:
    x, zeros = draw.distinct(3, 4), np.array([[2.0, 0.0, -1.5], [0.0, 0.0, 3.0], [1.0, 2.0, 3.0]])
    for name in [
        "mean",
        "prod",
        "var",
        "std",
        "max",
        "min",
        "nanmean",
        "nanvar",
        "nanprod",
        "median",
        "nanmedian",
        "ptp",
    ]:
        yield _case(f"{name} of all", getattr(jnp, name), x)
        yield _case(f"{name} along 1", lambda x, n=name: getattr(jnp, n)(x, axis=1), x)
    for name in ("cumsum", "cumprod", "nancumprod"):
        yield _case(f"{name} along 1", lambda x, n=name: getattr(jnp, n)(x, axis=1), x)
        yield _case(f"{name} with zeros", lambda x, n=name: getattr(jnp, n)(x, axis=1), zeros)
    yield _case("prod with zeros", lambda x: jnp.prod(x, axis=1), zeros)
    for name in ("cumlogsumexp", "cummax", "cummin"):
        yield _case(f"lax.{name}", lambda x, n=name: getattr(lax, n)(x, axis=1), x)
        yield _case(f"lax.{name}, reverse", lambda x, n=name: getattr(lax, n)(x, axis=0, reverse=True), x)
    for method in ("linear", "lower", "midpoint"):
        yield _case(f"quantile, {method}", lambda x, m=method: jnp.quantile(x, 0.3, axis=1, method=m), x)
    yield _case("quantile of q", lambda x, q: jnp.quantile(x, q), x, np.array(0.37))
    for order in (1, 2, 3, 0.5, jnp.inf):
        yield _case(f"linalg.norm, {order}", lambda x, o=order: jnp.linalg.norm(x, o, axis=1), x)
    yield _case("logsumexp, b", lambda x, b: special.logsumexp(x, axis=1, b=b), x, draw.positive(3, 4))
    yield _case("logsumexp, large", special.logsumexp, np.array([800.0, 799.0, -3.0]))
    for name in ("cov", "corrcoef"):
        yield _case(name, getattr(jnp, name), x)
    yield _case("average", lambda x, w: jnp.average(x, axis=1, weights=w), x, draw.positive(4))
    yield _case("trapezoid", jnp.trapezoid, x, np.sort(draw.distinct(4)))
    yield _case("sort along 0", lambda x: jnp.sort(x, axis=0), x)
    yield _case("partition", lambda x: jnp.partition(x, 2, axis=1)[:, 2], x)
    yield _case("lax.top_k", lambda x: lax.top_k(x, 2)[0], x)
    yield _case("lax.sort, two", lambda x, y: lax.sort((x, y), num_keys=1)[1], x, draw.normal(3, 4))


def _layouts(draw: Draws) -> Iterator[Case]:
    x, index = draw.normal(3, 4), np.array([2, 0, 2, 2])
    knots = np.array([0.0, 1.0, 2.5, 4.0])
    functions: dict[str, Callable[[Any], Any]] = {
        "index, repeated": lambda x: x[index],
        "at add, repeated": lambda x: jnp.zeros((3, 4)).at[index].add(x[index] ** 2),
        "at set": lambda x: x.at[1, ::2].set(x[0, :2] ** 2),
        "at multiply, repeated": lambda x: x.at[np.array([1, 1])].multiply(x[:2]),
        "at max": lambda x: x.at[1].max(x[0]),
        "at power": lambda x: (x**2).at[1].power(3.0),
        "take, clip": lambda x: jnp.take(x, index + 1, axis=0, mode="clip"),
        "take_along_axis": lambda x: jnp.take_along_axis(x, index[None], axis=0),
        "diff": lambda x: jnp.diff(x, n=2, axis=1),
        "gradient": lambda x: jnp.gradient(x, axis=1),
        "pad, reflect": lambda x: jnp.pad(x, 1, "reflect"),
        "pad, linear_ramp": lambda x: jnp.pad(x, 1, "linear_ramp", end_values=2.0),
        "roll": lambda x: jnp.roll(x, (1, 2), (0, 1)),
        "repeat, counts": lambda x: jnp.repeat(x, np.array([2, 0, 1]), axis=0),
        "unwrap": lambda x: jnp.unwrap(5 * x),
        "interp of x": lambda x: jnp.interp(x + 2, knots, knots**2),
        "interp of y": lambda x: jnp.interp(np.array([0.3, 1.9, 3.3]), knots, x[0]),
        "interp of knots": lambda x: jnp.interp(np.array([0.3, 1.9, 3.3]), knots + 0.05 * x[0], knots**2),
        "polyval": lambda x: jnp.polyval(x[0], x[1]),
        "convolve": lambda x: jnp.convolve(x[0], x[1, :3], "same"),
        "correlate": lambda x: jnp.correlate(x[0], x[1, :3], "full"),
        "vander": lambda x: jnp.vander(x[0]),
        "segment_sum": lambda x: jax.ops.segment_sum(x, np.array([0, 1, 0]), 2),
        "segment_prod": lambda x: jax.ops.segment_prod(x, np.array([0, 1, 0]), 2),
        "lax.scan": lambda x: lax.scan(lambda c, row: (jnp.tanh(c + row), c * row), jnp.ones(4), x)[1],
        "lax.fori_loop": lambda x: lax.fori_loop(0, 3, lambda i, c: jnp.sin(c) + c, x),
        "lax.associative_scan": lambda x: lax.associative_scan(jnp.multiply, x),
        "fft": lambda x: jnp.abs(jnp.fft.fft(x)),
        "rfft2": lambda x: jnp.fft.rfft2(x).imag,
        "irfft, n=7": lambda x: jnp.fft.irfft(x[0] + 1j * x[1], 7),
        "polyfit": lambda x: jnp.polyfit(knots, x[0], 2),
        "map_coordinates": lambda x: jax.scipy.ndimage.map_coordinates(
            x, [np.array([0.3, 1.2]), np.array([2.4, 0.9])], 1
        ),
        "image.resize, cubic": lambda x: jax.image.resize(x, (5, 3), "cubic"),
        "image.resize, lanczos3": lambda x: jax.image.resize(x, (2, 7), "lanczos3"),
    }
    for name, function in functions.items():
        yield _case(name, function, x)


def _linear_algebra(draw: Draws) -> Iterator[Case]:
    a, b, spd, tall = draw.matrix(4), draw.normal(4, 2), draw.spd(4), draw.normal(4, 3)
    symmetric = draw.symmetric(4)
    for name in ("inv", "det", "pinv", "cond"):
        yield _case(f"linalg.{name}", getattr(jnp.linalg, name), a)
    yield _case("linalg.pinv, tall", jnp.linalg.pinv, tall)
    yield _case("linalg.det, singular", jnp.linalg.det, np.diag([1.0, 2.0, 0.0]) + np.diag([1.0, 1.0], 1))
    yield _case("linalg.det, rank 1 of 3", jnp.linalg.det, np.outer([1.0, 2.0, -1.0], [2.0, 1.0, 3.0]))
    yield _case("linalg.det, rank 2 of 4", jnp.linalg.det, np.diag([1.0, 2.0, 0.0, 0.0]))
    for power in (3, -2):
        yield _case(f"linalg.matrix_power, {power}", lambda x, p=power: jnp.linalg.matrix_power(x, p), a)
    yield _case("linalg.slogdet", lambda x: jnp.linalg.slogdet(x)[1], a)
    yield _case("linalg.solve", jnp.linalg.solve, a, b)
    yield _case("linalg.lstsq", lambda x, y: jnp.linalg.lstsq(x, y)[0], tall, b)
    yield _case("linalg.cholesky", jnp.linalg.cholesky, spd, directions=symmetric)
    yield _case("linalg.eigvalsh", jnp.linalg.eigvalsh, spd, directions=symmetric)
    yield _case(
        "linalg.eigh, squared vectors", lambda x: jnp.linalg.eigh(x)[1] ** 2, spd, directions=symmetric
    )
    yield _case("linalg.eigvals", lambda x: jnp.sort(jnp.linalg.eigvals(x).real), spd)
    for number, name in enumerate(("Q", "R")):
        yield _case(f"linalg.qr, {name}", lambda x, n=number: jnp.linalg.qr(x)[n], tall)
    for full in (False, True):
        yield _case(
            f"linalg.svd, values, full={full}", lambda x, f=full: jnp.linalg.svd(x, full_matrices=f)[1], a
        )
    yield _case("linalg.svd, squared U", lambda x: jnp.linalg.svd(x, full_matrices=False)[0] ** 2, tall)
    for order in ("fro", "nuc", 1, 2, -2):
        yield _case(f"linalg.norm of a matrix, {order}", lambda x, o=order: jnp.linalg.norm(x, o), a)
    for number, name in ((1, "L"), (2, "U")):
        yield _case(f"scipy.linalg.lu, {name}", lambda x, n=number: linalg.lu(x)[n], a)
    yield _case("scipy.linalg.expm", linalg.expm, a)
    yield _case("scipy.linalg.sqrtm", lambda x: linalg.sqrtm(x).real, spd)
    yield _case(
        "scipy.linalg.expm_frechet", lambda x, y: linalg.expm_frechet(x, y, compute_expm=False), a, spd
    )
    for lower, trans in ((True, 0), (False, "T")):
        yield _case(
            f"scipy.linalg.solve_triangular, lower={lower}, trans={trans}",
            lambda x, y, low=lower, t=trans: linalg.solve_triangular(x, y, trans=t, lower=low),
            a,
            b,
        )
    for lower in (True, False):
        yield _case(
            f"scipy.linalg.cho_solve, lower={lower}",
            lambda x, y, low=lower: linalg.cho_solve((x, low), y),
            a,
            b,
        )
    yield _case("scipy.linalg.toeplitz", linalg.toeplitz, draw.normal(3), draw.normal(4))
    yield _case("linalg.multi_dot", lambda x, y: jnp.linalg.multi_dot([x, y, y.T]), a, b)
    yield _case("linalg.householder_product", lax.linalg.householder_product, tall, draw.positive(3))
    yield _case(
        "lax.linalg.tridiagonal_solve",
        lambda *t: lax.linalg.tridiagonal_solve(*t, b),
        np.array([0.0, 0.4, 0.3, -0.2]),
        draw.positive(4) + 2,
        np.array([0.5, -0.3, 0.2, 0.0]),
    )
    for path in ("ij,jk->ik", "ij,jl->lji", "ii,jk->k"):
        yield _case(f"einsum {path}", lambda x, y, p=path: jnp.einsum(p, x, y), a, b)


def _networks(draw: Draws) -> Iterator[Case]:
    image = draw.distinct(2, 2, 5, 6)
    for stride, padding, dilation in ((1, "VALID", 1), (2, "SAME", 1), (1, "SAME", 2)):
        yield _case(
            f"lax.conv, stride {stride}, {padding}, dilation {dilation}",
            lambda x, w, s=stride, p=padding, d=dilation: lax.conv_general_dilated(
                x, w, (s, s), p, rhs_dilation=(d, d)
            ),
            image,
            draw.normal(3, 2, 3, 2),
        )
    yield _case(
        "lax.conv_transpose",
        lambda x, w: lax.conv_transpose(x, w, (2,), "SAME"),
        draw.normal(1, 4, 2),
        draw.normal(3, 2, 3),
    )
    window = {"window_dimensions": (1, 1, 3, 2), "window_strides": (1, 1, 2, 1), "padding": "SAME"}
    yield _case("lax.reduce_window, max", lambda x: lax.reduce_window(x, -jnp.inf, lax.max, **window), image)
    yield _case("lax.reduce_window, add", lambda x: lax.reduce_window(x, 0.0, lax.add, **window), image)
    yield _case("nn.gelu, exact", lambda x: jax.nn.gelu(x, approximate=False), draw.normal(3, 4))
    yield _case("nn.glu", jax.nn.glu, draw.normal(3, 4))
    yield _case("nn.logmeanexp", lambda x: jax.nn.logmeanexp(x, axis=1), draw.normal(3, 4))
    q, k, v = draw.normal(1, 3, 2, 4), draw.normal(1, 5, 2, 4), draw.normal(1, 5, 2, 4)
    yield _case("nn.dot_product_attention", jax.nn.dot_product_attention, q, k, v)


def _distributions(draw: Draws) -> Iterator[Case]:
    x, mean, scale, degrees = draw.normal(4), draw.normal(4), draw.positive(4), draw.uniform(3.0, 6.0, 4)
    for name in ("logpdf", "cdf", "logcdf", "logsf"):
        yield _case(f"norm.{name}", getattr(stats.norm, name), x, mean, scale)
    yield _case("norm.logcdf, far below", stats.norm.logcdf, np.array([-30.0, -8.0, 3.0]))
    yield _case("t.logpdf", stats.t.logpdf, x, degrees, mean, scale)
    yield _case("gamma.logpdf", stats.gamma.logpdf, draw.positive(4), degrees)
    yield _case("gamma.cdf", stats.gamma.cdf, draw.positive(4), degrees)
    yield _case("beta.logpdf", stats.beta.logpdf, draw.uniform(0.2, 0.8, 4), degrees, scale)
    yield _case("cauchy.logcdf", stats.cauchy.logcdf, x, mean, scale)
    yield _case("laplace.cdf", stats.laplace.cdf, x, mean, scale)
    yield _case("logistic.logpdf", stats.logistic.logpdf, x)
    yield _case("pareto.logpdf", stats.pareto.logpdf, draw.uniform(2.0, 4.0, 4), degrees)
    yield _case("poisson.logpmf", lambda mu: stats.poisson.logpmf(np.arange(4), mu), scale)
    yield _case(
        "nbinom.logpmf",
        lambda n, p: stats.nbinom.logpmf(np.arange(4), n, p),
        degrees,
        draw.uniform(0.2, 0.8, 4),
    )
    yield _case("vonmises.logpdf", stats.vonmises.logpdf, x, scale)
    yield _case("truncnorm.logpdf", stats.truncnorm.logpdf, draw.uniform(-0.4, 0.4, 4), -scale - 1, scale + 1)
    yield _case("gennorm.logpdf", stats.gennorm.logpdf, x, scale)
    spd = draw.spd(3)
    moves = [(np.zeros(3), np.zeros(3), s) for s in draw.symmetric(3)]
    yield _case(
        "multivariate_normal.logpdf of cov",
        stats.multivariate_normal.logpdf,
        x[:3],
        mean[:3],
        spd,
        directions=moves,
    )
    yield _case("dirichlet.logpdf of alpha", lambda a: stats.dirichlet.logpdf(np.full(4, 0.25), a), degrees)
    yield _case(
        "gaussian_kde", lambda points: stats.gaussian_kde(points).logpdf(np.array([0.3, 1.0])), draw.normal(6)
    )
