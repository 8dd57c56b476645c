"""The errors of failed checks, with tracebacks that hide the checker's own code."""

from collections.abc import Callable
from contextvars import ContextVar
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from wn.basics.errors import WnError

# The check that is being made: its name and keyword arguments; the outermost one of several.
running: ContextVar[tuple[str, dict[str, Any]] | None] = ContextVar("running", default=None)

P = ParamSpec("P")
R = TypeVar("R")


class CheckFailure(AssertionError):
    """The checked code is wrong."""


class UnresolvedError(WnError):
    """Differences cannot tell a right gradient from a wrong one here; the message says why and what to do."""


class KinkError(UnresolvedError):
    """x lies on or next to a kink or a jump of y, where there is no derivative."""


def short_traceback(check: Callable[P, R]) -> Callable[P, R]:
    """Let a failure of `check` be shown at the line of the test that called it, without the frames between.

    Errors that the checked code raises itself keep all of theirs.
    """

    @wraps(check)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        __tracebackhide__ = True  # understood by pytest
        token = None if running.get() else running.set((check.__name__, kwargs))
        try:
            return check(*args, **kwargs)
        except (CheckFailure, WnError) as error:
            raise error.with_traceback(None) from None
        finally:
            if token:
                running.reset(token)

    return checked
