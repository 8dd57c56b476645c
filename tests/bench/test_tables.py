"""The scripts behind tables of the book measure what the tables say."""

import numpy as np
import pytest

from tests.bench import normal_errors, numpy_kernels
from tests.bench.timing import alternate


def test_errors_of_normals_are_in_units_of_the_allowance(monkeypatch: pytest.MonkeyPatch) -> None:
    w0 = np.array([0, 1, 2**31 - 1, 2**31, 2**32 - 1], np.uint32)
    assert 0 < normal_errors.largest_error(w0, w0[::-1]) < 1
    right = normal_errors.normals_from_words
    monkeypatch.setattr(
        normal_errors, "normals_from_words", lambda *words: [z + np.float32(1e-5) for z in right(*words)]
    )
    assert normal_errors.largest_error(w0, w0[::-1]) > 1


def test_every_set_of_words_is_gone_through_once() -> None:
    for words, pairs in normal_errors.sets(10_000_019).values():
        parts = list(normal_errors.chunks(words))
        assert sum(part.size for part in parts) == len(words)
        w0, w1 = pairs(parts[0])
        assert w0.dtype == w1.dtype == np.uint32
        assert w0.shape == w1.shape == parts[0].shape


def test_kernels_have_times() -> None:
    sides = [*numpy_kernels.normal_sides(8, 16), *numpy_kernels.convolution_sides((2, 6, 6), 3, False, 2)]
    timings = alternate(sides, 1)
    assert [side.name for side in sides] == ["kernel", "plain code", "Generator", "forward", "dw", "dx"]
    assert all(timing.seconds > 0 for timing in timings)
    assert numpy_kernels.row("x", sides[:1], timings[:1]).startswith("| x | kernel ")
