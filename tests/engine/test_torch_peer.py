"""The engine against PyTorch in float64: logits, losses, gradients, training, and files both ways."""

import csv
import functools
import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from threadpoolctl import threadpool_limits

from wn.basics.errors import WnError
from wn.data.dataset import Dataset, Split
from wn.data.formats.idx import write_idx
from wn.data.recipes import MNIST
from wn.engine import backends, models, training
from wn.engine import loss as losses
from wn.engine.files import checkpoint, exchange
from wn.engine.models import BATCH_NORM
from wn.engine.network import Conditions
from wn.engine.noise import additive
from wn.random import Purpose, permutation
from wn.walking.results import CURVE_COLUMNS

torch = pytest.importorskip("torch", reason="the PyTorch twin needs torch (2.13; the CPU build is enough)")
parity = importlib.import_module("tests.engine.parity_table")
peer = importlib.import_module("reference.torch_peer")

BE = backends.get("numpy")
ONCE = 1e-9  # one pass, relative
TRAINED = 1e-7  # ten steps of Adam, relative
LARGE = ("vgg11", "vgg11-28")
SMALL = [name for name in models.OF_THE_STUDY if name not in LARGE]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Keep PyTorch's threads and BLAS's from competing for the same cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with threadpool_limits(1):
        yield
    torch.set_num_threads(before)


@functools.lru_cache(maxsize=1)
def large_pair(model: str, batch_norm: str) -> Any:
    """Return a large network, built once for several tests; its weights stay as they are."""
    return parity.Pair.build(model, batch_norm, None)


def assert_close(found: Any, limit: float) -> None:
    """Every difference that there is stays below the limit."""
    assert np.nanmax(np.array(found)) < limit, found


# ---- one pass ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("noise", parity.NOISES)
@pytest.mark.parametrize("batch_norm", BATCH_NORM)
@pytest.mark.parametrize("model", SMALL)
def test_logits_loss_and_gradients_agree(model: str, batch_norm: str, noise: str) -> None:
    pair = parity.Pair.build(model, batch_norm, parity.NOISES[noise])
    assert_close(parity.pass_differences(pair, parity.one_pass(pair, step=1)), ONCE)
    assert_close(parity.inference_difference(pair), ONCE)


@pytest.mark.parametrize("batch_norm", ["none", "sites"])
@pytest.mark.parametrize("model", LARGE)
def test_large_networks_agree(model: str, batch_norm: str) -> None:
    for noise in parity.NOISES.values():
        pair = large_pair(model, batch_norm)
        pair.noise = noise
        assert_close(parity.pass_differences(pair, parity.one_pass(pair, step=1)), ONCE)


def test_class_weights_agree() -> None:
    pair = parity.Pair.build("cnn-s", "none", None)
    weights = np.random.default_rng(1).uniform(0.5, 2, pair.network.classes)
    x, labels, samples = pair.batch(step=1, size=8)
    conditions = pair.conditions(1, samples)
    params, states, _ = pair.population
    loss, gradients, _ = training.loss_and_gradients(
        BE, pair.network, params, states, x, labels, conditions, tuple(weights)
    )
    wanted = torch.nn.functional.cross_entropy(
        pair.twin(parity.sample_first(x)), torch.from_numpy(labels), weight=torch.from_numpy(weights)
    )
    wanted.backward()
    assert parity.relative_difference(loss[0], wanted.detach().numpy()) < ONCE
    assert parity.gradient_difference(pair, gradients) < ONCE


def test_ties_of_max_pooling_agree() -> None:
    """Where the largest value of a window occurs more than once, the first one gets the gradient in both."""
    pair = parity.Pair.build("lenet5", "none", None)
    x, labels, samples = pair.batch(step=1)
    x[...] = np.round(x)  # equal pixels give equal activations, and so ties in the first pooling
    x[:, :, 8:] = 0  # flat regions
    conditions = pair.conditions(1, samples)
    params, states, _ = pair.population
    activations = pair.network.clean_activations(BE, params, states, x)
    relu = activations[pair.network.site_names.index("relu1")][0]
    tiles = np.stack([relu[:, i::2, j::2] for i in (0, 1) for j in (0, 1)])
    positive_ties = ((tiles == tiles.max(0)).sum(0) > 1) & (tiles.max(0) > 0)
    assert positive_ties.any()
    _, gradients, _ = training.loss_and_gradients(BE, pair.network, params, states, x, labels, conditions)
    logits = pair.twin(parity.sample_first(x))
    torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels)).backward()
    assert parity.gradient_difference(pair, gradients) < ONCE


