"""The places of noise: what people write, sites by number or name, and each site's factor on σ."""

from collections.abc import Iterable, Mapping, Sequence
from enum import IntEnum
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from wn.basics.errors import WnError
from wn.basics.numbers import is_integer, number, whole
from wn.engine import noise as noises
from wn.engine.network import Network
from wn.engine.noise import Noise, SiteNoise

PHASES = INFERENCE, TRAINING = "inference", "training"


class Spread(IntEnum):
    """Noise that is not at a single site: the numbers that files have in the place of a site's."""

    GLOBAL = -1  # the same at all sites
    MAPPED = -2  # with a factor on σ for each site
    NOWHERE = -3


class Place(NamedTuple):
    """A place of noise: the number and name in results, and each noisy site's factor on σ.

    `repetitions` are the executions of each noisy site, in order; without them, those of the operator.
    """

    site: int  # or Spread
    name: str
    factors: dict[int, float]
    repetitions: tuple[int, ...] = ()

    def noise(self, noise: Noise) -> SiteNoise:
        """The operator at each site of this place."""
        at_sites = noises.mapped(noise, self.factors)
        return noises.repeated(at_sites, self.repetitions) if self.repetitions else at_sites

    def sites(self, names: Sequence[str]) -> str:
        """The noisy sites by number and name, with factors on σ other than 1: "0 input, 7 relu2 × 0.5".

        `names` are those of the network's sites; "global" for all of them alike.
        """
        if self.site == Spread.GLOBAL:
            return self.name
        factors = {site: "" if factor == 1 else f" × {factor:g}" for site, factor in self.factors.items()}
        return ", ".join(f"{site} {names[site]}{factor}" for site, factor in factors.items())


def places(
    network: Network, where: str | Sequence[Any], factors: Mapping[Any, float] | None = None
) -> tuple[Place, ...]:
    """The places of a walk: "each" site alone, "global", "mapped" (with factors), or a list of sites.

    Sites are numbers. Raises WnError for sites that the network does not have.
    """
    names = network.site_names
    if where == "mapped":
        if not factors:
            raise WnError("mapped noise needs a factor per site, e.g. {0: 0.5, 3: 2.0}")
        network.check_sites(list(factors))
        return (Place(Spread.MAPPED, "mapped", dict(factors)),)
    if factors:
        raise WnError("factors per site go with mapped noise only")
    if where == "global":
        return (Place(Spread.GLOBAL, "global", dict.fromkeys(range(len(names)), 1.0)),)
    if isinstance(where, str) and where != "each":
        raise WnError(f"unknown place {where!r}: allowed are each, global, mapped or a list of sites")
    sites = range(len(names)) if isinstance(where, str) else list(where)
    if not len(sites):
        raise WnError(f"no sites to walk: {network.name} has 0…{len(names) - 1}")
    network.check_sites(sites)
    return tuple(Place(site, names[site], {site: 1.0}) for site in dict.fromkeys(sites))


def with_repetitions(places: Iterable[Place], numbers: Sequence[int]) -> tuple[Place, ...]:
    """Give each noisy site a number of executions of its own, in the order of the places and their sites.

    Raises WnError for another number of numbers.
    """
    found, taken = list[Place](), 0
    for place in places:
        own = tuple(numbers[taken : taken + len(place.factors)])
        taken += len(place.factors)
        found.append(place._replace(repetitions=own))
    if taken != len(numbers):
        raise WnError(
            f"repetitions has {len(numbers)} numbers: allowed are one for all sites, or {taken}, one for "
            "each site with noise"
        )
    return tuple(found)


def check_range(noise: SiteNoise, dtype: DTypeLike) -> None:
    """Raise WnError if a σ or mean at a site is beyond `dtype`, where every result would be infinite."""
    largest = float(np.finfo(dtype).max)
    for site, operator in noise.items():
        for name in ("sigma_mul", "mean_mul", "sigma_add", "mean_add"):
            value = float(np.abs(getattr(operator, name)).max())
            if value > largest:
                raise WnError(
                    f"{name} is {value:g} at site {site}: {np.dtype(dtype)} ends at {largest:g}; "
                    "use smaller values or float64"
                )


# ---- as people write them ---------------------------------------------------------------------------------

