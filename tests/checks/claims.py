"""Run the short forms of the presets c1 … c6, and see that their tables show the claims:

    python -m tests.checks.claims [--out DIR] [c1 c2 …]

Each study is run, its tables exported and its report written; then the direction of the claim is looked for
in the exported tables, with its interval. Prints what was found; exit code 1 if a claim does not show.
"""

import argparse
import csv
import math
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.special import stdtrit

Rows = list[dict[str, str]]
Tables = dict[str, Rows]

# What the short forms do not show; the pages of the claims say why.
NO_GAIN = {("mixed", "logits")}  # C1: the multiplicative part swaps logits, whatever their size
CHANCE = 0.1  # of ten classes
NOISE_IN_FRONT = ("input",)  # C2: no weights before the noise
FIRST = 4  # C5: sites that are early, and as many that are late


class Finding(NamedTuple):
    """A statement about tables, whether they bear it out, and what is said of it then and otherwise."""

    holds: bool
    text: str
    yes: str = "shown"
    no: str = "not shown"

    @property
    def word(self) -> str:
        """What is said of it."""
        return self.yes if self.holds else self.no


def interval(values: Iterable[float]) -> tuple[float, float, float]:
    """Mean and 95 % interval of numbers by Student's t; without bounds for a single one.

    Written apart from `wn.analysis.intervals`: a check is not to share the mistakes of what it checks.
    """
    x = np.array(list(values))
    mean = float(x.mean())
    if x.size < 2:
        return mean, -math.inf, math.inf
    half = float(stdtrit(x.size - 1, 0.975)) * float(x.std(ddof=1)) / math.sqrt(x.size)
    return mean, mean - half, mean + half


def number(row: dict[str, str], name: str) -> float:
    """A cell as a number, NaN if it is empty."""
    return float(row[name]) if row[name] else math.nan


def places(rows: Rows) -> dict[tuple[str, ...], dict[str, dict[str, str]]]:
    """Rows of midpoints of free weights by model, batch norm, noise and site, then by phase."""
    found: dict[tuple[str, ...], dict[str, dict[str, str]]] = defaultdict(dict)
    for row in (row for row in rows if row.get("clamp_weights") != "true"):
        found[row["model"], row["batch_norm"], row["noise"], row["site_name"]][row["phase"]] = row
    return found


def gain(before: dict[str, str], after: dict[str, str]) -> tuple[float, float, float]:
    """The ratio of two midpoints with its 95 % interval, from their intervals in ln μ as independent ones.

    Both share the test images, which makes the true interval narrower. inf where the second never falls; an
    interval that is open at an end, 0 or infinite, leaves that of the ratio open there.
    """
    if after["reason"] == "never falls half-way":
        return math.inf, math.inf, math.inf
    if min(number(before, "ci_low"), number(after, "ci_low")) <= 0:
        return number(after, "midpoint") / number(before, "midpoint"), 0.0, math.inf
    ratio = math.log(number(after, "midpoint") / number(before, "midpoint"))
    half = math.hypot(_half(before), _half(after))
    ends = number(before, "ci_high"), number(after, "ci_high")
    return math.exp(ratio), math.exp(ratio - half), math.inf if math.inf in ends else math.exp(ratio + half)


def _half(row: dict[str, str]) -> float:
    """Half of the interval of a midpoint in ln μ; where it is open above, the part below the midpoint."""
    low, middle, high = (number(row, name) for name in ("ci_low", "midpoint", "ci_high"))
    return math.log(middle / low) if high == math.inf else math.log(high / low) / 2


def c1(tables: Tables) -> list[Finding]:
    """Every midpoint is higher after training under noise, beyond the interval of the ratio."""
    findings = []
    for (model, _, noise, site), phases in places(tables["midpoints"]).items():
        before, after = phases["inference"], phases["training"]
        ratio, low, high = gain(before, after)
        exception = (noise, site) in NO_GAIN
        holds = low <= 1 <= high if exception else low > 1
        text = "never falls" if ratio == math.inf else f"× {ratio:.2f} [{low:.2f}, {high:.2f}]"
        head = f"{model} {noise} {site}: {number(before, 'midpoint'):.3g}"
        words = ("no gain, as expected", "not as expected") if exception else ()
        findings.append(Finding(holds, f"{head} {text}", *words))
    return findings


