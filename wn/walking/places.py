"""Where and when a walk puts its noise."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from wn.engine import noise as noises
from wn.engine.network import Network
from wn.engine.noise import Noise, SiteNoise
from wn.errors import WnError

PHASES = ("inference", "training")
GLOBAL = -1  # site number of global noise in results
MAPPED = -2  # site number of mapped noise in results


class Place(NamedTuple):
    """Where a walk puts its noise: the number and name in results, and each noisy site's factor on σ."""

    site: int
    name: str
    factors: dict[int, float]

    def noise(self, noise: Noise) -> SiteNoise:
        """Return the operator at each site of this place."""
        return noises.mapped(noise, self.factors)


def places(
    network: Network, where: str | Sequence[int], factors: dict[int, float] | None = None
) -> tuple[Place, ...]:
    """Return the places of a walk: "each" site alone, "global", "mapped" (with factors), or a list of sites.

    Raises WnError for sites that the network does not have.
    """
    names = network.site_names
    if where == "mapped":
        if not factors:
            raise WnError("mapped noise needs a factor per site, e.g. {0: 0.5, 3: 2.0}")
        network.check_sites(list(factors))
        return (Place(MAPPED, "mapped", dict(factors)),)
    if factors:
        raise WnError("factors per site go with mapped noise only")
    if where == "global":
        return (Place(GLOBAL, "global", dict.fromkeys(range(len(names)), 1.0)),)
    if isinstance(where, str) and where != "each":
        raise WnError(f"unknown place {where!r}: allowed are each, global, mapped or a list of sites")
    sites = range(len(names)) if isinstance(where, str) else list(where)
    if not len(sites):
        raise WnError(f"no sites to walk: {network.name} has 0…{len(names) - 1}")
    network.check_sites(sites)
    return tuple(Place(site, names[site], {site: 1.0}) for site in dict.fromkeys(sites))


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
