"""A case of the trial, and the values that cases are made of."""

import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

VERDICTS = ("passed", "wrong", "kink", "undecided", "raised")


@dataclass(frozen=True)
class Case:
    """A function of a library with the gradient that the library gives, and what is known of them."""

    name: str
    f: Callable[..., Any]
    vjp: Callable[..., Any]
    arrays: tuple[Any, ...]
    directions: list[Any] | None = None  # where values must keep to a set
    subgradients: bool = False
    expected: str = "passed"  # one of VERDICTS: what examination by hand has confirmed
    why: str = ""  # of another verdict than "passed"

    def __post_init__(self) -> None:
        if self.expected not in VERDICTS:
            raise ValueError(f"{self.name}: expected is {self.expected!r}, not one of {', '.join(VERDICTS)}")
        if (self.expected == "passed") == bool(self.why):
            raise ValueError(f"{self.name}: every verdict but passed needs its reason")


@dataclass(frozen=True)
class Library:
    """A library: how its functions are called and differentiated, and the cases that are tried."""

    package: str  # as the package index calls it
    module: str
    cases: Callable[[], Iterable[Case]]


class Draws:
    """Arrays of float64 that depend only on a name and on the order of the calls."""

    def __init__(self, name: str) -> None:
        self.rng = np.random.default_rng(zlib.crc32(name.encode()))

    def normal(self, *shape: int, scale: float = 1.0) -> Any:
        """Values of either sign, at least 0.1 · scale from zero."""
        values = self.rng.standard_normal(shape)
        return scale * (values + 0.1 * np.where(values < 0, -1.0, 1.0))

    def uniform(self, low: float, high: float, *shape: int) -> Any:
        return self.rng.uniform(low, high, shape)

    def positive(self, *shape: int) -> Any:
        return self.uniform(0.3, 3.0, *shape)

    def distinct(self, *shape: int) -> Any:
        """Shuffled values that are at least 0.3 apart and 0.15 from zero."""
        count = int(np.prod(shape))
        values = 0.5 * (np.arange(count) - (count - 1) // 2) + 0.25 + self.rng.uniform(-0.1, 0.1, count)
        return self.rng.permutation(values).reshape(shape)

    def matrix(self, n: int) -> Any:
        """A matrix far from singular."""
        return self.rng.standard_normal((n, n)) + 3.0 * np.eye(n)

    def spd(self, n: int) -> Any:
        """A symmetric positive definite matrix with distinct eigenvalues."""
        a = self.rng.standard_normal((n, n))
        return a @ a.T / n + np.diag(np.arange(1.0, n + 1))

    def symmetric(self, n: int, count: int = 3) -> list[Any]:
        """Directions that keep a matrix symmetric."""
        drawn = self.rng.standard_normal((count, n, n))
        return [a + a.T for a in drawn]

    def probabilities(self, rows: int, columns: int) -> Any:
        drawn = self.rng.uniform(0.2, 1.0, (rows, columns))
        return drawn / drawn.sum(axis=1, keepdims=True)

    def sum_zero(self, rows: int, columns: int, count: int = 3) -> list[Any]:
        """Directions that keep the sum of each row."""
        drawn = self.rng.standard_normal((count, rows, columns))
        return list(drawn - drawn.mean(axis=2, keepdims=True))


DOMAINS: dict[str, Callable[[Draws], Any]] = {
    "real": lambda draw: draw.normal(3, 4),
    "positive": lambda draw: draw.positive(3, 4),
    "unit": lambda draw: draw.uniform(0.05, 0.95, 3, 4),
    "interval": lambda draw: draw.uniform(-0.95, 0.95, 3, 4),
    "above one": lambda draw: draw.uniform(1.2, 4.0, 3, 4),
    "large": lambda draw: np.array([-700.0, -40.0, -3.0, 2.0, 30.0, 600.0]),
    "steep": lambda draw: np.array([-20.0, -9.0, -3.0, 2.0, 8.0, 20.0]),
    "with zero": lambda draw: np.array([-1.5, 0.0, 0.7, 2.0]),
    "wide": lambda draw: np.array([1e-4, 1e-2, 1.0, 1e2, 1e4]),
    "small": lambda draw: np.array([-1e-5, 1e-8, 1e-4, 1e-2]),
}


def elementwise(words: str) -> Iterator[tuple[str, str, Any]]:
    """Yield the name, the domain and the values of each function in lines of `domain: name name …`."""
    for line in filter(None, map(str.strip, words.splitlines())):
        domain, names = line.split(":")
        for name in names.split():
            yield name, domain, DOMAINS[domain](Draws(f"{domain} {name}"))
