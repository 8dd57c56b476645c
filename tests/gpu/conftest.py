"""Tests that need a GPU are skipped without one, and say why."""

from pathlib import Path

import pytest

from wn.backends import cuda_device

REASON = cuda_device.missing()
HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of this folder."""
    for item in items:
        if REASON is not None and HERE in item.path.parents:
            item.add_marker(pytest.mark.skip(reason=f"needs a GPU: {REASON}"))
