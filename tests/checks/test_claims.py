"""The checks of claims: tables that show a claim, and the same tables with what would refute it."""

import copy
import math

import pytest

from tests.checks.claims import (
    NO_GAIN,
    Finding,
    Tables,
    c1,
    c2,
    c3,
    c4,
    c5,
    c6,
    gain,
    interval,
    layers_before,
)


def midpoint(
    phase: str, value: float | None, site: str = "fc1", reason: str = "", **cells: str
) -> dict[str, str]:
    low, high = ("", "") if value is None else (str(0.9 * value), str(1.1 * value))
    head = {"model": "mlp-64", "batch_norm": "none", "noise": "additive", "site_name": site, "phase": phase}
    middle = "" if value is None else str(value)
    head["clean_accuracy"] = "0.8"
    return head | {"midpoint": middle, "ci_low": low, "ci_high": high, "reason": reason, "site": "1"} | cells


def holds(findings: list[Finding]) -> list[bool]:
    assert findings
    return [finding.holds for finding in findings]


def test_interval_is_student_s() -> None:
    mean, low, high = interval([1.0, 2.0, 3.0])
    assert (mean, high - mean) == pytest.approx((2.0, 4.302653 / 3**0.5), rel=1e-6)
    assert low == pytest.approx(4 - high)
    assert interval([1.0])[1:] == (-float("inf"), float("inf"))


def test_gain_adds_variances() -> None:
    ratio, low, high = gain(midpoint("inference", 2.0), midpoint("training", 6.0))
    assert ratio == pytest.approx(3)
    assert math.log(high / ratio) == pytest.approx(math.log(1.1 / 0.9) / 2 * 2**0.5)
    assert low * high == pytest.approx(9)


def test_c1() -> None:
    tables = {"midpoints": [midpoint("inference", 1.0), midpoint("training", 5.0)]}
    assert holds(c1(tables)) == [True]
    never = midpoint("training", None, reason="never falls half-way")
    assert holds(c1({"midpoints": [midpoint("inference", 1.0), never]})) == [True]
    undecided = midpoint("training", None, reason="does not fall significantly")
    assert holds(c1({"midpoints": [midpoint("inference", 1.0), undecided]})) == [False]
    assert holds(c1({"midpoints": [midpoint("inference", 1.0), midpoint("training", 1.1)]})) == [False]
    assert holds(c1({"midpoints": [midpoint("inference", 1.0), midpoint("training", 1.2)]})) == [True]
    ((noise, site),) = NO_GAIN
    same = [midpoint("inference", 1.0, site, noise=noise), midpoint("training", 1.1, site, noise=noise)]
    assert holds(c1({"midpoints": same})) == [True]
    worse = [midpoint("inference", 2.0, site, noise=noise), midpoint("training", 1.1, site, noise=noise)]
    assert holds(c1({"midpoints": worse})) == [False]


def weights(growth: float, clamped: float = 1.0) -> Tables:
    """Three repeats under σ 1 and 10, whose norms grow by a factor, and tables beside them."""
    tables: Tables = {
        "results": [],
        "weights": [],
        "midpoints": [midpoint("inference", 1.0), midpoint("training", 20.0)],
    }
    for clamp, factor in (("false", growth), ("true", clamped)):
        for sigma in ("1.0", "10.0"):
            for repeat in range(3):
                key = f"{clamp} {sigma} {repeat}"
                unit = {
                    "key": key,
                    "phase": "training",
                    "site_name": "fc1",
                    "sigma": sigma,
                    "repeat": str(repeat),
                }
                accuracy = str(0.5 + 0.01 * repeat + (0.1 if clamp == "false" and growth > clamped else 0))
                tables["results"].append(unit | {"clamp_weights": clamp, "accuracy": accuracy})
                norm = factor * (1 + 0.01 * repeat)
                rows = [("fc1", "1", 9.0), ("fc1", "2", norm), ("fc2", "2", 0.1)]
                tables["weights"] += [
                    {"key": key, "layer": layer, "epoch": epoch, "relative_norm": str(value)}
                    for layer, epoch, value in rows
                ]
    return tables


def test_c2_and_c4() -> None:
    assert holds(c2(weights(2.0))) == [True]
    assert holds(c2(weights(0.9))) == [False]
    assert holds(c4(weights(2.0, 1.5))) == [True, True]
    assert holds(c4(weights(1.5, 2.0))) == [False, False]
    assert layers_before("relu2") == ("fc1", "fc2")
    assert layers_before("input") == ()


def test_c3() -> None:
    tables: Tables = {"results": [], "binarisation": []}
    for batch_norm, accuracy in (("sites", 0.7), ("none", 0.1)):
        for phase, share in (("clean", 0.4), ("training", 0.6)):
            for site in ("relu1", "relu2"):
                for repeat in range(3):
                    key = f"{batch_norm} {phase} {site} {repeat}"
                    unit = {"key": key, "batch_norm": batch_norm, "phase": phase, "site_name": site}
                    tables["results"].append(unit | {"accuracy": str(accuracy + 0.001 * repeat)})
                    zeros = {"key": key, "place": site, "zeros": str(share + 0.001 * repeat**2)}
                    tables["binarisation"].append(zeros)
    assert all(holds(c3(tables)))
    swapped = copy.deepcopy(tables)
    for row in swapped["results"]:
        row["batch_norm"] = {"sites": "none", "none": "sites"}[row["batch_norm"]]
    assert holds(c3(swapped)).count(False) == 4


def test_c5() -> None:
    def rows(*mu: float) -> list[dict[str, str]]:
        return [
            midpoint("inference", value, model="lenet5", batch_norm=kind) | {"site": str(site)}
            for kind in ("sites", "none") for site, value in enumerate(mu)
        ]  # fmt: skip

    assert holds(c5({"midpoints": rows(1, 0.5, 3, 4, 6)})) == [True, True]
    assert holds(c5({"midpoints": rows(1, 0.5, 3, 4, 4.9)})) == [False, True]
    assert holds(c5({"midpoints": rows(6, 5, 4, 3, 0.1)})) == [False, False]


def test_c6() -> None:
    def tables(best: float) -> Tables:
        maps = {"uniform": "2", "optimal": "9 1 1 1 1 1 1 1", "sqrt": "4 2 2 2 2 2 1 1"}
        accuracy = {"uniform": 0.5, "optimal": best, "sqrt": 0.55}
        scatter = {"uniform": 0.0, "optimal": 0.0, "sqrt": 0.001}
        return {
            "results": [
                {"site_name": "global", "batch_norm": "none", "label": label, "repetitions": numbers}
                | {"accuracy": str(accuracy[label] + 0.01 * repeat + scatter[label] * (repeat % 2))}
                for label, numbers in maps.items() for repeat in range(4)
            ]
        }  # fmt: skip

    assert holds(c6(tables(0.6))) == [True, True]
    assert holds(c6(tables(0.52))) == [True, False]
    assert holds(c6(tables(0.4))) == [False, False]