WORDS = ("each", "global", "mapped")
ALLOWED = (
    "each, global, sites such as 0,3,7 (also by name or pattern: conv1,relu*) or a map such as 0:0.5,3:2 "
    "(site:factor)"
)

Site = int | str  # its number or its name


def read_where(where: Any) -> tuple[Any, dict[Site, float] | None]:
    """Return (where, factors) of a place in any form: text as of --where, a map, a list, a number.

    "0,conv1" becomes [0, "conv1"], and 3 [3]; "0:0.5,conv1:2" and {0: 0.5, "conv1": 2} become "mapped" with
    factors. Words and lists are returned as they are. Raises WnError for text of another form.
    """
    if isinstance(where, Mapping):
        return "mapped", dict(where)
    if is_integer(where):
        return [where], None
    if not isinstance(where, str) or where.strip() in WORDS:
        return where.strip() if isinstance(where, str) else where, None
    items = [item.strip() for item in where.split(",")]
    if not all(items) or any((":" in item) != (":" in where) for item in items):
        raise WnError(f"where {where!r} can't be read: write {ALLOWED}")
    if ":" not in where:
        return [_site(item) for item in items], None
    factors: dict[Site, float] = {}
    for item in items:
        site, _, factor = item.partition(":")
        if _site(site) in factors:
            raise WnError(f"where {where!r} names a site twice")
        try:
            factors[_site(site)] = number(factor)
        except WnError as error:
            raise WnError(f"where {where!r}: {error}; write {ALLOWED}") from None
    return "mapped", factors


def read_repetitions(repetitions: Any) -> Any:
    """Return the number of executions in text, or the numbers of sites as in "5,1,3"; else what it is.

    Raises WnError for text of another form.
    """
    if not isinstance(repetitions, str):
        return repetitions
    try:
        found = [whole(item) for item in repetitions.split(",")]
    except WnError as error:
        raise WnError(f"repetitions {repetitions!r}: {error}; write R, or one for each site: 5,1,3") from None
    return found if "," in repetitions else found[0]


def _site(text: str) -> Site:
    try:
        return whole(text)
    except WnError:
        return text.strip()


def numbered(network: Network, sites: Iterable[Site], advice: str = "") -> list[int]:
    """Return the numbers of sites given by number, name, or pattern of names such as conv* or *.relu?.

    A pattern stands for all sites that it fits, those that are listed already left out. Raises WnError for
    one that the network does not have, a pattern that fits none, and a site that is there twice. `advice`
    follows what is said of a name that is no site.
    """
    found: list[int] = []
    for site in sites:
        if _is_pattern(site):
            found += [place for place in _fitting(network, str(site), advice) if place not in found]
            continue
        place = _number(network, site, advice)
        if place in found:
            raise WnError(f"{network.name}: site {place} {network.site_names[place]} is listed twice")
        found.append(place)
    return found


def numbered_factors(network: Network, factors: Mapping[Any, float], advice: str = "") -> dict[int, float]:
    """Return the factors of sites by number; that of a pattern is for all sites that have none before it."""
    found: dict[int, float] = {}
    for site, factor in factors.items():
        places = numbered(network, [site], advice)
        if not _is_pattern(site) and places[0] in found:
            raise WnError(f"{network.name}: site {places[0]} {network.site_names[places[0]]} is listed twice")
        found |= {place: factor for place in places if place not in found}
    return found


def _is_pattern(site: Site) -> bool:
    return isinstance(site, str) and any(sign in site for sign in "*?[")


def _fitting(network: Network, pattern: str, advice: str) -> list[int]:
    """The sites whose names fit a pattern, as those of files do in a shell."""
    found = [number for number, name in enumerate(network.site_names) if fnmatchcase(name, pattern)]
    if not found:
        raise WnError(f"{network.name} has no site that fits {pattern!r}: {_sites_of(network)}{advice}")
    return found


def _sites_of(network: Network) -> str:
    return "allowed are " + ", ".join(f"{index} {name}" for index, name in enumerate(network.site_names))


def _number(network: Network, site: Site, advice: str) -> int:
    place = _site(site) if isinstance(site, str) else site
    if isinstance(place, str):
        if place not in network.site_names:
            raise WnError(f"{network.name} has no site {place!r}: {_sites_of(network)}{advice}")
        return network.site_names.index(place)
    network.check_sites([place])
    return int(place)
