"""Layers in other forms than that of `check_layer`: with the batch first, or placed in networks."""
