"""How far the engine and the PyTorch twin are apart, in float64: the numbers behind docs/parity.md.

Both get the same weights, the same batches and the same noise draws. Run it with

    python -m tests.engine.parity_table
"""

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits
from torch import nn
from torch.nn import functional

from reference import torch_peer
from wn.engine import backends, models, optim
from wn.engine import loss as losses
from wn.engine.files import checkpoint, exchange
from wn.engine.layers import noise as noise_layer
from wn.engine.network import Conditions, Network
from wn.engine.noise import Noise, additive, mixed_direct, multiplicative
from wn.engine.training import Population

BE = backends.get("numpy")
SEED = 7
STEPS = 10
RATE = 1e-3
BATCH = 4
MEANS: dict[str, Any] = {"mean_mul": 0.9, "mean_add": 0.1}
NOISES = {
    "none": None,
    "additive": additive(0.3),
    "multiplicative": multiplicative(0.5),
    "mixed": mixed_direct(0.4, 0.2, **MEANS),
    "mixed, add→mul": mixed_direct(0.4, 0.2, order="add_mul", **MEANS),
}
QUANTITIES = ("logits", "loss", "gradients", "parameters", "running", "inference")
Named = dict[str, NDArray[Any]]


class Differences(NamedTuple):
    """Largest relative differences of a network; NaN where there is nothing to compare.

    logits, loss and gradients of the first step in training; parameters and running statistics after the last
    step; logits at inference after that, under inference's own draws.
    """

    logits: float
    loss: float
    gradients: float
    parameters: float = np.nan
    running: float = np.nan
    inference: float = np.nan


def relative_difference(found: NDArray[Any], wanted: NDArray[Any], scale: float | None = None) -> float:
    """Return max|found − wanted| / max|wanted|, or over `scale` if it is given; 0 if both are all zeros."""
    difference = float(np.abs(found - wanted).max())
    scale = float(np.abs(wanted).max()) if scale is None else scale
    return 0.0 if difference == 0 else difference / scale if scale > 0 else np.inf


def largest_difference(found: Named, wanted: Named, scales: dict[str, float] | None = None) -> float:
    """Return the largest relative difference over tensors of the same names."""
    assert found.keys() == wanted.keys()
    scales = scales or {}
    differences = [relative_difference(found[name], wanted[name], scales.get(name)) for name in wanted]
    return max(differences, default=np.nan)


@dataclass
class Pair:
    """The same network twice, with equal weights; the engine's side is replaced as it trains."""

    network: Network
    population: Population
    twin: nn.Sequential
    noise: Noise | None

    @classmethod
    def build(
        cls,
        model: str,
        batch_norm: str,
        noise: Noise | None,
        input_shape: tuple[int, ...] | None = None,
    ) -> "Pair":
        """Build both from the model's name; weights, scales and shifts are random, none is 0 or 1."""
        shape, classes = models.default_input(model)
        shape = shape if input_shape is None else input_shape
        network = models.build(model, shape, classes, batch_norm)
        rng = np.random.default_rng(SEED)
        params = network.initial_parameters(BE, (SEED,), np.float64)
        for layer in params:
            if hasattr(layer, "gamma"):
                layer.gamma[...] = rng.uniform(0.5, 1.5, layer.gamma.shape)
                layer.beta[...] = rng.normal(0, 0.2, layer.beta.shape)
        population = Population(params, network.initial_states(BE, 1, np.float64), (SEED,))
        twin = torch_peer.build_twin(model, shape, classes, batch_norm).double()
        twin.load_state_dict(as_tensors(exchange.member_tensors(network, population, 0)))
        pair = cls(network, population, twin, noise)
        assert tuple(torch_peer.sites(twin)) == network.site_names
        return pair

    def batch(self, step: int, size: int = BATCH) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Return the images (1, C, H, W, B), labels (B,) and sample ids (B,) of a step."""
        rng = np.random.default_rng([SEED, step])
        x = rng.standard_normal((1, *self.network.input_shape, size))
        return x, rng.integers(0, self.network.classes, size), 1000 * step + np.arange(size)

    def conditions(self, step: int, samples: NDArray[Any], training: bool = True) -> Conditions:
        """Return the pass of the engine with the noise at every site, and give its draws to the twin."""
        active = {} if self.noise is None else dict.fromkeys(range(len(self.network.site_names)), self.noise)
        if self.noise is not None:
            for index, place in enumerate(torch_peer.sites(self.twin).values()):
                place.noise = as_twin_noise(self.noise)
                place.draws = self.draws(index, step, samples, training)
        return Conditions(active, (SEED,), samples, step, training)

    def draws(self, site: int, step: int, samples: NDArray[Any], training: bool) -> torch_peer.Draws:
        """Return the engine's draws at a site, sample first and in float64."""
        shape = self.network.site_shapes()[site]
        streams = noise_layer.draws((SEED,), samples, step, site, training)
        add, mul = (
            np.moveaxis(BE.standard_draws(key, int(np.prod(shape))).reshape(*shape, len(samples)), -1, 0)
            for key in (streams.add, streams.mul)
        )
        return torch_peer.Draws(
            torch.from_numpy(add.astype(np.float64)), torch.from_numpy(mul.astype(np.float64))
        )

    def named(self, params: tuple[Any, ...] | None = None) -> Named:
        """Return the engine's tensors of the one member by name; `params` may be gradients."""
        population = self.population if params is None else self.population._replace(params=params)
        return {name: array[0] for name, array in checkpoint.named(self.network, population).items()}

    def cancelled_biases(self) -> list[str]:
        """Return the biases that batch norm subtracts again: their exact gradient is 0.

        This needs a batch norm right behind, and between them no multiplier that differs between samples.
        """
        if self.noise is not None and self.noise.has_multiplier:
            return []
        names = [node.name for node in self.network.nodes]
        return [f"{name}.bias" for name, behind in pairwise(names) if "bn" in behind]


