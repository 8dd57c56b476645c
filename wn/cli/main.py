"""The command line: flags, commands, exit codes."""

import io
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer

from wn.basics.errors import WnError
from wn.basics.installed import __version__, clash
from wn.cli import commands
from wn.cli import studies as study_commands
from wn.cli.commands import messages, output
from wn.cli.flags import App
from wn.cli.networks import networks
from wn.cli.options import Overwrite, hint, out_flag, with_flags
from wn.cli.plain import say
from wn.walking.asked import (
    EvaluationSettings,
    GainsSettings,
    PredictionSettings,
    SingleSettings,
    WalkSettings,
)

BAD_INPUT = 2
INTERRUPTED = 130  # 128 + SIGINT, as shells have it

# Heavy imports (NumPy, SciPy, Matplotlib) are inside the commands: `--help` answers at once.

app = App(
    name="wn",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="Walking Noise: what noise does to a neural network, layer by layer.\n\n"
    "Start with `wn walk`: it trains a small network on images that come with the package, injects noise "
    "at one site after the other, and prints how much of it each site tolerates.",
)


def _version(asked: bool) -> None:
    if asked:
        output.print(f"wn {__version__}", highlight=False)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Take the flags that belong to no command."""


@app.command()
@with_flags(WalkSettings)
def walk(
    *,
    context: typer.Context,
    out: Annotated[Path, out_flag("Folder for tables and pictures")] = Path("wn-out"),
    overwrite: Overwrite = False,
    **flags: Any,
) -> None:
    """Walk noise through the sites of a network and find each site's midpoint.

    A *site* is the network's input or the output of one of its layers (`wn models NAME` lists them). For each
    site and each σ of the grid, noise is injected there and the accuracy on the test images measured: in
    networks trained clean (phase *inference*) and in networks trained under the same noise (phase
    *training*). The *midpoint* is the σ at which accuracy has fallen half-way from clean to chance,
    1/classes (of `--data` with unequal classes: the share of the largest). Without flags: additive noise,
    MLP, fashion-mini, both phases.

    Writes curves.csv, midpoints.csv, weights.csv, signal.csv, curves.png, midpoints.png, run.json and
    report.html, a page with all of it, to the --out folder. Exit code 1 if there are points without a result,
    since numbers left the range of the type there.

    Examples:

        wn walk --phase inference --epochs 5

        wn walk -d mnist -n multiplicative --sigma lin:0:6:31 --where 2,4,6 --repeats 3 --out mult

        wn walk --network network.safetensors --out walked
    """
    from msgspec import UNSET

    from wn.cli import console, midpoints_console
    from wn.walking import api
    from wn.walking.settings import read_walk

    chosen = read_walk(given_settings(context))
    what = "network-epochs" if chosen.network is UNSET else "networks"
    with api.out_folder(out, chosen, overwrite) as place:
        if place.why:
            _complain(f"{place.why}; results go to {place.folder} instead", 0)
        with console.progress(messages, "walking", what) as progress:
            result = api.walk(chosen, progress)
        midpoints_console.print_midpoints(output, result)
        console.print_failures(messages, result)
        code = _save_walk(result, place, overwrite)
    raise typer.Exit(code or int(len(result.failures) > 0))


def _save_walk(result: Any, out: Any, overwrite: bool) -> int:
    """Write what a walk found, in another place if need be; return the exit code."""
    from wn.cli import console
    from wn.files import outputs
    from wn.walking import results

    with ExitStack() as stack:
        stack.enter_context(console.logged(messages))

        def tables(folder: Path) -> list[Path]:
            claimed = folder == out.folder and out.standing()
            place = stack.enter_context(results.place_for(result, folder, overwrite, claimed))
            return results.write_tables(result, place)

        try:
            files, wrong = outputs.write_or_rescue(out.folder, tables)
        except OSError:
            text = results.csv_of_curves(result.curves, result.failures)
            output.print(text, markup=False, highlight=False, soft_wrap=True)
            raise
        try:
            files += results.write_pictures(result, files[0].parent)
        finally:
            names = ", ".join(path.name for path in files)
            say(output, f"Wrote {names} to {files[0].parent}/")
    return _complain(f"{wrong}; written to {files[0].parent} instead", 1) if wrong else 0


@app.command()
@with_flags(SingleSettings)
def train(
    *,
    context: typer.Context,
    out: Annotated[Path, out_flag("File for the trained network")] = Path("network.safetensors"),
    overwrite: Overwrite = False,
    **flags: Any,
) -> None:
    """Train one network, clean or under noise, and save it as safetensors.

    Examples:

        wn train --epochs 5

        wn train -d mnist --noise additive --sigma 0.3 --where 0 -o noisy-input.safetensors
    """
    from wn.cli import console
    from wn.files import outputs
    from wn.walking import api
    from wn.walking.settings import read_single

    chosen = read_single(given_settings(context))
    with outputs.claimed_file(out, overwrite):
        with console.progress(messages, "training") as progress:
            trained = api.train(chosen, progress)
        console.print_trained(output, trained)

        def save(folder: Path) -> Path:
            return trained.save(folder / out.name, overwrite=overwrite)

        with console.logged(messages):
            path, wrong = outputs.write_or_rescue(out.parent, save)
        say(output, f"Wrote {path}")
    raise typer.Exit(_complain(f"{wrong}; written to {path} instead", 1) if wrong else 0)


@app.command()
@with_flags(EvaluationSettings)
def evaluate(
    *,
    network: Annotated[
        Path,
        typer.Argument(help="A network saved by `wn train`, `wn import` or a study.", show_default=False),
    ],
    context: typer.Context,
    out: Annotated[Path | None, out_flag("File for the table, csv", "none")] = None,
    overwrite: Overwrite = False,
    **flags: Any,
) -> None:
    """Evaluate a network on disk under noise at one place: its accuracy at one σ, or at each of a grid.

    Model, batch norm and dtype are the file's; data set and seed too, if its record says them and no flag
    does. Draws are those of `wn walk --network`, and without noise in training of the walk that trained it.
    The interval is Wilson's, of 95 %. Exit code 1 if there are σ without a result, since numbers left the
    range of the type there.

    Examples:

        wn evaluate network.safetensors

        wn evaluate network.safetensors --noise additive --sigma 0.1:10:5 --where 0 --out input.csv
    """
    from wn.cli import console
    from wn.files import outputs
    from wn.walking.evaluation import evaluate as evaluation
    from wn.walking.settings import read_evaluation

    chosen = read_evaluation(given_settings(context))
    with ExitStack() as stack:
        if out is not None:
            stack.enter_context(outputs.claimed_file(out, overwrite))
        with console.progress(messages, "evaluating", "networks") as progress:
            found = evaluation.evaluate(chosen, progress)
        console.print_evaluation(output, found)
        console.print_failures(messages, found)
        code = _save_evaluation(found, out, overwrite) if out is not None else 0
    raise typer.Exit(code or int(len(found.failures) > 0))


def _save_evaluation(found: Any, out: Path, overwrite: bool) -> int:
    """Write the table, in another place if need be; return the exit code."""
    from wn.files import outputs

    def save(folder: Path) -> Path:
        return Path(found.save(folder / out.name, overwrite=overwrite))

    path, wrong = outputs.write_or_rescue(out.parent, save)
    say(output, f"Wrote {path}")
    return _complain(f"{wrong}; written to {path} instead", 1) if wrong else 0


@app.command()
@with_flags(GainsSettings)
def gains(
    *,
    context: typer.Context,
    out: Annotated[Path, out_flag("Folder for table and picture")] = Path("wn-gains"),
    overwrite: Overwrite = False,
    **flags: Any,
) -> None:
    """Find how much of the noise at each site reaches the output, without drawing any.

    The *gain* c² of a site is what noise of variance σ² there adds to the variance of the margin (logit of
    the label − largest other logit), per σ²: one backward pass over 500 images finds it for every site, under
    additive and under multiplicative noise. Which site needs how many repetitions follows: the map for
    --budget is printed as `wn walk --where global -R` takes it. How much noise the network tolerates does not
    follow: midpoints are a constant divided by c, about, and the constant has to be measured.

    Without flags the network is the one that `wn walk` trains. Writes gains.csv, gains.png and gains.json to
    the --out folder.

    Examples:

        wn gains

        wn gains --walk wn-out

        wn gains --network network.safetensors --noise multiplicative --measure --budget 64
    """
    import msgspec

    from wn.cli import console, gains_console
    from wn.files import outputs
    from wn.walking.gains import gained
    from wn.walking.gains.settings import read_gains
    from wn.walking.saved.folder import check_folder

    asked = read_gains(given_settings(context))
    with outputs.claimed_folder(out):
        if not overwrite:
            check_folder(out, gained.FILES, msgspec.to_builtins(asked.own))
        with console.progress(messages, "training") as progress:
            found = gained.gains(asked, progress)
        gains_console.print_gains(output, found)
        code = _save_folder(found, out, overwrite)
    raise typer.Exit(code)


@app.command()
@with_flags(PredictionSettings)
def predict(
    *,
    context: typer.Context,
    out: Annotated[Path, out_flag("Folder for tables and picture")] = Path("wn-predicted"),
    overwrite: Overwrite = False,
    **flags: Any,
) -> None:
    """Predict accuracy under noise at inference, without drawing any.

    For each site, what theory expects at each σ of the grid and where it falls half-way from clean to chance,
    with an estimate of its error: exact where nothing but affine layers comes behind the noise, else from the
    moments of the logits. Where theory can't go, the line of the site says why. It is independent evidence,
    not a short way: drawing noise is faster. `wn walk --predict` has both side by side.

    Without flags the network is the one that `wn walk` trains. Writes predicted.csv, crossings.csv,
    predicted.png and predict.json to the --out folder.

    Examples:

        wn predict --epochs 5

        wn predict --network network.safetensors --noise multiplicative --sigma lin:0:6:31 --where 2,4,6
    """
    import msgspec

    from wn.cli import console, midpoints_console
    from wn.files import outputs
    from wn.walking.evaluation import predicting
    from wn.walking.saved.folder import check_folder

    asked = predicting.read_prediction(given_settings(context))
    with outputs.claimed_folder(out):
        if not overwrite:
            check_folder(out, predicting.FILES, msgspec.to_builtins(asked[0]))
        with console.progress(messages, "training") as progress:
            found = predicting.predict(asked, progress)
        midpoints_console.print_predictions(output, found)
        code = _save_folder(found, out, overwrite)
    raise typer.Exit(code)


def _save_folder(found: Any, out: Path, overwrite: bool) -> int:
    """Write the files of a command to its folder, or to another place if need be; return the exit code."""
    from wn.files import outputs

    def save(folder: Path) -> list[Path]:
        return list(found.save(folder, overwrite=overwrite))

    files, wrong = outputs.write_or_rescue(out, save)
    say(output, f"Wrote {', '.join(path.name for path in files)} to {files[0].parent}/")
    return _complain(f"{wrong}; written to {files[0].parent} instead", 1) if wrong else 0


# The order of --help: what is trained comes first.
for name, command in (("models", commands.models), ("export", commands.export), ("import", commands.import_)):
    app.command(name)(command)
app.add_typer(commands.data, name="data")
app.add_typer(networks, name="network")
app.add_typer(study_commands.study, name="study")


def given_settings(context: typer.Context) -> dict[str, Any]:
    """Return the flags of a command made of settings that are given, by the names of settings."""
    return {
        key: value
        for key, value in context.params.items()
        if key not in ("out", "overwrite") and _is_given(context, key)
    }


def _is_given(context: typer.Context, key: str) -> bool:
    source = context.get_parameter_source(key)
    return source is None or source.name != "DEFAULT"


def main(arguments: list[str] | None = None) -> None:
    """Run the command line, by default with the arguments of the process, and exit.

    Exit codes: 0 done; 1 the system refused (a full disk, another package called wn), `data check` found a
    difference, or points of a walk have no result; 2 bad input; 130 Ctrl-C. What went wrong is said in one
    line.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that has no σ shows a question mark
            stream.reconfigure(errors="replace")
    sys.exit(_run(arguments))


def _run(arguments: list[str] | None) -> int:
    if (problem := clash()) is not None:
        return _complain(problem, 1)
    try:
        code = app(arguments, prog_name="wn", standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except WnError as error:
        return _complain(str(error), BAD_INPUT)
    except OSError as error:
        return _complain(f"{error.filename or 'system'}: {error.strerror or error}", 1)
    except Exception as error:
        # Unknown flags and the like: a base class of their own, which no public name of Typer leads to
        if not hasattr(error, "format_message"):
            raise
        text = error.format_message() + hint(error)  # "" where the help was shown instead
        return _complain(f"{text} (see {_command(error)} --help)", BAD_INPUT) if text else BAD_INPUT
    if code == INTERRUPTED:
        return _complain("interrupted", INTERRUPTED)
    return int(code or 0)


def _command(error: Any) -> str:
    """Return the command that an error of the command line belongs to."""
    context = getattr(error, "ctx", None)
    return str(context.command_path) if context is not None else "wn"


def _complain(text: str, code: int) -> int:
    line = " ".join(text.split())
    say(messages, f"wn: {line}", style="red")
    return code
