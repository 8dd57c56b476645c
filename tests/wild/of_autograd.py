"""Gradients of autograd: autograd.numpy and autograd.scipy."""

from collections.abc import Callable, Iterator
from typing import Any

import autograd.numpy as anp
import autograd.scipy.linalg as linalg
import autograd.scipy.signal as signal
import autograd.scipy.special as special
import autograd.scipy.stats as stats
import numpy as np
from autograd import make_vjp

from tests.wild.cases import Case, Draws, elementwise

ELEMENTWISE = """
    real: negative abs fabs reciprocal exp exp2 expm1 sin cos tan arctan sinh cosh tanh arcsinh square sinc
    real: sign floor rad2deg deg2rad degrees radians nan_to_num real conj
    positive: log log2 log10 log1p sqrt
    interval: arcsin arccos arctanh
    above one: arccosh
    wide: log sqrt reciprocal log1p square
    small: expm1 sin tanh arctan log1p sinh sinc
    with zero: exp sin tan tanh sinc arctan expm1
    steep: tanh arctan arcsinh exp
"""
SPECIAL = """
    positive: gamma gammaln digamma psi rgamma j0 j1 y0 y1 i0 i1 erf erfc
    real: gamma erf erfc expit j0 j1 i0 i1 rgamma digamma
    unit: erfinv erfcinv logit
    interval: erfinv
    steep: erf erfc expit
    small: erf j0 j1 i0 i1
    with zero: erf j0 j1 i0 i1 expit
"""
BINARY = "add subtract multiply divide true_divide maximum minimum fmax fmin logaddexp logaddexp2 arctan2"


def _case(name: str, function: Callable[..., Any], *arrays: Any, **known: Any) -> Case:
    def vjp(dy: Any, *given: Any) -> tuple[Any, ...]:
        return tuple(_gradient(function, given, number, dy) for number in range(len(given)))

    return Case(name, function, vjp, arrays, **known)


def _gradient(function: Callable[..., Any], given: tuple[Any, ...], number: int, dy: Any) -> Any:
    def of_one(array: Any) -> Any:
        return function(*given[:number], array, *given[number + 1 :])

    return make_vjp(of_one)(given[number])[0](dy)


def cases() -> Iterator[Case]:
    """Elementwise functions, reductions, layouts, linear algebra, transforms, distributions."""
    for name, domain, x in elementwise(ELEMENTWISE):
        yield _case(f"{name}, {domain}", getattr(anp, name), x)
    for name, domain, x in elementwise(SPECIAL):
        yield _case(f"special.{name}, {domain}", getattr(special, name), x)
    yield from _binary(Draws("autograd binary"))
    yield from _reductions(Draws("autograd reductions"))
    yield from _layouts(Draws("autograd layouts"))
    yield from _linear_algebra(Draws("autograd linear algebra"))
    yield from _transforms(Draws("autograd transforms"))
    yield from _special(Draws("autograd special"))
    yield from _distributions(Draws("autograd distributions"))


def _binary(draw: Draws) -> Iterator[Case]:
    for name in BINARY.split():
        yield _case(name, getattr(anp, name), draw.normal(3, 4), draw.normal(4))
    for name in ("mod", "remainder", "fmod"):
        yield _case(name, getattr(anp, name), draw.uniform(2.2, 2.8, 3, 4), draw.uniform(0.9, 1.0, 3, 1))
    yield _case("power", anp.power, draw.positive(3, 4), draw.normal(3, 1))
    yield _case("x**2 at 0", lambda x: x**2, np.array([0.0, 1.0, -2.0]))
    yield _case("x**3 at 0", lambda x: x**3.0, np.array([0.0, 1.0, -2.0]))
    yield _case("logaddexp, far apart", anp.logaddexp, np.array([800.0, -800.0]), np.array([-800.0, 790.0]))
    yield _case("where", lambda x, y: anp.where(x > 0, x, y), draw.normal(3, 4), draw.normal(4))
    yield _case("select", lambda x: anp.select([x > 1, x > 0], [x, x**2], 3 * x), draw.normal(3, 4))
    yield _case("clip", lambda x: anp.clip(x, -1, 1), draw.normal(3, 4))
    yield _case("maximum of itself", lambda x: anp.maximum(x, x), draw.normal(4))


