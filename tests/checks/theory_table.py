"""Predicted accuracies beside those of the engine's own draws, per network, site and kind of noise.

    python -m tests.checks.theory_table --data-dir DIR --cache DIR [--networks mnist-mlp,mnist-lenet5-bn]
        [--kinds additive,multiplicative] [--sites input,relu1,global] [--images 1000] [--draws 40]
        [--out FILE]

Trains the networks (names as of `theory_networks.Trained`: data set, model, bn, noise of the training, seed),
which stay in the cache, as the sampled curves do. Predicts each site's curve with every method ("diagonal" is
the propagation of variances alone: a warning, and no method of `wn predict`), and writes a line for each
network, kind, site and method: the largest error of accuracy over 17 σ in points, the error of the crossing
in percent, standard errors of both by sampling, what the prediction says of its own error, and seconds of a
processor. At the end it says how many sites meet the aims. Other lines of the file stay.
"""

import argparse
import csv
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.checks.theory_networks import Case, Sampled, prepared, sampled
from wn.engine import backends
from wn.engine import noise as noises
from wn.theory.argmax import gaussian_argmax
from wn.theory.curves.predict import Prediction, crossing_of, predict_images
from wn.theory.through.network import logit_moments

NETWORKS = [
    f"{data}-{model}{bn}"
    for data in ("mnist", "fashion-mini")
    for model in ("mlp", "lenet5")
    for bn in ("", "-bn")
]
KINDS = ("additive", "multiplicative")
KEY = ("network", "kind", "site", "method")
COLUMNS = (*KEY, "points", "points_se", "crossing_percent", "crossing_se", "estimate", "used", "seconds")


def row(case: Case, kind: str, site: str, method: str, truth: Sampled, found: Prediction) -> dict[str, Any]:
    """One line of the table."""
    names = dict(zip(KEY, (case.name, kind, site, method), strict=True))
    error, half = 100 * (found.accuracy - truth.accuracy), (truth.clean + 1 / case.network.classes) / 2
    worst = int(np.abs(error).argmax()) if np.isfinite(error).all() else 0
    measured = crossing_of(truth.sigma, truth.accuracy, half)
    ends = [crossing_of(truth.sigma, truth.accuracy + s * truth.error, half) for s in (-1, 1)]
    predicted = crossing_of(truth.sigma, found.accuracy, half)
    return names | {
        "points": f"{error[worst]:+.2f}",
        "points_se": f"{100 * truth.error[worst]:.2f}",
        "crossing_percent": _percent(predicted / measured - 1),
        "crossing_se": _percent((ends[1] - ends[0]) / 2 / measured).lstrip("+"),
        "estimate": "" if np.isnan(found.error).all() else f"{100 * found.error.max():.2f}",
        "used": found.method,
        "seconds": f"{found.seconds:.1f}",
    }


def diagonal(case: Case, kind: str, sites: tuple[int, ...], sigma: NDArray[np.float64]) -> Prediction:
    """Accuracies with elements taken for independent up to the last linear layer; the error is not known."""
    started, first, own = time.process_time(), min(sites), case.population
    clean = case.network.clean_activations(backends.get("numpy"), own.params, own.states, case.x)
    right, accuracy = float((clean[-1][0].argmax(axis=0) == case.labels).mean()), []
    for level in sigma.tolist():
        noise = dict.fromkeys(sites, noises.of_kind(kind, level))
        given = case.network, own.params, own.states, clean[first][0], noise
        logits = logit_moments(*given, form="diagonal", site=first)
        accuracy.append(gaussian_argmax(*logits, case.labels, points=8).probability.mean())
    nothing, seconds = np.full(len(sigma), np.nan), time.process_time() - started
    chance = 1 / case.network.classes
    return Prediction(sigma, np.array(accuracy), nothing, right, chance, "diagonal", "", seconds)


def _percent(share: float) -> str:
    return "" if np.isnan(share) else f"{100 * share:+.1f}"


def summary(rows: list[dict[str, Any]]) -> list[str]:
    """How many single sites of the default method meet the aims beyond two standard errors."""
    chosen = [r for r in rows if r["method"] == "default" and r["site"] != "global"]
    found = []
    for points, percent in ((1, 3), (3, 8)):
        met = [_within(r, points, percent) for r in chosen]
        found.append(f"within {points} points and {percent} %: {sum(met)} of {len(met)}")
    told = [
        max(abs(float(r["points"])) - 2 * float(r["points_se"]), 0) <= max(1.0, float(r["estimate"]))
        for r in chosen
    ]
    found.append(f"within 1 point or the estimate: {sum(told)} of {len(told)}")
    return found


def _within(r: dict[str, Any], points: float, percent: float) -> bool:
    close = abs(float(r["points"])) <= points + 2 * float(r["points_se"])
    if not r["crossing_percent"] or not r["crossing_se"]:
        return close
    return close and abs(float(r["crossing_percent"])) <= percent + 2 * float(r["crossing_se"])


def main(arguments: list[str]) -> None:
    """Make the table, or the part of it that is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-dir")
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--sites")
    parser.add_argument("--methods", default="default,plain")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--draws", type=int, default=40)
    parser.add_argument("--out", type=Path, default=Path("docs/theory/accuracy.csv"))
    asked = parser.parse_args(arguments)
    asked.cache.mkdir(parents=True, exist_ok=True)
    rows: dict[tuple[str, ...], dict[str, Any]] = {}
    if asked.out.exists():
        with asked.out.open(encoding="utf-8") as file:
            rows = {tuple(r[name] for name in KEY): r for r in csv.DictReader(file)}
    for name in asked.networks.split(","):
        case = prepared(name, asked.cache, asked.data_dir, asked.images)
        places = [*case.network.site_names, "global"]
        for kind in asked.kinds.split(","):
            for place in asked.sites.split(",") if asked.sites else places:
                sites = tuple(range(len(places) - 1)) if place == "global" else (places.index(place),)
                truth = sampled(case, kind, sites, asked.draws, asked.cache)
                for method in asked.methods.split(","):
                    if method == "diagonal":
                        found = diagonal(case, kind, sites, truth.sigma)
                    else:
                        noise = dict.fromkeys(sites, noises.of_kind(kind, truth.sigma))
                        given = case.network, case.population, case.x, case.labels, noise, truth.sigma
                        found = predict_images(*given, method=method)
                    line = row(case, kind, place, method, truth, found)
                    rows[tuple(line[key] for key in KEY)] = line
                    print(" ".join(f"{value:>7}" for value in line.values()), flush=True)
                _write(asked.out, rows)
    print("\n".join(summary(list(rows.values()))))


def _write(path: Path, rows: dict[tuple[str, ...], dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows.values())


if __name__ == "__main__":
    main(sys.argv[1:])
