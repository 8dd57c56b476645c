"""A network with its weights."""

from typing import NamedTuple

from wn.engine.network import Network
from wn.engine.training import Population


class Weighted(NamedTuple):
    """A network and the parameters and states of its members: what is walked through at inference."""

    network: Network
    population: Population

    def __repr__(self) -> str:
        members = len(self.population.seeds)
        return f"<Weighted {self.network.name}: {members} member{'s' * (members != 1)}>"