def _reductions(draw: Draws) -> Iterator[Case]:
    x, zeros = draw.normal(3, 4, 2), np.array([[2.0, 0.0, -1.5], [0.0, 0.0, 3.0], [1.0, 2.0, 3.0]])
    for name in ("sum", "mean", "prod", "var", "std", "max", "min"):
        function = getattr(anp, name)
        yield _case(f"{name} of all", function, x)
        yield _case(f"{name} along 1", lambda x, function=function: function(x, axis=1), x)
        yield _case(
            f"{name} along 0, 2, kept", lambda x, function=function: function(x, (0, 2), keepdims=True), x
        )
    for name in ("var", "std"):
        yield _case(f"{name}, ddof=1", lambda x, name=name: getattr(anp, name)(x, axis=0, ddof=1), x)
    yield _case("prod with zeros", lambda x: anp.prod(x, axis=1), zeros)
    yield _case("cumsum of all", anp.cumsum, x)
    yield _case("cumsum along 1", lambda x: anp.cumsum(x, axis=1), x)
    yield _case("logsumexp", lambda x: special.logsumexp(x, axis=1), x)
    yield _case("logsumexp, two axes", lambda x: special.logsumexp(x, axis=(0, 2)), x)
    yield _case("logsumexp, two axes, kept", lambda x: special.logsumexp(x, (0, 2), keepdims=True), x)
    yield _case("logsumexp, large", special.logsumexp, np.array([800.0, 799.0, -3.0]))
    weights = draw.positive(3, 4, 2)
    yield _case("logsumexp, b", lambda x: special.logsumexp(x, axis=1, b=weights), x)
    yield _case("average", lambda x: anp.mean(x * weights, axis=0) / anp.mean(weights, axis=0), x)
    yield _case("trace", anp.trace, draw.normal(3, 3))
    yield _case("trace, offset", lambda x: anp.trace(x, offset=1), draw.normal(3, 4))


def _layouts(draw: Draws) -> Iterator[Case]:
    x = draw.normal(3, 4)
    index = np.array([2, 0, 2, 2])
    functions: dict[str, Callable[[Any], Any]] = {
        "reshape": lambda x: anp.reshape(x, (2, 6)),
        "reshape, order F": lambda x: anp.reshape(x, (2, 6), order="F"),
        "ravel, order F": lambda x: anp.ravel(x, order="F"),
        "transpose": anp.transpose,
        "roll": lambda x: anp.roll(x, 2, axis=1),
        "roll of all": lambda x: anp.roll(x, 5),
        "rot90": lambda x: anp.rot90(x, 3),
        "flipud": anp.flipud,
        "fliplr": anp.fliplr,
        "triu": lambda x: anp.triu(x, 1),
        "tril": lambda x: anp.tril(x, -1),
        "diag of a matrix": lambda x: anp.diag(x[:, :3]),
        "diag of a vector": lambda x: anp.diag(x[0], 1),
        "diagonal": lambda x: anp.diagonal(x[:, :3]),
        "repeat": lambda x: anp.repeat(x, 3, axis=0),
        "repeat of all": lambda x: anp.repeat(x, 2),
        "repeat, counts": lambda x: anp.repeat(x, [1, 3, 2], axis=0),
        "tile": lambda x: anp.tile(x, (2, 1, 3)),
        "pad": lambda x: anp.pad(x, ((1, 0), (2, 1)), "constant"),
        "pad, reflect": lambda x: anp.pad(x, 1, "reflect"),
        "diff": lambda x: anp.diff(x, axis=0),
        "diff twice": lambda x: anp.diff(x, n=2, axis=1),
        "gradient": lambda x: anp.gradient(x, axis=1),
        "gradient, both": lambda x: anp.concatenate(anp.gradient(x)),
        "sort": lambda x: anp.sort(x.ravel()),
        "sort along 0": lambda x: anp.sort(x, axis=0),
        "sort along 1": lambda x: anp.sort(x, axis=1),
        "partition": lambda x: anp.partition(x.ravel(), 3)[3],
        "index, repeated": lambda x: x[index],
        "index, both": lambda x: x[index, [1, 0, 1, 3]],
        "index, mask": lambda x: x[np.arange(12).reshape(3, 4) % 3 == 0],
        "slice, negative step": lambda x: x[::-2, 1:],
        "concatenate": lambda x: anp.concatenate([x, x[:1] ** 2], axis=0),
        "stack": lambda x: anp.stack([x, x**2], axis=1),
        "vstack": lambda x: anp.vstack([x, x[0]]),
        "hstack": lambda x: anp.hstack([x, x[:, :2]]),
        "append": lambda x: anp.append(x, x[:1], axis=0),
        "array of elements": lambda x: anp.array([[x[0, 0], x[1, 1] ** 2], [x[2, 3], 1.0]]),
        "split": lambda x: anp.split(x, 2, axis=1)[1],
        "moveaxis": lambda x: anp.moveaxis(x.reshape(3, 2, 2), 0, -1),
        "rollaxis": lambda x: anp.rollaxis(x.reshape(3, 2, 2), 2),
        "swapaxes": lambda x: anp.swapaxes(x, 0, 1),
        "broadcast_to": lambda x: anp.broadcast_to(x, (2, 3, 4)),
        "expand_dims": lambda x: anp.expand_dims(x, 1),
        "atleast_3d": anp.atleast_3d,
        "full": lambda x: anp.full((2, 3), x[1, 2]),
    }
    for name, function in functions.items():
        values = draw.distinct(3, 4) if name.startswith(("sort", "partition")) else x
        yield _case(name, function, values)


