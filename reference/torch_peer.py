"""The PyTorch twin: the networks, the noise and the training recipe once more, as plain PyTorch.

Independent evidence: nothing here comes from the package under test, only from the study's description.
Samples come first, as everywhere in PyTorch. Layers carry the names of their noise sites, so the keys of
`state_dict` are conv1.weight, bn1.running_mean, …, logits.bias. Needs PyTorch 2.13; the CPU build is enough:

    python -m reference.torch_peer train --data-dir DIR --model lenet5 --epochs 50 --out DIR
"""

# mypy: allow-subclassing-any, allow-untyped-calls
# For the type checker, Module is Any where PyTorch is not installed; where it is, `backward` has no types.

import argparse
import csv
import gzip
import json
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

# of curves.csv
COLUMNS = (
    "dataset,model,batch_norm,noise,seed,backend,phase,site,site_name,sigma,repeat,correct,total,accuracy"
)
EVALUATION_BATCH = 2000

# ---- noise ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Noise:
    """y = x·M + D ("mul_add") or (x + D)·M ("add_mul"), M ~ N(mean_mul, σ_mul²), D ~ N(mean_add, σ_add²)."""

    sigma_mul: float = 0.0
    mean_mul: float = 1.0
    sigma_add: float = 0.0
    mean_add: float = 0.0
    order: str = "mul_add"


class Draws(NamedTuple):
    """Standard normal draws for D and M, each in the shape of x: (B, …)."""

    add: Tensor
    mul: Tensor


class NoiseSite(nn.Module):
    """A place for noise: does nothing without `noise`; draws with torch.randn unless `draws` are given."""

    def __init__(self) -> None:
        super().__init__()
        self.noise: Noise | None = None
        self.draws: Draws | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Return x under noise; gradients flow through the same draws."""
        if self.noise is None:
            return x
        if self.noise.order == "add_mul":
            return self._multiplied(self._offset(x))
        return self._offset(self._multiplied(x))

    def _multiplied(self, x: Tensor) -> Tensor:
        noise = self.noise
        if noise is None or (noise.sigma_mul == 0 and noise.mean_mul == 1):
            return x
        z = torch.randn_like(x) if self.draws is None else self.draws.mul
        return x * (noise.mean_mul + noise.sigma_mul * z)

    def _offset(self, x: Tensor) -> Tensor:
        noise = self.noise
        if noise is None or (noise.sigma_add == 0 and noise.mean_add == 0):
            return x
        z = torch.randn_like(x) if self.draws is None else self.draws.add
        return x + (noise.mean_add + noise.sigma_add * z)


def of_kind(kind: str, sigma: float, ratio: float = 0.5) -> Noise:
    """Return additive, multiplicative or mixed noise of strength σ; mixed: σ_add = σ·r, σ_mul = σ·(1 − r)."""
    if kind == "additive":
        return Noise(sigma_add=sigma)
    if kind == "multiplicative":
        return Noise(sigma_mul=sigma)
    if kind == "mixed":
        return Noise(sigma_add=sigma * ratio, sigma_mul=sigma * (1 - ratio))
    raise ValueError(f"unknown noise kind {kind!r}: allowed are additive, multiplicative, mixed")


# ---- networks ---------------------------------------------------------------------------------------------

# C channels@kernel/stride (without kernel: 3×3 with padding 1), N batch norm, R ReLU, M max pooling 2,
# A average pooling 1, F flatten, L features of a linear layer. Each network ends in one more, its logits.
PLANS = {
    **{f"mlp-{width}": f"F {f'L{width} N R ' * 3}" for width in (8, 16, 32, 64, 256, 1024)},
    "lenet5": "C6@5,5 N R M C16@5,5 N R M F L120 N R L84 N R",
    "cnn-s": "C28@4,10/1,2 N R C30@4,10 N R F L128 N R",
    "cnn-m": "C64@4,10/1,2 N R C48@4,10 N R F L128 N R",
    "cnn-l": "C60@4,10/1,2 N R C76@4,10 N R F L128 N R",
    "vgg11": "C64 N R M C128 N R M C256 N R C256 N R M C512 N R C512 N R M C512 N R C512 N R M A F",
    "vgg11-28": "C64 N R M C128 N R M C256 N R C256 N R M C512 N R C512 N R M C512 N R C512 A F",
}
NAMES = {"C": "conv", "N": "bn", "R": "relu", "M": "pool", "L": "fc", "A": "avgpool", "F": "flatten"}


def build_twin(
    model: str, input_shape: Sequence[int], classes: int, batch_norm: str = "none"
) -> nn.Sequential:
    """Return a network for samples (C, H, W): named layers, each site's layer followed by `<name>_noise`.

    batch_norm: "none", "sites" (each batch norm is a noise site) or "hidden" (batch norm without sites).
    """
    if model not in PLANS or batch_norm not in ("none", "sites", "hidden"):
        raise ValueError(f"unknown network {model!r} with batch norm {batch_norm!r}")
    modules: OrderedDict[str, nn.Module] = OrderedDict(input_noise=NoiseSite())
    sample = torch.zeros(2, *input_shape)  # shows each layer the shape that it will see
    numbers = dict.fromkeys(NAMES, 0)

    def add(name: str, layer: nn.Module, site: bool) -> None:
        nonlocal sample
        modules[name] = layer
        with torch.no_grad():
            sample = layer.eval()(sample)
        if site:
            modules[f"{name}_noise"] = NoiseSite()

    for code in PLANS[model].split():
        kind = code[0]
        if kind == "N" and batch_norm == "none":
            continue
        numbers[kind] += 1
        number = "" if kind in "AF" else numbers[kind]
        add(
            f"{NAMES[kind]}{number}",
            _layer(code, sample),
            kind != "F" and (kind, batch_norm) != ("N", "hidden"),
        )
    add("logits", nn.Linear(sample.shape[1], classes), True)
    return nn.Sequential(modules).train()


def _layer(code: str, sample: Tensor) -> nn.Module:
    """Return the layer of a plan's code for inputs like `sample`."""
    kind, channels = code[0], sample.shape[1]
    if kind == "C":
        outputs, _, window = code[1:].partition("@")
        if not window:
            return nn.Conv2d(channels, int(outputs), 3, padding=1)
        kernel, _, stride = window.partition("/")
        return nn.Conv2d(channels, int(outputs), _pair(kernel), stride=_pair(stride or "1,1"))
    if kind == "N":
        return nn.BatchNorm2d(channels) if sample.ndim == 4 else nn.BatchNorm1d(channels)
    if kind == "L":
        return nn.Linear(channels, int(code[1:]))
    others = {"R": nn.ReLU(), "M": nn.MaxPool2d(2), "A": nn.AvgPool2d(1), "F": nn.Flatten()}
    return others[kind]


