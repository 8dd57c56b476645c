"""Random crop with padding and random flip, drawn per (seed, epoch, sample): the batch does not matter."""

from typing import Any, NamedTuple

from wn.random import Purpose, sample_words


class Draw(NamedTuple):
    """What an augmentation depends on besides the sample id: the network's seed and the epoch."""

    seed: int
    epoch: int


def augment(xp: Any, images: Any, samples: Any, padding: int, flip: bool, draw: Draw) -> Any:
    """Crop and flip the images at `samples` (B,) of `images` (N, C, H, W) at random: (C, H, W, B).

    The image is surrounded by `padding` pixels of zeros; a window of the original size is cut at offsets
    (u, v), each uniform on 0 … 2·padding (padding, padding is the image itself), and mirrored left-right with
    probability 1/2 if `flip`. Words 0, 1, 2 of the sample's Philox block give u, v and the mirror.
    """
    words = sample_words(xp, draw.seed, samples, draw.epoch, Purpose.AUGMENT)  # (4, B)
    height, width = images.shape[2:]
    rows = xp.arange(height)[:, None] + uniform_below(xp, words[0], 2 * padding + 1)  # (H, B)
    columns = xp.arange(width)[:, None]  # (W, 1)
    if flip:
        columns = xp.where(uniform_below(xp, words[2], 2) == 1, width - 1 - columns, columns)  # (W, B)
    columns = columns + uniform_below(xp, words[1], 2 * padding + 1)  # (W, B)
    return _gather(xp, _padded(xp, images[samples], padding), rows, columns)


def uniform_below(xp: Any, words: Any, bound: int) -> Any:
    """Integers uniform on 0 … bound − 1 (int64) from 32-bit words: ⌊word · bound / 2³²⌋.

    The probabilities differ from 1 / bound by less than 2⁻³².
    """
    return ((words.astype(xp.uint64) * xp.uint64(bound)) >> xp.uint64(32)).astype(xp.int64)


def _padded(xp: Any, images: Any, padding: int) -> Any:
    return xp.pad(images, ((0, 0), (0, 0), (padding, padding), (padding, padding)))


def _gather(xp: Any, images: Any, rows: Any, columns: Any) -> Any:
    """y[c, h, w, b] = images[b, c, rows[h, b], columns[w, b]], as one lookup with flat indices."""
    count, channels, height, width = images.shape
    plane = rows[:, None, :] * width + columns  # (H, W, B)
    start = (xp.arange(count) * channels + xp.arange(channels)[:, None]) * (height * width)  # (C, B)
    return xp.take(images.reshape(-1), start[:, None, None, :] + plane)  # (C, H, W, B)
