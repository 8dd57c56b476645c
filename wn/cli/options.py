"""Flags made of the settings that they set, and those that several commands share."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from wn.basics.options import Function, Setting, with_keywords
from wn.cli.flags import NUMBER, WHOLE
from wn.walking.asked import MEANT, NetworkSettings, in_order


def with_flags(kind: type[NetworkSettings]) -> Callable[[Function], Function]:
    """Give a command the flags of the settings, before its own; `**flags` takes them."""
    settings = in_order(kind)
    forms = {one.name: Annotated[one.option.type or one.type, _flag(one)] for one in settings}
    return with_keywords(settings, forms, rest=False)


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


def hint(error: Any) -> str:
    """What was meant by a flag of another name, or by a file without its flag."""
    flag = str(getattr(error, "option_name", "")).removeprefix("--").replace("-", "_")
    if flag in MEANT:
        return f": did you mean --{MEANT[flag].replace('_', '-')}?"
    if "extra argument" in str(error) and ".npz" in str(error):
        return ": a data set in a file is --data FILE"
    if "extra argument" in str(error) and any(kind in str(error) for kind in (".safetensors", ".onnx")):
        return ": a network in a file is --network FILE"
    return ""
