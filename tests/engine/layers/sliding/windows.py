"""Random windows that fit, and what the loops of `reference` take for them."""

from typing import Any

from hypothesis import strategies as st

from reference import naive_layers
from wn.engine.layers.sliding.places import Window

PAIRS = {most: st.tuples(st.integers(1, most), st.integers(1, most)) for most in (2, 3)}
SIDES = st.tuples(*[st.tuples(st.integers(0, 2), st.integers(0, 2))] * 2)
PADDINGS = st.one_of(
    st.tuples(st.integers(0, 2), st.integers(0, 2)), SIDES, st.sampled_from(["same", "same_lower"])
)


def of_reference(window: Window, image: tuple[int, int]) -> naive_layers.Window:
    """The window for the loops: its padding by sides, found by the reference itself."""
    padding: Any = window.padding
    if isinstance(padding, str):
        lower = padding == "same_lower"
        padding = naive_layers.same(image, window.size, window.stride, window.dilation, lower)
    elif isinstance(padding[0], int):
        padding = ((padding[0], padding[0]), (padding[1], padding[1]))
    return naive_layers.Window(window.size, window.stride, padding, window.dilation, window.ceil_mode)


@st.composite
def windows(draw: st.DrawFn, size: int = 5, ceil_mode: bool = False) -> tuple[Window, tuple[int, int]]:
    """A window and an image (H, W) that it fits."""
    image = draw(st.tuples(st.integers(1, size), st.integers(1, size)))
    ceil = ceil_mode and draw(st.booleans())
    window = Window(draw(PAIRS[3]), draw(PAIRS[3]), draw(PADDINGS), draw(PAIRS[2]), ceil)
    while min(window.places(image)) < 1:
        window = window._replace(
            size=(max(window.size[0] - 1, 1), max(window.size[1] - 1, 1)),
            dilation=(max(window.dilation[0] - 1, 1), max(window.dilation[1] - 1, 1)),
        )
    return window, image
