"""The same LeNet-5 under additive noise in PyTorch on the GPU: eager, as a CUDA graph, and under torch.func.vmap.

Each returns the seconds of one training step. The network is the twin of reference/torch_peer.py; images are on the device
already, and float32 means float32.
"""

# mypy: allow-untyped-calls

import time
from collections.abc import Callable
from typing import Any

import torch
from torch.func import functional_call, grad, vmap
from torch.nn import functional

from reference import torch_peer

DEVICE = "cuda"
RATE = 1e-3
WARM_UP = 10


def noisy_twin(sigma: float) -> Any:
    """Return the network with noise at every site, on the GPU."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    twin = torch_peer.build_twin("lenet5", (1, 28, 28), 10)
    for site in torch_peer.sites(twin).values():
        site.noise = torch_peer.of_kind("additive", sigma)
    return twin.to(DEVICE)


def batches(batch: int) -> tuple[Any, Any]:
    """Return a batch of images and labels."""
    generator = torch.Generator(DEVICE).manual_seed(1)
    x = torch.randn(batch, 1, 28, 28, device=DEVICE, generator=generator)
    return x, torch.randint(0, 10, (batch,), device=DEVICE, generator=generator)


def seconds_per_step(step: Callable[[], object], steps: int) -> float:
    """Return the mean time of a step, after some to warm up."""
    for _ in range(WARM_UP):
        step()
    wait()
    started = time.perf_counter()
    for _ in range(steps):
        step()
    wait()
    return (time.perf_counter() - started) / steps


def wait() -> None:
    """Wait until the GPU is done."""
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def eager(batch: int, sigma: float, steps: int = 200) -> float:
    """One network, step by step."""
    twin, (x, y) = noisy_twin(sigma), batches(batch)
    optimiser = torch.optim.Adam(twin.parameters(), RATE)

    def step() -> None:
        optimiser.zero_grad()
        functional.cross_entropy(twin(x), y).backward()
        optimiser.step()

    return seconds_per_step(step, steps)


def graph(batch: int, sigma: float, steps: int = 1000) -> float:
    """One network, its step recorded as a CUDA graph."""
    twin, (x, y) = noisy_twin(sigma), batches(batch)
    optimiser = torch.optim.Adam(twin.parameters(), RATE, capturable=True)

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        functional.cross_entropy(twin(x), y).backward()
        optimiser.step()

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    recorded = torch.cuda.CUDAGraph()
    optimiser.zero_grad(set_to_none=True)
    with torch.cuda.graph(recorded):
        step()
    return seconds_per_step(recorded.replay, steps)


def population(batch: int, sigma: float, members: int, steps: int = 20) -> float:
    """A population side by side: vmap over the parameters, noise of its own for each."""
    twin, (x, y) = noisy_twin(sigma), batches(batch)
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

    return seconds_per_step(step, steps)


PEERS = {"torch eager": eager, "torch CUDA graph": graph}