# ---- ten steps --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "batch_norm", "noise"),
    [
        *((model, "sites", "mixed") for model in SMALL),
        ("mlp-16", "hidden", "additive"),  # the largest difference of docs/parity.md
        *((model, batch_norm, "mixed") for model in ("mlp-64", "cnn-s") for batch_norm in ("none", "hidden")),
        *(("lenet5", "sites", noise) for noise in parity.NOISES),
        *((model, "sites", "additive") for model in LARGE),
    ],
)
def test_ten_steps_stay_together(model: str, batch_norm: str, noise: str) -> None:
    pair = parity.Pair.build(model, batch_norm, parity.NOISES[noise])
    before = {name: array.copy() for name, array in pair.named().items()}
    found = parity.compare(pair, steps=10)
    assert_close(found[:3], ONCE)
    assert_close(found, TRAINED)
    assert np.isnan(found.running) == (batch_norm == "none")
    moved = {name: np.abs(array - before[name]).max() for name, array in pair.named().items()}
    assert all(distance > 1e-4 for name, distance in moved.items() if name.endswith("weight")), moved


def test_whole_training_agrees() -> None:
    """The recipe: order, last partial batch, cosine annealing, clamping, accuracy on the test images."""
    rng = np.random.default_rng(3)
    images, labels = rng.integers(0, 256, (50, 1, 6, 6), np.uint8), rng.integers(0, 3, 50)
    dataset = Dataset("toy", ("a", "b", "c"), Split(images, labels), Split(images[:20], labels[:20]), MNIST)
    network = models.build("mlp-16", (1, 6, 6), 3, "sites")
    settings = training.TrainSettings(epochs=5, batch_size=16, learning_rate=0.3, clamp_weights=True)
    losses: list[float] = []

    class Note(training.Monitor):
        def epoch(self, epoch: int, loss: Any) -> None:
            losses.append(loss[0])

    population = training.train(BE, network, dataset, settings, seeds=(5,), dtype=np.float64, monitor=Note())
    twin = peer.build_twin("mlp-16", (1, 6, 6), 3, "sites").double()
    fresh = training.Population(
        network.initial_parameters(BE, (5,), np.float64), network.initial_states(BE, 1, np.float64), (5,)
    )
    twin.load_state_dict(parity.as_tensors(exchange.member_tensors(network, fresh, 0)))
    x, y = torch.from_numpy(images / 255), torch.from_numpy(labels)
    twin_losses = peer.train_twin(
        twin,
        x,
        y,
        epochs=5,
        batch_size=16,
        learning_rate=0.3,
        clamp=True,
        order=lambda epoch: torch.from_numpy(permutation(5, 50, epoch, Purpose.SHUFFLE)),
    )
    assert len(losses) == 5
    np.testing.assert_allclose(losses, twin_losses, rtol=TRAINED)
    found = {name: array[0] for name, array in checkpoint.named(network, population).items()}
    wanted = {name: twin.state_dict()[name].numpy() for name in found}
    assert parity.largest_difference(found, wanted) < TRAINED
    assert max(np.abs(found[name]).max() for name in found if "fc" in name and "weight" in name) == 1
    correct = training.evaluate(BE, network, population, dataset, dtype=np.float64)
    assert correct[0] == peer.evaluate_twin(twin, x[:20], y[:20], "input", [None])[0]


# ---- the comparison itself --------------------------------------------------------------------------------


def test_planted_differences_are_seen() -> None:
    """A site without noise, draws of another site, or one changed weight: the comparison notices each."""

    def difference(plant: Any) -> Any:
        pair = parity.Pair.build("mlp-8", "sites", additive(0.3))
        made = pair.conditions
        pair.conditions = lambda *arguments, **options: (made(*arguments, **options), plant(pair))[0]
        return parity.pass_differences(pair, parity.one_pass(pair, step=1))

    def silence(pair: Any) -> None:
        peer.sites(pair.twin)["bn2"].noise = None

    def exchange_draws(pair: Any) -> None:
        places = peer.sites(pair.twin)
        places["fc1"].draws = places["fc2"].draws

    def change_weight(pair: Any) -> None:
        with torch.no_grad():
            dict(pair.twin.named_parameters())["fc3.weight"][0, 0] += 1e-6

    assert_close(difference(lambda pair: None), ONCE)
    for plant, least in ((silence, 1e-3), (exchange_draws, 1e-3), (change_weight, 1e-8)):
        found = difference(plant)
        assert found.logits > least, plant
        assert found.gradients > least, plant


def test_relative_differences() -> None:
    one = np.array([1.0, -4.0])
    assert parity.relative_difference(np.array([1.0, -4.0]), one) == 0
    assert parity.relative_difference(np.array([2.0, -4.0]), one) == 0.25
    assert parity.relative_difference(np.array([2.0, -4.0]), one, scale=10.0) == 0.1
    assert parity.relative_difference(one, np.zeros(2)) == np.inf
    assert parity.relative_difference(np.zeros(2), np.zeros(2)) == 0
    assert np.isnan(parity.largest_difference({}, {}))


