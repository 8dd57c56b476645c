"""Text as it is on any console: names are the users' own, and may look like markup, emoji or control."""

from typing import Any

from rich.console import Console
from rich.progress import TextColumn
from rich.table import Table
from rich.text import Text


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
        """Add a column as rich does."""
        super().add_column(Text(printable(header)), *rest, **options)

    def add_row(self, *cells: Any, **options: Any) -> None:
        """Add a row as rich does; a new line in a cell is kept."""
        super().add_row(*(Text(printable(cell, "\n")) for cell in cells), **options)


def _text(text: str, style: str) -> Text:
    return Text(printable(text), style, justify="center")


def description() -> TextColumn:
    """The column of a progress bar that says what is done."""
    return TextColumn("{task.description}", markup=False)
