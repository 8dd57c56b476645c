"""The fast backend on a CPU: loops compiled by Numba."""
