"""Curves predicted without drawing noise: beside those of a walk, and on their own."""
