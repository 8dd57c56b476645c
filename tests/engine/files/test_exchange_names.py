"""Importing what other software wrote: wrappers' prefixes are left out and named, other files recognised."""

import gzip
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from tests.cli.command_line import run
from tests.data.formats.test_kinds import KINDS
from tests.engine.populations import assert_same, check_error
from wn.engine import models
from wn.engine.files import checkpoint, exchange

SHAPE, CLASSES = (1, 2, 3), 4
NETWORK = models.build("mlp-8", SHAPE, CLASSES, "hidden")
RNG = np.random.default_rng(3)
TENSORS = {
    name: np.abs(RNG.normal(size=spec.shape[1:])).astype(np.float32)
    for name, spec in checkpoint.expected_specs(NETWORK, 1).items()
}


def written(path: Path, tensors: dict[str, Any]) -> Path:
    save_file({name: np.asarray(tensor, order="C") for name, tensor in tensors.items()}, path)
    return path


def read(*paths: Path) -> Any:
    return exchange.import_members(paths, "mlp-8", SHAPE, CLASSES, "hidden")[1]


def prefixed(prefix: str, tensors: dict[str, Any] = TENSORS) -> dict[str, Any]:
    return {prefix + name: tensor for name, tensor in tensors.items()}


PARTS = st.lists(
    st.sampled_from(["module", "_orig_mod", "model", "net", "backbone", "fc1", "0"]), min_size=1, max_size=3
)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parts=PARTS, counters=st.booleans())
def test_any_prefix_of_all_names_is_left_out_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, parts: list[str], counters: bool
) -> None:
    """The kind: names of the right network under the name of what wrapped it, whatever that was."""
    caplog.clear()
    prefix = "".join(f"{part}." for part in parts)
    tensors = dict(TENSORS)
    if counters:
        tensors |= {
            name.replace("running_mean", exchange.COUNTER): np.zeros((), np.int64)
            for name in TENSORS
            if name.endswith("running_mean")
        }
    path = written(tmp_path / "wrapped", prefixed(prefix, tensors))
    assert_same(read(path), read(written(tmp_path / "plain", tensors)))
    (message,) = caplog.messages
    assert message.startswith(f"{path}: names are read without {prefix!r}, ")


def test_wrappers_are_named_and_many_files_are_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    paths = [
        written(tmp_path / f"{number}", prefixed(prefix))
        for number, prefix in enumerate(("module.", "module.", "_orig_mod.", "", "module."))
    ]
    assert len(read(*paths).seeds) == 5
    assert caplog.messages == [
        f"{paths[0]} and 2 more: names are read without 'module.', "
        "put before them by DataParallel or DistributedDataParallel",
        f"{paths[2]}: names are read without '_orig_mod.', put before them by torch.compile",
    ]


def test_the_command_says_it_in_one_line(tmp_path: Path) -> None:
    path = written(tmp_path / "wrapped", prefixed("module."))
    line = f"import {path} -m mlp-8 --input-shape 1,2,3 --classes 4 --batch-norm hidden -o {tmp_path / 'out'}"
    outcome = run(*line.split())
    assert outcome.code == 0
    assert outcome.err == (
        f"wn: {path}: names are read without 'module.', "
        "put before them by DataParallel or DistributedDataParallel\n"
    )


FIRST = next(iter(TENSORS))
DOUBTFUL: dict[str, tuple[dict[str, Any], str]] = {
    "some have it": (
        {(f"module.{name}" if name != FIRST else name): tensor for name, tensor in TENSORS.items()},
        "some names have a prefix (module.",
    ),
    "twice, with and without": (TENSORS | prefixed("module."), "not part of it: 'module."),
    "two networks": (prefixed("student.") | prefixed("teacher."), "some names have a prefix"),
    "two prefixes": (
        {("a." if i % 2 else "b.") + name: tensor for i, (name, tensor) in enumerate(TENSORS.items())},
        "some names have a prefix",
    ),
    "one missing": (
        prefixed("module.", {name: tensor for name, tensor in TENSORS.items() if name != "logits.bias"}),
        "logits.bias",
    ),
    "one more": (
        prefixed("module.") | {"module.head.weight": np.ones(3, np.float32)},
        "not part of it: 'head.w",
    ),
    "an average": (
        prefixed("module.") | {"n_averaged": np.zeros((), np.int64)},
        "an averaged model: save the state_dict of its module alone",
    ),
    "pruned": (
        {name.replace("weight", "weight_orig"): tensor for name, tensor in TENSORS.items()},
        "pruned or spectrally normalised: remove that first",
    ),
    "parametrised": (
        {name.replace(".weight", ".parametrizations.weight.original0"): t for name, t in TENSORS.items()},
        "parametrised: remove that first",
    ),
    "half precision": (
        {name: tensor.astype(np.float16) for name, tensor in TENSORS.items()},
        "; float16 is half precision: save module.float().state_dict()",
    ),
}


@pytest.mark.parametrize("kind", DOUBTFUL)
def test_names_that_leave_a_doubt_are_refused(tmp_path: Path, kind: str) -> None:
    tensors, words = DOUBTFUL[kind]
    message = check_error(lambda: read(written(tmp_path / "x", tensors)), str(tmp_path / "x"), words)
    assert "\n" not in message


FILES = {
    **{kind: KINDS[kind] for kind in KINDS if kind not in ("torch", "pickle", "safetensors")},
    "torch": (
        KINDS["torch"][0],
        "a PyTorch file (.pt, .pth): it holds pickles, which are never loaded; in PyTorch",
    ),
    "torch of old": (
        pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2) + b"\x80\x02M\xe9\x03.",
        "a PyTorch file (.pt, .pth): it holds pickles, which are never loaded; in PyTorch",
    ),
    "pickle": (KINDS["pickle"][0], "a Python pickle: it holds pickles, which are never loaded; in PyTorch"),
    "packed": (gzip.compress(b"\x08" + bytes(7) + b'{"a":1}'), "a gzip file: undo it with gunzip"),
}


@pytest.mark.parametrize("kind", FILES)
def test_files_that_are_no_safetensors_are_recognised(tmp_path: Path, kind: str) -> None:
    """Both ways to read a network from a file say what they were given, and what to do."""
    content, words = FILES[kind]
    (tmp_path / "x.pt").write_bytes(content)
    whole = f"{tmp_path / 'x.pt'}: not a whole safetensors file: it is {words}"
    for call in (lambda: read(tmp_path / "x.pt"), lambda: checkpoint.load(tmp_path / "x.pt")):
        assert "\n" not in check_error(call, whole)
