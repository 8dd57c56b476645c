"""Convolutions of images that have 2^31 values and more: places in them need 64 bits."""

from pathlib import Path

import numpy as np
import pytest

from tests.engine.backends.cuda import host, needs_compiler
from wn.engine.backends.cuda.kernels import packed

ROW, BATCH = 2**24, 128  # the row of the image in which value 2^31 is


@pytest.fixture
def image(tmp_path: Path) -> np.memmap[tuple[int, int], np.dtype[np.float32]]:
    """An image of one column, (rows, batch): zeros, which take no memory, but for two rows."""
    found = np.memmap(tmp_path / "image", np.float32, "w+", shape=(ROW + 1, BATCH))
    found[0], found[ROW] = 2, np.arange(BATCH)
    return found


def sliding(height: int, rows: int, stride: int, padding: int) -> object:
    """A convolution by one value, of an image of one channel."""
    members_and_channels, widths = (1, 1, 1, 1, 1), (1, 1)
    return packed(
        np.int32,
        *(*members_and_channels, height, widths[0], rows, widths[1]),
        *(1, 1, stride, 1, padding, 0, BATCH, 1),
    )


@needs_compiler
def test_forward(image: np.ndarray) -> None:
    w, b, y = np.full(1, 3, np.float32), np.ones(1, np.float32), np.empty((2, BATCH), np.float32)
    sizes = sliding(ROW + 1, 2, ROW, 0)
    host.library("float32")["convolution"]((2,), BATCH, (image, w, b, y, sizes))
    np.testing.assert_array_equal(y, 3 * image[[0, ROW]] + 1)


@needs_compiler
def test_gradient_of_the_input(image: np.ndarray) -> None:
    """Its first row, which the last row of a padded result has looked at."""
    w, dx = np.full(1, 3, np.float32), np.empty((1, BATCH), np.float32)
    sizes = sliding(1, ROW + 1, 1, ROW)
    host.library("float32")["convolution_input_gradient"]((1,), BATCH, (image, w, dx, sizes))
    np.testing.assert_array_equal(dx, 3 * image[[ROW]])


@needs_compiler
def test_gradient_of_the_kernel(image: np.ndarray) -> None:
    dy, dw = np.ones((2, BATCH), np.float32), np.empty(1, np.float32)
    sizes = sliding(ROW + 1, 2, ROW, 0)
    host.library("float32")["convolution_weight_gradient"]((1,), 32, (dy, image, dw, sizes))
    assert dw[0] == image[[0, ROW]].sum()
