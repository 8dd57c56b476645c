"""Random crops and flips, drawn per (seed, epoch, sample): the batch does not matter."""

from typing import Any

from wn.random import Purpose, sample_words, uniform_below


def augment(xp: Any, images: Any, samples: Any, padding: int, flip: bool, seed: int, epoch: int) -> Any:
    """Crop and flip the images at `samples` (B,) of `images` (N, C, H, W) at random: (C, H, W, B).

    The image is surrounded by `padding` pixels of zeros; a window of the original size is cut at offsets
    (u, v), each uniform on 0 … 2·padding (padding, padding is the image itself), and mirrored left-right with
    probability 1/2 if `flip`. Words 0, 1, 2 of the sample's Philox block give u, v and the mirror.
    Source: derived in docs/data.md.
    """
    words = sample_words(xp, seed, samples, epoch, Purpose.AUGMENT)  # (4, B)
    x = images[samples]  # (B, C, H, W), a copy
    if padding > 0:
        u, v = (uniform_below(xp, word, 2 * padding + 1) for word in words[:2])  # (B,)
        x = _cropped(xp, x, padding, u, v)  # (B, C, H, W)
    if flip:
        mirrored = uniform_below(xp, words[2], 2) == 1  # (B,)
        x[mirrored] = x[mirrored][..., ::-1]
    return xp.moveaxis(x, 0, -1)  # (C, H, W, B)


def _cropped(xp: Any, x: Any, padding: int, u: Any, v: Any) -> Any:
    """y[b, c, i, j] = padded x[b, c, i + u[b], j + v[b]] for x (B, C, H, W)."""
    count, channels, height, width = x.shape
    padded = xp.zeros((count, channels, height + 2 * padding, width + 2 * padding), dtype=x.dtype)
    padded[:, :, padding : padding + height, padding : padding + width] = x
    windows = xp.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(2, 3))
    return windows[xp.arange(count), :, u, v]  # views (B, C, 2p+1, 2p+1, H, W), one taken of each sample
