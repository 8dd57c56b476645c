"""Counts of correct answers at noise levels, as a fit takes them: checked, as floats."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wn.basics.errors import WnError
from wn.basics.numbers import is_number
from wn.fit.falling import MARGIN

Floats = NDArray[np.float64]

SAME_ACCURACY = 0.005  # one that was rounded to two digits is still the same


class Entries(NamedTuple):
    """One entry per noise level and repeat: σ, correct and total, each (N,).

    `groups`, if they were counted apart, are correct and total by group of images, each (N, G) with G ≥ 2.
    """

    sigma: Floats
    correct: Floats
    total: Floats
    groups: tuple[Floats, Floats] | None = None

    def some(self, which: NDArray[Any]) -> "Entries":
        """The entries that an index or a mask (N,) selects."""
        groups = None if self.groups is None else (self.groups[0][which], self.groups[1][which])
        return Entries(self.sigma[which], self.correct[which], self.total[which], groups)

    def by_level(self) -> "Entries":
        """One entry for each σ, ascending: the sums of those that have it."""
        sigma, place = np.unique(self.sigma, return_inverse=True)

        def sums(counts: Floats) -> Floats:
            found = np.zeros((sigma.size, *counts.shape[1:]))
            np.add.at(found, place, counts)
            return found

        groups = None if self.groups is None else (sums(self.groups[0]), sums(self.groups[1]))
        return Entries(sigma, sums(self.correct), sums(self.total), groups)


def checked_entries(sigma: ArrayLike, correct: ArrayLike, total: ArrayLike) -> Entries:
    """σ (N,) with correct and total, (N,) or (N, G); WnError for what can't be counts."""
    s = checked_numbers("sigma", sigma)
    k, n = _counts("correct", correct), _counts("total", total)
    if not len(s) == len(k) == len(n):
        raise WnError(f"sigma, correct and total must be equally long, not {len(s)}, {len(k)} and {len(n)}")
    if k.shape != n.shape:
        raise WnError(f"correct and total must have one shape, not {k.shape} and {n.shape}")
    if not (np.isfinite(s) & (s >= 0)).all():
        raise WnError(f"sigma must be finite and not negative, not {s[~(np.isfinite(s) & (s >= 0))][0]}")
    if (n <= 0).any():
        raise WnError(f"total must be at least 1, not {n[n <= 0][0]:g}")
    bad = (k < 0) | (k > n)
    if bad.any():
        raise WnError(f"correct must lie between 0 and total, not {k[bad][0]:g} of {n[bad][0]:g}")
    if k.ndim == 1:
        return Entries(s, k, n)
    return Entries(s, k.sum(axis=1), n.sum(axis=1), (k, n) if k.shape[1] > 1 else None)


def checked_clean(clean_by_group: ArrayLike | None, entries: Entries, clean_accuracy: float) -> Floats | None:
    """Correct answers of the clean networks by group (G,); None where there is nothing to go with them.

    Their sum has to be what `clean_accuracy` is of the images, or of several times the images.
    """
    if clean_by_group is None:
        return None
    counts = _whole("clean_by_group", checked_numbers("clean_by_group", clean_by_group))
    if (counts < 0).any():
        raise WnError(f"clean_by_group must not be negative, not {counts[counts < 0][0]:g}")
    if entries.groups is None:
        return None
    groups = entries.groups[0].shape[1]
    if counts.size != groups:
        raise WnError(f"clean_by_group must have one count per group, {groups}, not {counts.size}")
    images, right = float(entries.total[0]), float(counts.sum())
    networks = max(1, round(right / max(clean_accuracy * images, 1.0)))
    if abs(right / (networks * images) - clean_accuracy) > SAME_ACCURACY:
        raise WnError(
            f"clean_by_group adds up to {right:g} correct answers, clean_accuracy is {clean_accuracy:g} of "
            f"{images:g} images: they must be of the same clean networks"
        )
    return counts if counts.any() else None


def checked_accuracies(clean_accuracy: float, chance: float) -> tuple[float, float]:
    """Clean accuracy and chance, moved off 0 and 1 by MARGIN so that every logarithm of a model is finite.

    The order of the two stays as it is.
    """
    clean_accuracy, chance = _number("clean_accuracy", clean_accuracy), _number("chance", chance)
    if not 0 <= clean_accuracy <= 1:
        raise WnError(f"clean_accuracy must lie between 0 and 1, not {clean_accuracy}")
    if not 0 <= chance < 1:
        raise WnError(f"chance must be at least 0 and below 1, not {chance}")
    if clean_accuracy <= chance:
        return clean_accuracy, chance
    c = min(max(chance, MARGIN), 1 - 2 * MARGIN)
    return max(min(clean_accuracy, 1 - MARGIN), c + MARGIN), c


def _number(name: str, value: Any) -> float:
    if not is_number(value):
        raise WnError(f"{name} is {value!r}: it must be a number")
    return float(value)


def checked_numbers(name: str, values: Any, dimensions: tuple[int, ...] = (1,)) -> Floats:
    """Values as a non-empty float64 array of one of these numbers of dimensions."""
    try:
        array = np.asarray(values)
        numeric = array.dtype.kind in "iuf"
    except ValueError:  # ragged nesting
        numeric = False
    if not numeric or array.ndim not in dimensions or array.size == 0:
        allowed = " or ".join(f"{number}-d" for number in dimensions)
        raise WnError(f"{name} must be a non-empty {allowed} array of numbers")
    return array.astype(np.float64)


def _counts(name: str, values: ArrayLike) -> Floats:
    return _whole(name, checked_numbers(name, values, (1, 2)))


def _whole(name: str, counts: Floats) -> Floats:
    whole = np.isfinite(counts) & (counts == np.floor(counts))
    if not whole.all():
        raise WnError(f"{name} must hold whole numbers, not {counts[~whole][0]}")
    return counts
