"""Compiled loops of the Numba backend: each file holds the kernels of one kind, plain loops over arrays."""
