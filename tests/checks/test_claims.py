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
    crossing,
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


def test_gain_of_open_intervals() -> None:
    above = midpoint("training", 6.0) | {"ci_high": "inf"}
    ratio, low, high = gain(midpoint("inference", 2.0), above)
    assert (ratio, high) == (pytest.approx(3), math.inf)
    assert low == pytest.approx(3 / math.exp(math.hypot(math.log(1.1 / 0.9) / 2, math.log(1 / 0.9))))
    assert gain(midpoint("inference", 2.0), midpoint("training", 6.0) | {"ci_low": "0"})[1:] == (0, math.inf)


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


def weights(growth: float, clamped: float = 1.0, at_one: float | None = None) -> Tables:
    """Three repeats under σ 1 and 10, whose norms grow by a factor at 10, by its root or `at_one` at 1."""
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
                smaller = factor**0.5 if at_one is None else at_one
                norm = (factor if sigma == "10.0" else smaller) * (1 + 0.01 * repeat + 0.002 * float(sigma))
                rows = [("fc1", "1", 9.0), ("fc1", "2", norm), ("fc2", "2", 0.1)]
                tables["weights"] += [
                    {"key": key, "layer": layer, "epoch": epoch, "relative_norm": str(value)}
                    for layer, epoch, value in rows
                ]
    return tables


def test_c2_and_c4() -> None:
    assert holds(c2(weights(2.0))) == [True, True]
    assert holds(c2(weights(0.9))) == [False, False]
    assert holds(c2(weights(2.0, at_one=2.5))) == [True, False]  # grown, but less at the larger σ
    assert holds(c2(weights(2.0, at_one=2.04))) == [True, False]  # as much at both
    assert holds(c4(weights(2.0, 1.5))) == [True, True]
    assert holds(c4(weights(1.5, 2.0))) == [False, False]
    collapsed = weights(2.0, 1.5)
    for row in collapsed["results"]:
        if row["clamp_weights"] == "true":
            row["accuracy"] = str(0.1 + 0.001 * int(row["repeat"]))
    assert [f.text.split(":")[0] for f in c4(collapsed)] == ["fc1, σ 10"] * 2  # where free ones learn
    assert holds(c4(collapsed)) == [True, True]
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


def test_crossing_is_where_a_line_over_ln_sigma_is_half_way() -> None:
    assert math.exp(crossing({1.0: 0.8, 4.0: 0.6, 16.0: 0.2}, 0.4)) == pytest.approx(8)
    assert math.exp(crossing({1.0: 0.8, 4.0: 0.4, 16.0: 0.2}, 0.4)) == pytest.approx(4)
    assert math.isnan(crossing({1.0: 0.8, 4.0: 0.6}, 0.4))


def c5_tables(mu: list[float], scatter: float = 0.1, wide: float = 1.1) -> Tables:
    """LeNet-5 of both kinds, midpoints by site, and accuracies of three networks that fall by them."""
    tables: Tables = {"midpoints": [], "results": []}
    for kind in ("sites", "none"):
        head = {"model": "lenet5", "batch_norm": kind}
        for site, value in enumerate(mu):
            ends = {"ci_low": str(value / wide), "ci_high": str(value * wide)}
            tables["midpoints"].append(
                midpoint("inference", value, site=str(site), **head, **ends) | {"site": str(site)}
            )
        for repeat in range(3):
            unit = head | {"repeat": str(repeat)}
            tables["results"].append(unit | {"phase": "clean", "site": "-3", "sigma": "0", "accuracy": "0.9"})
            for site, value in enumerate(mu):
                own = value * math.exp(scatter * (repeat - 1) * (1 if site < 4 else -1))
                for sigma in (0.01 * 2**k for k in range(20)):
                    accuracy = 0.1 + 0.8 / (1 + (sigma / own) ** 2)
                    cells = {"site": str(site), "sigma": str(sigma), "accuracy": str(accuracy)}
                    tables["results"].append(unit | {"phase": "inference"} | cells)
    return tables


def test_c5() -> None:
    rising = [1, 0.5, 1, 2, 3, 4, 5, 6, 6]
    assert holds(c5(c5_tables(rising))) == [True] * 4
    assert c5(c5_tables(rising))[1].text.startswith(
        "lenet5, batch norm sites: last 4 sites over the first 4, × 5"
    )
    assert holds(c5(c5_tables([*rising[:4], 3, 4, 4, 4, 4.9]))) == [False, True, True, True]
    assert holds(c5(c5_tables(rising[::-1]))) == [False] * 4
    assert holds(c5(c5_tables(rising, scatter=1.5))) == [True, False, True, False]  # networks differ as much
    assert holds(c5(c5_tables(rising, wide=8))) == [False, True, False, True]  # the ratio is not known


def c6_tables(best: float, scatter: float = 0.0, at_more: float | None = None) -> Tables:
    """Maps of 16 and 24 executions; the optimal ones scatter beside the uniform ones."""
    rows = []
    for budget, optimal in ((2, best), (3, best if at_more is None else at_more)):
        maps = {
            "uniform": (str(budget), 0.5, 0.0),
            "optimal": (f"{8 * budget - 7} 1 1 1 1 1 1 1", optimal, scatter),
            "sqrt": (f"{8 * budget - 12} 2 2 2 2 2 1 1", 0.55, 0.001),
        }
        for label, (numbers, accuracy, noise) in maps.items():
            for repeat in range(4):
                value = accuracy + 0.01 * repeat + noise * (-1) ** repeat
                cells = {"label": label, "repetitions": numbers, "accuracy": str(value)}
                rows.append({"site_name": "global", "batch_norm": "none"} | cells)
    return {"results": rows}


def test_c6() -> None:
    uniform, sqrt = [0, 2], [1, 3]  # places among the findings; the last is the mean over budgets
    assert holds(c6(c6_tables(0.6))) == [True] * 5
    found = c6(c6_tables(0.52))
    assert [found[index].holds for index in (*uniform, *sqrt, 4)] == [True, True, False, False, True]
    assert holds(c6(c6_tables(0.4))) == [False] * 5
    noisy = c6(c6_tables(0.51, scatter=0.02))  # above on average, within the error
    assert [noisy[index].word for index in (*uniform, 4)] == ["not decided", "not decided", "not shown"]
    assert [finding.word for finding in c6(c6_tables(0.6, at_more=0.45))][2:3] == ["not shown"]
