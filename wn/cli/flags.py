"""How flags are read, whatever they mean: numbers in plain forms only, and each flag once."""

from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperCommand

from wn.basics.errors import WnError
from wn.basics.numbers import number, whole


class OnceCommand(TyperCommand):
    """A command that refuses a flag that is given twice, of which the last one would count without a word."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Check and parse the arguments; WnError names the flag that is there twice."""
        flags = {name: flag for flag in self.params if flag.param_type_name == "option" for name in flag.opts}
        seen: set[str] = set()
        words = iter(args)
        for word in words:
            if word == "--":
                break
            name, joined = _name(word)
            flag = flags.get(name)
            if flag is None:
                continue
            if str(flag.name) in seen:
                raise WnError(f"{flag.opts[0]} is given twice: give it once")
            seen.add(str(flag.name))
            if not getattr(flag, "is_flag", False):
                # Its value may look like a flag. Paths read an empty one as the current folder.
                value = next(words, None) if not joined else word[len(name) + word.startswith("--") :]
                if value == "":
                    raise WnError(f"{flag.opts[0]} is empty: give it a value, or leave it out")
        return super().parse_args(ctx, args)


def _name(word: str) -> tuple[str, bool]:
    """The flag that a word of the command line is, and whether its value is joined to it: --x=1, -x1."""
    if word.startswith("--"):
        name, equals, _ = word.partition("=")
        return name, bool(equals)
    return word[:2], len(word) > 2


class App(typer.Typer):
    """Commands in which every flag is given once at most."""

    def command(self, *names: Any, **options: Any) -> Callable[[Any], Any]:
        """Register a command as Typer does."""
        return super().command(*names, **{"cls": OnceCommand} | options)


def _flag(read: Callable[[str], Any]) -> Callable[[Any], Any]:
    def parse(value: Any) -> Any:
        if not isinstance(value, str):
            return value  # a default
        try:
            return read(value)
        except WnError as error:
            raise typer.BadParameter(str(error)) from None

    return parse


# Options of flags that are numbers
WHOLE: dict[str, Any] = {"parser": _flag(whole), "metavar": "<int>"}
NUMBER: dict[str, Any] = {"parser": _flag(number), "metavar": "<float>"}
