"""Convolution in groups of channels, with gaps and any padding. Derived in docs/layers/convolution.md."""

from types import ModuleType
from typing import Any, NamedTuple

from wn.engine.layers.base import Formula
from wn.engine.layers.sliding.places import Window
from wn.engine.layers.windows import Array


class GroupedCache(NamedTuple):
    """What backward needs: the input, the parameters, and how the kernels move."""

    x: Array
    params: Any
    window: Window
    groups: int


def forward(
    xp: ModuleType, params: Any, x: Array, window: Window, groups: int = 1
) -> tuple[Array, GroupedCache]:
    """Slide O kernels over every image, each over the C/G channels of its group.

    y[p,o,u,v,n] = Σ_c,i,j w[p,o,c,i,j] x[p, g·C/G + c, u·SH + i·DH − top, v·SW + j·DW − left, n] + b[p,o]
    with g = ⌊o / (O/G)⌋; x is 0 outside; without b where `params` have none.

    x: (P|1, C, H, W, B); w: (P|1, O, C/G, KH, KW); b: (P|1, O); y: (P, O, H', W', B).
    Derived in docs/layers/convolution.md.
    """
    w, outputs = params.w, params.w.shape[1]
    kernels = _by_group(w, groups)  # (P|1, G, O/G, C/G, KH, KW)
    places, population = window.places(x.shape[2:4]), max(len(x), *map(len, params))
    y = xp.zeros((population, outputs, *places, x.shape[4]), x.dtype)
    for (i, j), out, place in window.seen(x.shape[2:4]):
        part = _by_group(x[place], groups)  # (P|1, G, C/G, rows, columns, B)
        made = _product(xp, kernels[..., i, j], _flat(part))  # (P, G, O/G, N)
        y[out] += made.reshape(len(made), outputs, *part.shape[3:])
    if len(params) > 1:
        y += params.b[:, :, None, None, None]
    return y, GroupedCache(x, params, window, groups)


def backward(
    xp: ModuleType, dy: Array, cache: GroupedCache, need_dx: bool = True
) -> tuple[Array | None, Any]:
    """Send dy back along every product of the forward sum.

    dw[p,o,c,i,j] = Σ_u,v,n dy[p,o,u,v,n] · (the pixel that w[p,o,c,i,j] is multiplied by), db = Σ_u,v,n dy,
    dx = Σ w[p,o,c,i,j] dy[p,o,u,v,n] over the products with that pixel.

    dy: (P, O, H', W', B); dx: (P, C, H, W, B), or None unless `need_dx`; dw: (P, O, C/G, KH, KW); db: (P, O).
    """
    x, params, window, groups = cache
    kernels = _by_group(params.w, groups)
    dw = xp.zeros((len(dy), *kernels.shape[1:]), dy.dtype)  # (P, G, O/G, C/G, KH, KW)
    dx = xp.zeros((len(dy), *x.shape[1:]), dy.dtype) if need_dx else None
    for (i, j), out, place in window.seen(x.shape[2:4]):
        dpart = _flat(_by_group(dy[out], groups))  # (P, G, O/G, N)
        part = _by_group(x[place], groups)
        dw[..., i, j] = xp.matmul(dpart, _flat(part).swapaxes(2, 3))
        if dx is not None:
            back = _product(xp, kernels[..., i, j].swapaxes(2, 3), dpart)  # (P, G, C/G, N)
            dx[place] += back.reshape(len(dy), x.shape[1], *part.shape[3:])
    found = {"w": dw.reshape(len(dy), *params.w.shape[1:])}
    if len(params) > 1:
        found["b"] = dy.sum(axis=(2, 3, 4))
    return dx, type(params)(**found)


def _by_group(array: Array, groups: int) -> Array:
    """(P, channels, …) → (P, G, channels/G, …)."""
    return array.reshape(array.shape[0], groups, array.shape[1] // groups, *array.shape[2:])


def _flat(part: Array) -> Array:
    """(P, G, channels, rows, columns, B) → (P, G, channels, N)."""
    return part.reshape(*part.shape[:3], -1)


def _product(xp: ModuleType, w: Array, x: Array) -> Array:
    """w x for each member and group: (P|1, G, O, C) and (P|1, G, C, N) → (P, G, O, N)."""
    return w * x if w.shape[3] == 1 else xp.matmul(w, x)


FORMULA = Formula(forward, backward)
