"""Walks: noise at one place of a network after the other, and what that does to its accuracy."""
