"""Noise entries that wait for the study's own midpoints: maps of repetitions, and σ at the midpoint.

A study with such entries is run twice: first everything else, then, with the midpoints found, the entries
that `explicit` makes of them. Before that they stand for clean networks alone. The allocation "gains" needs
no midpoints but these networks.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import msgspec

from wn.analysis.repetitions import GAINS, UNIFORM, NoWeight, allocate, budget_of
from wn.basics.errors import WnError
from wn.engine.noise_spec import NoiseSpec
from wn.study.declare.operators import resolved
from wn.study.declare.resolve import StudyNetwork, StudyNoise, networks, noise_entries
from wn.study.declare.schema import AT_MIDPOINT, NoiseKeys, StudySpec, as_axis, at, is_derived
from wn.theory.gains import check_means
from wn.walking.places import INFERENCE

GLOBAL = "global"

# The midpoints of a network at inference by the name of the place, those of the sites and "global": for the
# network, with or without clamping, and the operator, executed once. inf: accuracy never falls half-way.
MidpointsOf = Callable[[StudyNetwork, bool, NoiseSpec], Mapping[str, float]]
# Likewise 1/c of `wn.theory.gains` by the name of the site, which stands for a midpoint up to a factor.
GainsOf = MidpointsOf


def has_derived(spec: StudySpec) -> bool:
    """Whether a study has entries that wait for midpoints."""
    return any(is_derived(keys) for keys in spec.noise)


class Explicit(NamedTuple):
    """A study without entries that wait, and a line for each network or scheme that it has no maps for."""

    study: StudySpec
    left_out: tuple[str, ...]


def explicit(spec: StudySpec, midpoints: MidpointsOf, gains: GainsOf) -> Explicit:
    """The study with explicit maps and σ in place of entries that wait for midpoints, all others as they are.

    Each such entry becomes one for each network, clamping and scheme, labelled by the scheme, with a map for
    each budget. What needs a midpoint that a network has not is left out for that network, and so is a scheme
    that has no weight for its midpoints; all else stays. Raises WnError, with the path of the key, for what
    no midpoints could serve.
    """
    study, found, left_out = networks(spec), list[NoiseKeys](), list[str]()
    for entry in noise_entries(spec):
        if not is_derived(entry.keys):
            found.append(entry.keys)
            continue
        for network in study:
            if entry.covers(network):
                for clamp in entry.clampings:
                    which = network, clamp, _operator(entry)
                    by_gain = gains(*which) if GAINS in _schemes(entry) else {}
                    keys, lines = _explicit(entry, network, clamp, midpoints(*which), by_gain)
                    found += keys
                    left_out += lines
    return Explicit(msgspec.structs.replace(spec, noise=found), tuple(left_out))


def waiting(spec: StudySpec) -> list[str]:
    """A line for each entry of a study that waits for midpoints, or for the gains of clean networks."""
    return [
        f"{entry.path}: waits for midpoints or gains of this study, which are not all known yet"
        for entry in noise_entries(spec)
        if is_derived(entry.keys)
    ]


def planned(spec: StudySpec) -> StudySpec:
    """The explicit study with made-up midpoints: as many units, unless real maps coincide."""
    return explicit(spec, _made_up, _made_up).study


def _made_up(network: StudyNetwork, _clamp: bool, _operator: NoiseSpec) -> dict[str, float]:
    midpoints = {name: 1.7 + 0.9 * site for site, name in enumerate(network.network.site_names)}
    return midpoints | {GLOBAL: 1.0}


def _explicit(
    entry: StudyNoise,
    network: StudyNetwork,
    clamp: bool,
    midpoints: Mapping[str, float],
    by_gain: Mapping[str, float],
) -> tuple[list[NoiseKeys], list[str]]:
    """The entry for one network and clamping, by scheme, and lines about what is left out."""
    keys, who = entry.keys, _named(network, clamp)
    sigma = midpoints.get(GLOBAL) if keys.sigma == AT_MIDPOINT else keys.sigma
    if sigma is None:
        return [], [f"{entry.path}.sigma: {who}: {_not_found([GLOBAL])}"]
    if sigma == float("inf"):
        reason = "accuracy never falls half-way: there is no midpoint"
        return [], [f"{entry.path}.sigma: {who}: {reason}"]
    own = msgspec.structs.replace(
        keys,
        sigma=sigma,
        allocation=None,
        budget=None,
        data=network.dataset,
        models=network.model,
        batch_norm=network.batch_norm,
        clamp_weights=clamp,
    )
    if keys.allocation is None:
        return [own], []
    found, left_out = list[NoiseKeys](), dict[str, None]()  # schemes that need the same midpoint share a line
    for scheme in _schemes(entry):
        maps = _maps(entry, network, scheme, by_gain if scheme == GAINS else midpoints)
        if isinstance(maps, str):
            left_out[f"{entry.path}.allocation: {who}: {maps}"] = None
        else:
            found.append(msgspec.structs.replace(own, label=scheme, repetition_maps=maps))
    return found, list(left_out)


def _maps(
    entry: StudyNoise, network: StudyNetwork, scheme: str, midpoints: Mapping[str, float]
) -> list[list[int]] | str:
    """The maps of a scheme, one for each budget, or why there are none."""
    sites = network.network.site_names
    unknown = [] if scheme == UNIFORM else [name for name in sites if name not in midpoints]
    if unknown:
        return _not_found(unknown)
    mu = [1.0 if scheme == UNIFORM else midpoints[name] for name in sites]
    with at(f"{entry.path}.budget"):
        budgets = [_budget(text, len(sites)) for text in as_axis("list", entry.keys.budget)]
    with at(f"{entry.path}.allocation"):
        try:
            return [list(allocate(scheme, mu, budget)) for budget in dict.fromkeys(budgets)]
        except NoWeight as error:
            return str(error)


def _not_found(places: list[str]) -> str:
    return f"no midpoint was found at {', '.join(places)}: its grid of σ may be too short"


def _schemes(entry: StudyNoise) -> tuple[str, ...]:
    """The schemes of an entry's allocation, none without one."""
    keys = entry.keys
    return () if keys.allocation is None else as_axis(f"{entry.path}.allocation", keys.allocation)


