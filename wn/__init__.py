"""Walking Noise: what noise does to a neural network, layer by layer."""
