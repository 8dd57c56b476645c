"""Gradients of PyTorch in float64 on the CPU."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from tests.wild.cases import Case, Draws, elementwise

ELEMENTWISE = """
    real: abs neg reciprocal exp exp2 expm1 sin cos tan atan sinh cosh tanh asinh square sinc sign sigmoid
    real: frac trunc special.erf special.erfc special.erfcx special.ndtr special.log_ndtr special.i0
    real: special.i0e special.i1 special.i1e lgamma digamma special.expit nan_to_num
    positive: log log2 log10 log1p sqrt rsqrt lgamma digamma special.entr
    unit: logit special.erfinv special.ndtri
    interval: asin acos atanh special.erfinv
    above one: acosh
    wide: log sqrt reciprocal log1p square lgamma digamma
    small: expm1 sin tanh atan log1p sinh sinc special.erf special.i1
    with zero: exp sin tan tanh sinc atan expm1 special.i0 special.i1 special.i0e special.i1e
    steep: tanh atan asinh sigmoid special.erf special.erfcx special.log_ndtr special.i0e special.i1e
"""
ACTIVATIONS = """
    real: gelu silu mish softplus softsign tanhshrink hardswish hardsigmoid hardtanh elu selu celu relu relu6
    real: leaky_relu logsigmoid hardshrink softshrink
    steep: gelu silu mish softplus softsign tanhshrink hardswish hardsigmoid elu selu celu logsigmoid
