"""The layers of which `wn.network` makes networks, the blocks that join branches, and nodes with names."""

from wn.engine.layers.average_pooling import AveragePooling
from wn.engine.layers.base import Formula, Layer, OfFormula, OfWeights, Stateless
from wn.engine.layers.batch_norm import BatchNorm
from wn.engine.layers.convolution import Convolution
from wn.engine.layers.flatten import Flatten
from wn.engine.layers.linear import Linear
from wn.engine.layers.max_pooling import MaxPooling
from wn.engine.layers.relu import Relu
from wn.engine.layers.sliding.global_pooling import GlobalAveragePooling, GlobalMaxPooling
from wn.engine.network import Node
from wn.engine.networks.build import Concatenate, Residual

__all__ = [
    "AveragePooling",
    "BatchNorm",
    "Concatenate",
    "Convolution",
    "Flatten",
    "Formula",
    "GlobalAveragePooling",
    "GlobalMaxPooling",
    "Layer",
    "Linear",
    "MaxPooling",
    "Node",
    "OfFormula",
    "OfWeights",
    "Relu",
    "Residual",
    "Stateless",
]
