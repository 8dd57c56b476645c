"""Splits, limits, batches and checksums of data sets in memory."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from wn.basics.errors import DataError, WnError
from wn.data.dataset import Dataset, Split, batch, checksum, make_split
from wn.data.recipes import MNIST, Preprocessing, Recipe
from wn.engine.backends.numpy.backend import NumpyBackend

NUMPY = NumpyBackend()

LABELS = hnp.arrays(np.int64, st.integers(1, 40), elements=st.integers(0, 3))


def split_of(labels: NDArray[np.int64], channels: int = 1, seed: int = 0) -> Split:
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, size=(len(labels), channels, 4, 5), dtype=np.uint8)
    return Split(images, labels)


def dataset_of(train: NDArray[np.int64], test: NDArray[np.int64]) -> Dataset:
    return Dataset("toy", tuple("abcd"), split_of(train), split_of(test, seed=1), MNIST)


def test_counts_that_disagree_name_both_files() -> None:
    with pytest.raises(DataError, match=r"x\.idx has 3 images, but y\.idx has 2 labels"):
        make_split(np.zeros((3, 1, 2, 2), np.uint8), np.zeros(2, np.uint8), 10, "x.idx", "y.idx")


@given(labels=hnp.arrays(np.uint8, st.integers(1, 20)), classes=st.integers(1, 255))
def test_labels_are_in_range_or_refused(labels: NDArray[np.uint8], classes: int) -> None:
    images = np.zeros((len(labels), 1, 2, 2), np.uint8)
    if labels.max() < classes:
        split = make_split(images, labels, classes, "x.idx", "y.idx")
        assert split.labels.dtype == np.int64
        assert np.array_equal(split.labels, labels)
    else:
        with pytest.raises(
            DataError, match=rf"y\.idx: label \d+ of sample \d+ .*x\.idx.* 0 to {classes - 1}"
        ):
            make_split(images, labels, classes, "x.idx", "y.idx")


def test_negative_labels_are_refused() -> None:
    with pytest.raises(DataError, match="label -1 of sample 1"):
        make_split(np.zeros((2, 1, 2, 2), np.uint8), np.array([0, -1]), 10, "x", "y")


@given(labels=LABELS, data=st.data())
def test_limited_is_balanced_nested_and_in_file_order(labels: NDArray[np.int64], data: st.DataObject) -> None:
    images = np.arange(len(labels), dtype=np.uint8).reshape(-1, 1, 1, 1)  # each image says where it was
    whole = Dataset("toy", tuple("abcd"), Split(images, labels), split_of(labels), MNIST)
    count = data.draw(st.integers(1, len(labels)))
    fewer = data.draw(st.integers(1, count))
    limited = whole.limited(count)
    kept = limited.train.images[:, 0, 0, 0].astype(int)
    assert len(limited.train) == count
    assert np.all(np.diff(kept) > 0)
    assert np.array_equal(limited.train.labels, labels[kept])
    assert limited.test is whole.test
    available = np.bincount(labels, minlength=4)
    taken = np.bincount(limited.train.labels, minlength=4)
    unfinished = taken[taken < available]
    assert np.all(unfinished >= taken.max() - 1)  # classes that still have samples are at most one behind
    for label in range(4):  # of each class the first ones
        assert np.array_equal(
            kept[limited.train.labels == label], np.flatnonzero(labels == label)[: taken[label]]
        )
    again = whole.limited(fewer).train.images
    assert np.array_equal(limited.limited(fewer).train.images, again)
    assert set(again.ravel()) <= set(kept)


@pytest.mark.parametrize("count", [0, -1, 6, 5.0, True, "3"])
def test_limits_out_of_range(count: Any) -> None:
    data = dataset_of(np.zeros(5, np.int64), np.ones(5, np.int64))
    with pytest.raises(WnError, match=rf"toy: training samples: {count} is not in 1 to 5"):
        data.limited(count)
    with pytest.raises(WnError, match=rf"toy: test samples: {count} is not in 1 to 5"):
        data.limited(None, count)


def test_limit_of_the_test_split_leaves_training_alone() -> None:
    data = dataset_of(np.arange(4), np.array([0, 0, 1, 1, 2, 3]))
    limited = data.limited(test_samples=4)
    assert limited.train is data.train
    assert limited.test.labels.tolist() == [0, 1, 2, 3]
    assert limited.name == "toy"
    assert limited.image_shape == (1, 4, 5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("channels", [1, 3])
def test_batches_are_normalised_and_batch_last(dtype: type[np.floating], channels: int) -> None:
    split = split_of(np.zeros(7, np.int64), channels)
    stored = split.images.copy()
    mean, std = (0.5, 0.25, 0.125)[:channels], (0.2, 0.4, 0.8)[:channels]
    indices = np.array([6, 0, 3, 3])
    x = batch(NUMPY, split, indices, Preprocessing(255.0, mean, std), dtype)
    assert x.shape == (1, channels, 4, 5, 4)
    assert x.dtype == dtype
    assert x.flags.c_contiguous
    for place, sample in enumerate(indices):
        for channel in range(channels):
            expected = (stored[sample, channel] / 255.0 - mean[channel]) / std[channel]
            tolerance = 8 * np.finfo(dtype).eps
            assert np.allclose(x[0, channel, :, :, place], expected, rtol=tolerance, atol=tolerance)
    assert np.array_equal(split.images, stored)


def test_one_mean_serves_all_channels_and_features_stay_as_they_are() -> None:
    colours = batch(
        NUMPY, split_of(np.zeros(2, np.int64), 3), np.arange(2), Preprocessing(mean=(0.5,), std=(0.5,))
    )
    assert colours.min() >= -1
    assert colours.max() <= 1
    assert colours.min() < -0.5
    features = np.random.default_rng(0).normal(size=(5, 1, 10, 3)).astype(np.float32)
    split = Split(features, np.zeros(5, np.int64))
    x = batch(NUMPY, split, np.arange(5), Preprocessing(scale=1.0))
    assert np.array_equal(x[0], np.moveaxis(features, 0, -1))


def test_a_batch_is_a_copy() -> None:
    features = np.ones((2, 1, 3, 3), np.float32)
    split = Split(features, np.zeros(2, np.int64))
    batch(NUMPY, split, np.arange(2), Preprocessing(scale=1.0))[:] = 7
    assert np.all(split.images == 1)


def test_a_split_can_be_moved_and_counted() -> None:
    split = split_of(np.arange(4))
    moved = split.on(NUMPY)
    assert len(moved) == 4
    assert np.array_equal(moved.images, split.images)


def test_equal_data_have_equal_checksums_and_others_do_not() -> None:
    data = dataset_of(np.arange(4), np.arange(3))
    assert checksum(data) == checksum(dataset_of(np.arange(4), np.arange(3)))
    assert len(checksum(data)) == 64
    changed = data.train.images.copy()
    changed[1, 0, 2, 3] ^= 1
    others = [
        replace(data, train=Split(changed, data.train.labels)),
        replace(data, train=data.test, test=data.train),
        replace(data, train=Split(data.train.images.reshape(4, 1, 5, 4), data.train.labels)),
        dataset_of(np.array([0, 1, 3, 2]), np.arange(3)),
    ]
    assert len({checksum(data), *map(checksum, others)}) == 5


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"scale": 0.0}, "scale"),
        ({"scale": float("nan")}, "scale"),
        ({"mean": (0.1, 0.2)}, "2 means and 1 standard"),
        ({"mean": (), "std": ()}, "0 means"),
        ({"std": (0.0,)}, "every std"),
        ({"crop_padding": -1}, "crop_padding"),
        ({"crop_padding": 2.5}, "crop_padding"),
        ({"flip": "no"}, "flip"),
        ({"scale": "255"}, "scale"),
        ({"mean": 0.5}, "mean must be a tuple of numbers"),
        ({"mean": ("0.5",)}, "mean must be a tuple of numbers"),
        ({"std": np.ones((1, 1))}, "std must be a tuple of numbers"),
    ],
)
def test_preprocessing_that_makes_no_sense(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(WnError, match=words):
        Preprocessing(**wrong)


def test_a_padding_may_be_an_integer_of_numpy() -> None:
    padding: Any = np.uint8(2)
    assert type(Preprocessing(crop_padding=padding).crop_padding) is int


def test_means_may_be_a_list_or_an_array() -> None:
    given: Any = {"mean": [0.5], "std": np.full(1, 0.5, np.float32)}
    assert Preprocessing(**given) == Preprocessing(mean=(0.5,), std=(0.5,))
    assert hash(Preprocessing(**given))


def test_recipes_are_plain_values() -> None:
    assert replace(MNIST, epochs_mlp=1) == Recipe(1, 50, 128, 1e-3, Preprocessing())