def _linear_algebra(draw: Draws) -> Iterator[Case]:
    a, b, spd, vector = draw.matrix(4), draw.normal(4, 2), draw.spd(4), draw.normal(4)
    batch = np.stack([draw.matrix(3), draw.matrix(3)])
    singular = np.diag([1.0, 2.0, 0.0]) + np.diag([1.0, 1.0], 1)
    for name in ("matmul", "dot"):
        yield _case(name, getattr(anp, name), draw.normal(3, 4), b)
        yield _case(f"{name}, vectors", getattr(anp, name), vector, draw.normal(4))
        yield _case(f"{name}, matrix and vector", getattr(anp, name), a, vector)
    yield _case("matmul, broadcast", anp.matmul, draw.normal(2, 1, 3, 4), draw.normal(3, 4, 2))
    yield _case("dot, 3 and 2 axes", anp.dot, draw.normal(2, 3, 4), b)
    yield _case("inner", anp.inner, draw.normal(3, 4), draw.normal(2, 4))
    yield _case("outer", anp.outer, draw.normal(3), vector)
    yield _case("kron", anp.kron, draw.normal(2, 3), draw.normal(3, 2))
    yield _case("cross", anp.cross, draw.normal(4, 3), draw.normal(4, 3))
    for axes in (0, 1, 2, ((0, 1), (1, 0))):
        left = draw.normal(4, 4) if axes != 1 else draw.normal(3, 4)
        yield _case(
            f"tensordot, axes={axes}",
            lambda x, y, axes=axes: anp.tensordot(x, y, axes),
            left,
            draw.normal(4, 4),
        )
    for path in ("ij,jk->ik", "ij,jk", "ij,jk->", "ij,jk->j", "ij,jl->lji"):
        yield _case(f"einsum {path}", lambda x, y, path=path: anp.einsum(path, x, y), draw.normal(3, 4), b)
    yield _case("einsum ii->i", lambda x: anp.einsum("ii->i", x), a)
    yield _case("einsum ii", lambda x: anp.einsum("ii", x), a)
    yield _case("einsum …", lambda x: anp.einsum("...ij,...j->...i", x, np.ones((2, 3))), batch)
    for name in ("inv", "det", "pinv"):
        yield _case(f"linalg.{name}", getattr(anp.linalg, name), a)
        yield _case(f"linalg.{name}, batch", getattr(anp.linalg, name), batch)
    yield _case("linalg.pinv, tall", anp.linalg.pinv, draw.normal(4, 2))
    yield _case("linalg.det, singular", anp.linalg.det, singular)
    yield _case("linalg.slogdet", lambda x: anp.linalg.slogdet(x)[1], a)
    yield _case("linalg.slogdet, batch", lambda x: anp.linalg.slogdet(x)[1], batch)
    yield _case("linalg.solve", anp.linalg.solve, a, b)
    yield _case("linalg.solve, vector", anp.linalg.solve, a, vector)
    yield _case("linalg.solve, batch", anp.linalg.solve, batch, draw.normal(2, 3, 2))
    symmetric = draw.symmetric(4)
    yield _case("linalg.cholesky", anp.linalg.cholesky, spd, directions=symmetric)
    yield _case("linalg.eigh, values", lambda x: anp.linalg.eigh(x)[0], spd, directions=symmetric)
    yield _case("linalg.eigh, values, UPLO=U", lambda x: anp.linalg.eigh(x, "U")[0], spd)
    yield _case(
        "linalg.eigh, squared vectors", lambda x: anp.linalg.eigh(x)[1] ** 2, spd, directions=symmetric
    )
    yield _case("linalg.eig, values", lambda x: anp.real(anp.linalg.eig(x)[0]), draw.spd(4))
    for shape in ((4, 4), (3, 4), (4, 3)):
        x = draw.normal(*shape)
        yield _case(f"linalg.svd {shape}, values", lambda x: anp.linalg.svd(x, full_matrices=False)[1], x)
        yield _case(
            f"linalg.svd {shape}, squared U", lambda x: anp.linalg.svd(x, full_matrices=False)[0] ** 2, x
        )
    yield _case("linalg.svd, only values", lambda x: anp.linalg.svd(x, compute_uv=False), draw.normal(3, 4))
    for order in (None, "fro", "nuc"):
        yield _case(f"linalg.norm, {order}", lambda x, order=order: anp.linalg.norm(x, order), a)
    for order in (1, 2, 3, 3.5, 0.5):
        yield _case(
            f"linalg.norm along 1, {order}", lambda x, order=order: anp.linalg.norm(x, order, axis=1), a
        )
    yield _case("linalg.norm, axes 0 and 2", lambda x: anp.linalg.norm(x, axis=(0, 2)), batch)
    yield _case("linalg.norm, nuc, axes", lambda x: anp.linalg.norm(x, "nuc", axis=(0, 2)), batch)
    yield _case("scipy.linalg.sqrtm", linalg.sqrtm, spd)
    q = draw.normal(3, 3)
    yield _case("solve_sylvester", linalg.solve_sylvester, draw.matrix(3), draw.matrix(3), q)
    for lower in (True, False):
        yield _case(
            f"solve_triangular, lower={lower}",
            lambda x, y, lower=lower: linalg.solve_triangular(x, y, lower=lower),
            a,
            b,
        )
    for trans in ("T", 1, "N"):
        yield _case(
            f"solve_triangular, trans={trans}",
            lambda x, y, trans=trans: linalg.solve_triangular(x, y, trans=trans),
            a,
            b,
        )
    bands = np.array([[0.0, 0.5, -0.4, 0.3], [2.0, 3.0, 2.5, 4.0], [0.4, 0.6, -0.5, 0.0]])
    yield _case("solve_banded", lambda x, y: linalg.solve_banded((1, 1), x, y), bands, vector)


