"""Convolution: a small kernel slides over the image. Derived in docs/layers/convolution.md."""

from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import prod
from types import ModuleType
from typing import Any, NamedTuple

from wn.basics.errors import WnError
from wn.engine.layers.base import DrawUniform, Formula, OfWeights, Runner, Shape, Weights, without_bias
from wn.engine.layers.sliding import convolution as grouped
from wn.engine.layers.sliding.places import Window
from wn.engine.layers.windows import (
    Array,
    Padding,
    Pair,
    checked_count,
    checked_flag,
    checked_padding,
    checked_pair,
    pad,
)


class ConvolutionParams(NamedTuple):
    """Kernels w (P, O, C, KH, KW) and biases b (P, O)."""

    w: Array
    b: Array


class ConvolutionCache(NamedTuple):
    """What backward needs: the input, the kernels, and how they slide."""

    x: Array
    w: Array
    stride: Pair
    padding: Pair


def forward(
    xp: ModuleType, params: ConvolutionParams, x: Array, stride: Pair = (1, 1), padding: Pair = (0, 0)
) -> tuple[Array, ConvolutionCache]:
    """Slide O kernels over every image.

    y[p,o,u,v,n] = Σ_c,i,j w[p,o,c,i,j] x[p, c, u·SH + i − PH, v·SW + j − PW, n] + b[p,o]; x is 0 outside.

    x: (P|1, C, H, W, B); w: (P|1, O, C, KH, KW); b: (P|1, O); y: (P, O, H', W', B) with
    H' = ⌊(H + 2·PH − KH)/SH⌋ + 1 and W' alike.
    Derived in docs/layers/convolution.md.
    """
    w, b = params
    padded = pad(xp, x, padding)  # (P|1, C, H + 2·PH, W + 2·PW, B)
    y = b[:, :, None, None, None]
    for i, j in product(*map(range, w.shape[3:])):
        seen = _seen(padded, i, j, w.shape[3:], stride)  # (P|1, C, H', W', B)
        y = y + xp.einsum("...oc,...cuvn->...ouvn", w[..., i, j], seen)  # (P, O, H', W', B)
    return y, ConvolutionCache(x, w, stride, padding)


def backward(
    xp: ModuleType, dy: Array, cache: ConvolutionCache, need_dx: bool = True
) -> tuple[Array | None, ConvolutionParams]:
    """Send dy back along every product of the forward sum.

    dw[p,o,c,i,j] = Σ_u,v,n dy[p,o,u,v,n] x[p, c, u·SH + i − PH, v·SW + j − PW, n], db[p,o] = Σ_u,v,n dy,
    dx[p,c,r,s,n] = Σ w[p,o,c,i,j] dy[p,o,u,v,n] over all terms with r = u·SH + i − PH, s = v·SW + j − PW.

    dy: (P, O, H', W', B); dx: (P, C, H, W, B), or None unless `need_dx`; dw: (P, O, C, KH, KW); db: (P, O).
    """
    x, w, stride, padding = cache
    kernel = w.shape[3:]
    padded = pad(xp, x, padding)  # (P|1, C, H + 2·PH, W + 2·PW, B)
    dw = xp.empty((len(dy), *w.shape[1:]), dy.dtype)  # (P, O, C, KH, KW)
    for i, j in product(*map(range, kernel)):
        dw[..., i, j] = xp.einsum("...ouvn,...cuvn->...oc", dy, _seen(padded, i, j, kernel, stride))
    db = dy.sum(axis=(2, 3, 4))  # (P, O)
    dx = _input_gradient(xp, dy, w, padded.shape[2:4], stride, padding) if need_dx else None
    return dx, ConvolutionParams(dw, db)


def _seen(padded: Array, i: int, j: int, kernel: Pair, stride: Pair) -> Array:
    """The pixels under place (i, j) of the kernel wherever it stands: (P|1, C, H', W', B)."""
    height, width = padded.shape[2:4]
    rows = slice(i, height - kernel[0] + i + 1, stride[0])
    columns = slice(j, width - kernel[1] + j + 1, stride[1])
    return padded[:, :, rows, columns]


