"""Pictures that carry what they were drawn of: a digest of the data, and one of the pixels as they were then.

So a committed picture is seen to be that of today's tables and untouched, whichever matplotlib drew it.
"""

import io
import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from PIL import Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from wn.walking.pictures.drawing import bytes_of

DATA, PIXELS = "drawn", "pixels"  # the words of a picture with its digests


class Drawn(NamedTuple):
    """A picture that is to be drawn, and the digest of what it shows."""

    draw: Callable[[], Figure]
    digest: str

    def png(self) -> bytes:
        """The picture with both digests among its words."""
        image = Image.open(io.BytesIO(bytes_of(self.draw(), "png")))
        words = PngInfo()
        words.add_text(DATA, self.digest)
        words.add_text(PIXELS, _pixels(image))
        data = io.BytesIO()
        image.save(data, "png", pnginfo=words, dpi=image.info["dpi"])
        return data.getvalue()

    def is_in(self, path: Path) -> bool:
        """Whether a file is this picture, untouched since it was drawn."""
        try:
            with Image.open(path) as image:
                return image.info.get(DATA) == self.digest and image.info.get(PIXELS) == _pixels(image)
        except (OSError, UnidentifiedImageError):
            return False


def _pixels(image: Image.Image) -> str:
    return sha256(image.convert("RGBA").tobytes()).hexdigest()


def drawn(draw: Callable[..., Figure], *what: Any, **options: Any) -> Drawn:
    """The picture that a function draws of its arguments."""
    content = json.dumps(_plain([draw.__name__, what, options]))
    return Drawn(lambda: draw(*what, **options), sha256(content.encode()).hexdigest())


def _plain(value: Any) -> Any:
    """What is drawn in lists, text and numbers of six digits, in its order: so that it has a digest."""
    if isinstance(value, dict):
        return [[key, _plain(item)] for key, item in value.items()]
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(item) for item in value]
    return f"{value:.6g}" if isinstance(value, float | np.floating) else value
