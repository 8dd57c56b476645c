"""Every test of a layer runs with its formula, and with every backend that this machine can have."""

from collections.abc import Iterator

import pytest

from tests.engine.layers import Formulas
from wn.engine import backends


@pytest.fixture(params=["formulas", "numpy", "numba"], scope="module", autouse=True)
def backend_under_test(request: pytest.FixtureRequest) -> Iterator[None]:
    """Put the formulas and each backend in turn in the place of the test file's BE."""
    before = getattr(request.module, "BE", None)
    request.module.BE = Formulas() if request.param == "formulas" else backends.get(request.param)
    yield
    request.module.BE = before
