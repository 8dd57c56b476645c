"""Sections about the run: what was run, what is missing, clean accuracies, and the study's file."""

from typing import Any

from wn.analysis.intervals import accuracy
from wn.study.report.found import Found
from wn.study.store.rows import SPEC
from wn.study.tables.labels import declared, without_units
from wn.study.tables.words import network_words
from wn.walking.report.curves import INTERVALS
from wn.walking.report.numbers import share
from wn.walking.report.page import Section, Table

_ENVIRONMENTS = """
SELECT environments.backend, environments.machine, environments.versions, environments."commit",
       count(*), total(units.seconds)
FROM study CROSS JOIN units ON units.id = study.unit JOIN environments ON environments.id = units.environment
WHERE units.status = 'done' GROUP BY environments.id ORDER BY count(*) DESC
"""
_CLEAN = """
SELECT settings.dataset, settings.model, settings.batch_norm, settings.clamp_weights, settings.epochs,
       units.correct, units.total
FROM study CROSS JOIN units ON units.id = study.unit JOIN curves ON curves.id = units.curve
    JOIN settings ON settings.id = curves.settings
WHERE settings.noise = 'none' AND units.status = 'done' ORDER BY study.position
"""


def run_section(found: Found) -> Section:
    """What was run, where, with what, and how far it is."""
    store = found.store
    counts, meta = store.status(), store.meta
    done, pending, failed = (sum(getattr(c, name) for c in counts) for name in ("done", "pending", "failed"))
    spec = declared(store)
    text = [spec.description] if spec is not None and spec.description else []
    text.append(f"{done:,} of {done + pending + failed:,} units are finished.")
    if pending or failed:
        text.append(
            f"Missing: {pending:,} units are not computed yet, {failed:,} have failed. All that follows is "
            "made of the finished ones, and changes with the rest; `wn study run` goes on, `wn study status "
            "--failures` says why units failed."
        )
    text += [f"Missing: {line}." for line in without_units(store)]
    names = ("backend", "machine", "versions", "commit", "units", "seconds")
    columns = [[*row[:4], f"{row[4]:,}", f"{row[5]:,.1f}"] for row in store.rows(_ENVIRONMENTS)]
    computed = Table(
        "Where it was computed; seconds are those of all workers together",
        ("", *(f"environment {number}" for number in range(1, len(columns) + 1))),
        [list(row) for row in zip(names, *columns, strict=True)],
    )
    progress = Table(
        "Units by phase, network and noise",
        ("phase", "data", "network", "noise", "finished", "pending", "failed", "seconds"),
        [
            [c.phase, c.dataset, c.model, c.noise, c.done, c.pending, c.failed, round(c.seconds, 1)]
            for c in counts
        ],
    )
    begun = [["begun", meta.get("created", "")], ["wn", meta.get("wn", "")], ["name", meta.get("name", "")]]
    return Section("What was run", text, [Table("The study", ("", ""), begun), computed, progress])


def spec_section(found: Found) -> Section | None:
    """The file of the study, as it can be run again."""
    text = found.store.meta.get(SPEC)
    if text is None:
        return None
    how = "Save these lines as a file, and `wn study run FILE` repeats the study. The rest is by default."
    return Section("The study's file", [how], verbatim=text)


def clean_section(found: Found) -> Section | None:
    """Accuracies of the networks that were trained and evaluated without noise."""
    networks: dict[tuple[Any, ...], list[tuple[int, int]]] = {}
    for *network, correct, total in found.store.rows(_CLEAN):
        networks.setdefault(tuple(network), []).append((correct, total))
    if not networks:
        return None
    rows = []
    for (dataset, model, batch_norm, clamped, epochs), counts in networks.items():
        correct, total = zip(*counts, strict=True)
        shares = [k / n for k, n in counts]
        words = network_words(dataset, model, batch_norm, bool(clamped))
        cells = (share(*accuracy(correct, total)), min(shares), max(shares), len(counts), total[0], epochs)
        rows.append([words, *cells])
    columns = ("network", "accuracy [95 %]", "lowest", "highest", "repeats", "test images", "epochs")
    text = "Networks trained and evaluated without noise: half-way is between these accuracies and chance."
    return Section("Clean accuracy", [text, INTERVALS], [Table("Clean accuracy", columns, rows)])