def _transforms(draw: Draws) -> Iterator[Case]:
    x = draw.normal(3, 6)
    for name in ("fft", "rfft", "fft2", "rfft2", "fftn", "rfftn"):
        function = getattr(anp.fft, name)
        yield _case(f"fft.{name}, real part", lambda x, function=function: anp.real(function(x)), x)
        yield _case(f"fft.{name}, size", lambda x, function=function: anp.abs(function(x)), x)
    yield _case("fft.fft, n=4", lambda x: anp.imag(anp.fft.fft(x, 4)), x)
    yield _case("fft.fft, n=9", lambda x: anp.imag(anp.fft.fft(x, 9)), x)
    yield _case("fft.ifft", lambda x: anp.real(anp.fft.ifft(x)), x)
    for n in (6, 7):
        yield _case(
            f"fft.irfft, n={n}",
            lambda x, y, n=n: anp.fft.irfft(x + 1j * y, n),
            draw.normal(4),
            draw.normal(4),
        )
    yield _case("fft.fftshift", anp.fft.fftshift, x)
    yield _case("fft.ifftshift", anp.fft.ifftshift, draw.normal(5))
    for mode in ("full", "valid"):
        yield _case(
            f"signal.convolve, {mode}",
            lambda x, y, mode=mode: signal.convolve(x, y, mode=mode),
            draw.normal(6),
            draw.normal(3),
        )
    yield _case(
        "signal.convolve, axes",
        lambda x, y: signal.convolve(x, y, axes=([1], [1]), dot_axes=([0], [0]), mode="valid"),
        draw.normal(2, 6),
        draw.normal(2, 3),
    )
    angle = draw.normal(4)
    yield _case("angle", lambda x, y: anp.angle(x + 1j * y), angle, draw.normal(4))
    yield _case("abs of complex", lambda x, y: anp.abs(x + 1j * y), angle, draw.normal(4))


