"""Tests of the layers."""

from hypothesis import settings

# For tests that check a layer's whole contract: one example of them is dozens of forward passes.
FEW = settings(max_examples=settings().max_examples // 5)
