"""PyTorch compiled: forward pass and loss of the twin by torch.compile, as fast as it was found to be.

What was tried on two cores and did not pay, or cost time: drawing noise inside the compiled function (its own
generator takes several times as long as torch.randn, and with `fallback_random` it draws in a layout that is
slow), noise drawn site by site instead of in one call, compiling the optimiser's step (the fused Adam is as
fast), `cpp_wrapper`, `max-autotune`, and leaving pooling out of the compiled part. Convolutions are faster
with channels last. Without batch norm, pooling is faster as the maximum of four slices.
"""

# mypy: allow-untyped-calls, allow-subclassing-any

from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from reference import torch_peer
from tests.bench.peers import Peer, Task
from tests.bench.peers.torch_eager import noisy_twin, peer


class LargestOfSlices(nn.Module):
    """Max pooling 2×2 of even sizes; where values tie, they share the gradient."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C, H/2, W/2)."""
        upper = torch.maximum(x[..., ::2, ::2], x[..., ::2, 1::2])
        return torch.maximum(upper, torch.maximum(x[..., 1::2, ::2], x[..., 1::2, 1::2]))


def training(task: Task) -> Peer:
    """Compile the twin at the first run; then only whole batches may come, which all have one shape."""
    torch.set_num_threads(task.threads)
    torch.compiler.reset()  # what rows before have compiled: after eight versions it would stop compiling
    twin = noisy_twin(task.model, task.batch_norm, task.noise, task.sigma)
    for index, layer in enumerate(twin):
        if isinstance(layer, nn.MaxPool2d) and task.batch_norm == "none":
            twin[index] = LargestOfSlices()
    twin = twin.to(memory_format=torch.channels_last)
    images, labels = torch.from_numpy(task.images), torch.from_numpy(task.labels)
    draws = None if task.noise == "none" else place_draws(twin, images[: task.batch])
    loss_of = torch.compile(lambda x, y: functional.cross_entropy(twin(x), y), fullgraph=True, dynamic=False)
    adam = torch.optim.Adam(twin.parameters(), lr=1e-3, fused=True)

    def run() -> float:
        total = 0.0
        for samples in torch.randperm(len(labels)).split(task.batch):
            if draws is not None:
                draws.normal_()
            loss = loss_of(images[samples], labels[samples])
            adam.zero_grad()
            loss.backward()
            adam.step()
            total += loss.item() * len(samples)
        return total / len(labels)

    return peer(twin, run)


def place_draws(twin: Any, x: Any) -> Any:
    """Give each noise site its part of one tensor of draws, laid out as the site's activations are."""
    sites = torch_peer.sites(twin)
    shapes: dict[str, tuple[int, ...]] = {}
    hooks = [
        site.register_forward_hook(lambda _site, _x, y, name=name: shapes.__setitem__(name, tuple(y.shape)))
        for name, site in sites.items()
    ]
    with torch.no_grad():
        twin(x)
    for hook in hooks:
        hook.remove()
    draws = torch.empty(sum(map(prod, shapes.values())))
    for (name, shape), part in zip(shapes.items(), draws.split([*map(prod, shapes.values())]), strict=True):
        if len(shape) == 4:
            samples, channels, height, width = shape
            z = part.view(samples, height, width, channels).permute(0, 3, 1, 2)
        else:
            z = part.view(shape)
        sites[name].draws = torch_peer.Draws(z, z)
    return draws