def _special(draw: Draws) -> Iterator[Case]:
    a, b, x = draw.positive(5), draw.positive(5), draw.uniform(0.1, 0.9, 5)
    yield _case("special.beta", special.beta, a, b)
    yield _case("special.betaln", special.betaln, a, b)
    yield _case("special.betainc of x", lambda x: special.betainc(a, b, x), x)
    yield _case("special.gammainc of x", lambda x: special.gammainc(a, x), b)
    yield _case("special.gammaincc of x", lambda x: special.gammaincc(a, x), b)
    yield _case("special.polygamma", lambda x: special.polygamma(2, x), a)
    yield _case("special.multigammaln", lambda x: special.multigammaln(x, 3), a + 2)
    for name in ("jn", "yn"):
        yield _case(f"special.{name}", lambda x, name=name: getattr(special, name)(3, x), a)
    for name in ("iv", "ive"):
        yield _case(f"special.{name}", lambda x, name=name: getattr(special, name)(1.5, x), a)
        yield _case(f"special.{name}, order 0", lambda x, name=name: getattr(special, name)(0, x), a)


def _distributions(draw: Draws) -> Iterator[Case]:
    x, mean, scale = draw.normal(4), draw.normal(4), draw.positive(4)
    for name in ("pdf", "logpdf", "cdf", "logcdf", "sf", "logsf"):
        yield _case(f"norm.{name}", getattr(stats.norm, name), x, mean, scale)
    yield _case("norm.logcdf, far below", stats.norm.logcdf, np.array([-30.0, -8.0, 3.0]))
    yield _case("norm.logsf, far above", stats.norm.logsf, np.array([-3.0, 8.0, 30.0]))
    degrees = draw.uniform(3.0, 6.0, 4)
    for name in ("pdf", "logpdf"):
        yield _case(f"t.{name}", getattr(stats.t, name), x, degrees, mean, scale)
        yield _case(f"gamma.{name}", getattr(stats.gamma, name), draw.positive(4), degrees)
        yield _case(f"beta.{name}", getattr(stats.beta, name), draw.uniform(0.2, 0.8, 4), degrees, scale)
        yield _case(
            f"chi2.{name} of x", lambda x, name=name: getattr(stats.chi2, name)(x, 5.0), draw.positive(4)
        )
    for name in ("cdf", "logcdf"):
        yield _case(
            f"t.{name} of x, loc, scale",
            lambda x, m, s, name=name: getattr(stats.t, name)(x, degrees, m, s),
            x,
            mean,
            scale,
        )
    yield _case("gamma.cdf of x", lambda x: stats.gamma.cdf(x, degrees), draw.positive(4))
    yield _case("beta.cdf of x", lambda x: stats.beta.cdf(x, 2.0, 3.0), draw.uniform(0.2, 0.8, 4))
    yield _case("chi2.cdf of x", lambda x: stats.chi2.cdf(x, 5.0), draw.positive(4))
    yield _case("poisson.logpmf of mu", lambda mu: stats.poisson.logpmf(np.arange(4), mu), scale)
    yield _case("poisson.pmf of mu", lambda mu: stats.poisson.pmf(np.arange(4), mu), scale)
    yield _case("poisson.cdf of mu", lambda mu: stats.poisson.cdf(np.arange(4), mu), scale)
    spd, points = draw.spd(3), draw.normal(2, 3)
    symmetric = [(np.zeros((2, 3)), np.zeros(3), s) for s in draw.symmetric(3)]
    for name in ("pdf", "logpdf"):
        function = getattr(stats.multivariate_normal, name)
        yield _case(
            f"multivariate_normal.{name} of x, mean", lambda x, m, f=function: f(x, m, spd), points, mean[:3]
        )
        yield _case(
            f"multivariate_normal.{name} of cov", function, points, mean[:3], spd, directions=symmetric
        )
    yield _case(
        "multivariate_normal.entropy",
        lambda cov: stats.multivariate_normal.entropy(np.zeros(3), cov),
        spd,
        directions=draw.symmetric(3),
    )
    simplex = draw.probabilities(1, 4)[0]
    moves = [(s[0], np.zeros(4)) for s in draw.sum_zero(1, 4)]
    for name in ("pdf", "logpdf"):
        function = getattr(stats.dirichlet, name)
        yield _case(f"dirichlet.{name} of x", function, simplex, degrees, directions=moves)
        yield _case(f"dirichlet.{name} of alpha", lambda alpha, f=function: f(simplex, alpha), degrees)
