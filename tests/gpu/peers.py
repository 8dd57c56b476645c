"""The same LeNet-5 under additive noise in PyTorch: eager, as a CUDA graph, and under torch.func.vmap.

The network is the twin of reference/torch_peer.py. A batch of images is on the device already, which favours
the peers: ours takes a new one in each step. float32 means float32.
"""

# mypy: allow-untyped-calls

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch.func import functional_call, grad, vmap
from torch.nn import functional

from reference import torch_peer
from tests.gpu.bench import BATCH, MEMBERS, SIGMA, Speed

RATE = 1e-3
WARM_UP = 10


class Setting(NamedTuple):
    """Where and how large: a device of PyTorch, the batch, and how many steps are timed."""

    device: str = "cuda"
    batch: int = BATCH
    steps: int = 200


def noisy_twin(setting: Setting) -> Any:
    """Return the network with noise at every site, on the device."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    twin = torch_peer.build_twin("lenet5", (1, 28, 28), 10)
    for site in torch_peer.sites(twin).values():
        site.noise = torch_peer.of_kind("additive", SIGMA)
    return twin.to(setting.device)


def images(setting: Setting) -> tuple[Any, Any]:
    """Return a batch of images and labels."""
    device, batch = setting.device, setting.batch
    generator = torch.Generator(device).manual_seed(1)
    x = torch.randn(batch, 1, 28, 28, device=device, generator=generator)
    return x, torch.randint(0, 10, (batch,), device=device, generator=generator)


def seconds_per_step(step: Callable[[], object], setting: Setting) -> float:
    """Return the mean time of a step, after some to warm up."""
    for _ in range(min(WARM_UP, setting.steps)):
        step()
    _wait(setting)
    started = time.perf_counter()
    for _ in range(setting.steps):
        step()
    _wait(setting)
    return (time.perf_counter() - started) / setting.steps


def _wait(setting: Setting) -> None:
    if setting.device == "cuda":
        torch.cuda.synchronize()


def training_step(setting: Setting, **options: Any) -> Callable[[], None]:
    """Return a step of one network; the options are Adam's."""
    twin, (x, y) = noisy_twin(setting), images(setting)
    optimiser = torch.optim.Adam(twin.parameters(), RATE, **options)

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        functional.cross_entropy(twin(x), y).backward()
        optimiser.step()

    return step


def eager(setting: Setting) -> float:
    """Return the seconds of a step of one network."""
    return seconds_per_step(training_step(setting), setting)


def graph(setting: Setting) -> float:
    """Return the seconds of a step of one network that is recorded as a CUDA graph."""
    step = training_step(setting, capturable=True)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    recorded = torch.cuda.CUDAGraph()
    with torch.cuda.graph(recorded):
        step()
    return seconds_per_step(recorded.replay, setting)


def population(setting: Setting, members: int) -> float:
    """Return the seconds of a step of a population: vmap over the parameters, noise of its own for each."""
    twin, (x, y) = noisy_twin(setting), images(setting)
    params = {
        name: value.detach().expand(members, *value.shape).clone() for name, value in twin.named_parameters()
    }
    optimiser = torch.optim.Adam(params.values(), RATE)

    def loss(one: dict[str, Any], x: Any, y: Any) -> Any:
        return functional.cross_entropy(functional_call(twin, one, (x,)), y)

    gradients = vmap(grad(loss), in_dims=(0, None, None), randomness="different")

    def step() -> None:
        for name, gradient in gradients(params, x, y).items():
            params[name].grad = gradient
        optimiser.step()

    return seconds_per_step(step, setting)


def speeds(setting: Setting | None = None, members: int = MEMBERS) -> Iterator[Speed]:
    """Yield the network-images per second of each way; a CUDA graph only where there is CUDA."""
    setting = setting or Setting()
    for name, networks, seconds in ways(setting, members):
        yield Speed(name, networks * setting.batch / seconds())


def ways(setting: Setting, members: int) -> list[tuple[str, int, Callable[[], float]]]:
    """Return each way: its name, how many networks a step trains, and what returns the seconds of a step."""
    few = setting._replace(steps=max(setting.steps // 10, 1))
    found: list[tuple[str, int, Callable[[], float]]] = [
        ("torch eager, one after the other", 1, lambda: eager(setting)),
        (f"torch.func.vmap, {members} networks", members, lambda: population(few, members)),
    ]
    if setting.device == "cuda":
        found.insert(1, ("torch CUDA graph, one after the other", 1, lambda: graph(setting)))
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Print each speed as a line of JSON; a way that fails is a line too, and the others go on."""
    parser = argparse.ArgumentParser(prog="python -m tests.gpu.peers", description=main.__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--members", type=int, default=MEMBERS)
    chosen = parser.parse_args(arguments)
    setting = Setting(chosen.device, chosen.batch, chosen.steps)
    for name, networks, seconds in ways(setting, chosen.members):
        try:
            speed = Speed(name, networks * setting.batch / seconds())
        except Exception as error:
            print(f"FAILED {name}: {type(error).__name__}: {' '.join(str(error).split())}", flush=True)
        else:
            print(json.dumps(speed._asdict()), flush=True)


if __name__ == "__main__":
    main()
