"""Networks of the literature by name: their numbers of parameters, and the sites within blocks."""

from itertools import pairwise

import pytest

from wn.engine import models


def default_network(name, batch_norm):
    return models.build(name, *models.default_input(name), batch_norm)


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("resnet-20", 272_474),  # 0.27 million in the paper; with option B, counted by hand below
        ("resnet-18", 11_173_962),  # of the usual form for CIFAR
        ("resnet-18-imagenet", 11_689_512),  # torchvision's resnet18
        ("vgg16", 14_728_266),  # with batch norm and one linear layer, for CIFAR
    ],
)
def test_parameter_counts_of_the_literature(name, published):
    assert models.parameter_count(default_network(name, "sites")) == published


def test_resnet_20_by_hand():
    def block(inputs, outputs):
        shortcut = inputs * outputs + 2 * outputs if inputs != outputs else 0
        return 9 * inputs * outputs + 9 * outputs * outputs + 4 * outputs + shortcut

    widths = [16, 16, 16, 16, 32, 32, 32, 64, 64, 64]
    expected = 9 * 3 * 16 + 2 * 16 + sum(block(a, b) for a, b in pairwise(widths)) + 64 * 10 + 10
    network = default_network("resnet-20", "sites")
    assert models.parameter_count(network) == expected
    assert network.site_shapes()[network.site_names.index("layer2.0.add")] == (32, 16, 16)
    assert [name for name in network.site_names if name.startswith("layer2.0")] == [
        "layer2.0.conv1", "layer2.0.bn1", "layer2.0.relu1", "layer2.0.conv2", "layer2.0.bn2",
        "layer2.0.downsample.0", "layer2.0.downsample.1", "layer2.0.add", "layer2.0.relu2",
    ]  # fmt: skip
