"""Layers: one file each, with forward, backward, shapes and formulas."""