def _input_gradient(xp: ModuleType, dy: Array, w: Array, size: Pair, stride: Pair, padding: Pair) -> Array:
    """dx as a convolution of dy, its elements a stride apart, with flipped kernels: (P, C, H, W, B).

    size: (H + 2·PH, W + 2·PW), of the padded image.
    """
    (kernel_h, kernel_w), (height, width) = w.shape[3:], size
    shape = (height + kernel_h - 1, width + kernel_w - 1)
    apart = xp.zeros((*dy.shape[:2], *shape, dy.shape[4]), dy.dtype)
    apart[:, :, kernel_h - 1 : height : stride[0], kernel_w - 1 : width : stride[1]] = dy
    flipped = w[..., ::-1, ::-1]
    dpadded = xp.zeros((len(dy), w.shape[2], *size, dy.shape[4]), dy.dtype)
    for i, j in product(range(kernel_h), range(kernel_w)):
        seen = apart[:, :, i : i + height, j : j + width]  # (P, O, H + 2·PH, W + 2·PW, B)
        dpadded += xp.einsum("...oc,...ouvn->...cuvn", flipped[..., i, j], seen)
    return dpadded[:, :, padding[0] : height - padding[0], padding[1] : width - padding[1]]


FORMULA = Formula(forward, backward)
WITHOUT_BIAS = without_bias(FORMULA, lambda xp, shape, dtype: xp.zeros(shape, dtype))


@dataclass(frozen=True)
class Convolution(OfWeights):
    """A convolution with `channels` output channels in a network.

    kernel, stride, dilation: (height, width), or an integer for both. padding: an integer or (height, width)
    for the same on both sides, ((top, bottom), (left, right)), or "same": as many outputs as
    ⌈size / stride⌉, where the padding is odd with one more behind the image, or with "same_lower" before it.
    groups: output channels of each group see the input channels of theirs only. dilation: pixels from one
    place of the kernel to the next. Raises WnError unless channels, groups, kernel, stride and dilation are
    positive, groups divides the channels, and padding is not negative.
    `torch.nn.Conv2d` has the same; "same_lower", and "same" with a stride, are ONNX's SAME_LOWER and
    SAME_UPPER. Derived in docs/layers/convolution.md.
    """

    formula = FORMULA
    recordable = True
    channels: int
    kernel: int | Pair
    stride: int | Pair = (1, 1)
    padding: int | Padding = (0, 0)
    dilation: int | Pair = (1, 1)
    groups: int = 1
    bias: bool = True

    def __post_init__(self) -> None:
        channels = checked_count("a convolution's channels", self.channels)
        groups = checked_count("a convolution's groups", self.groups)
        if channels % groups:
            raise WnError(f"a convolution of {channels} channels can't be divided into {groups} groups")
        checked = {
            "channels": channels,
            "groups": groups,
            "kernel": checked_pair("kernel of a convolution", self.kernel, at_least=1),
            "stride": checked_pair("stride of a convolution", self.stride, at_least=1),
            "padding": checked_padding("padding of a convolution", self.padding),
            "dilation": checked_pair("dilation of a convolution", self.dilation, at_least=1),
            "bias": checked_flag("bias of a convolution", self.bias),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)  # the one way to set a field of a frozen dataclass

    @cached_property
    def window(self) -> Window:
        """How the kernel moves."""
        return Window(self.kernel, self.stride, self.padding, self.dilation).settled()  # type: ignore[arg-type]  # pairs by now

    @cached_property
    def _simple(self) -> bool:
        """Whether it slides without gaps, all channels together, with the same padding on both sides."""
        sides = self.window.padding
        symmetric = not isinstance(sides, str) and not isinstance(sides[0], tuple)
        return symmetric and self.dilation == (1, 1) and self.groups == 1

    @property
    def usual(self) -> bool:
        """See `OfFormula.usual`."""
        return self._simple and self.bias

    @property
    def run(self) -> Formula:
        """The formula of these settings."""
        if not self._simple:
            return grouped.FORMULA
        return FORMULA if self.bias else WITHOUT_BIAS

    @property
    def static(self) -> tuple[Any, ...]:
        """Stride and padding, or the window and the groups."""
        window = self.window
        return (window.stride, window.padding) if self._simple else (window, self.groups)

    def output_shape(self, shape: Shape) -> Shape:
        """(C, H, W) → (O, H', W')."""
        if len(shape) != 3:
            raise WnError(f"a convolution takes (channels, height, width), got {shape}")
        if shape[0] % self.groups:
            raise WnError(f"a convolution in {self.groups} groups can't divide {shape[0]} input channels")
        image = (shape[1], shape[2])
        self.window.check_fits("a kernel", image)
        return (self.channels, *self.window.places(image))

    def initial_parameters(self, be: Runner, shape: Shape, draw: DrawUniform) -> ConvolutionParams | Weights:
        """Draw w and b from U(−1/√f, 1/√f), f = C/G·KH·KW, as PyTorch does."""
        seen = (shape[0] // self.groups, *self.window.size)
        bound = prod(seen) ** -0.5
        w = draw(0, (self.channels, *seen), bound)
        return ConvolutionParams(w, draw(1, (self.channels,), bound)) if self.bias else Weights(w)