def test_the_table_of_one_network(tmp_path: Path) -> None:
    text = parity.table(["mlp-8"])
    lines = [line for line in text.splitlines() if line.startswith("| mlp-8 |")]
    assert len(lines) == len(parity.NOISES)
    for line in lines:
        values = [float(cell) for cell in line.split("|")[3:-1]]
        assert len(values) == len(parity.QUANTITIES)
        assert max(values) < TRAINED


# ---- the twin by itself -----------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_norm", BATCH_NORM)
def test_sites_and_counts_are_those_of_the_study(batch_norm: str) -> None:
    for model in models.OF_THE_STUDY:
        shape, classes = models.default_input(model)
        network = models.build(model, shape, classes, batch_norm)
        twin = peer.build_twin(model, shape, classes, batch_norm)
        assert tuple(peer.sites(twin)) == network.site_names
        assert sum(parameter.numel() for parameter in twin.parameters()) == models.parameter_count(network)
    with pytest.raises(ValueError, match="unknown network 'mlp-7'"):
        peer.build_twin("mlp-7", (1, 2, 2), 2)


@pytest.mark.parametrize(
    ("noise", "mean", "std"),
    [
        (peer.of_kind("additive", 2.0), 3.0, 2.0),
        (peer.of_kind("multiplicative", 0.5), 3.0, 1.5),
        (peer.of_kind("mixed", 1.0, ratio=0.25), 3.0, (0.25**2 + (3 * 0.75) ** 2) ** 0.5),
        (peer.Noise(0.0, 2.0, 1.0, 0.5, "mul_add"), 6.5, 1.0),
        (peer.Noise(0.0, 2.0, 1.0, 0.5, "add_mul"), 7.0, 2.0),
    ],
)
def test_own_draws_have_the_moments_of_the_kind(noise: Any, mean: float, std: float) -> None:
    n, seed = 200_000, 11
    torch.manual_seed(seed)
    site = peer.NoiseSite()
    site.noise = noise
    y = site(torch.full((n,), 3.0, dtype=torch.float64)).numpy()
    z_mean = (y.mean() - mean) / (std / n**0.5)
    kurtosis = ((y - mean) ** 4).mean() / std**4  # the product of two normals is not used here
    z_std = (y.var() / std**2 - 1) / ((kurtosis - 1) / n) ** 0.5
    print(f"n {n}, seed {seed}: z of the mean {z_mean:.2f}, of the variance {z_std:.2f}")
    assert abs(z_mean) < 6
    assert abs(z_std) < 6


def test_evaluation_under_noise() -> None:
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    labels = torch.from_numpy(rng.integers(0, 4, 400))
    images = torch.nn.functional.one_hot(labels, 4).float().reshape(400, 1, 2, 2)
    twin = peer.build_twin("mlp-32", (1, 2, 2), 4, "hidden")
    losses = peer.train_twin(twin, images, labels, epochs=5, batch_size=50, learning_rate=0.01)
    assert losses[-1] < 0.5 * losses[0]
    grid = [0.0, 0.1, 1.0, 1e6]
    for site in peer.sites(twin):
        noises = [None, *(peer.of_kind("additive", sigma) for sigma in grid)]
        correct = peer.evaluate_twin(twin, images, labels, site, noises, batch_size=64)
        assert correct[0] == correct[1] == 400
        assert correct[-1] < 200  # chance is 100
        again = peer.evaluate_twin(twin, images, labels, site, [None])
        assert again[0] == 400
    assert all(place.noise is None for place in peer.sites(twin).values())
    with pytest.raises(ValueError, match="unknown noise kind 'loud'"):
        peer.of_kind("loud", 1.0)


