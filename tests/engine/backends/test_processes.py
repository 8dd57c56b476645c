"""What a process is like must not end it: forks, several threads, settings of Numba, read-only disks.

The kinds: a process forked off from one with threads (or a GPU), which was killed or waited for ever; kernels
called from two threads where Numba's layer bears one, which ended the process; settings that end in a
traceback. Each gives the right result, or one line.
"""

import multiprocessing
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from tests.engine.backends.cuda import needs_compiler
from tests.engine.backends.cuda.fake_cupy import backend as cuda
from tests.walking.small_walks import small_data
from wn.basics.errors import WnError
from wn.engine import backends, models
from wn.engine.backends import threads
from wn.engine.backends.numba.backend import NumbaBackend
from wn.engine.backends.numba.kernels import convolution_columns, products
from wn.engine.layers import convolution, linear, relu
from wn.engine.layers.base import Formula
from wn.engine.network import Conditions

ROOT = Path(__file__).parents[3]
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")

USE = """
from wn.engine import backends
from wn.engine.layers import relu
from wn.basics.errors import WnError
import numpy as np
try:
    be, x = backends.get("numba"), np.array([-1.0, 2.0], np.float32)
    print(be.forward(relu.FORMULA, (), x)[0])
    with backends.get("numba").working(2):
        pass
    print("works")
except WnError as error:
    print("WnError:", error)
"""


def run(code: str, folder: Path = ROOT, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run Python code in a process of its own, with these environment variables."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA_")}
    command = [sys.executable, "-c", code]
    return subprocess.run(
        command,
        cwd=folder,
        env=environment | settings,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


# ---- forks -------------------------------------------------------------------------------------------------


def outcome(be: Any) -> str:
    try:
        with be.working():
            be.forward(relu.FORMULA, (), be.asarray(np.ones(3, np.float32)))
    except WnError as error:
        return str(error)
    return "works"


FORK = """
import multiprocessing, numpy as np
from wn.engine import backends
from wn.engine.backends.numba.recorded_calls import RecordedStep
from wn.engine.layers import relu
from wn.basics.errors import WnError

be = backends.get("numba")
step = be.recorded(lambda samples, epoch, constants: be.take(np.arange(4.0), samples))
ids = np.arange(2, dtype=np.uint32)

def tried(how):
    try:
        return how()
    except WnError as error:
        return str(error)

def inside():
    with be.working():
        return "works"

def cut(be):
    return be.forward(relu.FORMULA, (), np.ones(1, np.float32))[0]

HOWS = (lambda: cut(be), inside, lambda: step(ids, 0, (0.0,) * 5),
        lambda: cut(type(be)()),
        lambda: backends.get("numba").takes_jobs_side_by_side)

def child(number):
    return tried(HOWS[number])

if __name__ == "__main__":
    with multiprocessing.get_context("fork").Pool(1) as pool:  # before anything was computed
        print(pool.map(child, [1]))
    step(ids, 0, (0.0,) * 5)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        for line in pool.map(child, range(5)):
            print(line)
    print("parent", cut(be))
"""


@forks
def test_a_process_forked_from_threads_says_so(tmp_path: Path) -> None:
    (tmp_path / "forking.py").write_text(FORK, encoding="utf-8")
    found = run(f"import runpy; runpy.run_path({str(tmp_path / 'forking.py')!r}, run_name='__main__')")
    first, *lines, last = found.stdout.splitlines()
    assert (first, last) == ("['works']", "parent [1.]"), found.stderr
    assert len(lines) == 5
    if not all(line.startswith("this process was forked") and "spawn" in line for line in lines):
        assert (
            "workqueue"
            in run(
                "from wn.engine.backends.numba.process import *; PROCESS.start(); print(PROCESS.layer)"
            ).stdout
        )


@forks
@needs_compiler
def test_a_process_forked_from_one_with_a_gpu_says_so() -> None:
    be = cuda()
    assert outcome(be) == "works"
    receive, send = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(target=lambda: send.send(outcome(be)))
    child.start()
    assert "forked from one that uses a GPU" in receive.recv()
    child.join()
    assert outcome(be) == "works"


# ---- several threads ---------------------------------------------------------------------------------------

THREADS = """
from concurrent.futures import ThreadPoolExecutor
import numpy as np
from tests.walking.small_walks import small_data
from wn.engine import backends, models, noise
from wn.engine.backends.plain.base import DrawKey
from wn.engine.optim import arrays
from wn.random import Purpose
from wn.engine.training import TrainSettings, train

be, data = backends.get("numba"), small_data(96, 10)
network = models.build("mlp-8", data.image_shape, 10, "sites")
print(be.takes_jobs_side_by_side)

def trained(seed):
    with be.working(2):
        found = train(be, network, data, TrainSettings(6, 16), seeds=(seed,), noise={0: noise.additive(0.1)})
        key = DrawKey((seed,), np.arange(50, dtype=np.uint32), 0, Purpose.TRAIN_ADD, 0)
        return [array.tobytes() for array in arrays(found.params)] + [be.standard_draws(key, 999).tobytes()]

with ThreadPoolExecutor(3) as executor:
    together = list(executor.map(trained, range(3)))
print(together == [trained(seed) for seed in range(3)])
"""


def test_two_threads_may_compute_where_the_layer_bears_one() -> None:
    found = run(THREADS, NUMBA_THREADING_LAYER="workqueue", NUMBA_NUM_THREADS="2")
    assert (found.returncode, found.stdout.split()) == (0, ["False", "True"]), found.stderr


# ---- settings ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        ("NUMBA_DISABLE_JIT", "1", "NUMBA_DISABLE_JIT is set"),
        ("NUMBA_NUM_THREADS", "0", "NUMBA_NUM_THREADS=0"),
        ("NUMBA_THREADING_LAYER", "nonsense", "NUMBA_THREADING_LAYER=nonsense"),
    ],
)
def test_a_setting_that_numba_refuses_is_one_line(name: str, value: str, line: str) -> None:
    found = run(USE, **{name: value})
    (said,) = found.stdout.splitlines()
    assert said.startswith("WnError: ")
    assert line in said
    assert found.returncode == 0


