"""What the command line prints of midpoints: tables of sites, crossings, and noise at all sites at once."""

from collections.abc import Sequence
from math import isfinite
from typing import Any

from rich.console import Console
from rich.text import Text

from wn.cli.plain import PlainTable, printable
from wn.walking.results import WalkResult

# wn.fit.midpoint is imported where it is used: lists need none of SciPy, which takes a second.

CROSSING = "crossing"
RULE_ERRORS = "where it was measured the rule was 1 to 23 % too high"  # docs/midpoint.md, section 6
CROSSINGS = "Crossings σ [95 % interval]: where the measured accuracies themselves fall half-way"
Places = Sequence[tuple[tuple[str, str], Sequence[tuple[str, str]]]]  # number and name; a pair per phase


def print_midpoints(console: Console, result: WalkResult) -> None:
    """Print sites × phases with midpoints and confidence intervals, and what global noise would do."""
    rows = result.midpoints
    settings = result.run["settings"]
    first = rows[0]
    title = (
        f"Midpoint σ [95 % interval]: {first['dataset']}, {first['model']}, batch norm "
        f"{first['batch_norm']}, {'no' if first['noise'] == 'none' else first['noise']} noise"
    )
    caption = (
        f"clean accuracy {first['clean_accuracy']:.4f}; {_trained(settings)}, "
        f"repeats {settings['repeats']}, seed {settings['seed']}"
        f"{'; mapped: ' + result.run['mapped'] if 'mapped' in result.run else ''}"
    )
    phases = list(dict.fromkeys(rows["phase"].tolist()))
    cells = {
        (row["phase"], row["site"]): (_midpoint_cell(row, reason, result), _crossing_cell(row))
        for row, reason in zip(rows, result.reasons, strict=True)
    }
    places = dict.fromkeys(zip(rows["site"].tolist(), rows["site_name"].tolist(), strict=True))
    head = [((str(site) if site >= 0 else "", name), site) for site, name in places]
    body = [(place, [cells[phase, site] for phase in phases]) for place, site in head]
    print_beside(console, title, phases, body, caption)
    _print_misfits(console, result)
    _print_predicted(console, result)
    _print_rule(console, result)


def _print_predicted(console: Console, result: WalkResult) -> None:
    """Print predicted crossings beside measured ones, a table for each phase, and what they cost."""
    if not result.predicted.size:
        return
    for phase in dict.fromkeys(result.midpoints["phase"].tolist()):
        table = PlainTable(title=f"Crossings σ [95 % interval], [estimate of the error]: {phase}")
        table.add_numbers("site")
        table.add_column("name")
        table.add_numbers("measured", "predicted")
        table.add_column("method")
        for row in result.midpoints[result.midpoints["phase"] == phase]:
            table.add_row(*_place(row), _crossing_cell(row), _predicted_cell(row), str(row["predicted_by"]))
        console.print(table)
    cost = result.run["predicted"]
    if cost["seconds_of_counting"]:
        text = f"At inference, prediction from {cost['images']:,} images took {cost['seconds']:.1f} s, "
        total = f"measurement with {int(result.curves['total'][0]):,}"
        console.print(Text(f"{text}{total} {cost['seconds_of_counting']:.1f} s."))


def print_predictions(console: Console, found: Any) -> None:
    """Print the predicted crossings of `wn predict`, and the seconds that they took."""
    rows, settings = found.crossings, found.run["settings"]
    first = rows[0]
    table = PlainTable(
        title=f"Predicted crossing σ [estimate of the error]: {first['dataset']}, {first['model']}, "
        f"batch norm {first['batch_norm']}, {first['noise']} noise",
        caption=f"clean accuracy {first['clean_accuracy']:.4f} on {found.run['images']:,} images; "
        f"{_trained(settings)}, repeats {settings['repeats']}, seed {settings['seed']}; "
        f"{found.run['seconds']:.1f} s",
    )
    table.add_numbers("site")
    table.add_column("name")
    table.add_numbers("crossing")
    table.add_column("method")
    for row in rows:
        table.add_row(*_place(row), _predicted_cell(row), str(row["predicted_by"]))
    console.print(table)


def _place(row: Any) -> tuple[str, str]:
    return (str(row["site"]) if row["site"] >= 0 else "", str(row["site_name"]))


