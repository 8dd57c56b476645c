"""Tests of the layers: the formula of each, and what backends run in its place."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from hypothesis import settings

from wn.engine.backends.plain.base import Backend
from wn.engine.layers import average_pooling as _average_pooling
from wn.engine.layers import batch_norm as _batch_norm
from wn.engine.layers import convolution as _convolution
from wn.engine.layers import flatten as _flatten
from wn.engine.layers import linear as _linear
from wn.engine.layers import max_pooling as _max_pooling
from wn.engine.layers import relu as _relu
from wn.engine.layers.base import Formula

# For tests that check a layer's whole contract: one example of them is dozens of forward passes.
FEW = settings(max_examples=settings().max_examples // 5)


class Formulas(Backend):
    """Every layer by its formula, as it stands in its file."""

    name = "formulas"
    xp = np
    own: ClassVar[Mapping[Formula, Formula]] = {}


@dataclass(frozen=True)
class Run:
    """A layer as a backend runs it: what `check_layer` takes."""

    formula: Formula

    def forward(self, be: Any, *given: Any, **static: Any) -> tuple[Any, Any]:
        """Return (y, cache)."""
        return be.forward(self.formula, *given, **static)

    def backward(self, be: Any, *given: Any, **static: Any) -> tuple[Any, Any]:
        """Return (dx, grads)."""
        return be.backward(self.formula, *given, **static)


linear, relu, flatten = Run(_linear.FORMULA), Run(_relu.FORMULA), Run(_flatten.FORMULA)
convolution = Run(_convolution.FORMULA)
max_pooling, average_pooling = Run(_max_pooling.FORMULA), Run(_average_pooling.FORMULA)
batch_norm_training, batch_norm_inference = Run(_batch_norm.TRAINING), Run(_batch_norm.INFERENCE)
