"""A pooling in a network, whatever its windows."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from wn.basics.errors import WnError
from wn.engine.layers.base import Formula, OfFormula, Shape
from wn.engine.layers.sliding.places import Window
from wn.engine.layers.windows import Padding, Pair, checked_flag, checked_padding, checked_pair, pooled_shape


@dataclass(frozen=True)
class Pooling(OfFormula):
    """A pooling; a kind gives its name and formulas, and may have more settings.

    window, stride: (height, width) or an integer for both; the stride is the window where none is given.
    padding: as of a convolution, see `Convolution`.
    """

    kind: ClassVar[str]  # with its article
    general: ClassVar[Formula]  # for windows that do not tile the image
    window: int | Pair
    stride: int | Pair | None = None
    padding: int | Padding = (0, 0)

    def __post_init__(self) -> None:
        window = checked_pair(f"window of {self.kind}", self.window, at_least=1)
        stride = window if self.stride is None else self.stride
        checked = {
            "window": window,
            "stride": checked_pair(f"stride of {self.kind}", stride, at_least=1),
            "padding": checked_padding(f"padding of {self.kind}", self.padding),
            "dilation": checked_pair(f"dilation of {self.kind}", self._gaps, at_least=1),
            "ceil_mode": checked_flag(f"ceil_mode of {self.kind}", self._ceil),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)  # the one way to set a field of a frozen dataclass

    @property
    def _gaps(self) -> Any:
        return getattr(self, "dilation", (1, 1))

    @property
    def _ceil(self) -> Any:
        return getattr(self, "ceil_mode", False)

    @cached_property
    def sliding(self) -> Window:
        """How the window moves."""
        return Window(self.window, self.stride, self.padding, self._gaps, self._ceil).settled()  # type: ignore[arg-type]  # pairs by now

    @property
    def usual(self) -> bool:
        """Whether windows tile the image; see `OfFormula.usual`."""
        size = self.sliding.size
        return self.sliding == Window(size, size)

    @property
    def run(self) -> Formula:
        """The formula of these settings."""
        return self.formula if self.usual else self.general

    @property
    def static(self) -> tuple[Any, ...]:
        """The size of windows that tile the image, or how they move."""
        return (self.sliding.size,) if self.usual else (self.sliding,)

    def output_shape(self, shape: Shape) -> Shape:
        """(C, H, W) → (C, H', W')."""
        what = self.kind.partition(" ")[2]
        if self.usual:
            return pooled_shape(what, shape, self.sliding.size)
        if len(shape) != 3:
            raise WnError(f"{what} takes (channels, height, width), got {shape}")
        image = (shape[1], shape[2])
        self.sliding.check_fits(f"a window of {self.kind}", image)
        self.sliding.check_sees(what, image)
        return (shape[0], *self.sliding.places(image))
