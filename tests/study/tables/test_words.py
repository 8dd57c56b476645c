"""Settings in words that tell them apart, and what `wn study fit` prints of single σ."""

import io
from pathlib import Path
from typing import Any

import pytest

from tests.study.store.stores import CLEAN, finished_study, study
from wn.cli.plain import PlainConsole
from wn.cli.studies_console import print_fit
from wn.study.store.writer import Store
from wn.study.tables.fit import StudyCurve, study_curves
from wn.study.tables.words import LONGEST_NAME, Words
from wn.study.unit import NoiseSpec

LONG = tuple(range(100, 132))


def curves_with(folder: Path, *settings: dict[str, Any]) -> list[StudyCurve]:
    units = [u for s in settings for u in study(repeats=1, sites=1, phases=["inference"], **s)]
    finished_study(folder, units)
    with Store.read(folder) as store:
        return study_curves(store)


def mixed(**options: Any) -> dict[str, Any]:
    return {"noise": NoiseSpec(kind="mixed", **{"ratio": 0.5} | options)}


@pytest.mark.parametrize(
    ("setting", "words", "file"),
    [
        ({}, "additive noise", "additive"),
        (mixed(), "mixed noise, ratio 0.5", "mixed-ratio-0.5"),
        (mixed(order="add_mul"), "mixed noise, ratio 0.5, add→mul", "mixed-ratio-0.5-add-mul"),
        (mixed(mean_mul=2.0), "mixed noise, ratio 0.5, mean factor 2", "mixed-ratio-0.5-mean-factor-2"),
        (
            mixed(mean_add=-0.5),
            "mixed noise, ratio 0.5, mean summand -0.5",
            "mixed-ratio-0.5-mean-summand-minus-0.5",
        ),
        (
            mixed(distribution="laplace"),
            "mixed noise, ratio 0.5, laplace draws",
            "mixed-ratio-0.5-laplace-draws",
        ),
        (
            mixed(normalize_to_input_size=True),
            "mixed noise, ratio 0.5, σ per element",
            "mixed-ratio-0.5-σ-per-element",
        ),
        (
            {"noise": NoiseSpec(kind="mixed-direct", sigma_mul=0.25)},
            "mixed-direct noise, σ_mul 0.25",
            "mixed-direct-σ_mul-0.25",
        ),
        (
            {"noise": NoiseSpec(kind="additive", repetitions=3)},
            "additive noise, executions 3",
            "additive-executions-3",
        ),
        (
            {"noise": NoiseSpec(kind="additive", repetitions=(3, 1))},
            "additive noise, executions 3 1",
            "additive-executions-3-1",
        ),
        (
            {"noise": NoiseSpec(kind="additive", repetitions=LONG)},
            f"additive noise, executions {' '.join(map(str, LONG))}",
            f"additive-{sum(LONG)}-executions",
        ),
    ],
)
def test_what_is_not_by_default_is_said(
    tmp_path: Path, setting: dict[str, Any], words: str, file: str
) -> None:
    (curve,) = curves_with(tmp_path, setting)
    found = Words([curve])
    assert found.noise(curve) == words
    assert found.network(curve) == "mnist, mlp, without batch norm"
    assert found.file([curve]) == f"mnist-mlp-bn-none-{file}"


def test_ratios_have_as_many_digits_as_tell_them_apart(tmp_path: Path) -> None:
    curves = curves_with(tmp_path, *(mixed(ratio=ratio) for ratio in (0.5, 0.9999999, 1.0)))
    words = Words(curves)
    assert [words.noise(curve) for curve in curves] == [
        f"mixed noise, ratio {text}" for text in ("0.5", "0.9999999", "1")
    ]


def test_labels_stand_before_executions(tmp_path: Path) -> None:
    (curve,) = curves_with(tmp_path, {"noise": NoiseSpec(kind="additive", repetitions=(3, 1))})
    words = Words([curve])
    named = curve._replace(label="optimal, inverse_lin")
    assert words.noise(named) == "additive noise, optimal, inverse_lin, executions 3 1"
    assert words.file([named]) == "mnist-mlp-bn-none-additive-optimal-inverse_lin-executions-3-1"
    other = curve._replace(label="optimal, mine")
    assert "optimal-inverse_lin-mine" in words.file([named, other])
    assert len(words.file([curve._replace(label="x" * 300)])) == LONGEST_NAME
    assert words.file([curve._replace(label="a $ <b>", repetitions="1")]) == "mnist-mlp-bn-none-additive-a-b"


# ---- accuracies at single σ -------------------------------------------------------------------------------


def printed(folder: Path, width: int = 100) -> list[str]:
    text = io.StringIO()
    print_fit(PlainConsole(file=text, width=width), folder)
    return text.getvalue().splitlines()


def cells(lines: list[str]) -> list[list[str]]:
    rows = [line for line in lines if "│" in line or "┃" in line]
    return [[cell.strip() for cell in row.replace("┃", "│").strip("│").split("│")] for row in rows]


def test_one_sigma_prints_accuracies(tmp_path: Path) -> None:
    """A table for a kind of noise: places down, settings across."""
    specs = [{"noise": NoiseSpec(kind="mixed", ratio=r)} for r in (0.1, 0.9)]
    units = [u for s in specs for u in study(repeats=2, sites=3, sigma=(2.0,), phases=["training"], **s)]
    finished_study(tmp_path, units)
    lines = printed(tmp_path)
    title = "Accuracy at σ = 2: mnist, mlp, without batch norm, mixed noise, training"
    assert title in " ".join(" ".join(lines).split())
    assert not any("not reached" in line for line in lines)
    head, *rows = cells(lines)
    assert head == ["site", "ratio 0.1", "ratio 0.9"]
    assert [row[0] for row in rows] == ["site0", "site1", "site2"]
    middles = [3 * (1 + site) * (1 + 0.1 * repeat) for site in range(3) for repeat in range(2)]
    accuracies = [0.1 + 0.8 / (1 + (2 / m) ** 2) for m in middles]
    for site, row in enumerate(rows):
        assert float(row[1]) == pytest.approx(sum(accuracies[2 * site : 2 * site + 2]) / 2, abs=1e-3)


def test_more_settings_than_places_stand_down(tmp_path: Path) -> None:
    specs = [{"noise": NoiseSpec(kind="additive", repetitions=r)} for r in (2, 3, 5)]
    finished_study(
        tmp_path,
        [u for s in specs for u in study(repeats=1, sites=2, sigma=(2.0,), phases=["inference"], **s)],
    )
    head, *rows = cells(printed(tmp_path))
    assert head == ["noise", "site0", "site1"]
    assert [row[0] for row in rows] == ["executions 2", "executions 3", "executions 5"]


def test_curves_have_midpoints_as_before(tmp_path: Path) -> None:
    multiplicative = NoiseSpec(kind="multiplicative")
    units = study(sites=2) + study(sites=2, sigma=(2.0,), noise=multiplicative)[1:]
    finished_study(tmp_path, units)
    text = " ".join(" ".join(printed(tmp_path)).split())
    assert "Midpoint σ [95 % interval]: mnist, mlp, without batch norm, additive noise" in text
    assert "inference and training" not in text.partition("Accuracy")[0]
    assert "Accuracy at σ = 2: mnist, mlp, without batch norm, multiplicative noise, inference and" in text


def test_no_noise_is_said(tmp_path: Path) -> None:
    finished_study(tmp_path, [CLEAN])
    assert printed(tmp_path) == [f"{tmp_path}: nothing with noise is in this study"]
