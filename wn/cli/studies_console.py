"""What the commands of studies print."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, Task, TaskProgressColumn, TextColumn
from rich.progress import Progress as Bar
from rich.text import Text

from wn.cli.console import interval, logged
from wn.cli.plain import PlainTable, description, printable, say
from wn.study.execution.driver import Progress
from wn.study.plan import Plan, PlannedNetwork
from wn.study.store.lock import holder
from wn.study.store.writer import Store
from wn.study.unit import MATRIX

LINE_EVERY = 30.0  # seconds, where the output is no terminal


# ---- progress ---------------------------------------------------------------------------------------------


@contextmanager
def progress(console: Console, what: str) -> Iterator[Callable[[Progress], None]]:
    """Show a bar that follows the work, with the time left; a line now and then where it is no terminal."""
    with logged(console):
        if not console.is_terminal:
            yield _lines(console, what)
            return
        units = TextColumn("{task.fields[units]}")
        columns = (description(), BarColumn(), TaskProgressColumn(), units, _TimeLeft())
        with Bar(*columns, console=console) as bar:
            task = bar.add_task(printable(what), total=1.0, units="")

            def report(now: Progress) -> None:
                bar.update(task, completed=now.share, units=_units(now))

            yield report


class _TimeLeft(ProgressColumn):
    """The time left if work goes on as fast as until now: tasks take too long for rich's own estimate."""

    def render(self, task: Task) -> Text:
        """Return the text."""
        share = task.completed / (task.total or 1.0)
        return Text(_left(task.elapsed or 0.0, share), style="progress.remaining")


def _lines(console: Console, what: str) -> Callable[[Progress], None]:
    """Return a reporter that prints a line at the beginning, at the end, and every LINE_EVERY seconds."""
    started = time.monotonic()
    last: float | None = None

    def report(now: Progress) -> None:
        nonlocal last
        at = time.monotonic()
        ended = now.finished + now.failed == now.total
        if not ended and last is not None and at - last < LINE_EVERY:
            return
        last = at
        left = "" if ended else _left(at - started, now.share)
        parts = [f"{100 * now.share:.0f} %", _units(now), *([left] if left else [])]
        say(console, f"{what}: {', '.join(parts)}")

    return report


def _left(elapsed: float, share: float) -> str:
    """Return the time left in words, "" while nothing is known or nothing is left."""
    return f"about {duration(elapsed * (1 / share - 1))} left" if 0 < share < 1 else ""


def _units(now: Progress) -> str:
    return f"{now.finished} of {now.total} units" + (f", {now.failed} failed" if now.failed else "")


