"""The benchmarks' own arithmetic and command line; how fast anything is, no test asks."""

import importlib
import json
import math
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bench import command, data, peers, rows
from tests.bench.peers import Peer, Task
from tests.bench.rows.gemm import Product, multiplier, products
from tests.bench.rows.training import check_same_work
from tests.bench.timing import Side, Timing, alternate, entry, geometric_mean, with_rates
from tests.bench.versions import interval_of_median
from tests.cli.command_line import ROOT
from wn.basics.errors import DataError
from wn.data.formats.idx import write_idx
from wn.engine import models

QUICK = ("--quick", "--backend", "numpy", "--repeats", "2")

# ---- timing ---------------------------------------------------------------------------------------------


class Clock:
    """A clock that only work moves on; it notes who worked."""

    def __init__(self) -> None:
        self.now = 0.0
        self.worked: list[str] = []

    def work(self, name: str, seconds: list[float]) -> Callable[[], None]:
        """Work that takes the given seconds at each call."""
        left = iter(seconds)

        def run() -> None:
            self.worked.append(name)
            self.now += next(left)

        return run


def test_sides_take_turns_and_the_warm_up_does_not_count() -> None:
    clock = Clock()
    sides = [
        Side("a", clock.work("a", [100, 3, 1, 8])),
        Side("b", clock.work("b", [100, 20, 60, 30]), scale=0.5),
    ]
    found = alternate(sides, 3, clock=lambda: clock.now)
    assert clock.worked == ["a", "b"] * 4
    assert found == [Timing(3, 1, 8), Timing(15, 10, 30)]


def test_a_ratio_says_how_many_times_longer_the_peer_takes() -> None:
    found = entry("row", Timing(2, 1, 3), "peer", Timing(5, 4, 6))
    assert found == {
        "row": "row",
        "seconds": 2,
        "seconds_min": 1,
        "seconds_max": 3,
        "peer": "peer",
        "peer_seconds": 5,
        "peer_seconds_min": 4,
        "peer_seconds_max": 6,
        "ratio": 2.5,
    }
    rates = with_rates(entry("row", Timing(2, 1, 3), "limit", Timing(0.5, 0.5, 0.5)), 4e9)
    assert (rates["gflops"], rates["peer_gflops"], rates["share"]) == (2, 8, 0.25)


def test_a_row_without_a_peer_has_our_seconds_alone() -> None:
    found = with_rates(entry("row", Timing(2, 1, 3), None, None), 4e9)
    assert (found["seconds"], found["gflops"]) == (2, 2)
    assert found["peer"] is found["peer_seconds"] is found["ratio"] is None


@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=20))
def test_the_geometric_mean_is_that_of_the_product(values: list[float]) -> None:
    assert geometric_mean(values) == pytest.approx(np.prod(values) ** (1 / len(values)), rel=1e-9)


# ---- rows -----------------------------------------------------------------------------------------------


def test_rows_are_chosen_by_pattern() -> None:
    names = [row.name for row in rows.ALL]
    assert len(names) == len(set(names)) == 16
    assert sum(name.startswith("train/") for name in names) == 12
    assert [row.name for row in rows.chosen(None)] == names
    assert [row.name for row in rows.chosen(["walk", "train/*/none"])] == [
        *(f"train/{name}/none" for name in ("mlp", "mlp-bn", "lenet5", "lenet5-bn")),
        "walk",
    ]
    with pytest.raises(ValueError, match="no row 'train/vgg': there are train/mlp/none, "):
        rows.chosen(["normals", "train/vgg"])


@pytest.mark.parametrize("model", models.OF_THE_STUDY)
def test_the_products_of_a_step_are_its_multiplications(model: str) -> None:
    """Three products per layer with weights, but two for the first, whose input needs no gradient."""
    shape, classes = models.default_input(model)
    network = models.build(model, shape, classes)
    found = products(network, 128)
    first = found[0].flops // 2
    assert sum(part.flops for part in found) == 2 * (3 * models.cost_per_image(network) * 128 - first)
    assert {part.name.split()[1] for part in found[:2]} == {"y", "dw"}


@pytest.mark.parametrize("transposed", ["", "left", "right"])
def test_both_libraries_take_the_same_product(transposed: str) -> None:
    product = Product("p", 5, 7, 3, transposed)
    by_numpy: Any = multiplier("numpy", product)()
    by_scipy: Any = multiplier("numba", product)()
    assert by_numpy.shape == (5, 3)
    assert np.abs(by_numpy).min() > 0
    np.testing.assert_allclose(by_scipy.T, by_numpy, rtol=1e-5)


@pytest.mark.parametrize("by", [(1, 0), (0, -1)])
def test_another_amount_of_work_is_refused(by: tuple[int, int]) -> None:
    network = models.build("lenet5", (1, 28, 28), 10, "sites")
    parameters, sites = 44_878, 16
    check_same_work(network, "peer", Peer(float, parameters, sites))
    with pytest.raises(ValueError, match="has 44878 parameters and 16 sites, that of peer "):
        check_same_work(network, "peer", Peer(float, parameters + by[0], sites + by[1]))