def _growth(tables: Tables, layers: Callable[[str], Sequence[str]]) -> dict[Any, list[float]]:
    """ln of the product of relative norms after the last epoch, of some layers by site.

    By clamping, site and σ: a number for each repeat.
    """
    units = {row["key"]: row for row in tables["results"]}
    last = max(int(row["epoch"]) for row in tables["weights"])
    found: dict[Any, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for row in tables["weights"]:
        unit = units[row["key"]]
        trained = int(row["epoch"]) == last and unit["phase"] == "training"
        if trained and row["layer"] in layers(unit["site_name"]):
            key = unit["clamp_weights"], unit["site_name"], float(unit["sigma"])
            found[key][unit["repeat"]] += math.log(number(row, "relative_norm"))
    return {key: list(by_repeat.values()) for key, by_repeat in found.items()}


def layers_before(site: str) -> tuple[str, ...]:
    """The layers of an MLP between the input and a site: fc1 and fc2 for fc2 and relu2."""
    layers = ("fc1", "fc2", "fc3", "logits")
    last = site.replace("relu", "fc")
    return layers[: layers.index(last) + 1] if last in layers else ()


def c2(tables: Tables) -> list[Finding]:
    """As long as all networks learn weights before the noise grow, as a product, the more the larger σ.

    They learn up to the midpoint in training, and to the first σ at which one is below half-way. At the
    largest σ there they exceed the clean twin's; no step to the next σ makes them smaller beyond its
    error, in pairs by repeat, and over all steps they grow.
    """
    growth, findings, lowest = _growth(tables, layers_before), [], _lowest(tables)
    for (model, _, _, site), phases in places(tables["midpoints"]).items():
        if site in NOISE_IN_FRONT:
            continue
        midpoint = number(phases["training"], "midpoint")
        halfway = (number(phases["training"], "clean_accuracy") + CHANCE) / 2
        levels = sorted(sigma for sigma in _learnt(lowest[site], halfway) if not sigma > midpoint)
        by_level = [np.array(growth["false", site, sigma]) for sigma in levels]
        mean, low, high = (math.exp(x) for x in interval(by_level[-1]))
        text = f"{model} {site}, σ {levels[-1]:.3g}: ‖w‖ × {mean:.2f} [{low:.2f}, {high:.2f}]"
        findings.append(Finding(low > 1, text))
        mean, low, high = (math.exp(x) for x in interval(by_level[-1] - by_level[0]))
        falls = sum(interval(after - before)[2] < 0 for before, after in pairwise(by_level))
        text = (
            f"{model} {site}, σ {levels[0]:.3g} → {levels[-1]:.3g}: ‖w‖ × {mean:.2f} [{low:.2f}, {high:.2f}]"
        )
        steps = f"{falls or 'none'} of {len(levels) - 1} steps fall"
        findings.append(Finding(low > 1 and not falls, f"{text}, {steps}"))
    return findings


def c3(tables: Tables) -> list[Finding]:
    """With batch norm ReLUs pass what is far above chance at σ = 1e10, without it nothing; zeros grow."""
    accuracies, zeros = defaultdict(list), defaultdict(list)
    units = {row["key"]: row for row in tables["results"]}
    for row in tables["results"]:
        accuracies[row["batch_norm"], row["phase"], row["site_name"]].append(number(row, "accuracy"))
    for row in tables["binarisation"]:
        unit = units[row["key"]]
        zeros[unit["batch_norm"], unit["phase"], row["place"]].append(number(row, "zeros"))
    findings = []
    for site in ("relu1", "relu2"):  # behind the last ReLU no batch norm takes the scale away
        mean, low, _ = interval(accuracies["sites", "training", site])
        findings.append(
            Finding(low > 0.4, f"with batch norm {site}: accuracy {mean:.3f}, at least {low:.3f}")
        )
        mean, _, high = interval(accuracies["none", "training", site])
        findings.append(
            Finding(high < 0.2, f"without batch norm {site}: accuracy {mean:.3f}, at most {high:.3f}")
        )
        before, after = (zeros["sites", phase, site] for phase in ("clean", "training"))
        gain, low, high = interval(b - a for a, b in zip(before, after, strict=True))
        findings.append(Finding(low > 0, f"zeros at {site}: {gain:+.3f} [{low:+.3f}, {high:+.3f}]"))
    return findings


def c4(tables: Tables) -> list[Finding]:
    """At the largest σ that all networks learn under, clamped weights have grown less, and accuracy is lower.

    At each site that has clamped networks, in pairs by repeat; growth is that of the product of the layers
    before the noise. Beyond that σ, training collapses for some seeds and not for others. Where no clamped
    network learns under any σ of the grid, it is the largest σ that all free ones learn under, or the
    smallest.
    """
    growth = _growth(tables, layers_before)
    accuracy: dict[Any, list[float]] = defaultdict(list)
    for row in tables["results"]:
        if row["phase"] == "training":
            key = row["clamp_weights"], row["site_name"], float(row["sigma"])
            accuracy[key].append(number(row, "accuracy"))
    halfway = (min(number(row, "clean_accuracy") for row in tables["midpoints"]) + CHANCE) / 2
    findings = []
    for site in dict.fromkeys(site for clamped, site, _ in accuracy if clamped == "true"):
        levels = {s for kind, at, s in accuracy if (kind, at) == ("true", site)}
        levels = {s for s in levels if ("false", site, s) in accuracy}
        free = {s: min(accuracy["false", site, s]) for s in levels}
        both = {s: min(free[s], *accuracy["true", site, s]) for s in levels}
        sigma = max(_learnt(both, halfway) or _learnt(free, halfway) or {min(levels)})
        pairs = zip(growth["false", site, sigma], growth["true", site, sigma], strict=True)
        mean, low, high = (math.exp(x) for x in interval(free - clamped for free, clamped in pairs))
        text = f"{site}, σ {sigma:.3g}: growth of ‖w‖, free / clamped {mean:.2f} [{low:.2f}, {high:.2f}]"
        findings.append(Finding(low > 1, text))
        of_pairs = zip(accuracy["false", site, sigma], accuracy["true", site, sigma], strict=True)
        mean, low, high = interval(free - clamped for free, clamped in of_pairs)
        text = f"{site}, σ {sigma:.3g}: accuracy free − clamped {mean:+.3f} [{low:+.3f}, {high:+.3f}]"
        findings.append(Finding(low > 0, text))
    return findings


def _lowest(tables: Tables) -> dict[str, dict[float, float]]:
    """The lowest accuracy of networks with free weights under the noise of their training, by site and σ."""
    found: dict[str, dict[float, float]] = defaultdict(dict)
    for row in tables["results"]:
        if row["phase"] == "training" and row["clamp_weights"] != "true":
            at, sigma = found[row["site_name"]], float(row["sigma"])
            at[sigma] = min(at.get(sigma, 1.0), number(row, "accuracy"))
    return found


def _learnt(accuracies: dict[float, float], halfway: float) -> set[float]:
    """The σ up to the first at which the accuracy is below half-way."""
    first = min((sigma for sigma, accuracy in accuracies.items() if accuracy < halfway), default=math.inf)
    return {sigma for sigma in accuracies if sigma < first}


def c5(tables: Tables) -> list[Finding]:
    """In LeNet-5 sites differ by 10 times with batch norm, 4 times without, and early ones are the lowest.

    The lowest midpoint is among the first four sites, and below the highest beyond the interval of their
    ratio; in each network, the first four are below the last four, with Student's interval over networks.
    """
    findings = []
    for batch_norm, times in (("sites", 10.0), ("none", 4.0)):
        rows = [
            row for row in tables["midpoints"] if (row["model"], row["batch_norm"]) == ("lenet5", batch_norm)
        ]
        lowest, highest = (of(rows, key=lambda row: number(row, "midpoint")) for of in (min, max))
        ratio, low, high = gain(lowest, highest)
        head, first = f"lenet5, batch norm {batch_norm}", int(lowest["site"])
        ends = f"{number(lowest, 'midpoint'):.3g} (site {first}) … {number(highest, 'midpoint'):.3g}"
        text = f"{head}: {ends}, × {ratio:.1f} [{low:.1f}, {high:.1f}]"
        findings.append(Finding(ratio >= times and low > 1 and first < FIRST, text))
        ratio, low, high = (math.exp(x) for x in interval(_late_over_early(tables["results"], batch_norm)))
        text = f"{head}: last {FIRST} sites over the first {FIRST}, × {ratio:.1f} [{low:.1f}, {high:.1f}]"
        findings.append(Finding(low > 1, text))
    return findings


def _late_over_early(rows: Rows, batch_norm: str) -> list[float]:
    """For each network, the mean ln of the midpoints of its last sites less that of its first ones."""
    clean: dict[str, float] = {}
    curves: dict[str, dict[int, dict[float, float]]] = defaultdict(lambda: defaultdict(dict))
    for row in rows:
        if (row["model"], row["batch_norm"]) == ("lenet5", batch_norm):
            accuracy = number(row, "accuracy")
            if row["phase"] == "clean":
                clean[row["repeat"]] = accuracy
            else:
                curves[row["repeat"]][int(row["site"])][float(row["sigma"])] = accuracy
    found = []
    for repeat, sites in curves.items():
        halfway = (clean[repeat] + CHANCE) / 2
        middles = [crossing(sites[site], halfway) for site in sorted(sites)]
        found.append(float(np.mean(middles[-FIRST:]) - np.mean(middles[:FIRST])))
    return found


def crossing(accuracies: dict[float, float], halfway: float) -> float:
    """ln of the first σ at which accuracies by σ > 0 fall to half-way, by straight lines over ln σ."""
    for (before, above), (after, below) in pairwise(sorted(accuracies.items())):
        if above > halfway >= below:
            share = (above - halfway) / (above - below)
            return math.log(before) + share * math.log(after / before)
    return math.nan


def c6(tables: Tables) -> list[Finding]:
    """Tailored maps beat uniform ones, and no scheme of the authors beats the optimal map at equal budget.

    In pairs by repeat. Against uniform maps the mean over budgets is to be above 0 beyond its interval; at a
    single budget, and against other schemes, the interval is not to lie below 0.
    """
    by_map: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row in tables["results"]:
        if row["site_name"] == "global" and row["label"]:
            by_map[row["batch_norm"], row["repetitions"]].append(number(row, "accuracy"))
    findings, to_uniform = [], defaultdict(list)
    for batch_norm, scheme, budget, theirs, best in _schemes(tables):
        pairs = zip(by_map[batch_norm, best], by_map[batch_norm, theirs], strict=True)
        differences = [a - b for a, b in pairs]
        mean, low, high = interval(differences)
        text = f"batch norm {batch_norm}, budget {budget}: optimal − {scheme} {mean:+.4f}"
        words = ("shown" if low > 0 else "not decided", "not shown")
        findings.append(Finding(high >= 0, f"{text} [{low:+.4f}, {high:+.4f}]", *words))
        if scheme == "uniform":
            to_uniform[batch_norm].append(differences)
    for batch_norm, by_budget in to_uniform.items():
        mean, low, high = interval(np.mean(by_budget, axis=0))
        text = f"batch norm {batch_norm}, mean over budgets: optimal − uniform {mean:+.4f}"
        findings.append(Finding(low > 0, f"{text} [{low:+.4f}, {high:+.4f}]"))
    return findings


def _schemes(tables: Tables) -> list[tuple[str, str, int, str, str]]:
    """Batch norm, scheme, budget, its map and the optimal one, for each map that is not the optimal one."""
    maps: dict[tuple[str, str, int], str] = {}
    for row in tables["results"]:
        sites = {"sites": 11, "none": 8}[row["batch_norm"]]
        for label in filter(None, row["label"].split(", ")):
            numbers = [int(n) for n in row["repetitions"].split()]
            budget = numbers[0] * sites if len(numbers) == 1 else sum(numbers)
            maps[row["batch_norm"], label, budget] = row["repetitions"]
    return [
        (batch_norm, label, budget, theirs, maps[batch_norm, "optimal", budget])
        for (batch_norm, label, budget), theirs in maps.items()
        if theirs != maps[batch_norm, "optimal", budget]
    ]


CLAIMS: dict[str, Callable[[Tables], list[Finding]]] = {
    "c1": c1, "c2": c2, "c3": c3, "c4": c4, "c5": c5, "c6": c6,
}  # fmt: skip


def tables_of(folder: Path) -> Tables:
    """The exported tables of a study."""
    found = {}
    for path in folder.glob("*.csv"):
        with path.open(newline="", encoding="utf-8") as file:
            found[path.stem] = list(csv.DictReader(file))
    return found


def wn(*arguments: str) -> None:
    """Run a command of wn; CalledProcessError if it fails."""
    subprocess.run([sys.executable, "-m", "wn", *arguments], check=True)


def shown(claim: str, out: Path) -> bool:
    """Run the short form of a claim's preset, and print what its tables show."""
    folder = out / claim
    wn("study", "run", f"{claim}-quick", "--out", str(folder))
    wn("study", "export", str(folder), "--out", str(folder / "tables"), "--tables", "all")
    wn("study", "report", str(folder))
    findings = CLAIMS[claim](tables_of(folder / "tables"))
    for finding in findings:
        print(f"{claim} {finding.word}: {finding.text}", flush=True)
    return bool(findings) and all(finding.holds for finding in findings)


def main(arguments: Sequence[str] | None = None) -> int:
    """Show the claims that are asked for, all by default."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("claims", nargs="*", choices=[*CLAIMS, []], help="some of them; all by default")
    parser.add_argument("--out", type=Path, help="where the studies go; by default a temporary folder")
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        out = chosen.out or Path(temporary)
        failed = [claim for claim in chosen.claims or CLAIMS if not shown(claim, out)]
    if failed:
        print(f"not shown: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
