"""A page of sections with tables and pictures: one HTML file that needs no other and runs no scripts."""

import base64
import math
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

import jinja2
from matplotlib.figure import Figure

from wn.walking.pictures.drawing import bytes_of


class Table(NamedTuple):
    """A table: caption, the names of the columns, and rows of cells; numbers stand right, None is empty."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


class Picture(NamedTuple):
    """A figure with its caption, which also stands for it where it can't be seen."""

    figure: Figure
    caption: str

    @property
    def source(self) -> str:
        """The picture itself as the address of an image."""
        return "data:image/svg+xml;base64," + base64.b64encode(bytes_of(self.figure, "svg")).decode()

    @property
    def width(self) -> int:
        """Its width on a screen, in pixels."""
        return round(96 * self.figure.get_figwidth())


class Section(NamedTuple):
    """A section: title, paragraphs of text, then tables and pictures in their order, and text as it is."""

    title: str
    text: Sequence[str] = ()
    parts: Sequence[Table | Picture] = ()
    verbatim: str = ""


def page(title: str, lead: str, sections: Sequence[Section]) -> str:
    """The page as HTML. Everything in tables and text is taken literally."""
    return _template().render(title=title, lead=lead, sections=sections)


def cell(value: Any) -> str:
    """A cell of a table: four digits of a number, nothing for None and NaN."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return "∞" if math.isinf(value) else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def is_number(value: Any) -> bool:
    """Whether a cell stands right."""
    return isinstance(value, int | float) and not isinstance(value, bool)


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["cell"] = cell
    environment.tests["right"] = is_number
    environment.tests["picture"] = lambda part: isinstance(part, Picture)
    return environment.from_string((files(__package__) / "page.html").read_text(encoding="utf-8"))
