"""The command line: `wn walk`, `wn train`, `wn data`, `wn models`."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from wn.errors import WnError
from wn.options import (
    BackendName,
    BatchNorm,
    BatchSize,
    Clamp,
    DataDir,
    Dataset,
    Dtype,
    Epochs,
    EvaluationBatch,
    Execution,
    Kind,
    LearningRate,
    Mean,
    MeanAdd,
    MeanMul,
    Model,
    Normalize,
    Order,
    Overwrite,
    Ratio,
    Repetitions,
    Seed,
    TestLimit,
    Threads,
    TrainLimit,
)

# Heavy imports (NumPy, SciPy, Matplotlib) are inside the commands: `--help` answers at once.

app = typer.Typer(
    name="wn",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="Walking Noise: what noise does to a neural network, layer by layer.\n\n"
    "Start with `wn walk`: it trains a small network on images that come with the package, injects noise "
    "at one site after the other, and prints how much of it each site tolerates.",
)
data_app = typer.Typer(no_args_is_help=True, help="List, fetch and check data sets.")
app.add_typer(data_app, name="data")

output = Console()
messages = Console(stderr=True)


@app.command()
def walk(
    context: typer.Context,
    dataset: Dataset = "fashion-mini",
    data_dir: DataDir = None,
    model: Model = "mlp",
    batch_norm: BatchNorm = "none",
    noise: Kind = "additive",
    where: Annotated[
        str,
        typer.Option(
            help="each (noise walks from site to site), global (at all sites at once), sites such as 0,3,7, "
            "or a map such as 0:0.5,3:2 (σ times a factor at each of these sites at once).",
            rich_help_panel="Noise",
        ),
    ] = "each",
    phase: Annotated[
        str,
        typer.Option(
            help="inference (networks trained clean), training (the same σ in both) or both.",
            rich_help_panel="Noise",
        ),
    ] = "both",
    sigma: Annotated[
        str | None,
        typer.Option(
            help="σ grid: FIRST:LAST:COUNT (log), lin:FIRST:LAST:COUNT, or values with commas. "
            "Default: 0.1:10000:16; multiplicative noise: lin:0:6:16.",
            rich_help_panel="Noise",
        ),
    ] = None,
    mean: Mean = None,
    mean_mul: MeanMul = None,
    mean_add: MeanAdd = None,
    ratio: Ratio = None,
    order: Order = None,
    normalize_to_input_size: Normalize = False,
    repetitions: Repetitions = 1,
    execution: Execution = "single",
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    lr: LearningRate = None,
    clamp: Clamp = False,
    repeats: Annotated[
        int, typer.Option(help="Trainings of everything, each with its own seed.", rich_help_panel="Training")
    ] = 1,
    train_limit: TrainLimit = None,
    test_limit: TestLimit = None,
    seed: Seed = 0,
    backend: BackendName = "auto",
    dtype: Dtype = "float32",
    threads: Threads = None,
    evaluation_batch: EvaluationBatch = None,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for tables and pictures.", rich_help_panel="Run")
    ] = Path("wn-out"),
    overwrite: Overwrite = False,
) -> None:
    """Walk noise through the sites of a network and find each site's midpoint.

    A *site* is the input or the output of a layer. For each site and each σ of the grid, noise is injected
    there and the accuracy on the test images measured: in networks trained clean (phase *inference*) and in
    networks trained under the same noise (phase *training*). The *midpoint* is the σ at which accuracy has
    fallen half-way from clean to chance. Without flags: additive noise, MLP, fashion-mini, both phases.

    Writes curves.csv, midpoints.csv, curves.png, midpoints.png and run.json to the --out folder.

    Examples:

        wn walk --phase inference --epochs 5

        wn walk -d mnist -n multiplicative --sigma lin:0:6:31 --where 3,6,9 --repeats 3 --out mult
    """
    from wn import api, console

    settings = settings_of(context)
    api.check_out_folder(out, settings, overwrite)
    with console.progress(messages, "walking") as progress:
        result = api.walk(progress=progress, **settings)
    files = result.save(out)
    console.print_midpoints(output, result)
    output.print(f"Wrote {', '.join(path.name for path in files)} to {out}/", soft_wrap=True)


@app.command()
def train(
    context: typer.Context,
    dataset: Dataset = "fashion-mini",
    data_dir: DataDir = None,
    model: Model = "mlp",
    batch_norm: BatchNorm = "none",
    noise: Kind = "none",
    where: Annotated[
        str,
        typer.Option(
            help="global (all sites), sites such as 0,3,7, or a map such as 0:0.5,3:2 (factors on σ).",
            rich_help_panel="Noise",
        ),
    ] = "global",
    sigma: Annotated[
        float, typer.Option(help="σ of the noise in training and evaluation.", rich_help_panel="Noise")
    ] = 0.0,
    mean: Mean = None,
    mean_mul: MeanMul = None,
    mean_add: MeanAdd = None,
    ratio: Ratio = None,
    order: Order = None,
    normalize_to_input_size: Normalize = False,
    repetitions: Repetitions = 1,
    execution: Execution = "single",
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    lr: LearningRate = None,
    clamp: Clamp = False,
    train_limit: TrainLimit = None,
    test_limit: TestLimit = None,
    seed: Seed = 0,
    backend: BackendName = "auto",
    dtype: Dtype = "float32",
    out: Annotated[
        Path, typer.Option("--out", "-o", help="File for the trained network.", rich_help_panel="Run")
    ] = Path("network.safetensors"),
    overwrite: Overwrite = False,
) -> None:
    """Train one network, clean or under noise, and save it as safetensors.

    Examples:

        wn train --epochs 5

        wn train -d mnist --noise additive --sigma 0.3 --where 0 -o noisy-input.safetensors
    """
    from wn import api, console

    settings = settings_of(context)
    if out.exists() and not overwrite:
        raise WnError(f"{out} exists: choose another --out, or --overwrite")
    with console.progress(messages, "training") as progress:
        trained = api.train(progress=progress, **settings)
    trained.save(out)
    console.print_trained(output, trained)
    output.print(f"Wrote {out}", soft_wrap=True)


@app.command()
def models() -> None:
    """List the networks: parameters, cost per image, noise sites."""
    from wn import console

    console.print_models(output)


@data_app.command("list")
def data_list() -> None:
    """List the data sets: shapes, sizes, licences, and whether their files are here."""
    from wn import console

    console.print_datasets(output)


@data_app.command("fetch")
def data_fetch(
    name: Annotated[str, typer.Argument(help="Data set.")],
    data_dir: Annotated[Path | None, typer.Option(help="Where to put the files; default: the cache.")] = None,
) -> None:
    """Download a data set, unless its files are here already."""
    from wn.data import catalogue

    for path in catalogue.fetch(name, data_dir):
        output.print(str(path), soft_wrap=True)


@data_app.command("check")
def data_check(
    name: Annotated[str, typer.Argument(help="Data set.")],
    data_dir: Annotated[Path | None, typer.Option(help="Folder with data files.")] = None,
) -> None:
    """Compare the files of a data set with the checksums of the original ones; exit code 1 if any differs."""
    from wn.data import catalogue

    statuses = catalogue.check(name, data_dir)
    for status in statuses:
        output.print(f"{status.path or status.name}: {status.status}", soft_wrap=True)
    raise typer.Exit(0 if all(status.ok for status in statuses) else 1)


def settings_of(context: typer.Context) -> dict[str, Any]:
    """Return the flags of `wn walk` or `wn train` as settings of `wn.api`."""
    settings = {key: value for key, value in context.params.items() if key not in ("out", "overwrite")}
    settings["where"], settings["factors"] = parse_where(settings["where"])
    settings["learning_rate"] = settings.pop("lr")
    settings["clamp_weights"] = settings.pop("clamp")
    if settings["data_dir"] is not None:
        settings["data_dir"] = str(settings["data_dir"])
    return settings


def parse_where(text: str) -> tuple[str | list[int], dict[int, float] | None]:
    """Return (where, factors) of --where: a word, a list of sites, or a map of sites to factors.

    Raises WnError for anything else.
    """
    if text in ("each", "global"):
        return text, None
    try:
        if ":" in text:
            pairs = [part.split(":") for part in text.split(",")]
            return "mapped", {int(site): float(factor) for site, factor in pairs}
        return [int(part) for part in text.split(",")], None
    except ValueError:
        raise WnError(
            f"--where {text!r} can't be read: write each, global, sites such as 0,3,7 "
            "or a map such as 0:0.5,3:2"
        ) from None


def main() -> None:
    """Run the command line: bad input ends with one line and exit code 2, Ctrl-C with exit code 130."""
    try:
        app()
    except WnError as error:
        messages.print(f"wn: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        sys.exit(2)
