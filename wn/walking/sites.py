"""Sites of a network as people write them: numbers, names, lists and maps of them."""

from collections.abc import Iterable, Mapping
from typing import Any

from wn.engine.network import Network
from wn.errors import WnError
from wn.numbers import is_integer, number, whole

WORDS = ("each", "global", "mapped")
ALLOWED = (
    "each, global, sites such as 0,3,7 (also by name: conv1,relu1) or a map such as 0:0.5,3:2 (site:factor)"
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


def _site(text: str) -> Site:
    try:
        return whole(text)
    except WnError:
        return text.strip()


def numbered(network: Network, sites: Iterable[Site], advice: str = "") -> list[int]:
    """Return the numbers of sites; WnError for one that the network does not have, or that is there twice.

    `advice` follows what is said of a name that is no site.
    """
    found: list[int] = []
    for site in sites:
        place = _number(network, site, advice)
        if place in found:
            raise WnError(f"{network.name}: site {place} {network.site_names[place]} is listed twice")
        found.append(place)
    return found


def _number(network: Network, site: Site, advice: str) -> int:
    place = _site(site) if isinstance(site, str) else site
    if isinstance(place, str):
        if place not in network.site_names:
            names = ", ".join(f"{index} {name}" for index, name in enumerate(network.site_names))
            raise WnError(f"{network.name} has no site {place!r}: allowed are {names}{advice}")
        return network.site_names.index(place)
    network.check_sites([place])
    return int(place)
