"""Walks: noise at one place of a network after the other, and its effect on the accuracy."""
