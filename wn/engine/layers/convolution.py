"""Convolution: a small kernel slides over the image. Derived in docs/layers/convolution.md."""

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from wn.engine.backends.plain.base import Array, Backend
from wn.engine.backends.plain.windows import Pair, Sliding, check_pair
from wn.engine.layers.base import DrawUniform, Shape, Stateless
from wn.errors import WnError


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
    be: Backend,
    params: ConvolutionParams,
    x: Array,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
) -> tuple[Array, ConvolutionCache]:
    """Slide O kernels over every image.

    y[p,o,u,v,n] = Σ_c,i,j w[p,o,c,i,j] x[p, c, u·SH + i − PH, v·SW + j − PW, n] + b[p,o]; x is 0 outside.

    x: (P|1, C, H, W, B); w: (P|1, O, C, KH, KW); b: (P|1, O); y: (P, O, H', W', B) with
    H' = ⌊(H + 2·PH − KH)/SH⌋ + 1 and W' alike.
    Derived in docs/layers/convolution.md.
    """
    y = be.convolution(x, params.w, params.b, stride, padding)  # (P, O, H', W', B)
    return y, ConvolutionCache(x, params.w, stride, padding)


def backward(
    be: Backend, dy: Array, cache: ConvolutionCache, need_dx: bool = True
) -> tuple[Array | None, ConvolutionParams]:
    """Send dy back along every product of the forward sum.

    dw[p,o,c,i,j] = Σ_u,v,n dy[p,o,u,v,n] x[p, c, u·SH + i − PH, v·SW + j − PW, n], db[p,o] = Σ_u,v,n dy,
    dx[p,c,r,s,n] = Σ w[p,o,c,i,j] dy[p,o,u,v,n] over all terms with r = u·SH + i − PH, s = v·SW + j − PW.

    dy: (P, O, H', W', B); dx: (P, C, H, W, B), or None unless `need_dx`; dw: (P, O, C, KH, KW); db: (P, O).
    """
    x, w, stride, padding = cache
    dw, db = be.convolution_gradients(dy, x, w.shape[3:], stride, padding)  # (P, O, C, KH, KW), (P, O)
    dx = be.convolution_input_gradient(w, dy, x.shape[2:4], stride, padding) if need_dx else None
    return dx, ConvolutionParams(dw, db)


@dataclass(frozen=True)
class Convolution(Stateless):
    """A convolution with `channels` output channels in a network.

    kernel, stride and padding are (height, width). Raises WnError unless channels, kernel and stride are
    positive and padding is not negative.
    """

    channels: int
    kernel: Pair
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    recordable: ClassVar[bool] = True
    learns: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if type(self.channels) is not int or self.channels < 1:
            raise WnError(
                f"a convolution's channels are {self.channels!r}: it needs an integer of at least 1"
            )
        check_pair("kernel of a convolution", self.kernel, at_least=1)
        check_pair("stride of a convolution", self.stride, at_least=1)
        check_pair("padding of a convolution", self.padding, at_least=0)

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

    def initial_parameters(self, be: Backend, shape: Shape, draw: DrawUniform) -> ConvolutionParams:
        """Draw w and b from U(−1/√(C·KH·KW), 1/√(C·KH·KW)), as PyTorch does."""
        bound = (shape[0] * self.kernel[0] * self.kernel[1]) ** -0.5
        w = draw(0, (self.channels, shape[0], *self.kernel), bound)
        return ConvolutionParams(w, draw(1, (self.channels,), bound))

    def forward(self, be: Backend, params: Any, x: Array, state: Any) -> tuple[Array, Any, Any]:
        """See `forward` of this module."""
        y, cache = forward(be, params, x, self.stride, self.padding)
        return y, cache, state

    def backward(self, be: Backend, dy: Array, cache: Any, need_dx: bool) -> tuple[Array | None, Any]:
        """See `backward` of this module."""
        return backward(be, dy, cache, need_dx)
