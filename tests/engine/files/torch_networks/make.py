"""Make the files of this folder with PyTorch, which the tests do not need.

    python -m tests.engine.files.torch_networks.make

For each network: a state_dict and an ONNX file of what PyTorch trained, and in float64 what it computes with
that: logits, the gradients of all parameters and of the input with the noise draws of wn at one site (batch
norm with the statistics of the batch), and the losses of ten steps of Adam under that noise.
"""

from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from tests.engine.files.torch_networks import HERE, NETWORKS, NOISE_AT
from wn.engine import backends, noise
from wn.engine.layers import noise as noise_layer

BATCH, STEPS, RATE, SIGMA, SEED = 12, 10, 1e-2, 0.3, 5


class Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1, self.relu = nn.BatchNorm2d(outputs), nn.ReLU()
        self.conv2, self.bn2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs)
        down = [nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)]
        self.shortcut = nn.Sequential(*down) if stride > 1 else None

    def forward(self, x: Any) -> Any:
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return y + (x if self.shortcut is None else self.shortcut(x))


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.bn = nn.Conv2d(1, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.layer1 = nn.ModuleList([Block(4, 4, 1), Block(4, 8, 2)])
        self.fc = nn.Linear(8, 3)

    def forward(self, x: Any) -> Any:
        x = torch.relu(self.bn(self.stem(x)))
        for block in self.layer1:
            x = torch.relu(block(x))
        return self.fc(x.mean((2, 3)))


class Separable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(),
            nn.Conv2d(4, 4, 3, 2, 1, groups=4), nn.BatchNorm2d(4), nn.ReLU(),
            nn.Conv2d(4, 8, 1), nn.ReLU(), nn.MaxPool2d(3, 2, 1),
        )  # fmt: skip
        self.fc = nn.Linear(72, 3)

    def forward(self, x: Any) -> Any:
        x = self.features(x)
        return self.fc(x.view(x.size(0), -1))


class Vgg(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 6, 3), nn.ReLU(), nn.MaxPool2d(2),
            nn.AvgPool2d(2, ceil_mode=True),
        )  # fmt: skip
        self.classifier = nn.Sequential(nn.Linear(54, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 3))

    def forward(self, x: Any) -> Any:
        return self.classifier(torch.flatten(self.features(x), 1))


MODULES = {"residual": Residual, "separable": Separable, "vgg": Vgg}


def problem(count: int, seed: int) -> tuple[Any, Any]:
    """Images of three classes, each with a bright stripe of its own."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, count)
    x = rng.standard_normal((count, 1, 12, 12)) * 0.5
    x[np.arange(count), 0, 3 * labels + 1] += 1
    return x, labels


def draws(network: Any, site: int, epoch: int) -> Any:
    """The additive noise of wn at a site in training, (B, C, H, W), float64."""
    shape = network.site_shapes()[site]
    streams = noise_layer.draws((SEED,), np.arange(BATCH), epoch, site, training=True)
    zeros = np.zeros((1, *shape, BATCH))
    y, _ = noise_layer.forward(backends.get("numpy"), noise.additive(SIGMA), zeros, streams)
    return np.moveaxis(y[0], -1, 0)


def made(name: str) -> None:
    torch.manual_seed(0)
    module, network = MODULES[name](), NETWORKS[name]()
    x, labels = problem(300, 1)
    optimiser = torch.optim.Adam(module.parameters(), 1e-2)
    for _ in range(60):
        optimiser.zero_grad()
        nn.functional.cross_entropy(
            module(torch.tensor(x, dtype=torch.float32)), torch.tensor(labels)
        ).backward()
        optimiser.step()
    module.eval()
    save_file(module.state_dict(), HERE / f"{name}.safetensors")
    sample = torch.tensor(x[:1], dtype=torch.float32)
    torch.onnx.export(
        module, (sample,), HERE / f"{name}.onnx", dynamo=False, input_names=["x"], output_names=["y"],
        dynamic_axes={"x": {0: "n"}},
    )  # fmt: skip
    module = module.double()
    x, labels = problem(BATCH, 2)
    kept: dict[str, Any] = {"x": x, "labels": labels, "logits": module(torch.tensor(x)).detach().numpy()}
    torch.onnx.export(
        module, (torch.tensor(x[:1]),), HERE / f"{name}-double.onnx", dynamo=False, input_names=["x"],
        output_names=["y"], dynamic_axes={"x": {0: "n"}},
    )  # fmt: skip

    site = network.site_names.index(NOISE_AT[name])
    place = dict(module.named_modules())[NOISE_AT[name]]
    at = {"epoch": 0}
    place.register_forward_hook(lambda _m, _i, y: y + torch.tensor(draws(network, site, at["epoch"])))
    module.train()
    module.zero_grad()
    for part in module.modules():
        if isinstance(part, nn.Dropout):
            part.eval()
    images = torch.tensor(x, requires_grad=True)
    loss = nn.functional.cross_entropy(module(images), torch.tensor(labels))
    loss.backward()
    kept["loss"], kept["dx"] = loss.item(), images.grad.numpy()
    kept |= {f"d.{key}": value.grad.numpy() for key, value in module.named_parameters()}
    module.load_state_dict(
        {key: value.double() if value.is_floating_point() else value for key, value in _state(name).items()}
    )
    optimiser, losses = torch.optim.Adam(module.parameters(), RATE), []
    for step in range(STEPS):
        at["epoch"] = step
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(module(torch.tensor(x)), torch.tensor(labels))
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    kept["losses"] = np.array(losses)
    kept |= {f"after.{key}": value.detach().numpy() for key, value in module.named_parameters()}
    np.savez_compressed(HERE / f"{name}.npz", **kept)


def _state(name: str) -> Any:
    from safetensors.torch import load_file

    return load_file(HERE / f"{name}.safetensors")


if __name__ == "__main__":
    for name in MODULES:
        made(name)