# ---- data -----------------------------------------------------------------------------------------------


def test_images_come_from_a_folder_or_by_chance(tmp_path: Path) -> None:
    chance = data.images(None, "train", 20)
    assert chance.images.shape == (20, 1, 28, 28)
    assert chance.images.dtype == np.uint8
    assert set(chance.labels) <= set(range(10))
    write_idx(tmp_path / "train-images-idx3-ubyte.gz", chance.images[:, 0])
    write_idx(tmp_path / "train-labels-idx1-ubyte", chance.labels.astype(np.uint8))
    found = data.images(tmp_path, "train", 15)
    np.testing.assert_array_equal(found.images, chance.images[:15])
    np.testing.assert_array_equal(found.labels, chance.labels[:15])
    assert data.floats(found).max() == np.float32(found.images.max()) / np.float32(255)
    with pytest.raises(DataError, match="21 images of"):
        data.images(tmp_path, "train", 21)
    with pytest.raises(DataError, match="no file t10k-images"):
        data.images(tmp_path, "t10k", 1)


# ---- the command line -----------------------------------------------------------------------------------


def test_every_row_runs_without_torch_and_jax(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "find_spec", lambda name: None)
    command.main([*QUICK, "--json", str(tmp_path / "found.json")])
    told = capsys.readouterr().out
    assert "without torch eager: torch is not installed" in told
    assert "without jax jit: jax is not installed" in told
    assert "fewer than 7 repeats" in told
    found = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    assert list(dict.fromkeys(one["row"] for one in found)) == [row.name for row in rows.ALL]
    by_peer = {one["peer"]: one for one in found}
    own = {None, "numpy Generator", "wn one after another", "sgemm 512", "sgemm largest", "sgemm own shapes"}
    assert set(by_peer) == own
    for one in found:
        assert one["seconds_min"] <= one["seconds"] <= one["seconds_max"]
        assert (one["backend"], one["repeats"]) == ("numpy", 2)
        if one["peer"] is not None:
            assert one["ratio"] == one["peer_seconds"] / one["seconds"]
    assert by_peer["sgemm 512"]["flops"] == 2 * 128 * (3 * 281_640 - 86_400)
    epoch = found[0]
    assert (epoch["row"], epoch["steps"], epoch["timed_steps"]) == ("train/mlp/none", 469, 2)


def test_seconds_are_those_of_a_whole_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """3 whole batches of an epoch of 4 steps are timed, the partial one counts as a whole."""
    monkeypatch.setattr(command, "alternate", lambda sides, *_: [Timing(side.scale, 1, 1) for side in sides])
    path = tmp_path / "found.json"
    command.main(
        [
            *QUICK,
            "--rows",
            "train/mlp/*",
            "--peers",
            "-",
            "--images",
            "400",
            "--steps",
            "9",
            "--json",
            str(path),
        ]
    )
    found = json.loads(path.read_text(encoding="utf-8"))
    assert [(one["seconds"], one["timed_steps"], one["steps"]) for one in found] == [(4 / 3, 3, 4)] * 3


