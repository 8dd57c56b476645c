"""The commands about networks: what is in a file, and whether another program computes the same with it."""

from pathlib import Path
from typing import Annotated

import typer

from wn.basics.errors import WnError
from wn.cli.commands import output
from wn.cli.flags import App
from wn.cli.options import BatchNorm
from wn.cli.plain import say

networks = App(
    no_args_is_help=True, help="Show what a network is made of, and check networks from ONNX files."
)

_FILE_OR_NAME = typer.Argument(
    help="A file, .onnx or .safetensors, or the name of a network; `wn models` lists those.",
    show_default=False,
)


@networks.command("show")
def show(
    network: Annotated[str, _FILE_OR_NAME],
    batch_norm: BatchNorm = "none",
) -> None:
    """Show the layers of a network: shapes, parameters, multiplications for one input, and noise sites.

    Examples:

        wn network show net.onnx

        wn network show resnet-20
    """
    from wn.cli.networks_console import print_network
    from wn.engine import models

    if network.endswith((".onnx", ".safetensors")) or "/" in network or Path(network).exists():
        from wn.walking.saved.network import read_network

        found = read_network(network).network
    else:
        found = models.build(network, *models.default_input(network), batch_norm)
    print_network(output, found)


@networks.command("check")
def check(
    file: Annotated[Path, typer.Argument(help="An ONNX file.", show_default=False)],
    samples: Annotated[int, typer.Option(help="Random inputs to compare with, at least 1.")] = 16,
    tolerance: Annotated[
        float | None,
        typer.Option(
            help="Largest difference that is allowed, relative to the largest logit; default: of the type."
        ),
    ] = None,
) -> None:
    """Compare a network read from an ONNX file with what another program computes from the same file.

    The other program is onnxruntime if it is installed, or else the reference evaluator of the package onnx.
    Inputs are standard normal numbers. Prints the largest difference of the logits; exit code 1 if it is
    larger than allowed.

    Example:

        wn network check net.onnx
    """
    from wn.engine.files.onnx.check import compared

    if samples < 1:
        raise WnError(f"samples is {samples}: at least 1 is needed")
    found = compared(file, samples)
    allowed = found.tolerance if tolerance is None else tolerance
    say(
        output,
        f"{file}: logits of {samples} random inputs differ from those of {found.program} by at most "
        f"{found.largest:.3g}, {found.relative:.3g} of the largest logit; allowed are {allowed:.3g}",
    )
    if not found.relative <= allowed:
        say(output, "They differ.")
        raise typer.Exit(1)
