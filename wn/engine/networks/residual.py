"""Residual networks by name: ResNet-20 and ResNet-18 of He et al. (arXiv 1512.03385).

Layers and shortcuts are called as in torchvision: layer1.0.conv1, layer2.0.downsample.0, fc.
"""

from collections.abc import Sequence
from typing import Any

from wn.engine.layers.base import Shape
from wn.engine.layers.batch_norm import BatchNorm
from wn.engine.layers.convolution import Convolution
from wn.engine.layers.flatten import Flatten
from wn.engine.layers.joins.add import Add
from wn.engine.layers.linear import Linear
from wn.engine.layers.max_pooling import MaxPooling
from wn.engine.layers.relu import Relu
from wn.engine.layers.sliding.global_pooling import GlobalAveragePooling
from wn.engine.network import Network, Node

# Channels of each group of blocks, and the blocks in a group.
GROUPS = {
    "resnet-20": ((16, 32, 64), 3),
    "resnet-18": ((64, 128, 256, 512), 2),
    "resnet-18-imagenet": ((64, 128, 256, 512), 2),
}
IMAGENET = "resnet-18-imagenet"


def residual_network(name: str, input_shape: Shape, classes: int, batch_norm: str) -> Network:
    """A residual network: a first convolution, groups of blocks, the mean of each channel, a linear layer.

    A block is conv 3×3 → BN → ReLU → conv 3×3 → BN, added to its input, then a ReLU. The first block of each
    group but the first halves height and width, and its shortcut is a convolution 1×1 with batch norm (option
    B of the paper). With batch norm convolutions have no bias, without it they have one.
    """
    maker = _Maker(batch_norm)
    channels, blocks = GROUPS[name]
    if name == IMAGENET:
        maker.convolution("conv1", "bn1", channels[0], 7, 2)
        maker.add("relu", Relu())
        maker.add("maxpool", MaxPooling((3, 3), stride=(2, 2), padding=(1, 1)))
    else:
        maker.convolution("conv1", "bn1", channels[0], 3, 1)
        maker.add("relu", Relu())
    for group, width in enumerate(channels, 1):
        for block in range(blocks):
            maker.block(f"layer{group}.{block}", width, halves=group > 1 and block == 0)
    maker.add("avgpool", GlobalAveragePooling())
    maker.add("flatten", Flatten(), site=False)
    maker.add("fc", Linear(classes))
    return Network(name, tuple(maker.nodes), tuple(input_shape))


class _Maker:
    """The nodes of a residual network under construction."""

    def __init__(self, batch_norm: str) -> None:
        self.batch_norm = batch_norm
        self.nodes: list[Node] = []

    def add(self, name: str, layer: Any, site: bool = True, inputs: Sequence[str] = ()) -> None:
        self.nodes.append(Node(name, layer, site, tuple(inputs)))

    def convolution(
        self, name: str, norm: str, channels: int, size: int, stride: int, inputs: Sequence[str] = ()
    ) -> None:
        plain, padding = self.batch_norm == "none", size // 2
        self.add(name, Convolution(channels, size, stride, padding, bias=plain), inputs=inputs)
        if not plain:
            self.add(norm, BatchNorm(), site=self.batch_norm == "sites")

    def block(self, name: str, channels: int, halves: bool) -> None:
        source, stride = self.nodes[-1].name, 2 if halves else 1
        self.convolution(f"{name}.conv1", f"{name}.bn1", channels, 3, stride)
        self.add(f"{name}.relu1", Relu())
        self.convolution(f"{name}.conv2", f"{name}.bn2", channels, 3, 1)
        branch = self.nodes[-1].name
        if halves:
            names = f"{name}.downsample.0", f"{name}.downsample.1"
            self.convolution(*names, channels, 1, stride, inputs=(source,))
            source = self.nodes[-1].name
        self.add(f"{name}.add", Add(), inputs=(branch, source))
        self.add(f"{name}.relu2", Relu())
