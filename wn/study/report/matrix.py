"""The section about networks trained under one σ and evaluated under others."""

from wn.study.report.found import Found
from wn.study.tables.matrix import matrix_figure
from wn.walking.report.page import Picture, Section

_TEXT = (
    "A heat map for each place of the noise: a row for each network, by the σ that it was trained under, a "
    "column for each σ at inference; mean accuracy over repeats. Frames mark equal σ, which is what the "
    "phase training measures."
)


def matrix_section(found: Found) -> Section | None:
    """Robustness matrices of the settings that have any."""
    parts = [
        Picture(matrix_figure(setting.matrices), f"{setting.title}: accuracy by σ of training and of noise.")
        for setting in found.settings
        if setting.matrices is not None
    ]
    return Section("Trained under one σ, evaluated under others", [_TEXT], parts) if parts else None
