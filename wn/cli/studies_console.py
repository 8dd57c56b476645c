"""What the commands of studies print."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, Task, TaskProgressColumn, TextColumn
from rich.progress import Progress as Bar
from rich.text import Text

from wn.cli.console import logged
from wn.cli.midpoints_console import CROSSINGS, interval, print_beside
from wn.cli.plain import PlainTable, description, printable, say
from wn.study.execution.driver import Progress
from wn.study.plan import Plan, PlannedNetwork
from wn.study.seml.convert import Imported, ImportedFile
from wn.study.store.lock import holder
from wn.study.store.writer import Store
from wn.study.tables.labels import without_units
from wn.study.unit import MATRIX

if TYPE_CHECKING:  # drawing and fitting are slow to import
    from wn.study.tables.fit import FittedCurve
    from wn.study.tables.words import Words

LINE_EVERY = 30.0  # seconds, where the output is no terminal
MOST_COLUMNS = 7  # of accuracies, in a table


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
        counts, missing = store.status(), without_units(store)
    there, failed, pending = (sum(getattr(c, name) for c in counts) for name in ("done", "failed", "pending"))
    parts = [f"{done.finished} units finished", f"{there} of {there + failed + pending} are there"]
    parts += [f"{failed} failed"] if failed else []
    parts += [f"{pending} are left"] if pending else []
    say(console, f"{folder}: {', '.join(parts)}")
    if failed:
        say(console, f"`wn study status {folder} --failures` says why, `wn study retry {folder}` tries again")
    for line in missing:
        say(console, line)
    return not failed and not pending and not missing


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
        for line in without_units(store):
            say(console, line)
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
    return f"{spec['phase']} {spec['model']} on {spec['dataset']}, repeat {spec['repeat']}{noise}{place}"


# ---- midpoints --------------------------------------------------------------------------------------------


def print_fit(console: Console, folder: Path) -> None:
    """Print the midpoints of a study, a table of sites and phases for each network and noise.

    Those of the phase "matrix" have tables of their own, of sites and σ of training.

    Where there is one σ for each place, accuracies stand in place of midpoints, all noise of a network and
    kind in one table.
    """
    from wn.fit.midpoint import INDEPENDENT
    from wn.study.tables.fit import by_setting, fitted, study_curves
    from wn.study.tables.words import Words

    with Store.read(folder) as store, store.snapshot():
        curves = study_curves(store)
        groups = [[fitted(store, curve) for curve in group] for group in by_setting(curves)]
    words, alone = Words(curves), dict[str, list[Any]]()
    if not groups:
        say(console, f"{folder}: nothing with noise is in this study")
    for all_fits in groups:
        curve, fits = all_fits[0].curve, [found for found in all_fits if found.curve.phase != MATRIX]
        if len(fits) < len(all_fits):
            title = f"{words.network(curve)}, {words.noise(curve)}"
            _print_matrix(console, title, [found for found in all_fits if found.curve.phase == MATRIX])
        if not fits:
            continue
        if all(len(found.levels) == 1 for found in fits):
            alone.setdefault(f"{words.network(curve)}, {curve.noise} noise", []).append(fits)
        else:
            _print_midpoints(console, fits, f"{words.network(curve)}, {words.noise(curve)}")
    for title, together in alone.items():
        _print_accuracies(console, together, title, words)
    too_narrow = sum(found.midpoint.interval == INDEPENDENT for fits in groups for found in fits)
    if too_narrow:
        say(
            console,
            f"{too_narrow} of these intervals are too narrow: units were computed before counts by group of "
            "images were kept, so all σ are taken as independent, which share images and draws",
        )


def _print_midpoints(console: Console, fits: "Sequence[FittedCurve]", title: str) -> None:
    """Print the midpoints and crossings of one setting: a row for each place, a column for each phase."""
    phases = list(dict.fromkeys(found.curve.phase for found in fits))
    places = []
    for site, name in dict.fromkeys((found.curve.site, found.curve.site_name) for found in fits):
        here = [found for found in fits if (found.curve.site, found.curve.site_name) == (site, name)]
        of_phases = [[found for found in here if found.curve.phase == phase] for phase in phases]
        cells = [("\n".join(map(_midpoint, of)), "\n".join(map(_crossing, of))) for of in of_phases]
        places.append(((str(site) if site >= 0 else "", name), cells))
    print_beside(console, f"Midpoint σ [95 % interval]: {title}", phases, places)


def _print_matrix(console: Console, title: str, fits: "Sequence[FittedCurve]") -> None:
    """Print the midpoints of networks trained under several σ, a column for each place, and the crossings."""
    places = list(dict.fromkeys((found.curve.site, found.curve.site_name) for found in fits))
    for heading, cell in (("Midpoint σ [95 % interval]", _midpoint), (CROSSINGS, _crossing)):
        table = PlainTable(title=f"{heading} by σ of training: {title}")
        names = (f"{site} {name}" if site >= 0 else name for site, name in places)
        table.add_numbers("σ of training", *names)
        for sigma in sorted({found.curve.sigma_train or 0.0 for found in fits}):
            here = [found for found in fits if found.curve.sigma_train == sigma]
            cells = ("\n".join(cell(f) for f in here if f.curve.site == site) for site, _ in places)
            table.add_row(f"{sigma:.3g}", *cells)
        console.print(table)
    say(console, "each half-way from the network's own accuracy at the smallest σ to chance")


def _midpoint(found: "FittedCurve") -> str:
    missing = f" ({found.missing} missing)" if found.missing else ""
    fit = found.midpoint
    if not fit.reached:
        return f"not reached{missing}"
    return f"{fit.midpoint:.3g} {interval(fit.ci_low, fit.ci_high)}{missing}"


def _crossing(found: "FittedCurve") -> str:
    fit = found.midpoint
    if not fit.reached:
        return ""
    return f"{fit.measured_crossing:.3g} {interval(fit.crossing_low, fit.crossing_high)}"


def _print_accuracies(console: Console, groups: Sequence[Any], title: str, words: "Words") -> None:
    """Accuracies at the one σ of each curve: places × settings, the fewer of them as columns."""
    from wn.study.tables.plot import sites_of

    cells: dict[str, dict[str, str]] = {}  # by place, by setting
    levels = {found.levels[0] for fits in groups for found in fits}
    phases = dict.fromkeys(found.curve.phase for fits in groups for found in fits)
    all_fits = [found for fits in groups for found in fits]
    for found, (_, place) in zip(all_fits, sites_of([found.curve for found in all_fits]), strict=True):
        curve = found.curve
        said = [*words.options(curve), *words.executions(curve)]
        said += [curve.phase] if len(phases) > 1 else []
        said += [f"σ {found.levels[0]:.4g}"] if len(levels) > 1 else []
        row, setting = cells.setdefault(place, {}), ", ".join(said) or curve.noise
        row[f"{setting} ({curve.digest})" if setting in row else setting] = _accuracy(found)
    settings = dict.fromkeys(setting for row in cells.values() for setting in row)
    corner = "site"
    if len(settings) > len(cells):
        corner = "noise"
        cells, settings = (
            {name: {place: row.get(name, "") for place, row in cells.items()} for name in settings},
            dict.fromkeys(cells),
        )
    at = f"σ = {min(levels):.4g}" if len(levels) == 1 else "one σ each"
    for columns in batched(settings, MOST_COLUMNS):
        table = PlainTable(title=f"Accuracy at {at}: {title}, {' and '.join(phases)}")
        table.add_column(corner)
        table.add_numbers(*columns)
        for name, row in cells.items():
            table.add_row(name, *(row.get(column, "") for column in columns))
        console.print(table)


def batched(names: Iterable[str], most: int) -> Iterator[list[str]]:
    """Names in lists of at most `most`."""
    left = iter(names)
    while part := list(islice(left, most)):
        yield part


def _accuracy(found: "FittedCurve") -> str:
    if not found.points:
        return "missing"
    return f"{sum(point[-1] for point in found.points) / len(found.points):.3f}"


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


# ---- import -----------------------------------------------------------------------------------------------


def print_imported(console: Console, target: Path, imported: Imported) -> None:
    """Print how many runs experiment files have, and for several how many units one study of them has."""
    if len(imported.files) == 1:
        say(console, f"Wrote {target}: the original has {_runs(imported)}")
        return
    for file in imported.files:
        say(console, f"{file.name}: {_runs(file)}")
    say(console, f"Wrote {target}: the {len(imported.files)} originals have {_runs(imported)}")
    study, apart = imported.units, imported.apart
    again = apart.noisy - study.noisy
    twice = f" ({again:,} that are in several files count once)" if again else ""
    alone = f" ({apart.clean:,} if each file were a study)" if apart.clean > study.clean else ""
    say(
        console,
        f"The study has {study.noisy:,} noisy units{twice} and {study.clean:,} networks trained clean{alone}",
    )


def _runs(imported: Imported | ImportedFile) -> str:
    left_out = f", {imported.left_out} of them left out" if imported.left_out else ""
    return f"{imported.runs} runs{left_out}"
