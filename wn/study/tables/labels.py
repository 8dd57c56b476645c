"""Labels: the names that a study's file gives to noise entries, and the schemes of its allocations.

No result depends on them, so they are in no key and no row of the store: they are found in the study's file,
as the store has it, by what each labelled entry stands for. That file also says what has no units yet.
"""

from itertools import product
from typing import Any

import msgspec

from wn.basics.errors import WnError
from wn.engine.noise_spec import NoiseSpec
from wn.study.declare.derived import waiting
from wn.study.declare.resolve import networks, noise_entries
from wn.study.declare.schema import StudySpec, is_derived
from wn.study.declare.spec import parse_study
from wn.study.store.reader import Reader
from wn.study.store.rows import EXPLICIT, LEFT_OUT, SPEC

_CURVES = """SELECT curves.id, settings.spec, curves.spec
FROM curves JOIN settings ON settings.id = curves.settings WHERE settings.noise != 'none'"""


def with_labels(store: Reader) -> None:
    """Let queries call label(curves.id): the labels of all entries that have a curve, "" for none."""
    found = labels(store)
    store.define("label", lambda curve: found.get(curve, ""))


def labels(store: Reader) -> dict[int, str]:
    """The label of each curve that has one, by its number; those of several entries are joined by commas."""
    spec = declared(store)
    named = {} if spec is None else _named(spec)
    found = {}
    for curve, settings, own in store.rows(_CURVES) if named else ():
        names = named.get(_key(msgspec.json.decode(settings) | msgspec.json.decode(own)))
        if names:
            found[curve] = ", ".join(names)
    return found


def declared(store: Reader) -> StudySpec | None:
    """The study of a store with all that was found for it; None if it was declared otherwise than today."""
    meta = store.meta
    text = meta.get(EXPLICIT) or meta.get(SPEC)
    try:
        return None if text is None else parse_study(text)
    except WnError:  # a key of another version; units stand all the same
        return None


def without_units(store: Reader) -> list[str]:
    """A line for each part of a study that has no units: it waits for midpoints, or was left out for them."""
    meta, spec = store.meta, declared(store)
    if EXPLICIT not in meta:
        return [] if spec is None else waiting(spec)
    return [f"left out: {line}" for line in meta.get(LEFT_OUT, "").splitlines()]


def _named(spec: StudySpec) -> dict[Any, dict[str, None]]:
    """The labels of the curves that each labelled entry stands for, in the order of the file."""
    found: dict[Any, dict[str, None]] = {}
    study = networks(spec)
    for entry in noise_entries(spec):
        if not entry.keys.label or is_derived(entry.keys):
            continue
        for network in filter(entry.covers, study):
            places = entry.places(network.network)
            for clamp, noise, phase, place in product(entry.clampings, entry.operators, entry.phases, places):
                key = (*network[:3], clamp, noise, phase, place.site, tuple(place.factors.items()))
                found.setdefault(key, {})[entry.keys.label] = None
    return found


def _key(unit: dict[str, Any]) -> Any:
    factors = tuple((site, factor) for site, factor in unit["factors"])
    names = ("dataset", "model", "batch_norm", "clamp_weights", "noise", "phase", "site")
    values = unit | {"noise": msgspec.convert(unit["noise"], NoiseSpec)}
    return (*(values[name] for name in names), factors)
