"""The commands of studies: plan, run, retry, status, export, fit, plot, report, presets, import-seml."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from wn.basics.errors import WnError
from wn.cli.commands import messages, output, say_written
from wn.cli.flags import WHOLE, App
from wn.cli.options import DataDir, Overwrite, out_flag
from wn.cli.plain import say

study = App(
    no_args_is_help=True, help="Studies: declared once in a file, resumed always, on one machine or many."
)

FAILED = 1  # exit code where units failed, or runs were left out

_STUDY = typer.Argument(help="A study's TOML file, or a preset; `wn study presets` lists them.")
_FOLDER = typer.Argument(help="The folder of a study that was run.", show_default=False)

Workers = Annotated[
    int | None,
    typer.Option(
        help="Worker processes; default: one per processor, a single one on a GPU.",
        rich_help_panel="Workers",
        **WHOLE,
    ),
]
StudyBackend = Annotated[
    str,
    typer.Option(
        "--backend",
        help="numpy, numba, cupy, cupy-tf32 or auto: the one that the folder was begun with, else cupy if "
        "this machine has a GPU, numba if not.",
        rich_help_panel="Run",
    ),
]
Scheduler = Annotated[
    str | None,
    typer.Option(help="Address of a Dask scheduler, tcp://HOST:PORT.", rich_help_panel="Workers"),
]
SchedulerFile = Annotated[
    Path | None, typer.Option(help="The file that a Dask scheduler wrote.", rich_help_panel="Workers")
]


def _workers(
    count: int | None, scheduler: str | None, scheduler_file: Path | None, backend: str
) -> Callable[[str], Any]:
    """The maker of the workers that the flags ask for, given the name of the backend that was chosen.

    Raises WnError, before anything is done, for a GPU backend that workers on this machine can't use.
    """
    from wn.engine import backends
    from wn.engine.backends.cuda import device as cuda_device
    from wn.study.execution import executors

    if sum(given is not None for given in (count, scheduler, scheduler_file)) > 1:
        raise WnError("--workers, --scheduler and --scheduler-file exclude each other")
    _check(count)
    if scheduler is not None or scheduler_file is not None:
        return lambda chosen: executors.cluster(scheduler, scheduler_file)
    if backends.on_gpu(backend):
        cuda_device.check(backend)
    return lambda chosen: executors.processes(count or executors.suitable(chosen))


def _check(workers: int | None) -> None:
    if workers is not None and workers < 1:
        raise WnError(f"--workers is {workers}: it must be at least 1")


@study.command()
def presets() -> None:
    """List the studies that ship with the package."""
    from wn.study.declare import presets as shipped

    for name in shipped.names():
        say(output, f"{name}: {shipped.preset(name).description}")


@study.command()
def plan(
    file: Annotated[str, _STUDY],
    data_dir: DataDir = None,
    workers: Workers = None,
    backend: StudyBackend = "auto",
) -> None:
    """Print what a study would run: trainings, evaluations, epochs, time on this machine, size on disk."""
    from wn.cli import studies_console as study_console
    from wn.study import find_study
    from wn.study.execution.executors import suitable
    from wn.study.plan import plan_study

    spec = find_study(file)
    _check(workers)
    with study_console.calibrating(messages):
        planned = plan_study(spec, backend, workers or suitable(backend))
    study_console.print_plan(output, planned)


@study.command()
def run(
    file: Annotated[str, _STUDY],
    out: Annotated[Path | None, out_flag("Folder of the study", "named after it, here")] = None,
    data_dir: DataDir = None,
    workers: Workers = None,
    scheduler: Scheduler = None,
    scheduler_file: SchedulerFile = None,
    backend: StudyBackend = "auto",
) -> None:
    """Run a study, or what is left of it: the same command again resumes it.

    It may be killed at any time. Exit code 1 if units failed, `wn study retry` runs those again, or if maps
    of repetitions were left out. A folder keeps the backend that it was begun with.

    Examples:

        wn study run walking-quick --out quick

        wn study run my-study.toml --out results --scheduler tcp://10.0.0.1:8786
    """
    from wn.study import find_study
    from wn.study.execution.run import run_study

    work = partial(run_study, find_study(file), backend=backend, data_dir=data_dir)
    _run(out or Path(Path(file).stem), work, _workers(workers, scheduler, scheduler_file, backend))


@study.command()
def retry(
    folder: Annotated[Path, _FOLDER],
    data_dir: DataDir = None,
    workers: Workers = None,
    scheduler: Scheduler = None,
    scheduler_file: SchedulerFile = None,
    backend: StudyBackend = "auto",
) -> None:
    """Run the units that failed once more, and what else is left."""
    from wn.study.execution.run import retry_study

    work = partial(retry_study, backend=backend, data_dir=data_dir)
    _run(folder, work, _workers(workers, scheduler, scheduler_file, backend))


@study.command()
def status(
    folder: Annotated[Path, _FOLDER],
    failures: Annotated[bool, typer.Option("--failures", help="Show why units failed.")] = False,
) -> None:
    """Show how far a study is; it may be running meanwhile."""
    from wn.cli import studies_console as study_console

    study_console.print_status(output, folder, failures)


@study.command()
def export(
    folder: Annotated[Path, _FOLDER],
    kind: Annotated[str, typer.Option("--format", help="csv or parquet.")] = "csv",
    out: Annotated[Path | None, out_flag("Folder for the tables", "FOLDER/export")] = None,
    tables: Annotated[
        str,
        typer.Option(
            help="Which: some of results,provenance,settings,signal,weights,groups,binarisation,"
            "midpoints, or all."
        ),
    ] = "results,provenance",
    whole: Annotated[
        bool, typer.Option("--whole", help="Also units that the folder has, but the study has no more.")
    ] = False,
) -> None:
    """Write tables of a study, as far as it is finished; it may be running meanwhile.

    results: an accuracy per row; provenance: where and when each was computed; settings: the whole spec of
    each curve; signal: mean y² before the noise at each noisy site; weights: statistics of each layer after
    each epoch; groups: correct answers by group of images; binarisation of trained networks; midpoints.
    """
    from wn.study.tables.export import TABLES
    from wn.study.tables.export import export as write

    names = TABLES if tables == "all" else tuple(tables.split(","))
    say_written(write(folder, out or folder / "export", kind, names, whole))


@study.command()
def fit(folder: Annotated[Path, _FOLDER]) -> None:
    """Fit and print the midpoints of a study, as far as it is finished."""
    from wn.cli import studies_console as study_console

    study_console.print_fit(output, folder)


@study.command()
def plot(
    folder: Annotated[Path, _FOLDER],
    out: Annotated[Path | None, out_flag("Folder for pictures", "FOLDER/plots")] = None,
) -> None:
    """Draw the curves and midpoints of a study, as far as it is finished."""
    from wn.study.tables.plot import plot as draw

    plotted = draw(folder, out or folder / "plots")
    say_written(plotted.paths)
    if plotted.points_alone:
        say(
            output,
            f"{plotted.points_alone} settings have one σ for each place, and no curve to draw: `wn study fit "
            f"{folder}` prints their accuracies, `wn study report {folder}` draws them",
        )


@study.command()
def report(
    folder: Annotated[Path, _FOLDER],
    out: Annotated[Path | None, out_flag("File for the page", "FOLDER/report.html")] = None,
) -> None:
    """Write a page about a study, as far as it is finished: one HTML file with all tables and pictures.

    What was run, midpoints, curves, accuracies, growth of weights, signal-to-noise ratios, binarisation,
    budgets of repetitions, and published figures beside ours, each where the study has it. The file needs no
    network and runs no scripts; what is there is replaced. The study may be running meanwhile.
    """
    from wn.study.report.whole import write_report

    say_written([write_report(folder, out or folder / "report.html")])


@study.command("import-seml")
def import_seml(
    files: Annotated[list[Path], typer.Argument(help="Experiment files of seml (YAML).", show_default=False)],
    out: Annotated[Path | None, out_flag("Study file to write", "a single FILE with .toml")] = None,
    ignore: Annotated[
        str,
        typer.Option(
            help="Parameters without a place in a study, with commas, that change nothing.",
            show_default=False,
        ),
    ] = "",
    overwrite: Overwrite = False,
) -> None:
    """Make one study of experiment files of the paper's authors, and print how many runs they have.

    Networks trained clean are shared by all files. Exit code 1 if runs were left out, because a study can't
    express them or they may be other experiments.

    Examples:

        wn study import-seml mlp_layer_wise_noise_experiment.yaml

        wn study import-seml experiment_configs/MNIST/*.yaml --out mnist.toml
    """
    from wn.cli import studies_console as study_console
    from wn.files.outputs import AlreadyThere, check_file
    from wn.files.whole import write_text
    from wn.study.seml import convert as seml

    if out is None and len(files) > 1:
        raise WnError(
            "--out is missing: the study of several files needs a name, for example --out study.toml"
        )
    imported = seml.import_seml(*files, ignored=[name.strip() for name in ignore.split(",") if name.strip()])
    target = out or files[0].with_suffix(".toml")
    check_file(target, overwrite)
    try:
        write_text(target, imported.toml, overwrite)
    except FileExistsError:  # written by another meanwhile
        raise AlreadyThere(target) from None
    for note in imported.notes:
        say(messages, f"note: {note}")
    study_console.print_imported(output, target, imported)
    if imported.left_out:
        raise typer.Exit(FAILED)


def _run(folder: Path, work: Callable[..., Any], make_workers: Any) -> None:
    """Follow a run, say what it did, and exit with FAILED unless all of the study is there."""
    from wn.cli import studies_console as study_console

    try:
        with study_console.progress(messages, folder.name or "study") as report:
            done = work(folder, make_workers, report=report)
    except KeyboardInterrupt:
        say(messages, f"{folder}: what is finished is kept: the same command goes on with the rest")
        raise
    if not study_console.print_summary(output, folder, done):
        raise typer.Exit(FAILED)
