"""The report of a study: its sections put together, and written whole or not at all."""

from collections.abc import Iterator
from pathlib import Path

from wn.basics.errors import WnError
from wn.files.outputs import make_folder
from wn.files.whole import StrPath, as_path, write_text
from wn.study.report import accuracies, budgets, run
from wn.study.report.binary import binarisation_section
from wn.study.report.found import Found, found_in
from wn.study.report.growth import growth_sections
from wn.study.report.matrix import matrix_section
from wn.study.report.published import published_section
from wn.study.report.signal import signal_section
from wn.study.store.writer import Store
from wn.walking.report.page import Section, page

SUFFIXES = (".html", ".htm")  # what is there is replaced: it must not be a study


def write_report(folder: StrPath, out: StrPath) -> Path:
    """Write the report of a study to a file, and return its path; what is there is replaced.

    It is about what is finished at one moment, also while a driver runs. Raises WnError if there is no study,
    for another suffix than SUFFIXES, and if the file can't be written.
    """
    path = as_path(out)
    if path.suffix.lower() not in SUFFIXES:
        raise WnError(f"{path}: a report is a file with one of the suffixes {', '.join(SUFFIXES)}")
    text = report(folder)
    try:
        make_folder(path.parent)
        write_text(path, text)
    except OSError as error:
        raise WnError(f"{error.filename or path}: can't be written: {error.strerror or error}") from None
    return path


def report(folder: StrPath) -> str:
    """The report of a study as HTML."""
    with Store.read(folder) as store, store.snapshot():
        found = found_in(store)
        name = store.meta.get("name", "study")
        sections = list(_sections(found))
    return page(f"Report of the study {name}", _LEAD, sections)


_LEAD = (
    "What noise does to networks, as this study measured it. Each section says how to read its pictures; "
    "they appear where the study has what they are about."
)


def _sections(found: Found) -> Iterator[Section]:
    of_budgets, told = budgets.budget_section(found)
    parts = [
        run.run_section(found),
        published_section(found),
        run.clean_section(found),
        accuracies.midpoint_section(found),
        *accuracies.curve_sections(found),
        *accuracies.point_sections(found, told),
        of_budgets,
        *accuracies.ratio_sections(found),
        *accuracies.heat_sections(found),
        matrix_section(found),
        *growth_sections(found),
        signal_section(found),
        binarisation_section(found),
        run.spec_section(found),
    ]
    yield from (part for part in parts if part is not None)