def as_tensors(arrays: Named) -> dict[str, torch.Tensor]:
    """Return NumPy arrays as tensors."""
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def as_twin_noise(noise: Noise) -> torch_peer.Noise:
    """Return the twin's operator with the same numbers."""
    return torch_peer.Noise(
        sigma_mul=float(noise.sigma_mul),
        mean_mul=float(noise.mean_mul),
        sigma_add=float(noise.sigma_add),
        mean_add=float(noise.mean_add),
        order=noise.order,
    )


def sample_first(x: NDArray[Any]) -> torch.Tensor:
    """(1, …, B) → (B, …)."""
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(x[0], -1, 0)))


class Passed(NamedTuple):
    """A forward and backward pass in training: the engine's logits (K, B), loss and gradients, the twin's."""

    logits: NDArray[Any]
    loss: NDArray[Any]
    gradients: tuple[Any, ...]
    twin_logits: NDArray[Any]
    twin_loss: NDArray[Any]


def one_pass(pair: Pair, step: int, batch: int = BATCH) -> Passed:
    """Pass forward and backward through both on the batch of a step; running statistics move on in both."""
    x, labels, samples = pair.batch(step, batch)
    conditions = pair.conditions(step, samples)
    params, states, _ = pair.population
    logits, cache, states = pair.network.forward(BE, params, states, x, conditions)
    loss, loss_cache = losses.forward(BE, logits, labels)
    _, gradients = pair.network.backward(BE, losses.backward(BE, loss_cache), cache)
    pair.population = pair.population._replace(states=states)
    pair.twin.zero_grad()
    twin_logits = pair.twin(sample_first(x))
    twin_loss = functional.cross_entropy(twin_logits, torch.from_numpy(labels))
    torch.autograd.backward(twin_loss)
    return Passed(logits[0], loss[0], gradients, twin_logits.detach().numpy().T, twin_loss.detach().numpy())


def pass_differences(pair: Pair, found: Passed) -> Differences:
    """Return the differences of logits, loss and gradients."""
    return Differences(
        relative_difference(found.logits, found.twin_logits),
        relative_difference(found.loss, found.twin_loss),
        gradient_difference(pair, found.gradients),
    )


def compare(pair: Pair, steps: int = STEPS, batch: int = BATCH) -> Differences:
    """Train both for some steps of Adam, and compare what they compute on the way."""
    optimiser = torch.optim.Adam(pair.twin.parameters(), lr=RATE)
    adam = optim.adam_start(BE, pair.population.params)
    found = one_pass(pair, 1, batch)
    first = pass_differences(pair, found)
    for step in range(1, steps + 1):
        found = found if step == 1 else one_pass(pair, step, batch)
        constants = optim.adam_constants(step, RATE)
        optim.adam_update(BE, pair.population.params, found.gradients, adam, constants)
        optimiser.step()
    return first._replace(**state_differences(pair), inference=inference_difference(pair, batch))


def gradient_difference(pair: Pair, grads: tuple[Any, ...]) -> float:
    """Return the largest relative difference of the gradients of all parameters.

    A gradient that is exactly 0 in theory is rounding noise in both; it is measured on the scale of its
    layer's weight gradient.
    """
    gradients = {name: parameter.grad for name, parameter in pair.twin.named_parameters()}
    wanted = {name: gradient.numpy() for name, gradient in gradients.items() if gradient is not None}
    assert wanted.keys() == gradients.keys()
    found = {name: array for name, array in pair.named(grads).items() if name in wanted}
    scales = {
        name: float(np.abs(wanted[name.replace(".bias", ".weight")]).max())
        for name in pair.cancelled_biases()
    }
    return largest_difference(found, wanted, scales)


