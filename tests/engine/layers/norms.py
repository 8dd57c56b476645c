"""Batch norm as a backend runs it, with the statistics of the batch."""

from typing import Any

from tests.engine.layers import batch_norm_inference, batch_norm_training
from wn.engine.layers.batch_norm import statistics

__all__ = [
    "backward_inference",
    "backward_training",
    "forward_inference",
    "forward_training",
    "update_running",
]

backward_training, backward_inference = batch_norm_training.backward, batch_norm_inference.backward


def update_running(be: Any, running: Any, batch: Any) -> Any:
    """Return the running statistics after a batch."""
    return be.update_running(running, batch)


def forward_training(be: Any, params: Any, x: Any) -> tuple[Any, Any, Any]:
    """Return y, cache and the statistics of the batch."""
    y, cache = batch_norm_training.forward(be, params, x)
    return y, cache, statistics(cache)


def forward_inference(be: Any, params: Any, running: Any, x: Any) -> tuple[Any, Any]:
    """Return y and cache."""
    return batch_norm_inference.forward(be, params, x, running)
