"""What the command line prints: progress bars and tables (rich)."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import prod
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text

from wn.cli.plain import PlainTable, description, printable, say
from wn.data import catalogue, locate
from wn.data.sets.entry import Entry
from wn.engine import models

# wn.fit.midpoint is imported where it is used: lists need none of SciPy, which takes a second.

EPOCHS = "network-epochs"


@contextmanager
def progress(console: Console, what: str, parts: str = EPOCHS) -> Iterator[Callable[[int, int], None]]:
    """Show a bar that follows (finished, all) parts; a line now and then where it is no terminal.

    What wn logs meanwhile (that loops are being compiled) is printed too.
    """
    with logged(console):
        if not console.is_terminal:
            yield _lines(console, what, parts)
            return
        columns = (
            description(),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn(f"{{task.completed}}/{{task.total}} {parts}"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=console) as bar:
            task = bar.add_task(what, total=None)

            def report(finished: int, total: int) -> None:
                ended = finished == total and parts == EPOCHS
                done = f"{what}: trained, evaluating" if ended else what
                bar.update(task, completed=finished, total=total, description=done)

            yield report


class _Printer(logging.Handler):
    def __init__(self, console: Console) -> None:
        super().__init__(logging.INFO)
        self.console = console

    def emit(self, record: logging.LogRecord) -> None:
        say(self.console, f"wn: {record.getMessage()}")


@contextmanager
def logged(console: Console) -> Iterator[None]:
    """Print what wn logs at level INFO and above."""
    log, printer = logging.getLogger("wn"), _Printer(console)
    before = log.level
    log.addHandler(printer)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.setLevel(before)
        log.removeHandler(printer)


def _lines(console: Console, what: str, parts: str) -> Callable[[int, int], None]:
    """Return a reporter that prints a line for every tenth of the work."""
    last = -1

    def report(finished: int, total: int) -> None:
        nonlocal last
        tenth = 10 * finished // total
        if tenth > last:
            last = tenth
            rest = "; evaluating" if finished == total and parts == EPOCHS else ""
            say(console, f"{what}: {10 * tenth} % ({finished} of {total} {parts}){rest}")

    return report


MOST_FAILURES = 20  # lines


def print_failures(console: Console, result: Any) -> None:
    """Print which points have no result, and why: those that failed for the same reason together."""
    rows = result.failures
    if not len(rows):
        return
    total = len(rows) + len(result.curves)
    say(console, f"wn: {len(rows)} of {total} points have no result; smaller σ or float64 would have one:")
    alike: dict[tuple[Any, ...], list[float]] = {}
    for row in rows.tolist():
        found = dict(zip(rows.dtype.names or (), row, strict=True))
        place = found.get("sites", found["site_name"])
        what = (found["phase"], place, found["repeat"], found["reason"])
        alike.setdefault(what, []).append(found["sigma"])
    for (phase, name, repeat, reason), sigma in list(alike.items())[:MOST_FAILURES]:
        levels = ", ".join(f"{level:.3g}" for level in sigma)
        say(console, f"  {phase}, {name}, repeat {repeat}, σ {levels}: {reason}")
    if len(alike) > MOST_FAILURES:
        say(console, f"  and more: see the csv file ({len(alike)} in all)")


def print_trained(console: Console, trained: Any) -> None:
    """Print the accuracies of a trained network."""
    table = PlainTable(title=f"{trained.record['settings']['model']} on {trained.record['data']['name']}")
    table.add_column("test accuracy")
    table.add_numbers("correct", "of", "accuracy")
    for name, correct in trained.correct.items():
        table.add_row(name, str(correct), str(trained.total), f"{correct / trained.total:.4f}")
    console.print(table)


def print_evaluation(console: Console, found: Any) -> None:
    """Print the accuracy of a network on disk at each σ, and repeat by repeat if there are several."""
    rows, settings = found.curves, found.run["settings"]
    noise = "no noise" if settings["noise"] == "none" else f"{settings['noise']} noise: {rows['sites'][0]}"
    clean = " ".join(f"{correct / total:.4f}" for correct, total in found.clean)
    table = PlainTable(
        title=f"{settings['network']}: {settings['model']} on {settings['dataset']}, {noise}",
        caption=f"clean accuracy {clean}; seed {settings['seed']}",
    )
    several = len(found.clean) > 1
    table.add_numbers(*(["repeat"] if several else []), "σ", "correct", "of", "accuracy [95 % interval]")
    for row in rows:
        numbers = (f"{row['sigma']:.6g}", str(row["correct"]), str(row["total"]))
        accuracy = f"{row['accuracy']:.4f} [{row['ci_low']:.4f}, {row['ci_high']:.4f}]"
        table.add_row(*([str(row["repeat"])] if several else []), *numbers, accuracy)
    console.print(table)


def print_models(console: Console, batch_norm: str | None = None) -> None:
    """Print every network, with each batch norm or one of them: parameters, multiply-accumulates, sites."""
    table = PlainTable(title="Networks")
    for heading in ("model", "batch norm", "input"):
        table.add_column(heading)
    table.add_numbers("parameters", "MACs per image", "sites")
    for name in models.names():
        shape, classes = models.default_input(name)
        for setting in models.BATCH_NORM if batch_norm is None else (batch_norm,):
            network = models.build(name, shape, classes, setting)
            table.add_row(
                name,
                setting,
                _shape(shape),
                f"{models.parameter_count(network):,}",
                f"{models.cost_per_image(network):,}",
                str(len(network.site_names)),
            )
    console.print(table)
    aliases = ", ".join(f"{alias} = {name}" for alias, name in models.ALIASES.items())
    console.print(Text(f"Other names: {aliases}"))
    console.print(Text("`wn models NAME` lists the sites of one."))


def print_sites(
    console: Console,
    name: str,
    batch_norm: str | None = None,
    shape: tuple[int, ...] | None = None,
    classes: int | None = None,
) -> None:
    """Print the noise sites of a network by number, by default without batch norm and with its sites."""
    usual = models.default_input(name)
    shape = usual.shape if shape is None else shape
    classes = usual.classes if classes is None else classes
    for setting in ("none", "sites") if batch_norm is None else (batch_norm,):
        network = models.build(name, shape, classes, setting)
        table = PlainTable(title=f"{network.name}, batch norm {setting}")
        table.add_numbers("site")
        table.add_column("name")
        table.add_column("shape")
        table.add_numbers("elements")
        for site, (site_name, size) in enumerate(zip(network.site_names, network.site_shapes(), strict=True)):
            table.add_row(str(site), site_name, _shape(size), f"{prod(size):,}")
        console.print(table)
    if batch_norm is None:
        console.print(Text("With batch norm hidden the sites are those of none."))


def print_datasets(console: Console) -> None:
    """Print every data set of the catalogue: the figures as a table, what they are below it."""
    table = PlainTable(title="Data sets")
    table.add_column("name")
    table.add_column("image")
    table.add_numbers("classes", "training", "test")
    table.add_column("files")
    for entry in catalogue.listing():
        table.add_row(
            entry.name,
            _shape(entry.image_shape),
            str(len(entry.classes)),
            f"{entry.train_count:,}",
            f"{entry.test_count:,}",
            _files(entry),
        )
    console.print(table)
    for entry in catalogue.listing():
        console.print(Text(f"{entry.name}: {entry.description}; licence: {entry.licence}"))


def _files(entry: Entry) -> str:
    """Whether the files of a data set are here."""
    if entry.bundled:
        return "with wn"
    located = next(locate.candidates(entry), None)
    return "not here" if located is None else "here" if located.complete else "in part"


def _shape(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))


@contextmanager
def downloads(console: Console) -> Iterator[Callable[[str], "Download"]]:
    """Give a function that starts a bar for the download of a file; a line where it is no terminal."""
    columns = (description(), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:

        def start(name: str) -> Download:
            if not console.is_terminal:
                say(console, f"downloading {name}")
            return Download(bars, name)

        yield start


class Download:
    """The bar of one download, with what pooch asks of a bar: total, update, reset, close."""

    def __init__(self, bars: Progress, name: str) -> None:
        self.bars, self.task = bars, bars.add_task(printable(name), total=None)

    @property
    def total(self) -> float | None:
        """Size of the file in bytes, if known."""
        return self.bars.tasks[self.task].total

    @total.setter
    def total(self, size: float | None) -> None:
        self.bars.update(self.task, total=size)

    def update(self, size: int) -> None:
        """Add bytes that have come in."""
        self.bars.update(self.task, advance=size)

    def reset(self) -> None:
        """Begin anew."""
        self.bars.update(self.task, completed=0)

    def close(self) -> None:
        """End: the bar stays as it is."""
        self.bars.stop_task(self.task)