# ---- compiled kernels on disk ------------------------------------------------------------------------------

WORDS = """
import logging
logging.basicConfig(format="%(message)s")
import numpy as np
from wn.engine.backends.numba.kernels import draws
words = np.zeros((4, 1), np.uint32)
draws._draw_words(words, 0, 1, np.zeros(1, np.uint32), (0, 0, 1, 0, 0))
print(words[:, 0].tolist(), sum(draws._draw_words.stats.cache_hits.values()))
"""


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A copy of the package; its data stay behind."""
    skip = shutil.ignore_patterns("__pycache__", "*.gz", "study")
    shutil.copytree(ROOT / "wn", tmp_path / "wn", ignore=skip)
    return tmp_path


def test_a_kernel_is_compiled_anew_when_a_constant_of_another_file_changes(installed: Path) -> None:
    """As after an update of the package, here one that leaves sizes and times of files as they were."""
    from wn import random

    def expected(steps: tuple[int, int]) -> str:
        words = (0, 0, 0, 0)
        for number in range(random.ROUNDS):
            k0, k1 = ((key + number * step) & random.WORD for key, step in zip((1, 0), steps, strict=True))
            one, other = words[0] * random.MULTIPLIERS[0], words[2] * random.MULTIPLIERS[1]
            words = (
                (other >> 32) ^ words[1] ^ k0,
                other & random.WORD,
                (one >> 32) ^ words[3] ^ k1,
                one & random.WORD,
            )
        return str(list(words))

    assert run(WORDS, installed).stdout.strip() == f"{expected(random.KEY_STEPS)} 0"
    assert run(WORDS, installed).stdout.strip() == f"{expected(random.KEY_STEPS)} 1"  # kept on disk
    source = installed / "wn" / "random.py"
    text, times = source.read_text(encoding="utf-8"), source.stat()
    assert "0x9E3779B9" in text
    source.write_text(text.replace("0x9E3779B9", "0x9E3779B1"), encoding="utf-8")
    os.utime(source, ns=(times.st_atime_ns, times.st_mtime_ns))
    shutil.rmtree(
        source.parent / "__pycache__", ignore_errors=True
    )  # Python itself looks at times and sizes alone
    assert run(WORDS, installed).stdout.strip() == f"{expected((0x9E3779B1, random.KEY_STEPS[1]))} 0"


def test_without_a_place_on_disk_kernels_are_compiled_in_each_run(installed: Path) -> None:
    (installed / "wn" / "engine" / "backends" / "numba" / "kernels" / "__pycache__").write_text(
        "no folder"
    )  # nobody can write
    nowhere = dict.fromkeys(("HOME", "XDG_CACHE_HOME", "NUMBA_CACHE_DIR"), "/proc/nowhere")
    found = run(WORDS, installed, **nowhere)
    assert found.stdout.endswith("] 0\n"), found.stderr
    (line,) = found.stderr.splitlines()
    assert "compiled loops can't be kept on disk (no folder can be written)" in line


# ---- BLAS --------------------------------------------------------------------------------------------------


def blas_threads() -> set[int]:
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


@pytest.mark.parametrize("name", ["numpy", "numba"])
def test_every_way_in_holds_blas_to_one_thread(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads of BLAS within those of a loop may wait for ever, as OpenBLAS says where PyTorch is loaded."""
    seen: list[set[int]] = []
    be: Any = backends.get(name) if name == "numpy" else NumbaBackend()

    def spy(function: Callable[..., Any]) -> Callable[..., Any]:
        def looking(*arguments: Any, **named: Any) -> Any:
            seen.append(blas_threads())
            return function(*arguments, **named)

        return looking

    for module, attribute in (
        (products, "linear"),
        (products, "linear_backward"),
        (convolution_columns, "convolution"),
        (convolution_columns, "convolution_gradients"),
        (convolution_columns, "convolution_input_gradient"),
    ):
        monkeypatch.setattr(module, attribute, spy(getattr(module, attribute)))
    if name == "numpy":
        own = {name: Formula(*map(spy, pair)) for name, pair in be.own.items()}
        monkeypatch.setattr(be, "own", own, raising=False)
    monkeypatch.setattr(threads, "_limit", threads._Limit())  # the tests' own holds BLAS already
    data = small_data(8, 8)
    network = models.build("mlp-8", data.image_shape, 10, "none")
    params = network.initial_parameters(be, (1,), np.float32)
    x = np.ones((1, *data.image_shape, 4), np.float32)
    conditions = Conditions({}, (1,), np.arange(4, dtype=np.uint32), 0, training=True)
    with threadpool_limits(2, user_api="blas"):
        states = ((),) * len(network.nodes)
        logits, cache, _ = network.forward(be, params, states, x, conditions)
        network.backward(be, logits, cache)
        network.forward_from_site(be, params, states, x, conditions, 0)
        network.clean_activations(be, params, states, x)
        if name == "numba":
            w, b = np.ones((1, 3, 4), np.float32), np.ones((1, 3), np.float32)
            be.forward(linear.FORMULA, linear.LinearParams(w, b), np.ones((1, 4, 5), np.float32))
            images, w = np.ones((1, 3, 8, 8, 2), np.float32), np.ones((1, 70, 3, 3, 3), np.float32)
            kernels = convolution.ConvolutionParams(w, np.ones((1, 70), np.float32))
            be.backward(convolution.FORMULA, *be.forward(convolution.FORMULA, kernels, images))
        assert blas_threads() == {2}
    assert len(seen) >= 8
    assert set.union(*seen) == {1}
