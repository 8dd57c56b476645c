"""Text as it is on any console: names are the users' own, and may look like markup, emoji or control."""

import os
from typing import Any

from rich.console import Console, ConsoleDimensions
from rich.progress import TextColumn
from rich.table import Table
from rich.text import Text

NARROWEST, WIDEST = 60, 1000  # columns: on fewer, tables lose numbers


def mend_environment() -> None:
    """Take sizes out of this process's environment with which rich, also for help, fails or prints nothing.

    COLUMNS and LINES that are no numbers above 0 count as not given, and COLUMNS has limits.
    """
    for name in ("COLUMNS", "LINES"):
        text = os.environ.get(name, "")
        if not (text.isascii() and text.isdigit() and int(text[:9])):
            os.environ.pop(name, None)
        elif name == "COLUMNS":
            os.environ[name] = str(min(max(int(text[:9]), NARROWEST), WIDEST))


def printable(text: object, kept: str = "") -> str:
    r"""The text with its control characters as escapes (\x1b, \n), but for those that are `kept`."""
    plain = str(text)
    if plain.isprintable():
        return plain
    return "".join(
        sign if sign.isprintable() or sign in kept else sign.encode("unicode_escape").decode()
        for sign in plain
    )


class PlainConsole(Console):
    """A console that prints strings as they are, control characters but for new lines as escapes."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"markup": False, "emoji": False, "highlight": False} | options)

    @property
    def size(self) -> ConsoleDimensions:
        """The size of the terminal, or a width at which tables are whole if it is narrower."""
        width, height = super().size
        return ConsoleDimensions(max(width, NARROWEST), height)

    @size.setter
    def size(self, new: tuple[int, int]) -> None:
        self._width, self._height = new

    def print(self, *objects: Any, **options: Any) -> None:
        """Print as rich's console does."""
        super().print(
            *(printable(item, "\n\t") if isinstance(item, str) else item for item in objects), **options
        )


def say(console: Console, text: str, **options: Any) -> None:
    """Print one line, however long, on any console; options as those of its `print`."""
    console.print(Text(printable(text)), soft_wrap=True, **options)


class PlainTable(Table):
    """A table whose title, caption, headings and cells are strings, shown as they are on any console."""

    def __init__(self, title: str, caption: str | None = None) -> None:
        super().__init__(title=_text(title, "table.title"))
        if caption is not None:
            self.caption = _text(caption, "table.caption")

    def add_column(self, header: Any = "", *rest: Any, **options: Any) -> None:
        """Add a column as rich does; where it is too narrow for a word, the word is broken, not cut."""
        super().add_column(Text(printable(header)), *rest, **{"overflow": "fold"} | options)

    def add_numbers(self, *headers: str, **options: Any) -> None:
        """Add columns of numbers, which end at the right."""
        for header in headers:
            self.add_column(header, justify="right", **options)

    def add_row(self, *cells: Any, **options: Any) -> None:
        """Add a row as rich does; a new line in a cell is kept."""
        super().add_row(*(Text(printable(cell, "\n")) for cell in cells), **options)


def _text(text: str, style: str) -> Text:
    return Text(printable(text), style, justify="center")


def description() -> TextColumn:
    """The column of a progress bar that says what is done."""
    return TextColumn("{task.description}", markup=False)
