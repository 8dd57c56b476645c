"""The commands around walks and trainings: networks, data sets, and weights in and out."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from wn.basics.errors import WnError
from wn.cli.flags import WHOLE, App
from wn.cli.options import BatchNorm, Classes, InputShape, Overwrite, Seed, out_flag
from wn.cli.plain import PlainConsole, mend_environment, say

mend_environment()  # before there are consoles
output = PlainConsole()
messages = PlainConsole(stderr=True)
data = App(no_args_is_help=True, help="List, fetch and check data sets.")

_DATA_NAME = typer.Argument(help="Data set; `wn data list` shows them.", show_default=False)


def models(
    name: Annotated[
        str | None, typer.Argument(help="Show the noise sites of this network.", show_default=False)
    ] = None,
    batch_norm: Annotated[
        str | None, typer.Option(help="Only with this batch norm: none, sites or hidden.")
    ] = None,
    input_shape: InputShape = None,
    classes: Classes = None,
) -> None:
    """List the networks (parameters, cost per image, noise sites), or the sites of one by number.

    The numbers of the sites are those of `wn walk --where` and of the csv files.

    Examples:

        wn models

        wn models lenet5 --batch-norm sites
    """
    from wn.cli import console
    from wn.engine.files import exchange

    if name is None:
        if input_shape is not None or classes is not None:
            raise WnError("--input-shape and --classes go with the name of a network")
        console.print_models(output, batch_norm)
        return
    shape = None if input_shape is None else exchange.parse_input_shape(input_shape)
    console.print_sites(output, name, batch_norm, shape, classes)


def export(
    source: Annotated[
        Path, typer.Argument(help="Networks saved by `wn train` or `wn import`.", show_default=False)
    ],
    member: Annotated[int, typer.Option(help="Which network of the population, from 0.", **WHOLE)] = 0,
    every: Annotated[bool, typer.Option("--all", help="Every network, to a folder.")] = False,
    out: Annotated[
        Path | None, out_flag("File, or folder with --all", "beside SOURCE, named after it")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Write trained networks for other programs: as safetensors for PyTorch, or as ONNX files.

    The ending of --out decides: .onnx is ONNX's format (which needs the package onnx), others are safetensors
    with the names and shapes of a state_dict.

    In PyTorch, for a module with the same layer names:

        module.load_state_dict(safetensors.torch.load_file("network-member-0.safetensors"))

    Examples:

        wn export network.safetensors

        wn export network.safetensors --all --out members

        wn export network.safetensors --out network.onnx
    """
    from wn.engine.files import checkpoint, exchange
    from wn.engine.files.onnx.graph import has_suffix
    from wn.engine.files.onnx.write import export_onnx
    from wn.engine.networks.weighted import Weighted

    if every and member:
        raise WnError("--all exports every member: leave --member out")
    if every:
        paths = exchange.export_members(
            source, out or source.with_name(f"{source.stem}-members"), overwrite=overwrite
        )
    elif out is not None and has_suffix(out):
        loaded = checkpoint.load(source)
        export_onnx(Weighted(loaded.network, loaded.population), out, member=member, overwrite=overwrite)
        paths = [out]
    else:
        target = out or source.with_name(f"{source.stem}-member-{member}.safetensors")
        paths = [exchange.export_member(source, member, target, overwrite=overwrite)]
    say_written(paths)


def say_written(paths: Iterable[Path]) -> None:
    """Name the files that a command has written."""
    for path in paths:
        say(output, f"Wrote {path}")


def import_(
    files: Annotated[
        list[Path],
        typer.Argument(help="A state_dict file per network; they become one population.", show_default=False),
    ],
    model: Annotated[
        str, typer.Option("--model", "-m", help="Network; `wn models` shows them.", show_default=False)
    ],
    batch_norm: BatchNorm = "none",
    input_shape: InputShape = None,
    classes: Classes = None,
    seed: Seed = 0,
    out: Annotated[Path, out_flag("File for the networks")] = Path("network.safetensors"),
    overwrite: Overwrite = False,
) -> None:
    """Read networks trained with PyTorch: safetensors with the names and shapes of a state_dict.

    In PyTorch:

        safetensors.torch.save_file(module.state_dict(), "twin.safetensors")

    Missing, additional, wrongly shaped or typed tensors and values that are not finite are refused by name.

    Example:

        wn import twin.safetensors --model lenet5 --batch-norm sites
    """
    from wn.cli import console
    from wn.engine.files import checkpoint, exchange

    with console.logged(messages):
        loaded = exchange.import_files(
            files,
            out,
            model=model,
            input_shape=input_shape,
            classes=classes,
            batch_norm=batch_norm,
            seed=seed,
            overwrite=overwrite,
        )
    say(output, f"Wrote {out}: {checkpoint.describe(loaded.network, loaded.population)}")


@data.command("list")
def data_list() -> None:
    """List the data sets: what they are, shapes, sizes, licences, and whether their files are here."""
    from wn.cli import console

    console.print_datasets(output)


@data.command("fetch")
def data_fetch(
    name: Annotated[str, _DATA_NAME],
    data_dir: Annotated[Path | None, typer.Option(help="Where to put the files; default: the cache.")] = None,
) -> None:
    """Download a data set, unless its files are here already, and print where they are."""
    from wn.cli import console
    from wn.data import catalogue

    with console.downloads(messages) as progress:
        paths = catalogue.fetch(name, data_dir, progress)
    for path in paths:
        say(output, str(path))


@data.command("check")
def data_check(
    name: Annotated[str, _DATA_NAME],
    data_dir: Annotated[Path | None, typer.Option(help="Folder with data files.")] = None,
) -> None:
    """Compare the files of a data set with the checksums of the original ones; exit code 1 if any differs."""
    from wn.data import catalogue

    statuses = catalogue.check(name, data_dir)
    for status in statuses:
        say(output, f"{status.path or status.name}: {status.status}")
    raise typer.Exit(0 if all(status.ok for status in statuses) else 1)
