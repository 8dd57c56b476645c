"""Settings by name: bad ones are refused at once, in one line; others are completed from the recipe."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wn
from tests.walking.small_walks import images
from wn.basics.errors import WnError
from wn.data import catalogue
from wn.data.dataset import Dataset, Split
from wn.data.recipes import Preprocessing, Recipe
from wn.engine import training
from wn.walking import measurement, settings
from wn.walking.settings import SingleSettings, WalkSettings

# ---- bad settings ---------------------------------------------------------------------------------------

COMMON: list[tuple[dict[str, Any], tuple[str, ...]]] = [
    ({"epoch": 3}, ("'epoch'", "epochs", "evaluation_batch")),
    ({"epochs": "3"}, ("epochs", "int", "str")),
    ({"epochs": 2.5}, ("epochs", "int", "float")),
    ({"epochs": True}, ("epochs", "bool")),
    ({"epochs": 0}, ("epochs is 0", "at least 1")),
    ({"batch_size": -1}, ("batch_size is -1", "at least 1")),
    ({"learning_rate": 0.0}, ("learning_rate is 0.0", "above 0")),
    ({"learning_rate": math.nan}, ("learning_rate is nan", "above 0 and finite")),
    ({"clamp_weights": 1}, ("clamp_weights", "bool")),
    ({"dataset": "imagenet"}, ("'imagenet'", "fashion-mini", "mnist")),
    ({"dataset": 3}, ("dataset", "str", "int")),
    ({"data_dir": "/no/such/folder", "dataset": "mnist"}, ("/no/such/folder",)),
    ({"model": "resnet"}, ("'resnet'", "mlp-64", "lenet5")),
    ({"model": "vgg11"}, ("vgg11", "layer", "(1, 28, 28)")),
    ({"batch_norm": "yes"}, ("'yes'", "none, sites, hidden")),
    ({"backend": "torch"}, ("unknown backend 'torch': allowed are numpy, numba",)),
    ({"dtype": "float16"}, ("'float16'", "float32, float64")),
    ({"train_limit": 0}, ("training samples: 0", "1 to 10000")),
    ({"train_limit": 10_001}, ("10001", "1 to 10000")),
    ({"test_limit": 2001}, ("test samples: 2001", "1 to 2000")),
    ({"seed": -1}, ("seed", "0 to 2^64 - 1", "-1")),
    ({"seed": 2**64}, ("seed", "0 to 2^64 - 1")),
    ({"noise": "salt", "sigma": 1.0}, ("'salt'", "additive, multiplicative")),
    ({"noise": "additive", "sigma": -0.1}, ("-0.1", "≥ 0")),
    ({"noise": "additive", "sigma": math.nan}, ("nan", "finite")),
    ({"noise": "additive", "sigma": math.inf}, ("inf", "finite")),
    ({"noise": "additive", "sigma": 1e39, "where": [2]}, ("1e+39", "site 2", "float32")),
    ({"noise": "additive", "sigma": 1.0, "mean": math.inf}, ("inf", "finite")),
    ({"noise": "additive", "sigma": 1.0, "mean_mul": 1.0}, ("additive", "'mean_mul'")),
    ({"noise": "additive", "sigma": 1.0, "ratio": 0.5}, ("ratio", "mixed", "additive")),
    ({"noise": "mixed", "sigma": 1.0, "ratio": 1.5}, ("ratio", "1.5", "≤ 1")),
    ({"noise": "mixed", "sigma": 1.0, "order": "random"}, ("'random'", "mul_add, add_mul")),
    ({"noise": "additive", "sigma": 1.0, "repetitions": 0}, ("repetitions is 0",)),
    ({"noise": "additive", "sigma": 1.0, "execution": "both"}, ("'both'", "single, each")),
    ({"where": [8]}, ("no site 8", "7 logits")),
    ({"where": [0.5]}, ("where[0]", "int", "float")),
    ({"where": 3.0}, ("where", "str | array", "float")),
    ({"where": "somewhere"}, ("'somewhere'", "7 logits", "each, global")),
    ({"where": "mapped"}, ("factor per site",)),
    ({"factors": {0: 1.0}}, ("mapped",)),
    ({"where": "mapped", "factors": {9: 1.0}}, ("no site 9",)),
    ({"where": "mapped", "factors": {"fc9": 1.0}}, ("no site 'fc9'", "1 fc1")),
    ({"where": "mapped", "factors": {0: "much"}}, ("factors", "float", "str")),
    ({"where": "mapped", "factors": {0: -1.0}, "noise": "additive", "sigma": 1.0}, ("site 0", "-1", "≥ 0")),
    ({"where": "mapped", "factors": {0: math.nan}, "noise": "additive", "sigma": 1.0}, ("site 0", "nan")),
    ({"where": "mapped", "factors": {0: 1e308}, "noise": "additive", "sigma": 1e9}, ("inf", "finite")),
]
WALKS: list[tuple[dict[str, Any], tuple[str, ...]]] = [
    ({"phase": "test"}, ("'test'", "inference, training, both")),
    ({"repeats": 0}, ("repeats is 0", "at least 1")),
    ({"threads": 0}, ("threads is 0", "at least 1")),
    ({"evaluation_batch": 0}, ("evaluation_batch is 0", "at least 1")),
    ({"sigma": []}, ("no values",)),
    ({"sigma": "1:0.1:3"}, ("'1:0.1:3'", "FIRST", "LAST")),
    ({"sigma": [1.0, "2"]}, ("sigma[1]", "float", "str")),
    ({"where": []}, ("no sites",)),
    ({"noise": "none", "mean": 1.0}, ("none", "'mean'")),
]
SINGLES: list[tuple[dict[str, Any], tuple[str, ...]]] = [
    ({"where": "each"}, ("each", "walks")),
    ({"noise": "additive"}, ("additive", "needs a sigma")),
    ({"sigma": 0.5}, ("sigma", "noise is none")),
    ({"phase": "both"}, ("'phase'",)),
    ({"repeats": 2}, ("'repeats'",)),
    ({"sigma": "0.1:1:3", "noise": "additive"}, ("sigma", "float", "str")),
]


@pytest.fixture
def _nothing_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise AssertionError("training began before the settings were checked")

    monkeypatch.setattr(training, "train", fail)
    monkeypatch.setattr(measurement, "train", fail)


@pytest.mark.usefixtures("_nothing_is_trained")
def test_good_settings_come_as_far_as_training() -> None:
    """Or the tests below would prove nothing."""
    for command in (wn.walk, wn.train):
        with pytest.raises(AssertionError, match="training began"):
            command(epochs=1)


@pytest.mark.usefixtures("_nothing_is_trained")
@pytest.mark.parametrize(
    ("command", "given", "parts"),
    [(wn.walk, *case) for case in COMMON + WALKS] + [(wn.train, *case) for case in COMMON[1:] + SINGLES],
    ids=lambda value: getattr(value, "__name__", None) or (str(value) if isinstance(value, dict) else ""),
)
def test_bad_settings_are_refused_in_one_line_before_training(
    command: Any, given: dict[str, Any], parts: tuple[str, ...]
) -> None:
    with pytest.raises(WnError) as caught:
        command(**given)
    message = str(caught.value)
    assert "\n" not in message
    assert all(part in message for part in parts), message


@pytest.mark.usefixtures("_nothing_is_trained")
def test_what_needs_no_data_is_checked_before_they_are_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise AssertionError("the data were loaded")

    monkeypatch.setattr(catalogue, "load", fail)
    for given in (
        {"phase": "x"},
        {"sigma": "-1"},
        {"noise": "x"},
        {"repeats": 0},
        {"seed": -1},
        {"model": "x"},
        {"dataset": "x"},
        {"backend": "x"},
        {"epochs": 0},
        {"batch_size": 0},
        {"learning_rate": 0.0},
    ):
        with pytest.raises(WnError):
            wn.walk(**given)
    for given in (
        {"noise": "additive"},
        {"where": "each"},
        {"seed": -1},
        {"batch_norm": "x"},
        {"epochs": 0},
        {"backend": "torch"},
    ):
        with pytest.raises(WnError):
            wn.train(**given)


def test_settings_may_be_paths_and_numpy_values_and_none_is_the_default() -> None:
    found = settings.read_settings(
        WalkSettings,
        {
            "sigma": np.array([0.5, 1.0]),
            "where": (np.int64(1), 2),
            "seed": np.uint64(3),
            "factors": {np.int64(0): np.float32(0.5)},
            "epochs": None,
            "dataset": None,
            "data_dir": Path("data"),
        },
    )
    assert found == WalkSettings(data_dir="data", sigma=[0.5, 1.0], where=[1, 2], seed=3, factors={0: 0.5})


@pytest.mark.parametrize(("noise", "first", "last"), [("multiplicative", 0, 6), ("additive", 0.1, 10_000)])
def test_the_default_grid_depends_on_the_noise(noise: str, first: float, last: float) -> None:
    sigma = settings.walk_sigma(WalkSettings(noise=noise))
    grid = np.linspace if noise == "multiplicative" else np.geomspace
    np.testing.assert_allclose(sigma, grid(first, last, 16), rtol=1e-12)
    assert settings.walk_sigma(WalkSettings(noise=noise, sigma=[2.0])).tolist() == [2.0]


# ---- weighted loss --------------------------------------------------------------------------------------


def uneven_data(weighted: bool) -> Dataset:
    """Three classes with 60, 30 and 10 training samples; the last one is "unknown"."""
    recipe = Recipe(2, 2, 20, 1e-2, Preprocessing(), weighted_loss=weighted)
    labels = np.repeat([0, 1, 2], [60, 30, 10])
    train = Split(images(100, 1).images, labels)
    return Dataset(
        "uneven", ("yes", "no", "unknown"), train, Split(images(50, 2).images, labels[::2]), recipe
    )


def test_a_recipe_with_weighted_loss_sets_class_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = SingleSettings(model="mlp-8")
    monkeypatch.setattr(catalogue, "load", lambda *_: uneven_data(weighted=True))
    weights = settings.prepare(chosen)[2].class_weights
    raw = np.array([1 - 0.6, 1 - 0.3, (1 - 0.1) / 3.6])
    np.testing.assert_allclose(weights, raw / raw.sum(), rtol=1e-15)
    weighted = wn.train(model="mlp-8")
    assert weighted.record["settings"]["class_weights"] == weights
    monkeypatch.setattr(catalogue, "load", lambda *_: uneven_data(weighted=False))
    assert settings.prepare(chosen)[2].class_weights is None
    plain = wn.train(model="mlp-8")
    assert plain.population.params[-1].b.tolist() != weighted.population.params[-1].b.tolist()
