"""Random crops and flips of training images, drawn per (seed, epoch, sample): the batch does not matter."""

from typing import Any, NamedTuple

from wn.backends import crops


class Draw(NamedTuple):
    """What an augmentation depends on besides the sample id: the network's seed and the epoch."""

    seed: int
    epoch: int


def augment(xp: Any, images: Any, samples: Any, padding: int, flip: bool, draw: Draw) -> Any:
    """See `wn.backends.crops.augment`: the images at `samples` (B,), cropped and flipped, (C, H, W, B)."""
    return crops.augment(xp, images, samples, padding, flip, *draw)