def _pair(text: str) -> tuple[int, int]:
    first, second = text.split(",")
    return int(first), int(second)


def sites(twin: nn.Sequential) -> dict[str, NoiseSite]:
    """Return the noise sites by name, in the order of their indices: input, conv1, …, logits."""
    found = dict(twin.named_children())
    return {name.removesuffix("_noise"): site for name, site in found.items() if isinstance(site, NoiseSite)}


# ---- training and evaluation ------------------------------------------------------------------------------


def train_twin(
    twin: nn.Sequential,
    images: Tensor,
    labels: Tensor,
    *,
    epochs: int,
    batch_size: int = 128,
    learning_rate: float = 1e-3,
    clamp: bool = False,
    class_weights: Tensor | None = None,
    order: Callable[[int], Tensor] | None = None,
    on_epoch: Callable[[int, float], None] | None = None,
) -> list[float]:
    """Train with Adam, cosine annealing per epoch and mean cross-entropy; return each epoch's mean loss.

    images (N, C, H, W), labels (N,), both in memory. Samples are shuffled anew in every epoch, by
    torch.randperm or by order(epoch); the last partial batch is kept. `clamp` limits the weights of linear
    and convolution layers to [−1, 1] after each step. Noise is that of the sites as they are set.
    """
    optimiser = torch.optim.Adam(twin.parameters(), lr=learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=epochs)
    clamped = [layer.weight for layer in twin if isinstance(layer, nn.Linear | nn.Conv2d)]
    losses = []
    twin.train()
    for epoch in range(epochs):
        shuffled = torch.randperm(len(labels)) if order is None else order(epoch)
        total = 0.0
        for samples in shuffled.split(batch_size):
            loss = functional.cross_entropy(twin(images[samples]), labels[samples], weight=class_weights)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            if clamp:
                with torch.no_grad():
                    for weight in clamped:
                        weight.clamp_(-1, 1)
            total += loss.item() * len(samples)
        schedule.step()
        losses.append(total / len(labels))
        if on_epoch is not None:
            on_epoch(epoch, losses[-1])
    return losses


def evaluate_twin(
    twin: nn.Sequential,
    images: Tensor,
    labels: Tensor,
    site: str,
    noises: Sequence[Noise | None],
    batch_size: int = EVALUATION_BATCH,
) -> NDArray[np.int64]:
    """The number of images classified correctly under each noise at one site, without noise elsewhere.

    The layers before the site are computed once for all noises. The sites' own noise is set aside meanwhile.
    """
    first = [name for name, _ in twin.named_children()].index(f"{site}_noise")
    before, behind = twin[:first], twin[first:]
    kept = [(place, place.noise) for place in sites(twin).values()]
    correct = np.zeros(len(noises), np.int64)
    twin.eval()
    for place, _ in kept:
        place.noise = None
    with torch.inference_mode():
        for x, y in zip(images.split(batch_size), labels.split(batch_size), strict=True):
            activation = before(x)
            for index, noise in enumerate(noises):
                sites(twin)[site].noise = noise
                correct[index] += int((behind(activation).argmax(1) == y).sum())
            sites(twin)[site].noise = None
    for place, noise in kept:
        place.noise = noise
    return correct


# ---- by hand: train on MNIST and measure the curves of all sites ------------------------------------------


