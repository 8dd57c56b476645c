"""What a network costs: its multiplications for one input."""

from math import prod

from wn.engine.layers.convolution import Convolution
from wn.engine.layers.linear import Linear
from wn.engine.network import Network


def multiplications(network: Network) -> list[int]:
    """The multiplications of each layer for one input: linear O·I, convolution O·H'·W'·(C/groups)·KH·KW."""
    found = []
    for place in network.placed:
        match place.layer:
            case Linear():
                found.append(place.output_shape[0] * place.input_shape[0])
            case Convolution(kernel=(height, width), groups=groups):
                found.append(prod(place.output_shape) * (place.input_shape[0] // groups) * height * width)
            case _:
                found.append(0)
    return found
