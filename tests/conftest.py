"""Hypothesis profiles: `ci` (default, derandomised), `dev` (random, short), `thorough` (many examples)."""

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

from wn.engine.backends.threads import single_threaded_blas

settings.register_profile("ci", derandomize=True, deadline=None, print_blob=True)
settings.register_profile("dev", deadline=None, max_examples=25, print_blob=True)
settings.register_profile("thorough", deadline=None, max_examples=2000, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.fixture(autouse=True, scope="session")
def one_blas_thread() -> Iterator[None]:
    """As in a walk: small products are faster so, and their bits do not depend on the number of threads."""
    with single_threaded_blas():
        yield


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name a case whose parameter is bytes by the argument: a file's bytes may hold the time of day.

    Processes that share the tests between them have to find the same names.
    """
    return argname if isinstance(val, bytes) else None