def test_command_writes_curves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    for stem, count in (("train", 40), ("t10k", 20)):
        write_idx(tmp_path / f"{stem}-images-idx3-ubyte.gz", rng.integers(0, 256, (count, 28, 28), np.uint8))
        write_idx(tmp_path / f"{stem}-labels-idx1-ubyte", rng.integers(0, 10, count, np.uint8))
    settings = {"data-dir": tmp_path, "out": tmp_path / "out", "model": "mlp-8", "batch-norm": "sites"}
    numbers = {"epochs": 2, "repeats": 2, "batch-size": 16, "train-limit": 39, "threads": 1}
    options = {**settings, **numbers, "sigma": "0.1:10:3"}
    peer.main(["train", *(f"--{name}={value}" for name, value in options.items())])
    with (tmp_path / "out" / "curves.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == CURVE_COLUMNS.names
    assert len(rows) == 2 * 11 * 3
    assert {(row["seed"], row["backend"], row["phase"]) for row in rows} == {("0", "torch", "inference")}
    assert [row["site_name"] for row in rows[:33:3]] == list(
        models.build("mlp-8", (1, 28, 28), 10, "sites").site_names
    )
    assert [float(row["sigma"]) for row in rows[:3]] == [0.1, 1.0, 10.0]
    assert all(float(row["accuracy"]) == int(row["correct"]) / 20 for row in rows)
    record = json.loads((tmp_path / "out" / "run.json").read_text(encoding="utf-8"))
    assert len(record["losses"]) == 2
    assert len(record["losses"][0]) == 2
    assert "repeat 1" in capsys.readouterr().out
    x, labels = peer.read_split(tmp_path, "train")
    assert tuple(x.shape) == (40, 1, 28, 28)
    assert 0 <= float(x.min()) <= float(x.max()) <= 1
    assert tuple(labels.shape) == (40,)
    assert peer.sigma_grid("0.5,2") == [0.5, 2.0]


# ---- files ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "batch_norm"),
    [
        *((m, batch_norm) for m in ("mlp-8", "lenet5", "cnn-s") for batch_norm in BATCH_NORM),
        ("vgg11-28", "sites"),
    ],
)
def test_networks_go_to_pytorch_and_come_back(tmp_path: Path, model: str, batch_norm: str) -> None:
    """With safetensors' own PyTorch functions: loading is strict, and every number survives both ways."""
    files = importlib.import_module("safetensors.torch")
    shape, classes = models.default_input(model)
    network = models.build(model, shape, classes, batch_norm)
    population = training.Population(
        network.initial_parameters(BE, (1,), np.float32), network.initial_states(BE, 1, np.float32), (1,)
    )
    checkpoint.save(tmp_path / "whole", network, population, {})
    exchange.export_member(tmp_path / "whole", 0, tmp_path / "member")
    twin = peer.build_twin(model, shape, classes, batch_norm)
    twin.load_state_dict(files.load_file(tmp_path / "member"))
    x = torch.from_numpy(np.random.default_rng(2).random((3, *shape), np.float32))
    twin.train()
    twin(x)  # moves the running statistics and counts the batch
    files.save_file(twin.state_dict(), tmp_path / "back")
    imported = exchange.import_files(
        [tmp_path / "back"],
        tmp_path / "imported",
        model=model,
        classes=classes,
        batch_norm=batch_norm,
    )
    for name, array in checkpoint.named(network, imported.population).items():
        assert array[0].tobytes() == twin.state_dict()[name].numpy().tobytes()
    conditions = Conditions({}, (1,), np.arange(3), 0, False)
    found, _, _ = network.forward(
        BE,
        imported.population.params,
        imported.population.states,
        np.moveaxis(x.numpy(), 0, -1)[None],
        conditions,
    )
    with torch.inference_mode():
        wanted = twin.eval()(x).numpy().T
    np.testing.assert_allclose(found[0], wanted, rtol=1e-4, atol=1e-5)  # float32 in two orders of summation


def test_float64_from_pytorch(tmp_path: Path) -> None:
    files = importlib.import_module("safetensors.torch")
    twin = peer.build_twin("lenet5", (1, 28, 28), 10).double()
    files.save_file(twin.state_dict(), tmp_path / "member")
    _, population = exchange.import_members([tmp_path / "member"], "lenet5", (1, 28, 28), 10)
    assert population.params[0].w.dtype == np.float64
    assert population.params[0].w[0].tobytes() == twin.state_dict()["conv1.weight"].numpy().tobytes()
    tensors = load_file(tmp_path / "member")
    save_file({name: tensors[name] for name in tensors if name != "fc1.bias"}, tmp_path / "member")
    with pytest.raises(WnError, match=r"missing: fc1\.bias"):
        exchange.import_members([tmp_path / "member"], "lenet5", (1, 28, 28), 10)


def test_labels_have_the_loss_of_pytorch_at_large_logits() -> None:
    logits = np.array([[[1e4, -3.0], [0.0, 700.0], [-1e4, 2.0]]])
    labels = np.array([1, 2])
    loss, cache = losses.forward(BE, logits, labels)
    tensor = torch.from_numpy(logits[0].T.copy()).requires_grad_()
    wanted = torch.nn.functional.cross_entropy(tensor, torch.from_numpy(labels))
    wanted.backward()
    assert loss[0] == pytest.approx(wanted.item(), rel=1e-12)
    np.testing.assert_allclose(losses.backward(BE, cache)[0].T, tensor.grad.numpy(), rtol=1e-12)
