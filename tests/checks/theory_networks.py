"""Trained networks and sampled accuracies, which predictions are compared with; both kept in a folder."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wn.data import catalogue
from wn.data.dataset import Dataset
from wn.engine import backends, models
from wn.engine import noise as noises
from wn.engine.files import checkpoint
from wn.engine.network import Conditions, Network
from wn.engine.noise import Noise
from wn.engine.training import Population, TrainSettings, batch, train

Floats = NDArray[np.float64]

LEVELS = 17  # of σ, 8 per decade about the place where the curve falls
COARSE = np.geomspace(0.01, 1000, 41)  # where that place is looked for, with one draw
EPOCHS = {"mlp": 15, "lenet5": 5, "cnn-s": 5}
EPOCHS_FASHION = {"mlp": 20, "lenet5": 10, "cnn-s": 10}


@dataclass(frozen=True)
class Trained:
    """What is trained: data set, network, batch norm, seed, and the noise of the training."""

    dataset: str
    model: str
    batch_norm: str = "none"
    seed: int = 0
    noise: str = "none"
    sigma: float = 0.0

    @property
    def name(self) -> str:
        """A name for tables and files: mnist-mlp, mnist-lenet5-bn, mnist-mlp-additive0.5, mnist-mlp-seed1."""
        parts = [self.dataset, self.model] + ["bn"] * (self.batch_norm != "none")
        parts += [f"{self.noise}{self.sigma:g}"] * (self.noise != "none")
        return "-".join(parts + [f"seed{self.seed}"] * (self.seed != 0))

    @staticmethod
    def named(name: str) -> "Trained":
        """The inverse of `name`."""
        found = Trained("mnist", "mlp")
        for dataset in ("fashion-mini", "mnist", "fashion", "speech-commands"):
            if name.startswith(f"{dataset}-"):
                found, name = replace(found, dataset=dataset), name.removeprefix(f"{dataset}-")
                break
        for model in ("lenet5", "cnn-s", "mlp"):
            if name.startswith(model):
                found, name = replace(found, model=model), name.removeprefix(model)
                break
        for part in filter(None, name.split("-")):
            if part == "bn":
                found = replace(found, batch_norm="sites")
            elif part.startswith("seed"):
                found = replace(found, seed=int(part.removeprefix("seed")))
            elif part.startswith(("additive", "multiplicative")):
                kind = part.rstrip("0123456789.")
                found = replace(found, noise=kind, sigma=float(part.removeprefix(kind)))
            else:  # e.g. the width of an MLP
                found = replace(found, model=f"{found.model}-{part}")
        return found


class Case(NamedTuple):
    """A trained network with the test images on which it is judged."""

    name: str
    network: Network
    population: Population
    x: NDArray[np.float32]  # (1, C, H, W, B)
    labels: NDArray[np.int64]  # (B,)


class Sampled(NamedTuple):
    """Accuracies by draws of the engine: σ, accuracy and its standard error (S,), and the clean accuracy."""

    sigma: Floats
    accuracy: Floats
    error: Floats
    clean: float


def prepared(name: str, cache: Path, data_dir: str | None, images: int) -> Case:
    """Train the network, unless the folder has it already, and take `images` test images."""
    wanted = Trained.named(name)
    data = catalogue.load(wanted.dataset, data_dir if wanted.dataset != "fashion-mini" else None)
    path = cache / f"{name}.safetensors"
    if not path.exists():
        checkpoint.save(path, *_trained(wanted, data), {})
    network, population, _ = checkpoint.load(path)
    be, test = backends.get("numba"), data.limited(test_samples=images).test
    x = batch(be, test.on(be), np.arange(len(test)), data.recipe.preprocessing, np.float32)
    return Case(name, network, population, np.array(x), test.labels)


def _trained(wanted: Trained, data: Dataset) -> tuple[Network, Population]:
    network = models.build(wanted.model, data.image_shape, len(data.classes), wanted.batch_norm)
    epochs = EPOCHS_FASHION if wanted.dataset == "fashion-mini" else EPOCHS
    base = wanted.model.partition("-")[0] if wanted.model.startswith("mlp") else wanted.model
    operator = noises.of_kind(wanted.noise, wanted.sigma)
    at_sites = noises.everywhere(len(network.site_names), operator) if wanted.noise != "none" else None
    settings = TrainSettings(epochs[base])
    be = backends.get("numba")
    with be.working(1):
        return network, train(be, network, data, settings, seeds=(wanted.seed,), noise=at_sites)


def hits(case: Case, at_sites: dict[int, Noise], draws: int, first_draw: int = 0) -> NDArray[np.int64]:
    """How many of the draws are right, for each σ and image: (S, B)."""
    be, (params, states, seeds) = backends.get("numba"), case.population
    first, found = min(at_sites), 0
    with be.working(1), np.errstate(over="ignore", invalid="ignore"):
        parts: list[Any] = []
        for start in range(0, len(case.labels), 256):
            x = np.ascontiguousarray(case.x[..., start : start + 256])
            clean = case.network.clean_activations(be, params, states, x)[first]
            samples = np.arange(start, start + x.shape[-1], dtype=np.uint32)
            found = 0
            for draw in range(first_draw, first_draw + draws):
                conditions = Conditions(at_sites, seeds, samples, draw, training=False)
                logits = case.network.forward_from_site(be, params, states, clean, conditions, first)
                found = found + (logits.argmax(axis=1) == case.labels[start : start + 256])
            parts.append(found)
    return np.concatenate(parts, axis=1)


def sampled(case: Case, kind: str, sites: tuple[int, ...], draws: int, cache: Path) -> Sampled:
    """Accuracies at 17 σ about the fall of the curve; from the folder if it has them."""
    place = "global" if len(sites) > 1 else case.network.site_names[sites[0]]
    path = cache / f"{case.name}-{kind}-{place}-{len(case.labels)}x{draws}.npz"
    if not path.exists():
        sigma = _around_the_fall(case, kind, sites)
        right = hits(case, dict.fromkeys(sites, noises.of_kind(kind, sigma)), draws)
        p = right / draws
        error = np.sqrt((p * (1 - p) * draws / (draws - 1)).sum(1) / draws) / p.shape[1]
        quiet = dict.fromkeys(sites, noises.of_kind(kind, np.array([1e-9])))
        clean = hits(case, quiet, 1).mean()
        np.savez(path, sigma=sigma, accuracy=p.mean(1), error=error, clean=clean)
    with np.load(path) as kept:
        return Sampled(kept["sigma"], kept["accuracy"], kept["error"], float(kept["clean"]))


def _around_the_fall(case: Case, kind: str, sites: tuple[int, ...]) -> Floats:
    """LEVELS σ over two decades about the place where a coarse curve has fallen half-way."""
    curve = hits(case, dict.fromkeys(sites, noises.of_kind(kind, COARSE)), 1, first_draw=10_000).mean(1)
    middle = int(np.flatnonzero(curve <= (curve[0] + curve[-1]) / 2)[0])
    return np.asarray(COARSE[middle] * 10 ** np.linspace(-1, 1, LEVELS))
