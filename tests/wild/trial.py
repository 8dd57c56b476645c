"""Every case of a library through `check_vjp`, and what came out by verdict."""

import importlib.metadata
import importlib.util
import warnings
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.wild.cases import VERDICTS, Case, Library
from wn.testing import CheckFailure, KinkError, UnresolvedError, check_vjp, numerical_gradient

MOST_VALUES = 30  # of an input whose whole numerical gradient is taken too


@dataclass(frozen=True)
class Outcome:
    """What a check said of a case."""

    case: Case
    verdict: str
    message: str = ""

    @property
    def surprising(self) -> bool:
        return self.verdict != self.case.expected


def judge(case: Case) -> Outcome:
    """Check one case. Numerical and vjp's whole gradient are compared too, where there are few values."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the libraries
        try:
            check_vjp(
                case.f, case.vjp, *case.arrays, directions=case.directions, subgradients=case.subgradients
            )
            if case.directions is None and not case.subgradients and _values(case) <= MOST_VALUES:
                _compare(case)
        except CheckFailure as failure:
            return Outcome(case, "wrong", _first_line(failure))
        except KinkError as kink:
            return Outcome(case, "kink", _first_line(kink))
        except UnresolvedError as unresolved:
            return Outcome(case, "undecided", _first_line(unresolved))
        except Exception as error:  # whatever a library raises
            return Outcome(case, "raised", f"{type(error).__name__}: {_first_line(error)}")
    return Outcome(case, "passed")


def trial(library: Library, only: str = "") -> list[Outcome]:
    """Judge the cases of a library, all or those whose name has `only` in it."""
    return [judge(case) for case in library.cases() if only in case.name]


def installed(library: Library) -> str | None:
    """The version of a library, None where it is not installed."""
    if importlib.util.find_spec(library.module) is None:
        return None
    return importlib.metadata.version(library.package)


def counts(outcomes: Iterable[Outcome]) -> dict[str, int]:
    """The number of outcomes by verdict."""
    counter = Counter(outcome.verdict for outcome in outcomes)
    return {verdict: counter[verdict] for verdict in VERDICTS}


def _values(case: Case) -> int:
    return sum(np.size(array) for array in case.arrays)


def _compare(case: Case) -> None:
    """Compare the numerical gradient with the one of vjp, to 1e-6 of the largest element."""
    y = case.f(*case.arrays)
    dy = np.random.default_rng(7).standard_normal(np.shape(y)) if not isinstance(y, tuple) else None
    if dy is None or np.iscomplexobj(y):
        return
    numerical = _several(numerical_gradient(case.f, *case.arrays, dy=dy))
    for given, found in zip(_several(case.vjp(dy, *case.arrays)), numerical, strict=True):
        if found is not None:
            size = max(1.0, float(np.max(np.abs(dy), initial=0.0))) * np.max(np.abs(found), initial=1e-3)
            if not np.allclose(given, found, rtol=0.0, atol=1e-6 * size):
                raise CheckFailure(f"numerical_gradient {found!r} is not the gradient {given!r}")


def _several(gradients: Any) -> tuple[Any, ...]:
    return gradients if isinstance(gradients, tuple) else (gradients,)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0]
