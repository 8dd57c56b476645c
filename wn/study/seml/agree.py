"""What one study can say of several runs: one recipe, and repeats that are numbered alike."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from wn.study.declare.schema import RecipeKeys
from wn.study.seml.names import Case

SETTINGS = {
    "epochs": "general.num_epochs",
    "batch_size": "data.batch_size",
    "learning_rate": "optimizer.lr",
}


class Contradiction(Exception):
    """A setting of the recipe that two cases don't share, while not all of them have that of their data."""

    def __init__(self, key: str, one: Case, other: Case) -> None:
        super().__init__(
            f"{SETTINGS[key]} is {_setting(other, key)!r} for {other.dataset} {other.model}, and "
            f"{_setting(one, key)!r} for {one.dataset} {one.model}"
        )
        self.one = one
        self.other = other


def shared_recipe(cases: Iterable[Case]) -> RecipeKeys:
    """Return the recipe of all cases. Raises Contradiction if a study can't express it.

    A setting is given if all cases have the same value, and left to the recipes of the data sets if each case
    has the value of its own.
    """
    kinds: list[Case] = []  # one case for each recipe of the file with that of the data set
    for case in cases:
        if not any(alike(case, other) for other in kinds):
            kinds.append(case)
    found: dict[str, Any] = {}
    for key in SETTINGS if kinds else ():
        values = [_setting(case, key) for case in kinds]
        unusual = [case for case in kinds if _setting(case, key) != getattr(case.usual, key)]
        if all(value == values[0] for value in values):
            found[key] = getattr(kinds[0].recipe, key)
        elif unusual:
            value = _setting(unusual[0], key)
            raise Contradiction(key, next(c for c in kinds if _setting(c, key) != value), unusual[0])
    return RecipeKeys(**found)


def alike(one: Case, other: Case) -> bool:
    """Whether two cases have the same recipe, and so have their data sets."""
    return (one.recipe, one.usual) == (other.recipe, other.usual)


def _setting(case: Case, key: str) -> Any:
    value = getattr(case.recipe, key)
    return getattr(case.usual, key) if value is None else value


class _Entry(NamedTuple):
    """A case, and the numbers of repeats of all cases with its entry: none if the file has none."""

    case: Case
    repeats: set[tuple[Any, ...]]

    def contradicts(self, others: list["_Entry"]) -> str:
        """Return why the repeats can't be numbered with those of others, "" if they can."""
        mine = self.repeats
        for other in others:
            nested = mine <= other.repeats or mine >= other.repeats
            if mine and other.repeats and not nested and self._shares_networks(other.case):
                return (
                    f"its repeats, {_listed(mine)}, and those of other noise on the same networks, "
                    f"{_listed(other.repeats)}, are not within each other, and a study numbers both from 0"
                )
        return ""

    def _shares_networks(self, other: Case) -> bool:
        mine = self.case
        same = (mine.dataset, mine.model, mine.noise.clamp_weights) == (
            other.dataset,
            other.model,
            other.noise.clamp_weights,
        )
        return same and not set(mine.batch_norm).isdisjoint(other.batch_norm)


class Repeats:
    """Numbers of repeats as a study has them: 0, 1, … for every entry.

    Entries that differ in nothing but the numbers of their repeats are one, with all of them. Those of
    entries that share networks must be nested: the same number means the same clean network, and those of the
    smaller entry are the first ones of the larger.
    """

    def __init__(self, cases: Iterable[Case]) -> None:
        self._entries: dict[str, _Entry] = {}
        for case in cases:
            entry = self._entries.setdefault(self._key(case), _Entry(case, set()))
            entry.repeats.update(case.repeats)
        self._reasons: dict[str, str] = {}
        numbered: list[_Entry] = []
        for key, entry in self._entries.items():
            if reason := entry.contradicts(numbered):
                self._reasons[key] = reason
            else:
                numbered.append(entry)

    def of(self, case: Case) -> int:
        """Return the number of repeats of the entry that a case belongs to."""
        return len(self._entries[self._key(case)].repeats) or 1

    def check(self, case: Case) -> str:
        """Return why the repeats of a case can't be numbered with those before it, "" if they can."""
        return self._reasons.get(self._key(case), "")

    @staticmethod
    def _key(case: Case) -> str:
        return repr((case.dataset, case.model, sorted(case.batch_norm), case.noise))


def _listed(repeats: set[tuple[Any, ...]]) -> str:
    names = sorted(map("/".join, repeats), key=lambda name: (len(name), name))
    return ", ".join(names if len(names) < 5 else [*names[:2], "…", names[-1]])
