"""Curves of accuracy under noise anywhere in a network, without drawing any."""