def _budget(text: str | int, sites: int) -> int:
    budget = budget_of(text, sites)
    if budget == sites:
        raise WnError(f"{text!r} is one execution of each site: that is noise without repetitions; give more")
    return budget


def _named(network: StudyNetwork, clamp: bool = False) -> str:
    clamped = ", weights clamped" if clamp else ""
    return f"{network.dataset} {network.model} batch norm {network.batch_norm}{clamped}"


def check(spec: StudySpec) -> None:
    """Raise WnError, with the path of the key, for derived entries that the study can't serve.

    Each needs, for every network and clamping, entries of the same kind of noise at inference: at each site
    for an allocation by midpoints, at all sites for σ at the midpoint.
    """
    entries, study = noise_entries(spec), networks(spec)
    for entry in entries:
        if not is_derived(entry.keys):
            continue
        _check_keys(entry)
        _check_gains(entry)
        wanted = [(GLOBAL, "sigma")] if entry.keys.sigma == AT_MIDPOINT else []
        wanted += [("each", "allocation")] if set(_schemes(entry)) - {UNIFORM, GAINS} else []
        for where, key in wanted:
            for network in study:
                if entry.covers(network) and not _is_served(entry, entries, network, where):
                    raise WnError(
                        f"{entry.path}.{key}: needs midpoints of {_named(network)}: an entry with "
                        f'kind = "{entry.keys.kind}", where = "{where}", phase inference, other keys alike'
                    )


def _check_keys(entry: StudyNoise) -> None:
    keys = entry.keys
    for name in ("allocation", "budget"):
        if (keys.allocation is None) != (keys.budget is None) and getattr(keys, name) is None:
            raise WnError(
                f'{entry.path}.{name}: allocation and budget go together: ["optimal"] and ["3x"], say'
            )
    if keys.where != GLOBAL:
        raise WnError(
            f'{entry.path}.where: entries with an allocation or σ at the midpoint go with where = "{GLOBAL}"'
        )
    for name in ("repetitions", "repetition_maps"):
        if keys.allocation is not None and getattr(keys, name) is not None:
            raise WnError(
                f"{entry.path}.{name}: leave it out: the allocation says how often each site is executed"
            )
    if keys.allocation is not None and keys.label is not None:
        raise WnError(f"{entry.path}.label: leave it out: that of an allocation is its scheme")
    if entry.phases != (INFERENCE,):
        raise WnError(
            f"{entry.path}.phases: allocations and σ at the midpoint have the phase {INFERENCE} alone, "
            "where their midpoints are found"
        )
    if keys.sigma is None or keys.kind in ("none", "mixed-direct"):
        raise WnError(f"{entry.path}.kind: allocation goes with additive, multiplicative and mixed noise")


def _check_gains(entry: StudyNoise) -> None:
    if GAINS in _schemes(entry):
        with at(f"{entry.path}.allocation"):
            check_means(_operator(entry))


def _is_served(entry: StudyNoise, entries: tuple[StudyNoise, ...], network: StudyNetwork, where: str) -> bool:
    """Whether the study measures the midpoints that a derived entry needs of a network."""
    clampings, operator = set(entry.clampings), _operator(entry)
    for other in entries:
        there = (other.keys.where or "each") == where and INFERENCE in other.phases and other.covers(network)
        if there and operator in other.operators:
            clampings -= set(other.clampings)
    return not clampings


def _operator(entry: StudyNoise) -> NoiseSpec:
    """The operator of a derived entry, executed once. Raises WnError if there are several."""
    once = msgspec.structs.replace(
        entry.keys, sigma=0.0, allocation=None, budget=None, repetitions=None, repetition_maps=None
    )
    found = resolved(entry.path, once)
    if len(found) > 1:
        raise WnError(
            f"{entry.path}: allocations and σ at the midpoint have one operator: give one ratio, order, …"
        )
    return found[0]
