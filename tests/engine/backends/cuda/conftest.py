"""The tests of kernels run with both orders of threads and blocks: no result may depend on it."""

from collections.abc import Iterator

import pytest

from tests.engine.backends.cuda.fake_device import DEVICE


@pytest.fixture(params=[False, True], ids=["forwards", "backwards"], scope="module")
def order_of_threads(request: pytest.FixtureRequest) -> Iterator[None]:
    """Run threads and blocks in this order."""
    DEVICE.backwards = request.param
    yield
    DEVICE.backwards = False