def _predicted_cell(row: Any) -> str:
    """The predicted crossing, or the reason why there is none."""
    if not isfinite(row["predicted_crossing"]):
        return str(row["not_predicted"])
    ends = interval(row["predicted_low"], row["predicted_high"])
    return f"{row['predicted_crossing']:.3g} {ends}"


def print_beside(
    console: Console, title: str, phases: Sequence[str], places: Places, caption: str | None = None
) -> None:
    """Print a table of sites × phases, whose cells are midpoints and crossings.

    Of one phase they stand side by side; of two, crossings have a table of their own, since both would not
    fit 80 columns.
    """
    beside = len(phases) == 1
    tables = [PlainTable(title=title, caption=caption)]
    tables += [] if beside else [PlainTable(title=CROSSINGS)]
    for number, table in enumerate(tables):
        table.add_numbers("site")
        table.add_column("name")
        table.add_numbers(*phases, *([CROSSING] if beside else []))
        for place, pairs in places:
            table.add_row(*place, *(pairs[0] if beside else [pair[number] for pair in pairs]))
        console.print(table)


def _trained(settings: dict[str, Any]) -> str:
    return printable(settings["network"]) if "network" in settings else f"epochs {settings['epochs']}"


def _print_misfits(console: Console, result: WalkResult) -> None:
    """Print where accuracies cross half-way outside of the interval: no logistic curve fits them there."""
    for row, fit in zip(result.midpoints, result.run.get("fits", ()), strict=False):
        crossing = fit["measured_crossing"]
        if not row["reached"] or not crossing or row["ci_low"] <= crossing <= row["ci_high"]:
            continue
        if isfinite(crossing):
            where = f"{row['phase']}, {row['site_name']}"
            text = f"{where}: the accuracies fall through half-way at {crossing:.3g}, outside of the interval"
            console.print(Text(f"{text}: the curve is not logistic."))


def _midpoint_cell(row: Any, reason: str, result: WalkResult) -> str:
    """The midpoint and its interval, or the side of the grid on which it lies."""
    from wn.fit.midpoint import ALREADY_BELOW, NEVER_FALLS

    if row["reached"]:
        return f"{row['midpoint']:.3g} {interval(row['ci_low'], row['ci_high'])}"
    same = (result.curves["phase"] == row["phase"]) & (result.curves["site"] == row["site"])
    sigma = result.curves["sigma"][same]
    if reason == ALREADY_BELOW:
        return f"below {sigma[sigma > 0].min():.3g}"
    return f"not reached up to {sigma.max():.3g}" if reason == NEVER_FALLS else f"not reached: {reason}"


def _crossing_cell(row: Any) -> str:
    """The crossing and its interval; nothing where the midpoint is not reached."""
    if not row["reached"] or not isfinite(row["measured_crossing"]):
        return ""
    return f"{row['measured_crossing']:.3g} {interval(row['crossing_low'], row['crossing_high'])}"


def interval(low: float, high: float) -> str:
    """An interval in brackets; an end that is not known is infinite."""
    upper = f"{high:.3g}" if isfinite(high) else "∞"
    return f"[{low:.3g}, {upper}]"


def _print_rule(console: Console, result: WalkResult) -> None:
    """Print what the root-sum-square rule makes of the midpoints of all single sites.

    A site that never falls half-way within the grid adds too little to the sum, so the prediction is a bound;
    any other site without a midpoint leaves nothing to predict. So does noise that multiplies, for which the
    rule is wrong, and a mean, which adds up otherwise than variances.
    """
    from wn.fit.midpoint import NEVER_FALLS, root_sum_square_rule

    rows = result.midpoints
    chosen = (rows["site"] >= 0) & (rows["phase"] == "inference") & (rows["noise"] == "additive")
    walked = rows[chosen]
    reasons = {reason for reason, one in zip(result.reasons, chosen, strict=True) if one}
    if result.run.get("asked", {}).get("mean"):
        return
    if walked.size < 2 or not walked["reached"].any() or reasons - {"", NEVER_FALLS}:
        return
    predicted = root_sum_square_rule(walked["midpoint"])
    bound = "at most" if NEVER_FALLS in reasons else "≈"
    text = f"Additive noise at these {walked.size} sites at once, by the root-sum-square rule: "
    console.print(Text(f"{text}midpoint {bound} {predicted:.3g} at inference ({RULE_ERRORS})."))
