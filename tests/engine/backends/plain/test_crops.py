"""Random crop and flip: right pixels, right frequencies, and the same for a sample in whatever batch."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from wn.data.dataset import Draw, Split, batch
from wn.data.recipes import CIFAR10, FASHION_MNIST, Preprocessing
from wn.engine.backends.numpy.backend import NumpyBackend
from wn.engine.backends.plain.crops import augment
from wn.random import Purpose, sample_words, uniform_below

NUMPY = NumpyBackend()

Images = NDArray[np.uint8]


def images_of(count: int, channels: int = 2, height: int = 5, width: int = 6) -> Images:
    """Images whose pixels all differ from their neighbours and from zero."""
    rng = np.random.default_rng(3)
    return rng.integers(1, 256, size=(count, channels, height, width), dtype=np.uint8)


def naive(image: Images, padding: int, u: int, v: int, mirrored: bool) -> Images:
    """One image cropped at (u, v) and mirrored, pixel by pixel."""
    channels, height, width = image.shape
    result = np.zeros_like(image)
    for c, i, j in np.ndindex(channels, height, width):
        row, column = i + u - padding, (width - 1 - j if mirrored else j) + v - padding
        if 0 <= row < height and 0 <= column < width:
            result[c, i, j] = image[c, row, column]
    return result


@given(
    samples=st.lists(st.integers(0, 19), min_size=1, max_size=8),
    padding=st.integers(0, 4),
    flip=st.booleans(),
    seed=st.integers(0, 2**64 - 1),
    epoch=st.integers(0, 2**32 - 1),
)
def test_augmented_images_equal_the_naive_ones(
    samples: list[int], padding: int, flip: bool, seed: int, epoch: int
) -> None:
    images, indices = images_of(20), np.array(samples)
    stored = images.copy()
    result = augment(np, images, indices, padding, flip, seed, epoch)
    words = sample_words(np, seed, indices, epoch, Purpose.AUGMENT).astype(object)  # exact integers
    assert result.shape == (2, 5, 6, len(samples))
    assert np.array_equal(images, stored)
    for place, sample in enumerate(samples):
        u, v = (int(words[row, place]) * (2 * padding + 1) >> 32 for row in (0, 1))
        mirrored = flip and int(words[2, place]) >= 2**31
        assert np.array_equal(result[..., place], naive(images[sample], padding, u, v, mirrored))


@given(order=st.permutations(range(12)), cut=st.integers(1, 11))
def test_the_batch_does_not_matter(order: list[int], cut: int) -> None:
    split = Split(images_of(12, channels=3), np.zeros(12, np.int64))
    indices, recipe, draw = np.array(order), CIFAR10.preprocessing, Draw(7, 2)
    whole = batch(NUMPY, split, indices, recipe, draw=draw)
    parts = [batch(NUMPY, split, part, recipe, draw=draw) for part in (indices[:cut], indices[cut:])]
    assert np.array_equal(whole, np.concatenate(parts, axis=-1))
    assert np.array_equal(whole, batch(NUMPY, split, np.arange(12), recipe, draw=draw)[..., indices])


def test_draws_depend_on_seed_epoch_and_sample() -> None:
    images = np.repeat(images_of(1, height=28, width=28), 50, axis=0)
    base = augment(np, images, np.arange(50), 4, True, 1, 1)
    for draw in (Draw(2, 1), Draw(1, 2)):
        assert not np.array_equal(base, augment(np, images, np.arange(50), 4, True, *draw))
    assert len({base[..., place].tobytes() for place in range(50)}) > 25  # 162 outcomes are possible


def test_all_outcomes_are_equally_likely() -> None:
    count, outcomes = 162_00, 162
    words = sample_words(np, 5, np.arange(count), 0, Purpose.AUGMENT)
    u, v, mirror = (uniform_below(np, word, bound) for word, bound in zip(words, (9, 9, 2), strict=False))
    observed = np.bincount((u * 9 + v) * 2 + mirror, minlength=outcomes)
    chi2 = float(((observed - count / outcomes) ** 2).sum() / (count / outcomes))
    z = (chi2 - (outcomes - 1)) / np.sqrt(2 * (outcomes - 1))
    print(f"n={count} seed=5 chi2={chi2:.1f} z={z:.2f}")
    assert abs(z) < 6


@pytest.mark.parametrize(
    ("word", "bound", "expected"), [(0, 9, 0), (2**32 - 1, 9, 8), (2**31, 2, 1), (2**31 - 1, 2, 0)]
)
def test_words_become_integers_below_the_bound(word: int, bound: int, expected: int) -> None:
    assert uniform_below(np, np.array([word], np.uint32), bound).tolist() == [expected]


def test_padding_is_black_before_normalisation() -> None:
    split = Split(np.full((200, 1, 28, 28), 255, np.uint8), np.zeros(200, np.int64))
    x = batch(NUMPY, split, np.arange(200), FASHION_MNIST.preprocessing, draw=Draw(0, 0))
    assert set(np.unique(x)) == {-1.0, 1.0}  # the recipe maps 0 to −1 and 255 to 1
    assert np.all(x[0, 0, 4:24, 4:24] == 1)  # the centre is in every crop


def test_evaluation_and_plain_recipes_change_nothing() -> None:
    split = Split(images_of(6, channels=1), np.zeros(6, np.int64))
    plain = Preprocessing(mean=(0.5,), std=(0.5,))
    evaluated = batch(NUMPY, split, np.arange(6), FASHION_MNIST.preprocessing)
    assert np.array_equal(evaluated, batch(NUMPY, split, np.arange(6), plain))
    assert np.array_equal(evaluated, batch(NUMPY, split, np.arange(6), plain, draw=Draw(1, 1)))
    assert not np.array_equal(
        evaluated, batch(NUMPY, split, np.arange(6), FASHION_MNIST.preprocessing, draw=Draw(1, 1))
    )