def state_differences(pair: Pair) -> dict[str, float]:
    """Return the differences of the parameters and of the running statistics."""
    twin = {name: tensor.numpy() for name, tensor in pair.twin.state_dict().items()}
    engine = pair.named()

    def difference(running: bool) -> float:
        names = [name for name in engine if ("running" in name) == running]
        return largest_difference({n: engine[n] for n in names}, {n: twin[n] for n in names})

    return {"parameters": difference(False), "running": difference(True)}


def inference_difference(pair: Pair, batch: int = BATCH) -> float:
    """Return the difference of the logits at inference, under inference's draws."""
    x, _, samples = pair.batch(0, batch)
    conditions = pair.conditions(0, samples, training=False)
    logits, _, _ = pair.network.forward(BE, pair.population.params, pair.population.states, x, conditions)
    pair.twin.eval()
    with torch.inference_mode():
        wanted = pair.twin(sample_first(x)).numpy()
    pair.twin.train()
    return relative_difference(logits[0], wanted.T)


# ---- the table --------------------------------------------------------------------------------------------

INTRODUCTION = """\
# Parity with PyTorch

Made by `python -m tests.engine.parity_table` with PyTorch {torch}, NumPy {numpy}, in float64.

The engine and `reference/torch_peer.py`, two constructions of each network that share no code, get the same
weights, the same batches of {batch} samples and the same noise draws, with noise at every site at once; then
both take {steps} steps of Adam, each on new samples with new draws. The table has the largest relative
difference over the three ways of batch norm (none, sites, hidden) and over all tensors. The difference of a
tensor a from PyTorch's b is max|a − b| / max|b|.

- *logits*, *loss*, *gradients* (of every parameter): in the first step.
- *parameters*, *running* (mean and variance of batch norm): after the last step.
- *inference*: the logits after that, with running statistics and the draws of inference.

A bias right before batch norm has the exact gradient 0, as long as no multiplicative noise stands between:
batch norm takes away what the bias adds. Both sides then have rounding noise there, which is measured on the
scale of the same layer's weight gradient. Adam divides a gradient by its own size, so this rounding noise is
also what makes *parameters* so much larger than *gradients* where there is no multiplicative noise.

Noise: additive σ = 0.3; multiplicative σ = 0.5; mixed σ_mul = 0.4, σ_add = 0.2 around the means 0.9 and 0.1,
in both orders. Shapes of the (random) inputs: {inputs}.

"""


def rows(names: list[str]) -> Iterator[tuple[str, str, Differences]]:
    """Yield (network, noise, differences): the largest over the three ways of batch norm."""
    for model in names:
        for label, noise in NOISES.items():
            found = [compare(Pair.build(model, batch_norm, noise)) for batch_norm in models.BATCH_NORM]
            yield model, label, Differences(*np.nanmax(np.array(found), axis=0).tolist())


LIMITS = Differences(logits=1e-9, loss=1e-9, gradients=1e-9, parameters=1e-7, running=1e-7, inference=1e-7)


def check(model: str, noise: str, found: Differences) -> None:
    """End with an error if a difference is larger than the project allows."""
    for quantity, value, limit in zip(QUANTITIES, found, LIMITS, strict=True):
        if value > limit:
            raise SystemExit(f"{model}, {noise}: {quantity} differ by {value:.1e}, allowed are {limit:.0e}")


def main() -> None:
    """Write docs/parity.md; fail if a difference is too large."""
    parser = argparse.ArgumentParser(prog="python -m tests.engine.parity_table", description=main.__doc__)
    parser.add_argument("--model", action="append", choices=models.OF_THE_STUDY, help="only these networks")
    parser.add_argument("--out", type=Path, default=Path("docs/parity.md"))
    chosen = parser.parse_args()
    with threadpool_limits(1):
        chosen.out.write_text(table(chosen.model or list(models.OF_THE_STUDY)), encoding="utf-8")


def table(names: list[str]) -> str:
    """Return the page."""
    started = time.perf_counter()
    torch.set_num_threads(1)
    inputs = {name: "×".join(map(str, models.default_input(name).shape)) for name in models.OF_THE_STUDY}
    kinds = {shape: [name for name in inputs if inputs[name] == shape] for shape in inputs.values()}
    text = INTRODUCTION.format(
        torch=torch.__version__.partition("+")[0],
        numpy=np.__version__,
        batch=BATCH,
        steps=STEPS,
        inputs="; ".join(f"{shape} ({', '.join(names)})" for shape, names in kinds.items()),
    )
    text += f"| network | noise | {' | '.join(QUANTITIES)} |\n|---|---|{'---|' * len(QUANTITIES)}\n"
    for model, noise, found in rows(names):
        check(model, noise, found)
        line = f"| {model} | {noise} | {' | '.join(f'{value:.1e}' for value in found)} |\n"
        print(f"{time.perf_counter() - started:6.1f} s {line}", end="", flush=True)
        text += line
    return text


if __name__ == "__main__":
    main()