def duration(seconds: float) -> str:
    """Return a time as people say it: 40 s, 12 min, 3.5 h, 2.1 days."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    if seconds < 5970:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172_800 else f"{seconds / 86_400:.1f} days"


# ---- status -----------------------------------------------------------------------------------------------


def print_summary(console: Console, folder: Path, done: Progress) -> bool:
    """Say what a run did and what there is now; return whether all of the study is there."""
    with Store.read(folder) as store:
        counts = store.status()
    there, failed, pending = (sum(getattr(c, name) for c in counts) for name in ("done", "failed", "pending"))
    parts = [f"{done.finished} units finished", f"{there} of {there + failed + pending} are there"]
    parts += [f"{failed} failed"] if failed else []
    parts += [f"{pending} are left"] if pending else []
    say(console, f"{folder}: {', '.join(parts)}")
    if failed:
        say(console, f"`wn study status {folder} --failures` says why, `wn study retry {folder}` tries again")
    return not failed and not pending


def print_status(console: Console, folder: Path, failures: bool) -> None:
    """Print how many units are done, by phase, network and noise; with `failures` also why some failed."""
    with Store.read(folder) as store:
        table = PlainTable(title=f"{folder}: {store.meta.get('name', 'study')}")
        for heading in ("phase", "network", "noise"):
            table.add_column(heading)
        table.add_numbers("pending", "done", "failed", "time", no_wrap=True)
        counts = store.status()
        for row in counts:
            numbers = (str(row.pending), str(row.done), str(row.failed), duration(row.seconds))
            table.add_row(row.phase, f"{row.dataset} {row.model}", row.noise, *numbers)
        totals = [sum(getattr(row, name) for row in counts) for name in ("pending", "done", "failed")]
        table.add_section()
        table.add_row("all", "", "", *map(str, totals), duration(sum(row.seconds for row in counts)))
        console.print(table)
        driver = holder(folder)
        if driver is not None:
            say(console, f"running: {driver}")
        if failures:
            _print_failures(console, store)
        elif totals[2]:
            first = next(store.failures())
            reason = first.traceback.strip().splitlines()[-1]
            say(console, f"first failure, {_of(first.spec)}: {reason}")


def _print_failures(console: Console, store: Any) -> None:
    """Print the units that failed and why, those that failed of the same together."""
    for text, together in groupby(store.failures(), lambda failure: failure.traceback):
        for failure in together:
            say(console, f"{failure.key}: {_of(failure.spec)}")
        console.print(Text(printable(text, "\n\t")), soft_wrap=True)


def _of(spec: dict[str, Any]) -> str:
    noise = "" if spec.get("noise") is None else f", {spec['noise']['kind']} σ {spec['sigma']:g}"
    place = "" if spec["phase"] == "clean" else f" at {spec['site_name']}"
    place += f", trained at σ {spec['sigma_train']:g}" if "sigma_train" in spec else ""
    return f"{spec['phase']} {spec['model']} on {spec['dataset']}, repeat {spec['repeat']}{noise}{place}"


# ---- midpoints --------------------------------------------------------------------------------------------

_SETTING = ("dataset", "model", "batch_norm", "clamp_weights", "noise", "ratio", "repetitions")


def print_fit(console: Console, folder: Path) -> None:
    """Print the midpoints of a study: a table for each network and noise, of sites and phases.

    Those of the phase "matrix" have tables of their own, of sites and σ of training.
    """
    from wn.fit.midpoint import INDEPENDENT
    from wn.study.tables.fit import fit

    tables: dict[str, list[Any]] = {}
    midpoints = fit(folder)
    for row in midpoints:
        tables.setdefault(_setting(row), []).append(row)
    if not tables:
        say(console, f"{folder}: nothing with noise is in this study")
    for title, all_rows in tables.items():
        rows = [row for row in all_rows if row["phase"] != MATRIX]
        if len(rows) < len(all_rows):
            _print_matrix(console, title, [row for row in all_rows if row["phase"] == MATRIX])
        if not rows:
            continue
        phases = list(dict.fromkeys(str(row["phase"]) for row in rows))
        table = PlainTable(title=f"Midpoint σ [95 % interval]: {title}")
        table.add_numbers("site")
        table.add_column("name")
        table.add_numbers(*phases)
        for site, name in dict.fromkeys((int(row["site"]), str(row["site_name"])) for row in rows):
            here = [row for row in rows if row["site"] == site]
            cells = ("\n".join(_midpoint(row) for row in here if row["phase"] == phase) for phase in phases)
            table.add_row(str(site) if site >= 0 else "", name, *cells)
        console.print(table)
    too_narrow = int((midpoints["interval"] == INDEPENDENT).sum())
    if too_narrow:
        say(
            console,
            f"{too_narrow} of these intervals are too narrow: units were computed before counts by group of "
            "images were kept, so all σ are taken as independent, which share images and draws",
        )


def _print_matrix(console: Console, title: str, rows: list[Any]) -> None:
    """Print the midpoints of networks trained under several σ, a column for each place."""
    places = list(dict.fromkeys((int(row["site"]), str(row["site_name"])) for row in rows))
    table = PlainTable(title=f"Midpoint σ [95 % interval] by σ of training: {title}")
    table.add_numbers("σ of training", *(f"{site} {name}" if site >= 0 else name for site, name in places))
    for sigma in sorted({float(row["sigma_train"]) for row in rows}):
        here = [row for row in rows if row["sigma_train"] == sigma]
        cells = ("\n".join(_midpoint(row) for row in here if row["site"] == site) for site, _ in places)
        table.add_row(f"{sigma:.3g}", *cells)
    console.print(table)
    say(console, "each half-way from the network's own accuracy at the smallest σ to chance")


def _setting(row: Any) -> str:
    """Return the network and the noise of a midpoint in words."""
    dataset, model, batch_norm, clamped, noise, ratio, repetitions = (row[name] for name in _SETTING)
    parts = [f"{dataset}, {model}, batch norm {batch_norm}", *(["clamped"] if clamped else [])]
    parts += [f"{noise} noise" + (f" of ratio {ratio:g}" if ratio == ratio else "")]
    parts += [f"repetitions {repetitions}"] if repetitions != "1" else []
    return ", ".join(parts)


def _midpoint(row: Any) -> str:
    missing = f" ({row['missing']} missing)" if row["missing"] else ""
    if not row["reached"]:
        return f"not reached{missing}"
    return f"{row['midpoint']:.3g} {interval(row['ci_low'], row['ci_high'])}{missing}"


# ---- plans ------------------------------------------------------------------------------------------------


@contextmanager
def calibrating(console: Console) -> Iterator[None]:
    """Show that a plan is being made."""
    with logged(console), console.status("timing a few batches of each network"):
        yield


def print_plan(console: Console, plan: Plan) -> None:
    """Print what a study would take."""
    table = PlainTable(title=f"{plan.name}: nothing was run")
    table.add_column("network")
    table.add_numbers("trainings", "units", "epochs", "core time", "disk", no_wrap=True)
    for network in plan.networks:
        counted = network.counted
        numbers = (counted.trainings, counted.units, counted.network_epochs)
        took = (duration(network.seconds), _megabytes(network.bytes))
        table.add_row(_network(network), *(f"{n:,}" for n in numbers), *took)
    console.print(table)
    trainings = sum(network.counted.trainings for network in plan.networks)
    evaluations = sum(network.counted.units for network in plan.networks)
    epochs = sum(network.counted.network_epochs for network in plan.networks)
    workers = f"{plan.workers} workers" if plan.workers > 1 else "one worker"
    say(
        console,
        f"{trainings:,} trainings, {evaluations:,} evaluations, {epochs:,} network-epochs; about "
        f"{duration(plan.seconds)} with {workers}; {_megabytes(plan.bytes)} on disk",
    )


def _network(network: PlannedNetwork) -> str:
    counted = network.counted
    norm = "" if counted.batch_norm == "none" else f", bn {counted.batch_norm}"
    return f"{counted.dataset} {counted.model}{norm}{', clamped' if counted.clamp_weights else ''}"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB" if size < 1e9 else f"{size / 1e9:,.1f} GB"
