"""Tests that need a GPU: marked `gpu`; without one they are skipped, and say why."""

from pathlib import Path

import pytest

from tests.gpu import MISSING, REASON

HERE = Path(__file__).parent


def pytest_configure(config: pytest.Config) -> None:
    """Make the mark known."""
    config.addinivalue_line("markers", "gpu: needs an NVIDIA GPU and CuPy; skipped without them")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of this folder before anyone selects by marks."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.gpu)
            if MISSING is not None:
                item.add_marker(pytest.mark.skip(reason=REASON))
