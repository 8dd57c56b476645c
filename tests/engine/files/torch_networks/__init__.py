"""Three networks as values, as PyTorch modules have them; what PyTorch computed is in the files beside."""

from pathlib import Path

import wn
from wn import layers
from wn.engine.network import Network

HERE = Path(__file__).parent
NOISE_AT = {"residual": "layer1.0.bn1", "separable": "features.4", "vgg": "features.2"}


def conv(channels: int, size: int, **settings: object) -> layers.Convolution:
    """A convolution without bias."""
    return layers.Convolution(channels, (size, size), bias=False, **settings)  # type: ignore[arg-type]  # by name


def residual() -> Network:
    """Strided bias-free convolutions, batch norm, a shortcut with a convolution, global pooling."""

    def branch(channels: int, stride: int) -> list[object]:
        return [
            ("conv1", conv(channels, 3, stride=stride, padding=1)), ("bn1", layers.BatchNorm()),
            ("relu", layers.Relu()), ("conv2", conv(channels, 3, padding=1)), ("bn2", layers.BatchNorm()),
        ]  # fmt: skip

    down = [("0", conv(8, 1, stride=2)), ("1", layers.BatchNorm())]
    return wn.network(
        (1, 12, 12),
        [
            ("stem", conv(4, 3, padding=1)), ("bn", layers.BatchNorm()), ("relu", layers.Relu()),
            ("layer1.0", layers.Residual(branch(4, 1))), ("relu0", layers.Relu()),
            ("layer1.1", layers.Residual(branch(8, 2), shortcut=down)), ("relu1", layers.Relu()),
            layers.GlobalAveragePooling(), layers.Flatten(), ("fc", layers.Linear(3)),
        ],
        name="residual",
    )  # fmt: skip


def separable() -> Network:
    """Depthwise and pointwise convolutions."""
    items = [
        layers.Convolution(4, 3, padding=1), layers.BatchNorm(), layers.Relu(),
        layers.Convolution(4, 3, stride=2, padding=1, groups=4), layers.BatchNorm(), layers.Relu(),
        layers.Convolution(8, 1), layers.Relu(), layers.MaxPooling(3, stride=2, padding=1),
    ]  # fmt: skip
    named = [(f"features.{place}", layer) for place, layer in enumerate(items)]
    return wn.network((1, 12, 12), [*named, layers.Flatten(), ("fc", layers.Linear(3))], name="separable")


def vgg() -> Network:
    """Convolutions, max and average pooling, two linear layers; dropout is left out, as at inference."""
    items = [
        layers.Convolution(4, 3, padding=1), layers.Relu(), layers.Convolution(6, 3), layers.Relu(),
        layers.MaxPooling(2), layers.AveragePooling(2, ceil_mode=True),
    ]  # fmt: skip
    named = [(f"features.{place}", layer) for place, layer in enumerate(items)]
    head = [
        ("classifier.0", layers.Linear(16)),
        ("classifier.1", layers.Relu()),
        ("classifier.3", layers.Linear(3)),
    ]
    return wn.network((1, 12, 12), [*named, layers.Flatten(), *head], name="vgg")


NETWORKS = {"residual": residual, "separable": separable, "vgg": vgg}
