"""Arrays of users' own: what a split and a data set take, and one clear line for everything else."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wn.basics.errors import WnError
from wn.data import Dataset, Draw, Preprocessing, Recipe, Split, batch
from wn.engine import backends, models, noise
from wn.engine import loss as losses
from wn.engine.optim import arrays
from wn.engine.training import TrainSettings, count_correct, evaluate, train
from wn.walking.setup import Setup
from wn.walking.walk import Walk

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (20, 1, 6, 5), dtype=np.uint8)
LABELS = np.arange(20) % 10
PLAIN = Recipe(1, 1, 8, 1e-3, Preprocessing())
NAMES = tuple("0123456789")


def one_line(images: Any, labels: Any) -> str:
    with pytest.raises(WnError) as caught:
        Split(images, labels)
    assert "\n" not in str(caught.value)
    return str(caught.value)


NOT_FINITE = IMAGES.astype(np.float32)
NOT_FINITE[3, 0, 2, 2] = np.nan
BAD_IMAGES = {
    "grey images without channels": (
        IMAGES[:, 0],
        "(20, 6, 5): (N, C, H, W) is needed; for grey images: ima",
    ),
    "numbers": (IMAGES.ravel(), "images have shape (600,): (N, C, H, W) is needed"),
    "five dimensions": (IMAGES[None], "images have shape (1, 20, 1, 6, 5)"),
    "channels last, colours": (np.zeros((20, 8, 6, 3), np.uint8), "channels last: (N, C, H, W) is needed"),
    "channels last, grey": (np.zeros((20, 28, 28, 1), np.uint8), "images.transpose(0, 3, 1, 2)"),
    "no images": (IMAGES[:0], "there must be at least one image"),
    "no pixels": (IMAGES[..., :0], "of at least one pixel"),
    "NaN": (NOT_FINITE, "NaN or infinite values, first in sample 3"),
    "infinite": (np.full((20, 1, 2, 2), np.inf, np.float32), "first in sample 0"),
    "int64": (IMAGES.astype(np.int64), "images are int64: allowed are uint8 and float32"),
    "float64": (IMAGES / 255, "images are float64"),
    "float16": (IMAGES.astype(np.float16), "images are float16"),
    "bool": (IMAGES > 100, "images are bool"),
    "complex": (IMAGES + 0j, "images are complex128"),
    "objects": (IMAGES.astype(object), "images are object"),
    "text": (IMAGES.astype(str), "images are <U"),
    "list": (IMAGES.tolist(), "images are of type list: a NumPy array is needed"),
    "none": (None, "images are of type NoneType"),
    "masked": (np.ma.masked_greater(IMAGES, 100), "images are a masked array"),
}


@pytest.mark.parametrize("kind", BAD_IMAGES)
def test_images_that_a_split_refuses(kind: str) -> None:
    """The kind: arrays that would be trained on silently in another meaning, or fail far from here."""
    images, words = BAD_IMAGES[kind]
    assert words in one_line(images, LABELS)


BAD_LABELS = {
    "one-hot": (np.eye(10, dtype=np.int64)[LABELS], "for one-hot labels: labels.argmax(axis=1)"),
    "column": (LABELS[:, None], "labels have shape (20, 1): (N,) is needed"),
    "scalar": (np.array(3), "labels have shape ()"),
    "too few": (LABELS[:19], "there are 20 images, but 19 labels"),
    "too many": (np.append(LABELS, 0), "there are 20 images, but 21 labels"),
    "negative": (LABELS - 1, "label -1 of sample 0 is out of range"),
    "huge": (np.full(20, 2**64 - 1, np.uint64), "label 18446744073709551615 of sample 0"),
    "float": (LABELS.astype(float), "labels are float64: integers are needed"),
    "bool": (LABELS > 4, "labels are bool"),
    "text": (LABELS.astype(str), "labels are <U"),
    "objects": (LABELS.astype(object), "labels are object"),
    "list": (LABELS.tolist(), "labels are of type list"),
    "masked": (np.ma.masked_equal(LABELS, 3), "labels are a masked array"),
}


@pytest.mark.parametrize("kind", BAD_LABELS)
def test_labels_that_a_split_refuses(kind: str) -> None:
    labels, words = BAD_LABELS[kind]
    assert words in one_line(IMAGES, labels)


def dataset(**changes: Any) -> Dataset:
    whole = Dataset("own", NAMES, Split(IMAGES, LABELS), Split(IMAGES[:10], LABELS[:10]), PLAIN)
    return replace(whole, **changes)


COLOURED = Split(np.repeat(IMAGES, 3, axis=1), LABELS)
SCALED = Split((IMAGES / 255).astype(np.float32), LABELS)
BINARY = Split((IMAGES > 127).astype(np.uint8), LABELS)
BAD_SETS: dict[str, tuple[dict[str, Any], str]] = {
    "labels from 1 on": (
        {"train": Split(IMAGES, LABELS + 1)},
        "own: training: label 10 of sample 9 is out of range; allowed are 0 to 9; for labels from 1 to",
    ),
    "test labels": ({"test": Split(IMAGES, LABELS + 5)}, "own: test: label 10 of sample 5 is out of range"),
    "too few names": (
        {"classes": ("a", "b", "c")},
        "label 3 of sample 3 is out of range; allowed are 0 to 2",
    ),
    "a number": ({"classes": 10}, "classes are 10: a tuple of at least two different names"),
    "one text": ({"classes": "0123456789"}, "classes are '0123456789'"),
    "one class": ({"classes": ("a",)}, "classes are ('a',)"),
    "no names": ({"classes": tuple(range(10))}, "classes are (0, 1"),
    "a name twice": ({"classes": ("0", *NAMES[:9])}, "a class name comes twice"),
    "no split": ({"test": (IMAGES, LABELS)}, "test is tuple: a Split is needed"),
    "no recipe": ({"recipe": None}, "recipe is NoneType"),
    "pixels from 0 to 1": (
        {"train": SCALED},
        "own: training: pixels are from 0 to 1, and the recipe divides",
    ),
    "test pixels": ({"test": SCALED}, "own: test: pixels are from 0 to 1"),
    "bits": ({"train": BINARY}, "1.0 if they are scaled already"),
    "pixels from 0 to 16": (
        {"train": Split(IMAGES // 15, LABELS)},
        "pixels are from 0 to 17, and the recipe",
    ),
    "standardised": (
        {"train": Split(((IMAGES - 128.0) / 50).astype(np.float32), LABELS)},
        "own: training: pixels are from -2.5",
    ),
    "means of three channels": (
        {"recipe": replace(PLAIN, preprocessing=Preprocessing(mean=(0.1,) * 3, std=(1.0,) * 3))},
        "means of 3 channels, images have 1",
    ),
    "means of two channels": (
        {
            "train": COLOURED,
            "test": COLOURED,
            "recipe": replace(PLAIN, preprocessing=Preprocessing(mean=(0.1,) * 2, std=(1.0,) * 2)),
        },
        "means of 2 channels, images have 3: allowed are 1 or 3",
    ),
}


@pytest.mark.parametrize("kind", BAD_SETS)
def test_what_a_data_set_refuses(kind: str) -> None:
    changes, words = BAD_SETS[kind]
    with pytest.raises(WnError) as caught:
        dataset(**changes)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_preprocessing_that_is_not_finite(value: float) -> None:
    for field in ("scale", "mean", "std"):
        with pytest.raises(WnError, match="finite"):
            Preprocessing(**{field: value if field == "scale" else (value,)})  # type: ignore[arg-type]  # by name


SAME: dict[str, Any] = {
    "as they are": (IMAGES, LABELS),
    "other integers": (IMAGES, LABELS.astype(np.uint8)),
    "unsigned": (IMAGES, LABELS.astype(np.uint64)),
    "big-endian labels": (IMAGES, LABELS.astype(">i4")),
    "columns first": (np.asfortranarray(IMAGES), LABELS),
    "every other": (np.repeat(IMAGES, 2, axis=0)[::2], np.repeat(LABELS, 2)[::2]),
    "read-only": (np.frombuffer(IMAGES.tobytes(), np.uint8).reshape(IMAGES.shape), LABELS),
}


@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize("kind", SAME)
def test_the_same_numbers_in_another_form_give_the_same_network(backend: str, kind: str) -> None:
    """Conversions that change no value are made: what is trained is the same, bit for bit."""
    be, network = backends.get(backend), models.build("mlp-8", (1, 6, 5), 10)
    images, labels = SAME[kind]
    found = []
    for split in (Split(images, labels), Split(IMAGES, LABELS)):
        assert (split.images.dtype, split.labels.dtype) == (np.uint8, np.int64)
        data = dataset(train=split, test=split)
        population = train(be, network, data, TrainSettings(1, 8), seeds=(1,))
        found.append((evaluate(be, network, population, data), arrays(population.params)[0]))
    assert np.array_equal(found[0][0], found[1][0])
    assert np.array_equal(found[0][1], found[1][1])


def test_big_endian_features_become_native() -> None:
    features = RNG.normal(size=(4, 1, 3, 3)).astype(">f4")
    split = Split(features, np.arange(4))
    assert split.images.dtype == np.dtype(np.float32)
    assert np.array_equal(split.images, features)
    x = batch(backends.get("numpy"), split, np.arange(4, dtype=np.uint32), Preprocessing(scale=1.0))
    assert np.array_equal(x[0], np.moveaxis(split.images, 0, -1))


def test_images_of_another_shape_than_the_network_takes() -> None:
    """Training and test images of two shapes or types: said before anything is trained."""
    be, network = backends.get("numpy"), models.build("mlp-8", (1, 6, 5), 10)
    wide = dataset(test=Split(IMAGES.transpose(0, 1, 3, 2), LABELS))
    floats = dataset(test=Split(IMAGES.astype(np.float32), LABELS))
    population = train(be, network, wide, TrainSettings(1, 8), seeds=(1,))
    walk = Walk(
        Setup(network, wide, TrainSettings(1)), lambda sigma: noise.none(), (), ("inference",), np.ones(1)
    )
    for data, words in (
        (wide, r"test images uint8 \(1, 5, 6\)"),
        (floats, r"test images float32 \(1, 6, 5\)"),
    ):
        with pytest.raises(WnError, match=words):
            evaluate(be, network, population, data)
        with pytest.raises(WnError, match="one shape and type"):
            replace(walk, setup=walk.setup._replace(dataset=data)).jobs()


BAD = st.integers(-(2**40), -1) | st.integers(10, 2**40)


@pytest.mark.parametrize("backend", ["numpy", "numba"])
@given(label=BAD, place=st.integers(0, 7))
def test_labels_out_of_range_never_index_memory(backend: str, label: int, place: int) -> None:
    """Given to the loss and to counting directly: one line, from every backend, with class weights too."""
    be, logits, labels = backends.get(backend), np.ones((2, 10, 8), np.float32), np.arange(8)
    labels[place] = label
    calls = (
        lambda: losses.forward(be, logits, labels),
        lambda: losses.forward(be, logits, labels, (1.0,) * 10),
        lambda: count_correct(be, logits, labels),
    )
    for call in calls:
        with pytest.raises(WnError, match=r"labels are from -?\d+ to \d+: allowed are 0 to 9"):
            call()


@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize("labels", [np.arange(8.0), np.eye(10, dtype=np.int64)[:8], np.ones(8, bool)])
def test_labels_that_are_no_class_numbers(backend: str, labels: Any) -> None:
    be, logits = backends.get(backend), np.ones((2, 10, 8), np.float32)
    for call in (losses.forward, count_correct):
        with pytest.raises(WnError, match=r"integers \(B,\) are needed"):
            call(be, logits, labels)


@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize(
    ("samples", "words"),
    [
        (np.array([0, 20]), "sample ids are from 0 to 20: allowed are 0 to 19"),
        (np.array([-1, 3]), "from -1 to 3"),
        (np.array([2**31]), "allowed are 0 to 19"),
        (np.array([0.0, 1.0]), "are float64 of shape"),
        (np.array([[0, 1]]), r"shape \(1, 2\): integers \(B,\)"),
    ],
)
def test_samples_out_of_range_never_index_memory(backend: str, samples: Any, words: str) -> None:
    be = backends.get(backend)
    for preprocessing in (Preprocessing(), Preprocessing(flip=True)):
        with pytest.raises(WnError, match=words):
            batch(be, dataset().train.on(be), samples, preprocessing, draw=Draw(1, 0))


def test_kernels_do_not_read_beyond_their_arrays() -> None:
    """Where recorded steps call them alone: NaN, which training reports, not what lies there in memory."""
    from wn.engine.backends.numba.kernels import loss, small

    logits, shares = np.zeros((1, 3, 2)), np.full(2, 0.5)
    for label in (-1, 3, 2**40, -(2**40)):
        labels, value, out = np.array([0, label]), np.zeros(1), np.zeros(2)
        loss.cross_entropy(logits, labels, shares, np.empty_like(logits), value)
        assert np.isnan(value).all()
        small.shares(labels, np.ones(3), out)
        assert np.isnan(out).all()
