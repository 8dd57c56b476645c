"""Data of the user's own: what is taken, what is refused in one line, and what chance is."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import wn
from wn.basics.errors import DataError, WnError
from wn.data.dataset import EQUAL, Dataset, batch, identity
from wn.data.own import KEYS, save_dataset
from wn.data.recipes import Preprocessing
from wn.engine import backends, models, training
from wn.engine.training import TrainSettings

RNG = np.random.default_rng(3)
X = RNG.integers(0, 256, (20, 1, 6, 5), dtype=np.uint8)
Y = np.arange(20) % 4
VECTORS = RNG.standard_normal((20, 7))


def own(**changes: Any) -> Dataset:
    arrays: dict[str, Any] = {"x_train": X, "y_train": Y, "x_test": X[:12], "y_test": Y[:12]}
    return wn.dataset(**(arrays | changes))


def seen(data: Dataset) -> Any:
    be = backends.get("numpy")
    return batch(be, data.test.on(be), np.arange(len(data.test)), data.recipe.preprocessing)


def test_what_a_network_sees_is_standardised() -> None:
    assert np.array_equal(seen(own()), np.moveaxis(X[:12].astype(np.float32) / np.float32(255), 0, -1)[None])
    data = own(mean=0.5, std=[0.25], scale=100)
    expected = (X[:12].astype(np.float32) / np.float32(100) - np.float32(0.5)) / np.float32(0.25)
    assert np.array_equal(seen(data), np.moveaxis(expected, 0, -1)[None])


def test_grey_images_without_channels_have_one() -> None:
    assert own(x_train=X[:, 0], x_test=X[:12, 0]).image_shape == (1, 6, 5)


@pytest.mark.parametrize("kind", [np.float16, np.float64])
def test_floats_become_float32(kind: Any) -> None:
    images = (X / 255).astype(kind)
    data = wn.dataset(x_test=images, y_test=Y)
    assert data.test.images.dtype == np.float32
    assert np.array_equal(data.test.images, images.astype(np.float32))
    assert data.recipe.preprocessing == Preprocessing(scale=1.0)


def test_vectors_have_a_mean_and_a_std_for_each_feature() -> None:
    mean, std = VECTORS.mean(axis=0), VECTORS.std(axis=0)
    data = wn.dataset(x_test=VECTORS, y_test=Y, mean=mean, std=std)
    assert data.image_shape == (7,)
    x = seen(data)
    assert x.shape == (1, 7, 20)
    np.testing.assert_allclose(x[0].mean(axis=1), 0, atol=1e-6)
    np.testing.assert_allclose(x[0].std(axis=1), 1, atol=1e-6)
    one = wn.dataset(x_test=VECTORS, y_test=Y, mean=mean, std=2)
    np.testing.assert_allclose(seen(one)[0], ((VECTORS - mean) / 2).T, atol=1e-6)


def test_vectors_are_learnt_alike_on_both_backends() -> None:
    centres = np.eye(3, 5)
    y = np.arange(240) % 3
    x = centres[y] + 0.1 * RNG.standard_normal((240, 5))
    data = wn.dataset(x, y, x[:60], y[:60])
    network = models.build("mlp-8", data.image_shape, 3)
    found = {}
    for name in ("numpy", "numba"):
        be = backends.get(name)
        settings = TrainSettings(epochs=20, batch_size=32, learning_rate=1e-2)
        population = training.train(be, network, data, settings, seeds=(1,))
        found[name] = population.params[1].w
        assert training.evaluate(be, network, population, data)[0] == 60
    np.testing.assert_allclose(found["numpy"], found["numba"], atol=1e-4)


def test_convolutions_refuse_vectors_in_one_line() -> None:
    with pytest.raises(WnError, match=r"lenet5: layer 'conv1' .* got \(7,\)"):
        models.build("lenet5", wn.dataset(x_test=VECTORS, y_test=Y).image_shape, 4)


def test_the_training_part_may_be_missing() -> None:
    data = wn.dataset(x_test=X, y_test=Y, name="mine")
    assert len(data.train) == 0
    with pytest.raises(WnError, match="mine has no training images"):
        data.check_trainable()
    network = models.build("mlp-8", data.image_shape, 4)
    with pytest.raises(WnError, match="mine has no training images"):
        training.train(backends.get("numpy"), network, data, TrainSettings(1), seeds=(1,))
    with pytest.raises(WnError, match="there are none"):
        data.limited(train_samples=3)
    assert len(data.limited(test_samples=4).test) == 4


# ---- chance ---------------------------------------------------------------------------------------------


def test_chance_of_equal_classes_is_one_over_their_number() -> None:
    for classes in (2, 3, 7, 10):
        data = wn.dataset(
            x_test=np.zeros((5 * classes, 4, 4), np.uint8), y_test=np.arange(5 * classes) % classes
        )
        assert data.chance == 1 / classes
        assert data.even


@given(labels=hnp.arrays(np.int64, st.integers(2, 60), elements=st.integers(0, 3)), answers=st.data())
def test_no_answer_without_the_image_beats_chance(labels: Any, answers: st.DataObject) -> None:
    """The bound that makes it chance: right answers, expected, of any distribution over classes."""
    data = wn.dataset(x_test=np.zeros((len(labels), 2, 2), np.uint8), y_test=labels, classes=4)
    weights = answers.draw(hnp.arrays(np.float64, 4, elements=st.floats(0, 1)))
    q = weights / weights.sum() if weights.sum() > 1e-9 else np.eye(4)[0]
    share = np.bincount(labels, minlength=4) / len(labels)
    assert q @ share <= data.chance + 1e-12
    assert data.chance == share.max()
    assert data.even == bool((share == 0.25).all())


def test_chance_is_of_the_images_that_are_evaluated() -> None:
    labels = np.array([0] * 8 + [1] * 2)
    data = wn.dataset(x_test=np.zeros((10, 2, 2), np.uint8), y_test=labels)
    assert data.chance == 0.8
    assert data.limited(test_samples=4).chance == 0.5


def test_data_sets_of_the_catalogue_keep_the_published_chance() -> None:
    from wn.data import load

    data = load("fashion-mini")
    assert (data.guess, data.chance, data.even) == (EQUAL, 0.1, True)


# ---- refused --------------------------------------------------------------------------------------------

NAN = X / 255
NAN[3, 0, 1, 1] = np.nan
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "one-hot": ({"y_test": np.eye(4, dtype=int)[Y[:12]]}, "y_test.argmax(axis=1)"),
    "a column": ({"y_test": Y[:12, None]}, "y_test[:, 0]"),
    "float labels": ({"y_train": Y.astype(float)}, "y_train.astype(np.int64)"),
    "labels from 1": ({"y_test": Y[:12] + 1, "y_train": Y + 1}, "for labels from 1 on: y - 1"),
    "a missing class": ({"y_test": Y[:12] * 2, "y_train": Y * 2}, "class 1 of 0 to 6 has no sample"),
    "negative labels": ({"y_test": Y[:12] - 1}, "label -1 of sample 0"),
    "a huge label": ({"y_test": np.full(12, 2**62)}, "the largest label is 4611686018427387904"),
    "one class": ({"y_test": Y[:12] * 0, "y_train": Y * 0}, "all labels are 0"),
    "too few classes": ({"classes": 3}, "label 3 of sample 3 is out of range; allowed are 0 to 2"),
    "classes of a float": ({"classes": 4.0}, "classes is 4.0"),
    "names that are no text": ({"classes": [1, 2, 3, 4]}, "at least two different names"),
    "names twice": ({"classes": ["a", "b", "c", "a"]}, "a class name comes twice"),
    "NaN": ({"x_train": NAN, "x_test": NAN[:12]}, "x_test have NaN or infinite values, first in sample 3"),
    "int64 pixels": ({"x_test": X[:12].astype(int)}, "x_test.astype(np.uint8) for pixels"),
    "int64 numbers": ({"x_test": X[:12].astype(int) - 300}, "x_test.astype(np.float32)"),
    "beyond float32": ({"x_test": np.full((12, 6, 5), 1e300), "x_train": X / 255}, "beyond float32's range"),
    "bool": ({"x_test": X[:12] > 9, "scale": 1}, "x_test are bool"),
    "a list": ({"x_test": X[:12].tolist(), "scale": 255}, "np.asarray(x_test)"),
    "channels last": ({"x_test": np.zeros((12, 8, 8, 3), np.uint8)}, "x_test.transpose(0, 3, 1, 2)"),
    "two types": ({"x_test": X[:12] / 255}, "of two types, uint8 and floats"),
    "two shapes": ({"x_test": X[:12, :, :5]}, "they must have one shape and type"),
    "fewer labels": ({"y_test": Y[:11]}, "12 images, but 11 labels"),
    "no test part": ({"x_test": None}, "x_test and y_test are needed"),
    "half a training part": ({"y_train": None}, "x_train and y_train go together"),
    "means of other channels": ({"mean": [0, 1]}, "means of 2 channels, images have 1"),
    "a mean of text": ({"mean": "0.5"}, "mean must be a number, or one for each channel"),
    "std of 0": ({"std": 0}, "every std must be above 0"),
    "scale of text": ({"scale": "255"}, "scale is '255'"),
    "a wrong scale": ({"x_train": X / 255, "x_test": X[:12] / 255, "scale": 255}, "pixels are from 0"),
    "epochs": ({"epochs": 0}, "epochs is 0"),
    "batch size": ({"batch_size": 1.5}, "batch_size is 1.5"),
    "learning rate": ({"lr": np.nan}, "lr is nan"),
    "a name of the catalogue": ({"name": "mnist"}, "a data set of the catalogue"),
    "a long name": ({"name": "a" * 33}, "1 to 32 characters"),
    "a name with commas": ({"name": "a,b"}, "without commas"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_does_not_fit_is_one_line(kind: str) -> None:
    changes, words = BAD[kind]
    with pytest.raises(WnError) as caught:
        own(**changes)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_vectors_are_not_augmented() -> None:
    with pytest.raises(WnError, match="neither cropped nor flipped"):
        wn.dataset(x_test=VECTORS, y_test=Y, flip=True)


def test_wide_floats_are_named_once_and_not_when_a_scale_is_given(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "wn"):
        wn.dataset(x_test=X.astype(np.float32), y_test=Y, name="wide")
    assert [record.getMessage() for record in caplog.records] == [
        "wide: float images from 0 to 255 go into networks as they are; scale=… would divide them"
    ]
    caplog.clear()
    wn.dataset(x_test=X.astype(np.float32), y_test=Y, scale=255)
    wn.dataset(x_test=X / 255, y_test=Y)
    assert not caplog.records


# ---- files ----------------------------------------------------------------------------------------------


def test_a_file_gives_the_same_data_set(tmp_path: Path) -> None:
    np.savez(tmp_path / "mine.npz", x_train=X, y_train=Y, x_test=X[:12], y_test=Y[:12], mean=0.5, std=0.25)
    found, expected = wn.load_dataset(tmp_path / "mine.npz"), own(mean=0.5, std=0.25)
    assert found.name == "mine"
    assert identity(found) == identity(expected)
    assert identity(found) != identity(own(mean=0.5))


def test_what_is_saved_is_read_again(tmp_path: Path) -> None:
    data = own(
        name="ours", classes=["a", "b", "c", "ð"], epochs=3, lr=0.5, crop_padding=1, flip=True, mean=0.5
    )
    save_dataset(data, tmp_path / "x.npz")
    found = wn.load_dataset(tmp_path / "x.npz")
    assert (found.name, found.classes, found.recipe) == (data.name, data.classes, data.recipe)
    assert identity(found) == identity(data)
    tests = wn.dataset(x_test=VECTORS, y_test=Y)
    save_dataset(tests, tmp_path / "tests.npz")
    assert identity(wn.load_dataset(tmp_path / "tests.npz")) == identity(tests)


def test_files_with_other_arrays_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "mnist.npz"
    np.savez(path, x_test=X, y_test=Y, x_valid=X)
    with pytest.raises(
        DataError, match=r"mnist\.npz: unknown array 'x_valid': allowed are x_train, "
    ) as caught:
        wn.load_dataset(path)
    assert all(key in str(caught.value) for key in KEYS)
    np.savez(path, x_test=X, y_test=np.eye(4)[Y])
    with pytest.raises(DataError, match=r"mnist\.npz: y_test have shape .*argmax"):
        wn.load_dataset(path)
    np.savez(path, x_test=X, y_test=Y)
    assert wn.load_dataset(path).name == "my-mnist"
