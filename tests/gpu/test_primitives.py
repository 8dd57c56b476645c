"""The tests of kernels once more, on the GPU in place of the stand-in."""

from collections.abc import Iterator

import pytest

from tests.gpu import MISSING, REASON

if MISSING is not None:
    pytest.skip(REASON, allow_module_level=True)  # in one line, not one for each test

from tests.engine.backends.cuda import OnHost, test_layers, test_noise, test_steps
from tests.engine.backends.cuda.test_layers import *  # noqa: F403 – its tests are collected here
from tests.engine.backends.cuda.test_noise import *  # noqa: F403 – likewise
from tests.engine.backends.cuda.test_steps import *  # noqa: F403 – likewise
from wn.engine import backends

pytestmark: list[pytest.MarkDecorator] = []  # no C++ compiler is needed here


@pytest.fixture(scope="module", autouse=True)
def on_the_gpu() -> Iterator[None]:
    """Put the real backend in the place of the stand-in."""
    before = test_layers.CUDA
    test_layers.CUDA = test_noise.CUDA = test_steps.CUDA = OnHost(backends.get("cupy"))
    yield
    test_layers.CUDA = test_noise.CUDA = test_steps.CUDA = before