def read_idx(folder: Path, stem: str) -> NDArray[np.uint8]:
    """Return the array of the IDX file in `folder` whose name begins with `stem`, plain or gzip."""
    path = min(folder.glob(f"{stem}*ubyte*"), default=folder / stem)
    content = path.read_bytes()
    if content[:2] == b"\x1f\x8b":
        content = gzip.decompress(content)
    shape = np.frombuffer(content, ">u4", content[3], offset=4).astype(int)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * content[3]).reshape(shape)


def read_split(folder: Path, stem: str, limit: int | None = None) -> tuple[Tensor, Tensor]:
    """Return images (N, 1, H, W) / 255 in float32 and labels (N,) of "train" or "t10k"."""
    images = read_idx(folder, f"{stem}-images")[:limit, None].astype(np.float32) / np.float32(255)
    return torch.from_numpy(images), torch.from_numpy(read_idx(folder, f"{stem}-labels")[:limit].astype(int))


def sigma_grid(text: str) -> list[float]:
    """Return σ values: "0.01:100:17" log-spaced with both ends, or "0.1,1,10"."""
    if ":" not in text:
        return [float(part) for part in text.split(",")]
    first, last, count = text.split(":")
    return [float(f"{value:.12g}") for value in np.geomspace(float(first), float(last), int(count))]


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, evaluate every site × σ at inference, and write curves.csv and run.json."""
    chosen = _parser().parse_args(arguments)
    started = time.perf_counter()
    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    train = read_split(chosen.data_dir, "train", chosen.train_limit)
    test = read_split(chosen.data_dir, "t10k", chosen.test_limit)
    record: dict[str, Any] = {name: str(value) for name, value in vars(chosen).items()}
    record |= {"torch": torch.__version__, "clean_correct": [], "losses": []}
    chosen.out.mkdir(parents=True, exist_ok=True)
    rows: list[tuple[Any, ...]] = []
    for repeat in range(chosen.repeats):
        torch.manual_seed(chosen.seed + repeat)
        twin = build_twin(chosen.model, train[0].shape[1:], chosen.classes, chosen.batch_norm)
        losses = train_twin(
            twin,
            *train,
            epochs=chosen.epochs,
            batch_size=chosen.batch_size,
            learning_rate=chosen.learning_rate,
            clamp=chosen.clamp,
            on_epoch=lambda epoch, loss: print(f"epoch {epoch + 1}: loss {loss:.5f}", flush=True),
        )
        record["losses"].append(losses)
        record["clean_correct"].append(int(evaluate_twin(twin, *test, "input", [None])[0]))
        print(f"repeat {repeat}: {record['clean_correct'][-1]} of {len(test[1])} correct", flush=True)
        rows += _curve_rows(chosen, twin, test, repeat)
        record["seconds"] = round(time.perf_counter() - started, 3)
        with (chosen.out / "curves.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([COLUMNS.split(","), *rows])
        (chosen.out / "run.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def _curve_rows(
    chosen: argparse.Namespace, twin: nn.Sequential, test: tuple[Tensor, Tensor], repeat: int
) -> Iterator[tuple[Any, ...]]:
    """Yield a row of curves.csv for every site and σ."""
    grid, total = sigma_grid(chosen.sigma), len(test[1])
    prefix = (
        chosen.dataset,
        chosen.model,
        chosen.batch_norm,
        chosen.noise,
        chosen.seed,
        "torch",
        "inference",
    )
    for index, site in enumerate(sites(twin)):
        noises = [of_kind(chosen.noise, sigma) for sigma in grid]
        for sigma, correct in zip(grid, evaluate_twin(twin, *test, site, noises).tolist(), strict=True):
            yield (*prefix, index, site, sigma, repeat, correct, total, correct / total)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m reference.torch_peer", description=main.__doc__)
    train = parser.add_subparsers(required=True).add_parser("train", help=main.__doc__)
    train.add_argument("--data-dir", type=Path, required=True, help="folder with IDX files, plain or gzip")
    train.add_argument("--dataset", default="mnist", help="the name to write in curves.csv")
    train.add_argument("--out", type=Path, required=True, help="folder for curves.csv and run.json")
    train.add_argument("--model", choices=PLANS, default="lenet5")
    train.add_argument("--batch-norm", choices=("none", "sites", "hidden"), default="none")
    train.add_argument("--noise", choices=("additive", "multiplicative", "mixed"), default="additive")
    train.add_argument("--sigma", default="0.01:100:17", help="FIRST:LAST:COUNT (log) or values with commas")
    train.add_argument("--clamp", action="store_true", help="weights to [-1, 1] after each step")
    train.add_argument("--learning-rate", type=float, default=1e-3)
    numbers = {"epochs": 50, "batch-size": 128, "classes": 10, "repeats": 1, "seed": 0}
    for name, default in numbers.items():
        train.add_argument(f"--{name}", type=int, default=default)
    for name in ("threads", "train-limit", "test-limit"):
        train.add_argument(f"--{name}", type=int)
    return parser


if __name__ == "__main__":
    main()
