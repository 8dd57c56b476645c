"""Every test of a layer runs with every backend that this machine can have."""

from collections.abc import Iterator

import pytest

from wn.engine import backends


@pytest.fixture(params=["numpy", "numba"], scope="module", autouse=True)
def backend_under_test(request: pytest.FixtureRequest) -> Iterator[None]:
    """Put each backend in turn in the place of the test file's BE."""
    before = getattr(request.module, "BE", None)
    request.module.BE = backends.get(request.param)
    yield
    request.module.BE = before
