"""What the page's tables hold, measured by the engine."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from tests.theory.pathwise import compared
from wn.data.catalogue import load
from wn.data.dataset import batch
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

SEED, DATA, TRAINED = 7, "fashion-mini", {"mlp": 15, "lenet5": 2}
SIGMA = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
SMALL = 0.02  # σ of the table by site: times the site's root mean square for additive noise
BE = backends.get("auto")

Floats = NDArray[np.float64]
Row = dict[str, Any]


def trained(
    model: str, batch_norm: str = "none", epochs: int = 0, sigma: float = 0.0, data: str = DATA
) -> Trained:
    """A network trained clean, or under additive noise at the input."""
    noise = {"noise": "additive", "sigma": sigma, "where": "input"} if sigma else {"noise": "none"}
    settings = {"dataset": data, "model": model, "batch_norm": batch_norm, "seed": SEED, "threads": 1}
    return train(**settings, **noise, epochs=epochs or TRAINED[model])


def images_of(
    part: str, count: int, data: str = DATA, dtype: Any = np.float64
) -> tuple[Floats, NDArray[np.int64]]:
    """The first images of "train" or "test", in file order, as networks take them, and their labels."""
    preprocessing, split = load(data).recipe.preprocessing, getattr(load(data), part)
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
    title: str,
    of: Trained,
    given: tuple[str, Floats, Any],
    site: int,
    kind: str,
    levels: Sequence[float],
    pairs: int,
) -> Iterator[Row]:
    """Rows of (E L − L)/σ² on given images (their name, x, labels): measured, and its parts in theory."""
    split, x, labels = given
    # kind is one of the names that are allowed, given as text
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


def levels(images: int = 1000, pairs: int = 50, data: str = DATA) -> Iterator[Row]:
    """Noise at the input, by σ: where does the small-σ theory end?"""
    for title, batch_norm in (("MLP", "none"), ("MLP, batch norm", "sites")):
        of = trained("mlp", batch_norm, data=data)
        for split in ("train", "test"):
            given = (split, *images_of(split, images, data))
            yield from slopes(title, of, given, 0, "additive", SIGMA, pairs)


def mnist() -> Iterator[Row]:
    """As `levels`, on MNIST: networks that know their training images almost by heart."""
    yield from levels(data="mnist")


def sites(images: int = 200, pairs: int = 100) -> Iterator[Row]:
    """Little noise at every site of MLPs, of each kind, test images."""
    for title, batch_norm in (("MLP", "none"), ("MLP, batch norm", "sites")):
        of = trained("mlp", batch_norm)
        for site in range(len(of.network.site_names)):
            yield from little(title, of, site, images, pairs)


def convolutions(images: int = 8, pairs: int = 300) -> Iterator[Row]:
    """The same at some sites of LeNet-5, with its max poolings; every pixel costs a gradient: few images."""
    of = trained("lenet5")
    for name in ("input", "relu1", "pool1", "pool2"):
        yield from little("LeNet-5", of, of.network.site_names.index(name), images, pairs)


def little(title: str, of: Trained, site: int, images: int, pairs: int) -> Iterator[Row]:
    """Rows of a site with σ = SMALL, times the root mean square of its values for additive noise."""
    x, labels = images_of("test", images)
    member, _ = next(members_of(of.network, of.population, x))
    clean = of.network.clean_activations(BE, member.params, member.states, x)[site]
    depth = of.network.site_depths[site]
    linear = depth > 0 and isinstance(of.network.nodes[depth - 1].layer, Linear)
    for kind in ("additive", "multiplicative", *(["weights"] if linear else [])):
        sigma = SMALL * (float(np.sqrt(np.mean(clean**2))) if kind == "additive" else 1)
        yield from slopes(title, of, ("test", x, labels), site, kind, [sigma], pairs)


def gradients(images: int = 2000, pairs: int = 30) -> Iterator[Row]:
    """Signal and noise of gradients: early and late in training, by site, σ and batch size."""
    for epochs in (1, TRAINED["mlp"]):
        of = trained("mlp", epochs=epochs)
        x, labels = images_of("train", images, dtype=np.float32)
        names = of.network.site_names
        cases = [("none", "none", 0.0, size) for size in (32, 128, 512)]
        for kind in ("additive", "multiplicative") if epochs > 1 else ("additive",):
            cases += [(kind, site, s, 128) for site in ("input", "relu3", "global") for s in (0.5, 2.0)]
            cases += [(kind, "global", 0.5, size) for size in (32, 512)]
        for kind, site, sigma, size in cases:
            noisy = range(len(names)) if site == "global" else [names.index(site)] if sigma else []
            noise = dict.fromkeys(noisy, noises.of_kind(kind, sigma))
            found = gradient_noise(
                BE, of.network, of.population, x, labels, noise, batch_size=size, pairs=pairs, seed=SEED
            )
            named = {"epochs": epochs, "noise": kind, "site": site, "sigma": sigma, "batch": size}
            parts = {name: float(part[0]) for name, part in found._asdict().items()}
            yield named | parts | {"ratio": float(found.ratio[0])}


def smoothed(images: int = 1000) -> Iterator[Row]:
    """What training under noise at the input does to the trace, on test images."""
    for sigma in (0.0, 0.1, 0.3, 1.0):
        of = trained("mlp", sigma=sigma)
        x, labels = images_of("test", images)
        found = {
            # one of the names that are allowed, given as text
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
    f.__name__: f for f in (levels, mnist, sites, convolutions, smoothed, gradients, pathwise)
}
