"""The tables and pictures of docs/theory/identities.md: measured by the engine, committed as csv.

    python -m tests.checks.identities measure [TABLE …]   # → docs/theory/tables/identities.*.csv, minutes
    python -m tests.checks.identities                     # csv → blocks and pictures of the page
    python -m tests.checks.identities --check             # exit code 1 if the page is not up to date

A block of the page stands between `<!-- made: TABLE NAME -->` and `<!-- end -->`: TABLE is a function below.
"""

import argparse
import csv
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.special import logsumexp

from tests.theory.pathwise import compared
from wn.data.catalogue import load
from wn.data.dataset import Split, batch
from wn.engine import backends
from wn.engine import noise as noises
from wn.engine.layers import noise as noise_layer
from wn.engine.layers.linear import Linear
from wn.engine.network import Conditions, Network
from wn.engine.training import Population
from wn.front import train
from wn.theory.gradient_noise import gradient_noise
from wn.theory.propagation import linear_variance
from wn.theory.small_noise.behind import members_of
from wn.theory.small_noise.rise import gauss_newton_trace, small_noise
from wn.walking.api import Trained
from wn.walking.pictures.drawing import bytes_of
from wn.walking.pictures.panels import Line, by_category, lines

PAGE = Path(__file__).parents[2] / "docs" / "theory" / "identities.md"
TABLES = PAGE.parent / "tables"
BLOCK = re.compile(r"(<!-- made: (\S+) (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)
SEED, DATA, TRAINED = 7, "fashion-mini", {"mlp": 15, "lenet5": 8}
SIGMA = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
SMALL = 0.02  # σ of the table by site: times the site's root mean square for additive noise
BE = backends.get("auto")

Floats = NDArray[np.float64]
Row = dict[str, Any]


# ---- measurements -----------------------------------------------------------------------------------------


def trained(model: str, batch_norm: str = "none", epochs: int = 0, sigma: float = 0.0) -> Trained:
    """A network trained on fashion-mini, clean or under additive noise at the input."""
    noise = {"noise": "additive", "sigma": sigma, "where": "input"} if sigma else {"noise": "none"}
    settings = {"dataset": DATA, "model": model, "batch_norm": batch_norm, "seed": SEED, "threads": 1}
    return train(**settings, **noise, epochs=epochs or TRAINED[model])


def images_of(split: Split, count: int, dtype: Any = np.float64) -> tuple[Floats, NDArray[np.int64]]:
    """The first images of a split, in file order, as networks take them, and their labels."""
    preprocessing = load(DATA).recipe.preprocessing
    count = min(count, len(split))
    return batch(BE, split.on(BE), np.arange(count), preprocessing, dtype), split.labels[:count]


def sampled_rise(
    network: Network,
    population: Population,
    x: Floats,
    labels: Any,
    site: int,
    kind: str,
    sigma: float,
    pairs: int,
) -> tuple[float, float]:
    """Mean rise of the loss under noise at a site and its standard error, by opposite pairs of draws."""
    member, x = next(members_of(network, population, x))
    params, states, seeds = member
    activations = network.clean_activations(BE, params, states, x)
    at, spread = activations[site], 1.0
    if kind == "weights":
        before = network.nodes[network.site_depths[site] - 1].name
        w = network.weights(params)[before]
        seen = activations[site - 1].reshape(1, -1, x.shape[-1])
        spread = np.sqrt(linear_variance(w, seen, seen**2).variance)
    operator = noises.of_kind("additive" if kind == "weights" else kind, sigma)
    ids = np.arange(len(labels))

    def loss(activation: Floats) -> Floats:
        conditions = Conditions({}, seeds, ids, 0, training=False)
        logits = network.forward_from_site(BE, params, states, activation, conditions, site)[0]
        return np.asarray(logsumexp(logits, axis=0) - logits[labels, ids])

    clean, rises = loss(at), []
    for draw in range(pairs):
        streams = noise_layer.draws(seeds, ids, draw, site, training=True)
        given = np.zeros_like(at) if kind == "weights" else at
        change = (noise_layer.forward(BE, operator, given, streams)[0] - given) * spread
        rises.append(float(np.mean((loss(at + change) + loss(at - change)) / 2 - clean)))
    return float(np.mean(rises)), float(np.std(rises, ddof=1) / np.sqrt(pairs))


def slopes(
    title: str, of: Any, split: str, site: int, kind: str, levels: Sequence[float], images: int, pairs: int
) -> Iterator[Row]:
    """Rows of (E L − L)/σ²: measured, and its parts in theory."""
    x, labels = images_of(getattr(load(DATA), split), images)
    theory = small_noise(of.network, of.population, x, labels, site, kind)  # type: ignore[arg-type]
    for sigma in levels:
        mean, error = sampled_rise(of.network, of.population, x, labels, site, kind, sigma, pairs)
        parts = [part(sigma).mean() for part in (theory.smooth, theory.kinked)]
        named = {"network": title, "images": split, "site": of.network.site_names[site], "noise": kind}
        values = [mean, error, *parts]
        yield (
            named
            | {"sigma": sigma}
            | dict(zip(("measured", "error", "trace", "kinks"), (v / sigma**2 for v in values), strict=True))
        )


def levels(images: int = 1000, pairs: int = 50) -> Iterator[Row]:
    """Noise at the input, by σ: where does the small-σ theory end?"""
    for title, batch_norm in (("MLP", "none"), ("MLP, batch norm", "sites")):
        of = trained("mlp", batch_norm)
        for split in ("train", "test"):
            yield from slopes(title, of, split, 0, "additive", SIGMA, images, pairs)


def sites(images: int = 300, pairs: int = 100) -> Iterator[Row]:
    """Little noise at every site, of each kind, test images; convolutions with fewer of them."""
    for title, model, batch_norm, count in (
        ("MLP", "mlp", "none", images),
        ("MLP, batch norm", "mlp", "sites", images),
        ("LeNet-5", "lenet5", "none", 16),
    ):
        of = trained(model, batch_norm)
        x, _ = images_of(load(DATA).test, count)
        member, _ = next(members_of(of.network, of.population, x))
        clean = of.network.clean_activations(BE, member.params, member.states, x)
        for site, depth in enumerate(of.network.site_depths):
            linear = depth > 0 and isinstance(of.network.nodes[depth - 1].layer, Linear)
            scale = float(np.sqrt(np.mean(clean[site] ** 2)))
            for kind in ("additive", "multiplicative", *(["weights"] if linear else [])):
                sigma = SMALL * (scale if kind == "additive" else 1)
                more = 1 if title != "LeNet-5" else 4
                yield from slopes(title, of, "test", site, kind, [sigma], count, pairs * more)


def gradients(pairs: int = 40) -> Iterator[Row]:
    """Signal and noise of gradients: early and late in training, by site, σ and batch size."""
    for epochs in (1, TRAINED["mlp"]):
        of = trained("mlp", epochs=epochs)
        x, labels = images_of(load(DATA).train, 10**9, np.float32)
        names = of.network.site_names
        cases = [("none", 0.0, size) for size in (32, 128, 512)]
        cases += [
            (site, sigma, 128) for site in ("input", "relu1", "relu3", "global") for sigma in (0.1, 0.5, 2.0)
        ]
        cases += [("global", 0.5, size) for size in (32, 512)]
        for kind in ("additive", "multiplicative"):
            for site, sigma, size in cases:
                if site == "none" and kind != "additive":
                    continue
                chosen = range(len(names)) if site == "global" else [names.index(site)] if sigma else []
                noise = dict.fromkeys(chosen, noises.of_kind(kind, sigma))
                found = gradient_noise(
                    BE, of.network, of.population, x, labels, noise, batch_size=size, pairs=pairs, seed=SEED
                )
                named = {"epochs": epochs, "noise": kind if sigma else "none", "site": site, "sigma": sigma}
                parts = {name: float(part[0]) for name, part in found._asdict().items()}
                yield named | {"batch": size} | parts | {"ratio": float(found.ratio[0])}


def smoothed(images: int = 1000) -> Iterator[Row]:
    """What training under noise at the input does to the trace, on test images."""
    for sigma in (0.0, 0.1, 0.3, 1.0):
        of = trained("mlp", sigma=sigma)
        x, labels = images_of(load(DATA).test, images)
        found = {
            kind: float(gauss_newton_trace(of.network, of.population, x, 0, kind).mean())  # type: ignore[arg-type]
            for kind in ("additive", "multiplicative")
        }
        member, _ = next(members_of(of.network, of.population, x))
        logits = of.network.clean_activations(BE, member.params, member.states, x)[-1][0]
        loss = float(np.mean(logsumexp(logits, axis=0) - logits[labels, np.arange(len(labels))]))
        accuracy = of.correct["clean"] / of.total
        yield {"sigma": sigma, "accuracy": accuracy, "loss": loss} | found


def pathwise() -> Iterator[Row]:
    """Gradients along the first weights with shared and with fresh draws, against the expected loss's."""
    yield from compared(batches=100, count=1000)


MEASURED: dict[str, Callable[[], Iterator[Row]]] = {
    f.__name__: f for f in (levels, sites, smoothed, gradients, pathwise)
}


def measure(names: Sequence[str]) -> None:
    """Measure, and write the tables."""
    TABLES.mkdir(parents=True, exist_ok=True)
    for name in names or MEASURED:
        rows = []
        for row in MEASURED[name]():
            rows.append({key: f"{v:.5g}" if isinstance(v, float) else v for key, v in row.items()})
            print(*rows[-1].values(), flush=True)
        with (TABLES / f"identities.{name}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


# ---- the page ---------------------------------------------------------------------------------------------

Pictures = dict[str, bytes]


def kept(name: str) -> list[dict[str, str]]:
    """The rows of a committed table."""
    with (TABLES / f"identities.{name}.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def slope_table(name: str, pictures: Pictures) -> str:
    """Measured slope, and the shares of it that theory gives."""
    several = {row["site"] for row in kept(name)} != {"input"}
    columns = [
        "network",
        *(["site", "noise"] if several else ["images"]),
        "σ",
        "measured",
        "trace alone",
        "with kinks",
    ]
    rows = []
    for row in kept(name):
        measured, error, trace, kinks = (float(row[k]) for k in ("measured", "error", "trace", "kinks"))
        where = [row["site"], row["noise"]] if several else [row["images"]]
        shares = (f"{part / measured:.3f}" for part in (trace, trace + kinks))
        rows.append(
            [row["network"], *where, f"{float(row['sigma']):.3g}", f"{measured:.4g} ± {error:.2g}", *shares]
        )
    return markdown(columns, rows)


def slope_picture(name: str, pictures: Pictures) -> str:
    """Measured rise over σ against σ, and theory's."""
    panels: dict[str, dict[str, Line]] = {}
    for row in kept(name):
        panels.setdefault(f"{row['network']}, {row['images']} images", {})
    for title, panel in panels.items():
        rows = [r for r in kept(name) if f"{r['network']}, {r['images']} images" == title]
        values = {
            key: np.array([float(r[key]) for r in rows])
            for key in ("sigma", "measured", "error", "trace", "kinks")
        }
        sigma, measured, error = values["sigma"], values["measured"], values["error"]
        panel["measured"] = Line(sigma, measured, measured - 2 * error, measured + 2 * error)
        panel["trace and kinks"] = Line(sigma, values["trace"] + values["kinks"])
        panel["trace alone"] = Line(sigma, values["trace"])
    figure = lines(panels, "noise level σ at the input", "(E L − L)/σ²", log_y=True, width=4.5)
    return picture(
        figure, f"identities-{name}", "Rise of the loss per σ²: measured, and theory for small σ", pictures
    )


def site_picture(name: str, pictures: Pictures) -> str:
    """The shares of the measured slope, by site."""
    text = []
    for title in dict.fromkeys(row["network"] for row in kept(name)):
        rows = [row for row in kept(name) if row["network"] == title and row["noise"] != "weights"]
        places = list(dict.fromkeys(row["site"] for row in rows))
        panels = {}
        for kind in ("additive", "multiplicative"):
            of = {row["site"]: row for row in rows if row["noise"] == kind}
            x = np.arange(len(places), dtype=float)
            shares = {
                label: np.array(
                    [sum(float(of[s][k]) for k in keys) / float(of[s]["measured"]) for s in places]
                )
                for label, keys in (("trace alone", ["trace"]), ("trace and kinks", ["trace", "kinks"]))
            }
            bars = np.array([2 * float(of[s]["error"]) / abs(float(of[s]["measured"])) for s in places])
            panels[f"{title}, {kind}"] = {
                label: Line(x, y, y * (1 - bars), y * (1 + bars)) for label, y in shares.items()
            }
        figure = by_category(panels, places, "theory / measured", level=1)
        short = re.sub(r"\W+", "-", title.lower())
        text.append(
            picture(
                figure, f"identities-{name}-{short}", f"Theory over measurement by site: {title}", pictures
            )
        )
    return "\n\n".join(text)


def smoothed_table(name: str, pictures: Pictures) -> str:
    """Traces of networks trained under noise."""
    columns = [
        "trained under σ",
        "test accuracy, clean",
        "test loss, clean",
        "trace, additive",
        "trace, multiplicative",
    ]
    rows = [
        [row["sigma"], f"{float(row['accuracy']):.3f}", *(f"{float(row[k]):.3g}" for k in list(row)[2:])]
        for row in kept(name)
    ]
    return markdown(columns, rows)


def gradient_table(name: str, pictures: Pictures) -> str:
    """Signal and noise of gradients."""
    columns = ["epochs", "noise", "site", "σ", "batch", "signal", "images", "draws", "signal/noise"]
    keys = ("signal", "images", "draws", "ratio")
    return markdown(
        columns,
        [
            [
                *(row[k] for k in ("epochs", "noise", "site", "sigma", "batch")),
                *(f"{float(row[k]):.3g}" for k in keys),
            ]
            for row in kept(name)
        ],
    )


def pathwise_table(name: str, pictures: Pictures) -> str:
    """The slope of the expected loss, and mean gradients."""
    columns = ["noise", "slope of E L", "shared draws", "z", "fresh draws", "z"]
    rows = []
    for row in kept(name):
        values = {key: float(value) for key, value in row.items() if key != "noise"}
        cells = [row["noise"], f"{values['slope']:.5f}"]
        for draws in ("shared", "fresh"):
            mean, error = values[draws], values[f"{draws}_error"]
            cells += [f"{mean:.5f} ± {error:.5f}", f"{(mean - values['slope']) / error:+.1f}"]
        rows.append(cells)
    return markdown(columns, rows)


BLOCKS: dict[str, Callable[[str, Pictures], str]] = {
    f.__name__: f
    for f in (slope_table, slope_picture, site_picture, smoothed_table, gradient_table, pathwise_table)
}


def picture(figure: Figure, name: str, caption: str, pictures: Pictures) -> str:
    """Keep a picture, and return its line in Markdown."""
    pictures[f"{name}.png"] = bytes_of(figure, "png")
    return f"![{caption}]({name}.png)"


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    return "\n".join(f"| {' | '.join(line)} |" for line in (columns, ["---"] * len(columns), *rows))


def made() -> tuple[str, Pictures]:
    """The page with its blocks made anew, and its pictures."""
    pictures: Pictures = {}

    def block(found: re.Match[str]) -> str:
        head, kind, name, end = found.groups()
        return f"{head}\n{BLOCKS[kind](name, pictures)}\n\n{end}"

    return BLOCK.sub(block, PAGE.read_text(encoding="utf-8")), pictures


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, or make the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("measure", nargs="*", help="measure [TABLE …]: " + ", ".join(MEASURED))
    parser.add_argument("--check", action="store_true", help="only say whether the page is up to date")
    chosen = parser.parse_args(arguments)
    if chosen.measure:
        measure(chosen.measure[1:])
        return 0
    text, pictures = made()
    if chosen.check:
        whole = text == PAGE.read_text(encoding="utf-8") and all(
            (PAGE.parent / p).is_file() for p in pictures
        )
        print("up to date" if whole else f"{PAGE.name} is not up to date")
        return 0 if whole else 1
    PAGE.write_text(text, encoding="utf-8")
    for name, data in pictures.items():
        (PAGE.parent / name).write_bytes(data)
    return 0


if __name__ == "__main__":
    sys.exit(main())
