"""Flags made of the settings that they set, and those that several commands share."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

import typer

from wn.basics.options import Setting
from wn.cli.flags import NUMBER, WHOLE
from wn.walking.asked import NetworkSettings, in_order

Command = TypeVar("Command", bound=Callable[..., Any])


def with_flags(kind: type[NetworkSettings]) -> Callable[[Command], Command]:
    """Give a command the flags of the settings, between its context and its own; `**flags` takes them."""

    def flagged(command: Command) -> Command:
        own = inspect.signature(command)
        context, *others = (p for p in own.parameters.values() if p.kind != p.VAR_KEYWORD)
        shown = [context, *map(_parameter, in_order(kind)), *others]
        # typer reads it; the type of functions does not know it
        command.__signature__ = own.replace(  # type: ignore[attr-defined]
            parameters=[parameter.replace(kind=parameter.KEYWORD_ONLY) for parameter in shown]
        )
        return command

    return flagged


def _parameter(setting: Setting) -> inspect.Parameter:
    """The parameter from which Typer makes the flag of a setting."""
    return inspect.Parameter(
        setting.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=setting.default,
        annotation=Annotated[setting.option.type or setting.type, _flag(setting)],
    )


def _flag(setting: Setting) -> Any:
    kind = setting.option.type or setting.type
    types = (kind, *get_args(kind))
    form = WHOLE if int in types else NUMBER if float in types else {}
    flags = setting.option.flags or ("--" + setting.name.replace("_", "-"),)  # without --no-… for switches
    return typer.Option(*flags, help=setting.option.help, rich_help_panel=setting.option.panel, **form)


def out_flag(what: str, default: str = "") -> Any:
    """The flag --out of a command; `default` is the place in words, where it has no fixed name."""
    if default:
        return typer.Option("--out", "-o", help=f"{what}; default: {default}.", show_default=False)
    return typer.Option("--out", "-o", help=f"{what}.", rich_help_panel="Run")


_NETWORK = {setting.field: setting for setting in in_order(NetworkSettings)}

DataDir = Annotated[Path | None, _flag(_NETWORK["data_dir"])]
BatchNorm = Annotated[str, _flag(_NETWORK["batch_norm"])]
Seed = Annotated[int, _flag(_NETWORK["seed"])]
InputShape = Annotated[
    str | None, typer.Option(help="Channels,height,width; default: the study's.", show_default=False)
]
Classes = Annotated[int | None, typer.Option(help="Default: the study's.", show_default=False, **WHOLE)]
Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite", help="Replace what is there, also from a different run.", rich_help_panel="Run"
    ),
]
