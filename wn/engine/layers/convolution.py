"""Convolution: a small kernel slides over the image. Derived in docs/layers/convolution.md."""

from dataclasses import dataclass
from itertools import product
from types import ModuleType
from typing import NamedTuple

from wn.basics.errors import WnError
from wn.basics.numbers import is_integer
from wn.engine.layers.base import DrawUniform, Formula, OfWeights, Runner, Shape
from wn.engine.layers.windows import Array, Pair, Sliding, checked_pair, pad


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


@dataclass(frozen=True)
class Convolution(OfWeights):
    """A convolution with `channels` output channels in a network.

    kernel, stride and padding are (height, width). Raises WnError unless channels, kernel and stride are
    positive and padding is not negative.
    """

    formula = FORMULA
    recordable = True
    channels: int
    kernel: Pair
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)

    def __post_init__(self) -> None:
        if not is_integer(self.channels) or self.channels < 1:
            raise WnError(
                f"a convolution's channels are {self.channels!r}: it needs an integer of at least 1"
            )
        checked = {
            "channels": int(self.channels),
            "kernel": checked_pair("kernel of a convolution", self.kernel, at_least=1),
            "stride": checked_pair("stride of a convolution", self.stride, at_least=1),
            "padding": checked_pair("padding of a convolution", self.padding, at_least=0),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)  # the one way to set a field of a frozen dataclass

    def output_shape(self, shape: Shape) -> Shape:
        """(C, H, W) → (O, H', W')."""
        if len(shape) != 3:
            raise WnError(f"a convolution takes (channels, height, width), got {shape}")
        height, width = Sliding(self.kernel, self.stride, self.padding).places(*shape[1:])
        if height < 1 or width < 1:
            raise WnError(
                f"a kernel of {self.kernel[0]}×{self.kernel[1]} with padding {self.padding} is larger than "
                f"an image of {shape[1]}×{shape[2]}"
            )
        return (self.channels, height, width)

    def initial_parameters(self, be: Runner, shape: Shape, draw: DrawUniform) -> ConvolutionParams:
        """Draw w and b from U(−1/√(C·KH·KW), 1/√(C·KH·KW)), as PyTorch does."""
        bound = (shape[0] * self.kernel[0] * self.kernel[1]) ** -0.5
        w = draw(0, (self.channels, shape[0], *self.kernel), bound)
        return ConvolutionParams(w, draw(1, (self.channels,), bound))

    @property
    def static(self) -> tuple[Pair, Pair]:
        """Stride and padding."""
        return self.stride, self.padding