"""


def _case(name: str, function: Callable[..., Any], *arrays: Any, **known: Any) -> Case:
    def f(*given: Any) -> Any:
        return function(*map(torch.from_numpy, map(np.array, given))).detach().numpy()

    def vjp(dy: Any, *given: Any) -> tuple[Any, ...]:
        leaves = [torch.from_numpy(np.array(array)).requires_grad_() for array in given]
        upstream = torch.from_numpy(np.array(dy))
        found = torch.autograd.grad(function(*leaves), leaves, upstream, allow_unused=True)
        return tuple(None if gradient is None else gradient.numpy() for gradient in found)

    return Case(name, f, vjp, arrays, **known)


def cases() -> Iterator[Case]:
    """Elementwise functions, reductions, layouts, linear algebra, and what networks are made of."""
    for name, domain, x in elementwise(ELEMENTWISE):
        module, _, short = name.rpartition(".")
        yield _case(f"{name}, {domain}", getattr(torch.special if module else torch, short), x)
    for name, domain, x in elementwise(ACTIVATIONS):
        yield _case(f"F.{name}, {domain}", getattr(F, name), x)
    yield from _binary(Draws("torch binary"))
    yield from _reductions(Draws("torch reductions"))
    yield from _layouts(Draws("torch layouts"))
    yield from _linear_algebra(Draws("torch linear algebra"))
    yield from _networks(Draws("torch networks"))
    yield from _losses(Draws("torch losses"))


def _binary(draw: Draws) -> Iterator[Case]:
    for name in [
        "add",
        "sub",
        "mul",
        "div",
        "maximum",
        "minimum",
        "fmax",
        "fmin",
        "logaddexp",
        "logaddexp2",
        "atan2",
        "hypot",
        "copysign",
    ]:
        yield _case(name, getattr(torch, name), draw.normal(3, 4), draw.normal(4))
    for name in ("fmod", "remainder"):
        yield _case(name, getattr(torch, name), draw.uniform(2.2, 2.8, 3, 4), draw.uniform(0.9, 1.0, 3, 1))
    for name in ("xlogy", "xlog1py"):
        yield _case(name, getattr(torch.special, name), draw.normal(3, 4), draw.positive(4))
    yield _case("pow", torch.pow, draw.positive(3, 4), draw.normal(3, 1))
    for exponent in (0, 1, 2, 3.0):
        yield _case(f"x**{exponent} at 0", lambda x, e=exponent: x**e, np.array([0.0, 1.0, -2.0]))
    yield _case("lerp", torch.lerp, draw.normal(4), draw.normal(4), draw.normal(4))
    yield _case("addcdiv", torch.addcdiv, draw.normal(4), draw.normal(4), draw.positive(4))
    a, b = draw.positive(4), draw.positive(4)
    yield _case("gammainc of x", lambda x: torch.special.gammainc(torch.from_numpy(a), x), b)
    yield _case("gammaincc of x", lambda x: torch.special.gammaincc(torch.from_numpy(a), x), b)
    yield _case("polygamma", lambda x: torch.special.polygamma(2, x), a)
    yield _case("multigammaln", lambda x: torch.special.multigammaln(x, 3), a + 2)
    yield _case("zeta of q", lambda q: torch.special.zeta(torch.tensor(3.0, dtype=torch.float64), q), a)
    yield _case("where", lambda x, y: torch.where(x > 0, x, y), draw.normal(3, 4), draw.normal(4))
    yield _case("clamp", lambda x: torch.clamp(x, -1, 1), draw.normal(3, 4))
    yield _case("clamp by arrays", torch.clamp, draw.normal(3, 4), np.full(4, -0.8), np.full((3, 1), 0.9))


def _reductions(draw: Draws) -> Iterator[Case]:
    x, zeros = draw.distinct(3, 4), np.array([[2.0, 0.0, -1.5], [0.0, 0.0, 3.0], [1.0, 2.0, 3.0]])
    for name in [
        "sum",
        "mean",
        "prod",
        "var",
        "std",
        "amax",
        "amin",
        "nansum",
        "logsumexp",
        "median",
        "nanmedian",
        "norm",
    ]:
        function = getattr(torch, name)
        if name != "logsumexp":
            yield _case(f"{name} of all", function, x)
        first = (lambda y: y[0]) if "median" in name else (lambda y: y)
        yield _case(f"{name} along 1", lambda x, f=function, g=first: g(f(x, dim=1)), x)
    for name in ["cumsum", "cumprod", "logcumsumexp", "softmax", "log_softmax"]:
        for dim in (0, 1):
            yield _case(f"{name} along {dim}", lambda x, n=name, d=dim: getattr(torch, n)(x, dim=d), x)
    for name in ("cummax", "cummin", "sort", "mode"):
        yield _case(f"{name} along 1", lambda x, n=name: getattr(torch, n)(x, dim=1)[0], x)
    yield _case("kthvalue", lambda x: torch.kthvalue(x, 2, dim=1)[0], x)
    yield _case("topk", lambda x: torch.topk(x, 2, dim=0)[0], x)
    for dim in (0, 1):
        yield _case(f"prod with zeros along {dim}", lambda x, d=dim: torch.prod(x, d), zeros)
        yield _case(f"cumprod with zeros along {dim}", lambda x, d=dim: torch.cumprod(x, d), zeros)
    yield _case("prod of all, one zero", torch.prod, np.array([2.0, 0.0, -1.5]))
    for mode in ("linear", "lower", "midpoint"):
        yield _case(f"quantile, {mode}", lambda x, m=mode: torch.quantile(x, 0.3, dim=1, interpolation=m), x)
    for p in (0.5, 1, 2, 3, float("inf")):
        yield _case(f"linalg.vector_norm, {p}", lambda x, p=p: torch.linalg.vector_norm(x, p, dim=1), x)
        yield _case(f"cdist, p={p}", lambda x, y, p=p: torch.cdist(x, y, p=p), x, draw.normal(2, 4))
    yield _case("pdist", torch.pdist, x)
    yield _case("cov", torch.cov, x)
    yield _case("corrcoef", torch.corrcoef, x)
    yield _case("trapezoid", torch.trapezoid, x, np.sort(draw.distinct(4)))
    yield _case("cumulative_trapezoid", lambda x: torch.cumulative_trapezoid(x, dx=0.5), x)
    yield _case("diff", lambda x: torch.diff(x, n=2, dim=1), x)
    yield _case("gradient", lambda x: torch.gradient(x, dim=1)[0], x)
    yield _case("renorm", lambda x: torch.renorm(x, 2, 0, 1.5), x)
    yield _case("logsumexp, large", lambda x: torch.logsumexp(x, 0), np.array([800.0, 799.0, -3.0]))


def _layouts(draw: Draws) -> Iterator[Case]:
    x = draw.distinct(3, 4)
    index = torch.tensor([2, 0, 2, 2])
    wide = torch.tensor([[2, 0, 2, 1], [0, 0, 1, 1]])
    functions: dict[str, Callable[[Any], Any]] = {
        "index, repeated": lambda x: x[index],
        "index_select": lambda x: torch.index_select(x, 0, index),
        "gather": lambda x: torch.gather(x, 0, wide),
        "take": lambda x: torch.take(x, wide),
        "take_along_dim": lambda x: torch.take_along_dim(x, wide, 0),
        "masked_select": lambda x: x[x > 0],
        "roll": lambda x: torch.roll(x, (1, 2), (0, 1)),
        "flip": lambda x: torch.flip(x, (0,)),
        "rot90": lambda x: torch.rot90(x, 3),
        "tril": torch.tril,
        "diag_embed": torch.diag_embed,
        "diagonal": lambda x: torch.diagonal(x, 1),
        "repeat_interleave": lambda x: torch.repeat_interleave(x, torch.tensor([2, 0, 1]), 0),
        "tile": lambda x: torch.tile(x, (2, 1, 3)),
        "unfold": lambda x: x.unfold(1, 3, 1),
        "as_strided, overlapping": lambda x: torch.as_strided(x, (3, 3), (2, 1)),
        "expand": lambda x: x.expand(2, 3, 4),
        "F.pad, reflect": lambda x: F.pad(x[None], (1, 2), mode="reflect"),
        "F.pad, replicate": lambda x: F.pad(x[None], (1, 2), mode="replicate"),
        "F.pad, circular": lambda x: F.pad(x[None], (1, 2), mode="circular"),
        "F.one_hot times": lambda x: F.one_hot(index, 3).double() @ x,
    }
    for name, function in functions.items():
        yield _case(name, function, x)
    source = draw.normal(2, 4)
    yield _case(
        "scatter", lambda x, s: x.scatter(0, torch.tensor([[2, 0, 2, 1], [0, 1, 1, 0]]), s), x, source
    )
    yield _case("scatter_add", lambda x, s: x.scatter_add(0, wide, s), x, source)
    for how in ("sum", "mean", "prod", "amax", "amin"):
        for own in (True, False):
            yield _case(
                f"scatter_reduce, {how}, include_self={own}",
                lambda x, s, h=how, o=own: x.scatter_reduce(0, wide, s, h, include_self=o),
                x,
                source,
            )
    for how in ("mean", "prod", "amax"):
        yield _case(f"index_reduce, {how}", lambda x, s, h=how: x.index_reduce(0, index[:2], s, h), x, source)
    with_zero = source.copy()
    with_zero[:, 1] = 0.0
    yield _case(
        "scatter_reduce, prod with zeros",
        lambda x, s: x.scatter_reduce(0, wide * 0, s, "prod", include_self=True),
        x,
        with_zero,
    )
    yield _case("index_add", lambda x, s: x.index_add(0, index[:2], s, alpha=0.3), x, source)
    yield _case("index_copy", lambda x, s: x.index_copy(0, index[:2], s), x, source)
    yield _case("index_put, accumulated", lambda x, s: x.index_put((index[2:],), s, True), x, source)
    yield _case("masked_scatter", lambda x, s: x.masked_scatter(x > 0.6, s), x, source)
    yield _case(
        "segment_reduce, mean", lambda x: torch.segment_reduce(x, "mean", lengths=torch.tensor([2, 1])), x
    )


def _linear_algebra(draw: Draws) -> Iterator[Case]:
    a, b, spd, tall = draw.matrix(4), draw.normal(4, 2), draw.spd(4), draw.normal(4, 3)
    symmetric, linalg = draw.symmetric(4), torch.linalg
    for name in ("inv", "det", "matrix_exp", "pinv", "cond"):
        yield _case(f"linalg.{name}", getattr(linalg, name), a)
    for power in (3, -2):
        yield _case(f"linalg.matrix_power, {power}", lambda x, p=power: linalg.matrix_power(x, p), a)
    for rank in (3, 2):
        diagonal = np.diag([1.0, 2.0, 3.0, 4.0][:rank] + [0.0] * (4 - rank))
        yield _case(f"linalg.det, rank {rank} of 4", linalg.det, a @ diagonal @ a.T)
    yield _case("linalg.slogdet", lambda x: linalg.slogdet(x)[1], a)
    yield _case("linalg.solve", linalg.solve, a, b)
    yield _case("linalg.solve, from the right", lambda x, y: linalg.solve(x, y, left=False), a, b.T)
    yield _case("linalg.solve_triangular", lambda x, y: linalg.solve_triangular(x, y, upper=True), a, b)
    yield _case("linalg.lstsq", lambda x, y: linalg.lstsq(x, y)[0], tall, b)
    yield _case("linalg.cholesky", linalg.cholesky, spd, directions=symmetric)
    yield _case("cholesky_inverse", torch.cholesky_inverse, np.linalg.cholesky(spd))
    yield _case("cholesky_solve", torch.cholesky_solve, b, np.linalg.cholesky(spd))
    yield _case("linalg.eigvalsh", linalg.eigvalsh, spd, directions=symmetric)
    yield _case("linalg.eigh, squared vectors", lambda x: linalg.eigh(x)[1] ** 2, spd, directions=symmetric)
    yield _case("linalg.eigvals", lambda x: torch.sort(linalg.eigvals(x).real)[0], spd)
    for number, name in enumerate(("Q", "R")):
        yield _case(f"linalg.qr, {name}", lambda x, n=number: linalg.qr(x)[n], tall)
    for number, name in ((1, "L"), (2, "U")):
        yield _case(f"linalg.lu, {name}", lambda x, n=number: linalg.lu(x)[n], a)
    yield _case("linalg.svdvals", linalg.svdvals, tall)
    yield _case("linalg.svd, squared U", lambda x: linalg.svd(x, full_matrices=False)[0] ** 2, tall)
    yield _case("linalg.svd, low rank", lambda x: _low_rank(x), tall)
    for order in ("fro", "nuc", 1, -1, 2, -2, float("inf")):
        yield _case(f"linalg.matrix_norm, {order}", lambda x, o=order: linalg.matrix_norm(x, o), a)
    yield _case("linalg.multi_dot", lambda x, y: linalg.multi_dot([x, y, y.T]), a, b)
    yield _case("linalg.cross", linalg.cross, draw.normal(2, 3), draw.normal(2, 3))
    yield _case("linalg.vander", linalg.vander, draw.normal(4))
    yield _case("linalg.householder_product", linalg.householder_product, tall, draw.positive(3))
    yield _case("kron", torch.kron, draw.normal(2, 3), draw.normal(3, 2))
    yield _case("tensordot", lambda x, y: torch.tensordot(x, y, 1), a, b)
    for path in ("ij,jk->ik", "ij,jk->", "ij,jl->lji", "ii,jk->k"):
        yield _case(f"einsum {path}", lambda x, y, p=path: torch.einsum(p, x, y), a, b)
    for name in ("fft", "rfft", "fft2", "hfft"):
        yield _case(f"fft.{name}", lambda x, n=name: getattr(torch.fft, n)(x).real, draw.normal(3, 6))
    for n in (6, 7):
        yield _case(
            f"fft.irfft, n={n}",
            lambda x, y, n=n: torch.fft.irfft(torch.complex(x, y), n),
            draw.normal(4),
            draw.normal(4),
        )


def _low_rank(x: Any) -> Any:
    u, s, vh = torch.linalg.svd(x, full_matrices=False)
    return (u[:, :2] * s[:2]) @ vh[:2]


def _networks(draw: Draws) -> Iterator[Case]:
    image, weight = draw.distinct(2, 2, 5, 6), draw.normal(4, 2, 3, 3)
    for stride, padding, dilation in ((1, 0, 1), (2, 1, 1), (1, 2, 2)):
        name = f"stride {stride}, padding {padding}, dilation {dilation}"
        settings = {"stride": stride, "padding": padding, "dilation": dilation}
        yield _case(
            f"F.conv2d, {name}",
            lambda x, w, b, s=settings: F.conv2d(x, w, b, **s),
            image,
            weight,
            draw.normal(4),
        )
        yield _case(
            f"F.conv_transpose2d, {name}",
            lambda x, w, s=settings: F.conv_transpose2d(x, w, **s),
            image,
            draw.normal(2, 3, 3, 3),
        )
        yield _case(f"F.unfold, {name}", lambda x, s=settings: F.unfold(x, 3, **s), image)
    yield _case(
        "F.conv1d, groups", lambda x, w: F.conv1d(x, w, groups=2), draw.normal(2, 4, 6), draw.normal(4, 2, 3)
    )
    pools: dict[str, Callable[[Any], Any]] = {
        "max_pool2d": lambda x: F.max_pool2d(x, 3, 2, padding=1, ceil_mode=True),
        "avg_pool2d": lambda x: F.avg_pool2d(x, 3, 2, padding=1, ceil_mode=True, count_include_pad=False),
        "lp_pool2d": lambda x: F.lp_pool2d(x.abs(), 3.0, 2),
        "adaptive_avg_pool2d": lambda x: F.adaptive_avg_pool2d(x, (2, 4)),
        "adaptive_max_pool2d": lambda x: F.adaptive_max_pool2d(x, (2, 4)),
        "pixel_shuffle": lambda x: F.pixel_shuffle(x.reshape(1, 4, 5, 6), 2),
        "local_response_norm": lambda x: F.local_response_norm(x, 2),
        "interpolate, bilinear": lambda x: F.interpolate(x, (7, 4), mode="bilinear"),
        "interpolate, bicubic": lambda x: F.interpolate(x, (7, 4), mode="bicubic", align_corners=True),
        "interpolate, area": lambda x: F.interpolate(x, (3, 4), mode="area"),
        "interpolate, antialias": lambda x: F.interpolate(x, (3, 4), mode="bilinear", antialias=True),
        "normalize": F.normalize,
        "glu": lambda x: F.glu(x, 1),
        "layer_norm, bare": lambda x: F.layer_norm(x, (6,)),
        "instance_norm": F.instance_norm,
    }
    for name, function in pools.items():
        yield _case(f"F.{name}", function, image)
    scale, shift = draw.positive(2), draw.normal(2)
    yield _case("F.batch_norm", lambda x, w, b: F.batch_norm(x, None, None, w, b, True), image, scale, shift)
    yield _case("F.group_norm", lambda x, w, b: F.group_norm(x, 2, w, b), image, scale, shift)
    yield _case("F.rms_norm", lambda x, w: F.rms_norm(x, (6,), w), image, draw.normal(6))
    yield _case("F.gelu, tanh", lambda x: F.gelu(x, approximate="tanh"), draw.normal(3, 4))
    yield _case("F.softplus, beta=3", lambda x: F.softplus(x, 3.0), draw.normal(3, 4))
    yield _case("F.prelu", F.prelu, image, draw.positive(2))
    yield _case("F.rrelu, evaluation", lambda x: F.rrelu(x, 0.1, 0.3, False), draw.normal(3, 4))
    for mode in ("bilinear", "bicubic", "nearest"):
        for outside in ("zeros", "border", "reflection"):
            yield _case(
                f"F.grid_sample, {mode}, {outside}",
                lambda x, g, m=mode, o=outside: F.grid_sample(x, g, m, o, align_corners=False),
                image,
                draw.uniform(-1.3, 1.3, 2, 2, 3, 2),
            )
    yield _case(
        "F.affine_grid", lambda t: F.affine_grid(t, [2, 1, 3, 4], align_corners=False), draw.normal(2, 2, 3)
    )
    tokens = torch.tensor([[0, 2, 2], [3, 1, 0]])
    yield _case("F.embedding, padding", lambda w: F.embedding(tokens, w, padding_idx=None), draw.normal(4, 3))
    for mode in ("sum", "mean", "max"):
        yield _case(
            f"F.embedding_bag, {mode}",
            lambda w, m=mode: F.embedding_bag(tokens, w, mode=m),
            draw.distinct(4, 3),
        )
    q, k, v = draw.normal(2, 3, 4), draw.normal(2, 5, 4), draw.normal(2, 5, 2)
    yield _case("F.scaled_dot_product_attention", F.scaled_dot_product_attention, q, k, v)
    yield _case("F.bilinear", F.bilinear, draw.normal(3, 2), draw.normal(3, 4), draw.normal(5, 2, 4))
    yield _case("F.cosine_similarity", F.cosine_similarity, draw.normal(3, 4), draw.normal(3, 4))
    yield _case("F.pairwise_distance", F.pairwise_distance, draw.normal(3, 4), draw.normal(3, 4))
    for name in ("lstm_cell", "gru_cell", "rnn_tanh_cell"):
        gates = {"lstm_cell": 8, "gru_cell": 6, "rnn_tanh_cell": 2}[name]
        yield _case(
            name,
            lambda x, h, w, u, n=name: _first(
                getattr(torch, n)(x, (h, h**2) if n == "lstm_cell" else h, w, u)
            ),
            draw.normal(4, 3),
            draw.normal(4, 2),
            draw.normal(gates, 3),
            draw.normal(gates, 2),
        )


def _first(y: Any) -> Any:
    return torch.cat(y) if isinstance(y, tuple) else y


def _losses(draw: Draws) -> Iterator[Case]:
    x, y, labels = draw.normal(4, 3), draw.normal(4, 3), torch.tensor([1, 0, 2, 2])
    chance = torch.from_numpy(draw.probabilities(4, 3))
    for name in ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "soft_margin_loss"):
        target = torch.sign(torch.from_numpy(y)) if name == "soft_margin_loss" else torch.from_numpy(y)
        yield _case(f"F.{name}", lambda x, n=name, t=target: getattr(F, n)(x, t), x)
    weights = torch.tensor([0.2, 0.5, 3.0], dtype=torch.float64)
    yield _case(
        "F.cross_entropy, weights, smoothing",
        lambda x: F.cross_entropy(x, labels, weights, label_smoothing=0.1),
        x,
    )
    yield _case(
        "F.cross_entropy, probabilities", lambda x, p: F.cross_entropy(x, p), x, draw.probabilities(4, 3)
    )
    yield _case("F.nll_loss", lambda x: F.nll_loss(x, labels, weights, ignore_index=0), x)
    yield _case("F.kl_div", lambda x: F.kl_div(x, chance, reduction="batchmean"), x)
    yield _case(
        "F.kl_div of the target",
        lambda p: F.kl_div(torch.from_numpy(x), p, reduction="sum"),
        draw.probabilities(4, 3),
    )
    yield _case(
        "F.binary_cross_entropy", F.binary_cross_entropy, draw.uniform(0.1, 0.9, 4, 3), chance.numpy()
    )
    yield _case(
        "F.binary_cross_entropy_with_logits", F.binary_cross_entropy_with_logits, 9 * x, chance.numpy()
    )
    yield _case("F.poisson_nll_loss", lambda x: F.poisson_nll_loss(x, chance * 5, full=True), x)
    yield _case("F.gaussian_nll_loss", F.gaussian_nll_loss, x, y, draw.positive(4, 3))
    yield _case("F.multi_margin_loss", lambda x: F.multi_margin_loss(x, labels), x)
    yield _case("F.multilabel_soft_margin_loss", lambda x: F.multilabel_soft_margin_loss(x, chance), x)
    yield _case(
        "F.hinge_embedding_loss", lambda x: F.hinge_embedding_loss(x, torch.sign(torch.from_numpy(y))), x
    )
    sides = torch.tensor([1.0, -1.0, 1.0, -1.0], dtype=torch.float64)
    yield _case("F.cosine_embedding_loss", lambda a, b: F.cosine_embedding_loss(a, b, sides), x, y)
    yield _case(
        "F.margin_ranking_loss", lambda a, b: F.margin_ranking_loss(a, b, sides, 0.5), x[:, 0], y[:, 0]
    )
    yield _case("F.triplet_margin_loss", F.triplet_margin_loss, x, y, draw.normal(4, 3))
    scores = draw.normal(6, 2, 4)
    words, lengths = torch.tensor([[1, 2, 2], [3, 1, 0]]), torch.tensor([3, 2])

    def ctc(x: Any) -> Any:
        return F.ctc_loss(x, words, torch.tensor([6, 5]), lengths, reduction="sum")

    yield _case("F.ctc_loss after log_softmax", lambda x: ctc(x.log_softmax(2)), scores)
    log_chances = scores - np.log(np.exp(scores).sum(axis=2, keepdims=True))
    yield _case("F.ctc_loss of log-probabilities", ctc, log_chances)
