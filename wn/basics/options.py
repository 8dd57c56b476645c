"""Settings for the people who set them: the help, the flag and the default of each field of a Struct.

The command line and the keywords of `wn.walk` and `wn.train` are made of these.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping
from functools import reduce
from operator import or_
from types import UnionType
from typing import Annotated, Any, NamedTuple, TypeVar, get_args, get_origin

import msgspec

Function = TypeVar("Function", bound=Callable[..., Any])


class Option(NamedTuple):
    """The help and flag of a field, in its type: `Annotated[type, Option(…)]`."""

    help: str
    panel: str  # of `--help`
    name: str = ""  # the name of flag and keyword, "" for that of the field
    flags: tuple[str, ...] = ()  # () for --name alone
    type: Any = None  # of the flag, None for that of the field
    default: Any = msgspec.UNSET  # of flag and keyword, UNSET for that of the field


class Setting(NamedTuple):
    """A field that users may set, as flags and keywords have it."""

    name: str
    field: str
    type: Any
    default: Any
    option: Option
    quiet: bool  # whether records leave it out at its default, UNSET in the Struct


def settings_of(kind: type[msgspec.Struct]) -> tuple[Setting, ...]:
    """The fields of a Struct that have an Option, in their order."""
    found = []
    for field in msgspec.structs.fields(kind):
        option = annotation(field.type, Option)
        if option is None:
            continue
        known = field.default if option.default is msgspec.UNSET else option.default
        name, quiet = option.name or field.name, field.default is msgspec.UNSET
        found.append(Setting(name, field.name, plain_type(field.type), known, option, quiet))
    return tuple(found)


def with_keywords(
    settings: Iterable[Setting], forms: Mapping[str, Any], rest: bool = True
) -> Callable[[Function], Function]:
    """Give a function the settings as keywords that `inspect.signature` shows; `forms` have other types.

    They are passed on in the function's own `**rest`, which is shown behind them, or not at all.
    """

    def decorated(function: Function) -> Function:
        shown = [
            inspect.Parameter(
                setting.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=setting.default,
                annotation=forms.get(setting.name, setting.type),
            )
            for setting in settings
        ]
        signature = inspect.signature(function)
        own = [one for one in signature.parameters.values() if rest or one.kind != one.VAR_KEYWORD]
        # `inspect.signature` reads it; the type of functions does not know it
        # inspect reads this attribute, which the types of functions do not know
        function.__signature__ = signature.replace(parameters=[*shown, *own])  # type: ignore[attr-defined]
        return function

    return decorated


def plain_type(annotated: Any, *without: Any) -> Any:
    """A type without its annotations, and without UNSET and the given types among its alternatives."""
    plain = get_args(annotated)[0] if get_origin(annotated) is Annotated else annotated
    if not isinstance(plain, UnionType):
        return plain
    left_out = (msgspec.UnsetType, *without)
    return reduce(or_, (part for part in get_args(plain) if part not in left_out))


def annotation(annotated: Any, kind: type[Any]) -> Any:
    """The annotation of a type that is a `kind`, None without one."""
    parts = getattr(annotated, "__metadata__", ())
    return next((part for part in parts if isinstance(part, kind)), None)
