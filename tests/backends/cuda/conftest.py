"""Every test of the kernels runs with both orders of threads and blocks: a result may not depend on it."""

from collections.abc import Iterator

import pytest

from tests.backends.cuda.fake_device import DEVICE


@pytest.fixture(params=[False, True], ids=["forwards", "backwards"], scope="module", autouse=True)
def order_of_threads(request: pytest.FixtureRequest) -> Iterator[None]:
    """Run threads and blocks in this order."""
    DEVICE.backwards = request.param
    yield
    DEVICE.backwards = False
