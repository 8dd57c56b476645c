"""Networks as values: described ones are trained, those with weights walked through; records say which."""

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

import wn
from tests.engine import own_layers
from tests.walking.own import own_data
from wn import layers
from wn.basics.errors import WnError
from wn.walking.api import Trained
from wn.walking.results import WalkResult

DATA = own_data()
NET = wn.network(
    (1, 8, 8),
    [
        layers.Convolution(6, (3, 3), padding=(1, 1)),
        layers.BatchNorm(),
        layers.Relu(),
        layers.Residual([layers.Convolution(6, (3, 3), padding=(1, 1)), layers.Relu()]),
        layers.MaxPooling((2, 2)),
        layers.Flatten(),
        layers.Linear(3),
    ],
    name="mine",
)
TRAINING: dict[str, Any] = {"epochs": 3, "batch_size": 16, "lr": 0.01}
NOISE: dict[str, Any] = {"sigma": "0.1:100:5", "where": ["conv1", "block1.add"], "threads": 1}


@pytest.fixture(scope="module")
def trained() -> Trained:
    return wn.train(network=NET, data=DATA, **TRAINING)


@pytest.fixture(scope="module")
def walked(trained: Trained) -> WalkResult:
    return wn.walk(network=trained, data=DATA, **NOISE)


# ---- without weights ------------------------------------------------------------------------------------


def test_a_described_network_is_trained_by_the_walk(walked: WalkResult) -> None:
    """At inference it is the network of `wn.train` with the same seed, to the bit."""
    found = wn.walk(network=NET, data=DATA, **NOISE, **TRAINING)
    assert set(found.midpoints["phase"]) == {"inference", "training"}
    mine = found.curves[found.curves["phase"] == "inference"]
    for name in ("site_name", "sigma", "correct"):
        assert mine[name].tolist() == walked.curves[name].tolist()
    assert set(found.midpoints["model"]) == {"mine"}


def test_its_record_has_the_network_and_repeats_the_run(tmp_path: Path) -> None:
    found = wn.walk(network=NET, data=DATA, phase="inference", **NOISE, **TRAINING)
    found.save(tmp_path / "out")
    asked = json.loads((tmp_path / "out" / "run.json").read_text())["asked"]
    assert asked["architecture"]["name"] == asked["model"] == "mine"
    assert "network" not in asked
    again = wn.walk(**(asked | {"data": DATA}))
    assert again.curves.tobytes() == found.curves.tobytes()
    assert "SHA-256 of its description" in found.statement()


def test_vectors_go_to_a_network_of_vectors() -> None:
    rng = np.random.default_rng(3)
    y = np.arange(120) % 3
    x = 3 * np.eye(3, 7)[y] + 0.3 * rng.standard_normal((120, 7))
    data = wn.dataset(x, y, x[:60], y[:60], name="vectors")
    net = wn.network(7, [layers.Linear(9), layers.Relu(), layers.Linear(3)])
    found = wn.walk(network=net, data=data, sigma="0.1:100:7", epochs=30, batch_size=16, lr=0.01, threads=1)
    assert found.midpoints["clean_accuracy"][0] == 1
    assert found.midpoints["reached"].all()


# ---- with weights ---------------------------------------------------------------------------------------


def test_a_network_with_weights_is_walked_through_at_inference(trained: Trained, walked: WalkResult) -> None:
    assert set(walked.midpoints["phase"]) == {"inference"}
    assert walked.run["clean_correct"] == [[trained.correct["clean"], 200]]
    same = wn.walk(network=wn.Weighted(trained.network, trained.population), data=DATA, **NOISE)
    assert same.curves.tobytes() == walked.curves.tobytes()
    digests = {run["network"]["sha256"] for run in (walked.run, same.run)}
    assert digests == {walked.run["asked"]["network_sha256"]}
    assert digests.pop() in walked.statement()


def test_all_functions_take_it(trained: Trained) -> None:
    net: dict[str, Any] = {"network": trained, "data": DATA}
    assert wn.evaluate(**net).clean == ((trained.correct["clean"], 200),)
    assert len(wn.gains(**net).repetitions) == len(NET.site_names)
    assert len(wn.predict(**net, where=["logits"], sigma="0.1:10:3").curves) == 3


