"""What gains are asked for: settings checked before anything is trained, and the walk that they go with."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET

from wn.analysis.repetitions import budget_of
from wn.basics.errors import WnError
from wn.theory.gains import check_means
from wn.walking.asked import FLAGS, GainsSettings, WalkSettings
from wn.walking.inputs import with_data
from wn.walking.places import INFERENCE
from wn.walking.saved.network import network_of
from wn.walking.settings import noise_factory, read_settings, read_walk

BESIDE_A_WALK = ("walk", "data", "data_sha256", "data_dir", "backend", "threads", "images", "budget")


class MeasuredMidpoint(NamedTuple):
    """A midpoint with the ends of its interval of 95 %; NaN where it was not measured or not reached."""

    midpoint: float
    low: float
    high: float


Midpoints = dict[str, MeasuredMidpoint]  # by the name of the site


class Asked(NamedTuple):
    """The gains asked for: of the networks, and for the noise, of a walk at inference; and its midpoints."""

    own: GainsSettings
    walk: WalkSettings
    budget: int
    midpoints: Midpoints


def read_gains(settings: Mapping[str, Any]) -> Asked:
    """Return the settings of gains, checked as far as that goes without data and network.

    Raises WnError, which names the setting, for anything unknown, out of range or contradictory, and for a
    folder without a walk that has midpoints of single sites at inference.
    """
    given = {FLAGS.get(key, key) for key, value in settings.items() if value is not None}
    own: GainsSettings = with_data(read_settings(GainsSettings, settings), given)
    if own.images < 2:
        raise WnError(f"images is {own.images}: it must be at least 2, for a standard error")
    if own.sigma is not None and not own.measure:
        raise WnError("sigma is the grid of measured midpoints: it goes with measure")
    if own.walk is UNSET:
        midpoints: Midpoints = {}
        known = {name: getattr(own, name) for name in given if name in WalkSettings.__struct_fields__}
        walk = read_walk(known | {"phase": INFERENCE})
    else:
        for name in sorted(given - set(BESIDE_A_WALK)):
            raise WnError(f"{name} does not go with walk: {own.walk} is of networks and noise of its own")
        walk, midpoints = _of_folder(
            Path(own.walk), {n: getattr(own, n) for n in given & set(BESIDE_A_WALK[1:6])}
        )
    if walk.noise == "none":
        raise WnError("noise is none: gains are of noise")
    check_means(noise_factory(walk)(1.0))
    network = network_of(walk)
    return Asked(own, walk, budget_of(own.budget, len(network.site_names)), midpoints)


def _of_folder(folder: Path, changed: Mapping[str, Any]) -> tuple[WalkSettings, Midpoints]:
    """The walk whose results are in a folder, and its midpoints at inference by the name of the site."""
    try:
        record = msgspec.json.decode((folder / "run.json").read_bytes(), type=dict[str, Any])
        with (folder / "midpoints.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        found = {row["site_name"]: _midpoint(row) for row in rows if _is_single(row)}
        asked = dict(record["asked"]) if record["command"] == "walk" else None
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, KeyError, ValueError, TypeError) as error:
        reason = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
        raise WnError(f"{folder} has no walk that can be read: {reason}") from None
    if asked is None:
        raise WnError(f"{folder} has no walk, but what wn {record['command']} writes")
    if not found:
        raise WnError(f"{folder}: has no midpoints of single sites at inference: walk with phase inference")
    walk = read_walk(asked | dict(changed))
    if walk.repetitions != 1:
        raise WnError(f"{folder}: its sites are executed several times; gains go with those executed once")
    return msgspec.structs.replace(walk, phase=INFERENCE), found


def _is_single(row: Mapping[str, str]) -> bool:
    return row["phase"] == INFERENCE and int(row["site"]) >= 0


def _midpoint(row: Mapping[str, str]) -> MeasuredMidpoint:
    cells = (row[name] if row["reached"] == "true" else "nan" for name in ("midpoint", "ci_low", "ci_high"))
    return MeasuredMidpoint(*(float(cell or "nan") for cell in cells))
