"""The networks of the study, by name; tables of their noise sites are in docs/networks.md."""

from typing import Any, NamedTuple

from wn.basics.errors import WnError
from wn.basics.numbers import is_integer
from wn.engine import backends
from wn.engine.layers.average_pooling import AveragePooling
from wn.engine.layers.base import Layer, Shape
from wn.engine.layers.batch_norm import BatchNorm
from wn.engine.layers.convolution import Convolution
from wn.engine.layers.flatten import Flatten
from wn.engine.layers.linear import Linear
from wn.engine.layers.max_pooling import MaxPooling
from wn.engine.layers.relu import Relu
from wn.engine.network import Network, Node
from wn.engine.networks.cost import multiplications
from wn.engine.networks.residual import GROUPS, IMAGENET, residual_network
from wn.engine.optim import arrays

BATCH_NORM = ("none", "sites", "hidden")
MLP_WIDTHS = (8, 16, 32, 64, 256, 1024)
CNN_CHANNELS = {"cnn-s": (28, 30), "cnn-m": (64, 48), "cnn-l": (60, 76)}
VGG16 = (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M")
VGG11 = (64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M")
OF_THE_STUDY = (*(f"mlp-{width}" for width in MLP_WIDTHS), "lenet5", *CNN_CHANNELS, "vgg11", "vgg11-28")
ALIASES = {"mlp": "mlp-64", "tfc": "mlp-64", "sfc": "mlp-256", "lfc": "mlp-1024"}


class DefaultInput(NamedTuple):
    """The input of a network in the study: the shape of one sample and the number of classes."""

    shape: Shape
    classes: int


def names() -> tuple[str, ...]:
    """Return the names of the networks; `ALIASES` has others for some of them."""
    return (*OF_THE_STUDY, "vgg16", *GROUPS)


def check_name(name: str, batch_norm: str = "none") -> str:
    """Return the name of the network behind an alias; WnError for unknown names, listing the allowed ones."""
    found = ALIASES.get(name, name)
    if found not in names():
        raise WnError(f"unknown model {name!r}: allowed are {', '.join((*names(), *ALIASES))}")
    if batch_norm not in BATCH_NORM:
        raise WnError(f"unknown batch_norm {batch_norm!r}: allowed are {', '.join(BATCH_NORM)}")
    return found


def default_input(name: str) -> DefaultInput:
    """Return the input that the study gives to a network; WnError for an unknown name."""
    name = check_name(name)
    if name in CNN_CHANNELS:
        return DefaultInput((1, 10, 49), 12)  # MFCC: coefficients × frames
    if name == IMAGENET:
        return DefaultInput((3, 224, 224), 1000)
    return DefaultInput((3, 32, 32) if name in ("vgg11", "vgg16", *GROUPS) else (1, 28, 28), 10)


def build(name: str, input_shape: Shape, classes: int, batch_norm: str = "none") -> Network:
    """Return the network `name` for samples of shape (C, H, W), or (F,) for MLPs, and K classes.

    batch_norm: "none", "sites" (each batch norm is a noise site) or "hidden" (batch norm without sites of
    its own). Raises WnError for unknown names, and where the input does not fit, naming the layer and shapes.
    """
    name = check_name(name, batch_norm)
    if not _positive(classes):
        raise WnError(f"classes is {classes!r}: it must be an integer of at least 1")
    shape = tuple(input_shape)
    if len(shape) not in (1, 3) or not all(map(_positive, shape)):
        raise WnError(
            f"input shape is {shape}: it must be (channels, height, width), or (features,), all at least 1"
        )
    if name in GROUPS:
        return residual_network(name, shape, classes, batch_norm)
    builder = _Builder(batch_norm)
    if name.startswith("mlp-"):
        _mlp(builder, int(name.removeprefix("mlp-")))
    elif name == "lenet5":
        _lenet5(builder)
    elif name in CNN_CHANNELS:
        _cnn(builder, *CNN_CHANNELS[name])
    elif name == "vgg16":
        _vgg16(builder)
    else:
        _vgg11(builder, small=name == "vgg11-28")
    builder.add("logits", Linear(classes))
    return Network(name, tuple(builder.nodes), shape)


def parameter_count(network: Network) -> int:
    """The number of parameters of one member; running statistics are not counted."""
    params, _ = network.template(backends.get("numpy"))
    return sum(array.size for array in arrays(params))


def cost_per_image(network: Network) -> int:
    """Return the multiply-accumulates of a forward pass: linear O·I, convolution O·H'·W'·C·KH·KW."""
    return sum(multiplications(network))


class _Builder:
    """A network under construction: names are numbered per kind (conv1, bn1, relu1, pool1, fc1, …)."""

    def __init__(self, batch_norm: str) -> None:
        self.batch_norm = batch_norm
        self.nodes: list[Node] = []
        self.counts: dict[str, int] = {}

    def add(self, name: str, layer: Layer, site: bool = True) -> None:
        self.nodes.append(Node(name, layer, site))

    def numbered(self, kind: str, layer: Layer, site: bool = True) -> None:
        self.counts[kind] = self.counts.get(kind, 0) + 1
        self.add(f"{kind}{self.counts[kind]}", layer, site)

    def norm_and_relu(self) -> None:
        if self.batch_norm != "none":
            self.numbered("bn", BatchNorm(), site=self.batch_norm == "sites")
        self.numbered("relu", Relu())

    def flatten(self) -> None:
        self.add("flatten", Flatten(), site=False)

    def linear(self, features: int) -> None:
        self.numbered("fc", Linear(features))
        self.norm_and_relu()


def _mlp(builder: _Builder, width: int) -> None:
    """RL_TFC: flatten → 3 × [Linear width → (BN) → ReLU]."""
    builder.flatten()
    for _ in range(3):
        builder.linear(width)


def _lenet5(builder: _Builder) -> None:
    """2 × [C@5 → (BN) → ReLU → MaxPool 2] with 6 and 16 channels → flatten → Linear 120, 84."""
    for channels in (6, 16):
        builder.numbered("conv", Convolution(channels, (5, 5)))
        builder.norm_and_relu()
        builder.numbered("pool", MaxPooling((2, 2)))
    builder.flatten()
    builder.linear(120)
    builder.linear(84)


def _cnn(builder: _Builder, first: int, second: int) -> None:
    """Keyword spotting: 2 × [C@(4, 10) → (BN) → ReLU], strides (1, 2) and (1, 1) → flatten → Linear 128."""
    builder.numbered("conv", Convolution(first, (4, 10), stride=(1, 2)))
    builder.norm_and_relu()
    builder.numbered("conv", Convolution(second, (4, 10)))
    builder.norm_and_relu()
    builder.flatten()
    builder.linear(128)


def _vgg11(builder: _Builder, small: bool) -> None:
    """C@3 with padding 1 → (BN) → ReLU per number, MaxPool 2 per M, then AvgPool 1 → flatten.

    For 28×28 images (`small`) the list ends after its last convolution, whose output has 1×1 pixels: without
    the BN, ReLU and M that follow it in the large one.
    """
    last = VGG11[-2:]
    for entry in VGG11[:-2] if small else VGG11:
        if entry == "M":
            builder.numbered("pool", MaxPooling((2, 2)))
        else:
            _convolution3(builder, int(entry))
            builder.norm_and_relu()
    if small:
        _convolution3(builder, int(last[0]))
    builder.add("avgpool", AveragePooling((1, 1)))
    builder.flatten()


def _vgg16(builder: _Builder) -> None:
    """C@3 with padding 1 → (BN) → ReLU per number, MaxPool 2 per M → flatten."""
    for entry in VGG16:
        if entry == "M":
            builder.numbered("pool", MaxPooling((2, 2)))
        else:
            _convolution3(builder, int(entry))
            builder.norm_and_relu()
    builder.flatten()


def _convolution3(builder: _Builder, channels: int) -> None:
    builder.numbered("conv", Convolution(channels, (3, 3), padding=(1, 1)))


def _positive(value: Any) -> bool:
    return is_integer(value) and value >= 1