def test_a_value_and_its_file_have_the_same_counts(
    trained: Trained, walked: WalkResult, tmp_path: Path
) -> None:
    path = trained.save(tmp_path / "mine.safetensors")
    found = wn.walk(network=path, data=DATA, **NOISE)
    assert found.curves["correct"].tolist() == walked.curves["correct"].tolist()


def test_another_network_under_the_digest_is_refused(trained: Trained, walked: WalkResult) -> None:
    other = wn.train(network=NET, data=DATA, **(TRAINING | {"epochs": 1}))
    asked = json.loads(msgspec.json.encode(walked.run["asked"]))
    with pytest.raises(WnError, match=r"no file mine; give a value of Python again: network=…"):
        wn.walk(**(asked | {"data": DATA}))
    with pytest.raises(WnError, match="network: mine is not that of this record"):
        wn.walk(**(asked | {"data": DATA, "network": other}))
    again = wn.walk(**(asked | {"data": DATA, "network": trained}))
    assert again.curves.tobytes() == walked.curves.tobytes()


def test_the_digest_is_of_all_weights(trained: Trained) -> None:
    runs = []
    for change in (False, True):
        params = list(trained.population.params)
        if change:
            last = params[-1]
            params[-1] = last._replace(b=np.nextafter(np.asarray(last.b), np.float32(9)))
        population = trained.population._replace(params=tuple(params))
        runs.append(wn.evaluate(network=wn.Weighted(NET, population), data=DATA).run)
    assert runs[0]["network"]["sha256"] != runs[1]["network"]["sha256"]


# ---- layers of the user's own ---------------------------------------------------------------------------


def test_layers_of_ones_own_are_walked_and_have_to_be_given_again() -> None:
    """They can't be described: the record has a digest, and the value is held while a function runs."""
    net = wn.network((1, 8, 8), [layers.Flatten(), layers.Linear(6), own_layers.Tanh(), layers.Linear(3)])
    found = wn.walk(network=net, data=DATA, phase="inference", sigma="0.1:100:5", **TRAINING)
    assert found.midpoints["reached"].any()
    asked = json.loads(msgspec.json.encode(found.run["asked"]))
    assert set(asked["architecture"]) == {"name", "held"}
    with pytest.raises(WnError, match="network has layers of your own: give it again"):
        wn.walk(**(asked | {"data": DATA}))
    trained = wn.train(network=net, data=DATA, **TRAINING)
    same = wn.walk(network=trained, data=DATA, sigma="0.1:100:5")
    assert same.curves["correct"].tolist() == found.curves["correct"].tolist()


def test_long_names_are_whole_in_tables() -> None:
    name = "a-layer-with-a-name-of-more-than-32-characters"
    net = wn.network((1, 8, 8), [layers.Flatten(), (name, layers.Linear(4)), layers.Linear(3)])
    found = wn.walk(network=net, data=DATA, where=[name], sigma="1:10:2", epochs=1, phase="inference")
    assert set(found.curves["site_name"]) == set(found.midpoints["site_name"]) == {name}
    assert name in set(found.weights["layer"])


# ---- refused --------------------------------------------------------------------------------------------

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a number": ({"network": 3}, "network is int: it must be wn.network(…), a network with its weights"),
    "a list": ({"network": [layers.Relu()]}, "network is list: it must be wn.network(…)"),
    "a model too": ({"network": NET, "model": "mlp"}, "network mine and model are two answers"),
    "batch norm too": ({"network": NET, "batch_norm": "sites"}, "mine and batch_norm are two answers"),
    "other data": ({"network": NET, "data": None}, "mine is for 3 classes of images (1, 8, 8): fashion-mini"),
    "no ONNX file": ({"network": "/nowhere/net.onnx"}, "net.onnx"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_does_not_fit_is_one_line(kind: str) -> None:
    settings, words = REFUSED[kind]
    with pytest.raises(WnError) as caught:
        wn.walk(**({"data": DATA} | settings))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_trained_network_is_not_trained_again(trained: Trained) -> None:
    with pytest.raises(WnError, match="is trained already: leave epochs out"):
        wn.walk(network=trained, data=DATA, epochs=3)
    with pytest.raises(WnError, match="phase training trains networks, and mine is trained already"):
        wn.walk(network=trained, data=DATA, phase="training")
    with pytest.raises(WnError, match=r"what is trained is wn\.network\(…\), without weights"):
        wn.train(network=trained, data=DATA)  # type: ignore[arg-type]  # wrong on purpose