@pytest.mark.skipif(find_spec("torch") is None, reason="needs torch")
def test_torch_takes_part(capsys: pytest.CaptureFixture[str]) -> None:
    torch = importlib.import_module("torch")
    before = torch.get_num_threads()
    patterns = ("train/lenet5-bn/multiplicative", "normals", "walk", "population")
    command.main([*QUICK, "--threads", "1", "--rows", *patterns, "--peers", "torch eager*", "torch normal_"])
    torch.set_num_threads(before)
    lines = capsys.readouterr().out.splitlines()
    for name in patterns:
        assert sum(line.startswith(name) and " torch " in line for line in lines) == 1
    assert lines[-2].startswith("training, torch eager: geometric mean ")


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--rows", "nothing"], "no row 'nothing'"),
        (["--repeats", "0"], "invalid positive value: '0'"),
        (["--images", "127"], "--images 127: an epoch needs at least 128"),
        ([*QUICK, "--rows", "train/mlp/none", "--data-dir", "nowhere"], "no file train-images"),
    ],
)
def test_wrong_arguments_are_refused(
    arguments: list[str], part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(arguments)
    assert ended.value.code == 2
    assert part in capsys.readouterr().err


def test_it_runs_as_a_command(tmp_path: Path) -> None:
    line = [sys.executable, str(ROOT / "tests/bench/run.py"), "--list", "--rows", "train/mlp/*", "gemm"]
    ran = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["train/mlp/none", "train/mlp/additive", "train/mlp/multiplicative", "gemm"]


# ---- the peer in JAX ------------------------------------------------------------------------------------


def test_the_jax_peer_trains_as_the_twin_does() -> None:
    """The same weights and batches give the same losses for three steps of LeNet-5 with batch norm."""
    pytest.importorskip("torch")
    pytest.importorskip("jax")
    torch, jax_jit = importlib.import_module("torch"), importlib.import_module("tests.bench.peers.jax_jit")
    torch_peer = importlib.import_module("reference.torch_peer")
    split = data.images(None, "train", 24)
    x, y = data.floats(split), split.labels
    twin = torch_peer.build_twin("lenet5", data.SHAPE, data.CLASSES, "sites")
    task = Task("lenet5", "sites", "none", 0.0, x, y, 8, 1)
    layers, images = jax_jit.plan("lenet5", "sites"), np.moveaxis(x, 1, -1)
    state = jax_jit.first_state(layers, images.shape[1:])
    state = (as_jax(twin, state[0]), *state[1:])
    step = jax_jit.make_step(task, layers)
    for samples in np.arange(24).reshape(3, 8):
        state = step(state, images, y, samples, [])
    wanted = torch_peer.train_twin(
        twin,
        torch.from_numpy(x),
        torch.from_numpy(y),
        epochs=1,
        batch_size=8,
        order=lambda _: torch.arange(24),
    )
    assert float(state[-1]) / 3 == pytest.approx(wanted[0], rel=1e-4)
    running = [np.asarray(value) for pair in state[3] for value in pair]
    twins = [value.numpy() for name, value in twin.state_dict().items() if "running" in name]
    for ours, theirs in zip(running, twins, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-2, atol=1e-3)


def as_jax(twin: Any, params: Any) -> Any:
    """Return the twin's parameters in the layout of the peer: inputs first, channels last."""
    jnp = importlib.import_module("jax.numpy")
    tensors = [value.detach().numpy() for value in twin.parameters()]
    found = []
    for layer in params:
        own = [tensors.pop(0) for _ in layer]
        if own and own[0].ndim == 4:
            own[0] = own[0].transpose(2, 3, 1, 0)
        elif own and own[0].ndim == 2:
            if own[0].shape[1] == 256:  # behind the flattening: (16, 4, 4) becomes (4, 4, 16)
                own[0] = own[0].reshape(-1, 16, 4, 4).transpose(0, 2, 3, 1).reshape(-1, 256)
            own[0] = own[0].T
        found.append([jnp.asarray(value) for value in own])
    return found


@pytest.mark.parametrize("kind", ["additive", "multiplicative"])
def test_the_jax_peer_draws_anew_for_every_site_and_step(kind: str) -> None:
    jax = pytest.importorskip("jax")
    jax_jit = importlib.import_module("tests.bench.peers.jax_jit")
    shapes = [(20, 20, 3), (50,)]
    draws = jax_jit.make_draws(shapes, 8)
    scale = 0.5 if kind == "additive" else 1.0
    seen = []
    for step in range(2):
        noise = jax_jit.noise_of(kind, 0.5, draws(jax.random.key(1), step))
        for site, shape in enumerate(shapes):
            z = (np.asarray(noise(np.full((8, *shape), 2, np.float32), site)) - 2) / scale
            assert abs(z.mean()) < 6 / z.size**0.5
            assert abs(z.std() - 1) < 6 / (2 * z.size) ** 0.5
            seen += [z.reshape(-1)[:400]]
    correlations = np.corrcoef(seen) - np.eye(4)
    assert np.abs(correlations).max() < 6 / 400**0.5


def test_two_checkouts_are_timed_in_turns(tmp_path: Path) -> None:
    """The script that compares versions: a process for each checkout, figures of both in the JSON."""
    script, figures = ROOT / "tests" / "bench" / "versions.py", tmp_path / "figures.json"
    command = [sys.executable, str(script), "--before", str(ROOT), "--rows", "train/mlp/none", "--quick"]
    command += ["--backend", "numpy", "--repeats", "3", "--json", str(figures)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "geometric mean" in done.stdout
    (found,) = json.loads(figures.read_text())
    assert (found["row"], found["repeats"]) == ("train/mlp/none", 3)
    for side in ("before", "after"):
        least, most = found[f"{side}_range"]
        assert 0 < least <= found[side] <= most
    low, high = found["ratio_interval"]
    assert low <= found["ratio"] <= high


def test_the_interval_of_a_median_has_its_confidence() -> None:
    """Against the binomial sum: nothing narrower holds the median that often."""
    for count in (6, 15, 40, 101):
        low, high = interval_of_median(count)
        assert low + high == count - 1
        missed = 2 * sum(math.comb(count, k) for k in range(low + 1)) / 2**count
        narrower = 2 * sum(math.comb(count, k) for k in range(low + 2)) / 2**count
        assert missed <= 0.05 < narrower
    assert interval_of_median(3) == (0, 2)
