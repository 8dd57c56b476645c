"""The layers of which `wn.network` makes networks, the blocks that join branches, and nodes with names."""

from wn.engine.layers.activations.clip import Clip, Relu6
from wn.engine.layers.activations.gelu import Gelu
from wn.engine.layers.activations.leaky_relu import LeakyRelu
from wn.engine.layers.activations.sigmoid import Sigmoid
from wn.engine.layers.activations.silu import Silu
from wn.engine.layers.activations.softplus import Softplus
from wn.engine.layers.activations.tanh import Tanh
from wn.engine.layers.average_pooling import AveragePooling
from wn.engine.layers.base import Formula, Layer, OfFormula, OfWeights, Stateless
from wn.engine.layers.batch_norm import BatchNorm
from wn.engine.layers.convolution import Convolution
from wn.engine.layers.dropout import Dropout
from wn.engine.layers.flatten import Flatten
from wn.engine.layers.linear import Linear
from wn.engine.layers.max_pooling import MaxPooling
from wn.engine.layers.relu import Relu
from wn.engine.layers.shapes.identity import Identity
from wn.engine.layers.shapes.reshape import Reshape
from wn.engine.layers.shapes.zero_padding import ZeroPadding
from wn.engine.layers.sliding.global_pooling import GlobalAveragePooling, GlobalMaxPooling
from wn.engine.network import Node
from wn.engine.networks.build import Concatenate, Residual

__all__ = [
    "AveragePooling",
    "BatchNorm",
    "Clip",
    "Concatenate",
    "Convolution",
    "Dropout",
    "Flatten",
    "Formula",
    "Gelu",
    "GlobalAveragePooling",
    "GlobalMaxPooling",
    "Identity",
    "Layer",
    "LeakyRelu",
    "Linear",
    "MaxPooling",
    "Node",
    "OfFormula",
    "OfWeights",
    "Relu",
    "Relu6",
    "Reshape",
    "Residual",
    "Sigmoid",
    "Silu",
    "Softplus",
    "Stateless",
    "Tanh",
    "ZeroPadding",
]
