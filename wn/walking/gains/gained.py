"""Gains of networks as a table and a picture, beside the midpoints of a walk."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import UNSET
from numpy.typing import NDArray

from wn.analysis.repetitions import optimal
from wn.engine import backends, noise, optim
from wn.engine.backends.plain.base import Backend
from wn.engine.backends.threads import processors
from wn.engine.halving import alone
from wn.engine.training import Population
from wn.files.whole import StrPath, as_path
from wn.theory.gains import Gains, of_noise, sensitivities, site_gains, together
from wn.walking.api import check_progress, measure, run_record, walk_of
from wn.walking.clean_networks import clean_networks
from wn.walking.gains.settings import Asked, MeasuredMidpoint, Midpoints
from wn.walking.results import WORDS, columns, csv_of
from wn.walking.saved.folder import check_folder, record_bytes, write_folder
from wn.walking.saved.network import SavedNetwork, of_settings
from wn.walking.settings import noise_factory, prepare
from wn.walking.setup import Setup
from wn.walking.shown import frames, html
from wn.walking.shown.progress import ProgressCallback
from wn.walking.shown.statement import statement

FILES = ("gains.csv", "gains.png", "gains.json")
_OF_SITE = {"seed": "u8", "backend": "U16", "site": "i8", "site_name": "U32"}
_NUMBERS = ("additive", "additive_error", "multiplicative", "multiplicative_error", "gain", "share")
_MEASURED = ("midpoint", "ci_low", "ci_high", "scaled")
COLUMNS = columns(
    WORDS, _OF_SITE, dict.fromkeys(_NUMBERS, "f8"), {"repetitions": "i8"}, dict.fromkeys(_MEASURED, "f8")
)


@dataclass(frozen=True, eq=False, repr=False)
class Gained:
    """The gains of networks, a row for each site; the mean over networks if there are several.

    `table`: c² under additive and multiplicative noise with standard errors over images, `gain` c² of the
    noise that is asked for and its share of the sum over sites, `repetitions` of the map for the budget, and
    the measured midpoint with its interval, NaN where there is none; `scaled` is 1/midpoint times the one
    constant that brings it nearest to √gain over all sites. `run`: all that is needed to repeat it.
    """

    table: NDArray[Any]
    run: dict[str, Any] = field(repr=False)

    def __repr__(self) -> str:
        return f"Gained({self._words()}: repetitions {','.join(map(str, self.repetitions))})"

    def _words(self) -> str:
        settings = self.run["settings"]
        return f"{self.run['data']['name']}, {settings['model']}, {settings['noise']} noise"

    def _repr_html_(self) -> str:
        from wn.walking.gains.picture import figure  # matplotlib is slow to import and needed here only

        columns = ("site", "site_name", "gain", "share", "repetitions")
        table = html.table(f"Gains: {self._words()}", columns, self.table[list(columns)].tolist())
        return table + html.picture(figure(self.table), "gains by site")

    def to_pandas(self) -> Any:
        """The table as a pandas.DataFrame; WnError if pandas is not installed."""
        return frames.to_pandas(self.table)

    def statement(self) -> str:
        """The paragraph on reproducibility for a paper: versions, data, network, seeds."""
        return statement(self.run)

    @property
    def repetitions(self) -> tuple[int, ...]:
        """The map: how often each site is executed."""
        return tuple(self.table["repetitions"].tolist())

    def save(self, folder: StrPath, *, overwrite: bool = False) -> list[Path]:
        """Write gains.csv, gains.png and gains.json, whole or not at all; return the paths.

        The folder is made if need be. Raises WnError if it has the gains of another run and they are not to
        be overwritten, and OSError, which names the file, if one can't be written.
        """
        from wn.walking.gains.picture import figure  # matplotlib is slow to import and needed here only
        from wn.walking.pictures.drawing import bytes_of

        place = as_path(folder)
        if not overwrite:
            check_folder(place, FILES, self.run["asked"])
        contents = [csv_of(self.table).encode(), bytes_of(figure(self.table), "png"), record_bytes(self.run)]
        return write_folder(place, dict(zip(FILES, contents, strict=True)))


def gains(asked: Asked, progress: ProgressCallback | None = None) -> Gained:
    """Find the gains of every site by settings from `read_gains`; train and walk first if that is asked for.

    `progress` is told of (finished, all) network-epochs. Raises WnError if the settings do not fit data and
    network, and if numbers leave the range of their type.
    """
    check_progress(progress)
    walk = asked.walk
    be = backends.get(walk.backend)
    dataset, network, train_settings = prepare(walk)
    setup = Setup(network, dataset, train_settings, walk.dtype, walk.evaluation_batch)
    saved = None if walk.network is UNSET else of_settings(walk)
    members = clean_networks(be, setup, walk, saved, progress)
    with be.working(walk.threads or processors()), alone():
        found = together(
            [
                site_gains(be, network, one, dataset, images=asked.own.images, dtype=walk.dtype)
                for one in members
            ]
        )
    midpoints = asked.midpoints
    if asked.own.measure:
        midpoints = _measured(be, setup, asked, _stacked(be, members))
    run = run_record("gains", walk, None if saved else train_settings, dataset, be)
    run["asked"] = msgspec.to_builtins(asked.own)
    run |= {"images": found.images, "networks": len(members), "budget": asked.budget}
    run |= {} if saved is None else {"network": saved.run}
    return Gained(_table(asked, setup, found, midpoints, dataset.name, be), run)


def _stacked(be: Backend, members: list[Population]) -> Population:
    """Networks as one population."""
    trees = [(one.params, one.states) for one in members]
    groups = zip(*map(optim.arrays, trees), strict=True)
    params, states = optim.with_arrays(trees[0], (be.xp.concatenate(group) for group in groups))
    return Population(params, states, tuple(seed for one in members for seed in one.seeds))


def _measured(be: Backend, setup: Setup, asked: Asked, networks: Population) -> Midpoints:
    """The midpoints of the networks, with the draws of the walk that trains them."""
    once = asked.walk.network is UNSET  # a network for each repeat, else as many repeats of each network
    chosen = msgspec.structs.replace(asked.walk, repeats=1) if once else asked.walk
    walked = walk_of(chosen, setup, be, SavedNetwork("", "", setup.network, networks, {}))
    measure(walked, be, asked.walk.threads, None)
    nothing = MeasuredMidpoint(*[float("nan")] * 3)
    return {
        place.name: MeasuredMidpoint(fit.midpoint, fit.ci_low, fit.ci_high) if fit.reached else nothing
        for _, place, fit in walked.midpoints(asked.walk.noise)
    }


def _table(
    asked: Asked, setup: Setup, found: Gains, midpoints: Midpoints, dataset: str, be: Backend
) -> NDArray[Any]:
    """A row for each site. Standard errors of several networks, which share the images, are their mean."""
    walk, names = asked.walk, setup.network.site_names
    everywhere = noise.everywhere(len(names), noise_factory(walk)(1.0))
    of_members = of_noise(found, setup.network, everywhere)  # (P, S)
    gain, c = of_members.mean(axis=0), sensitivities(of_members)  # (S,)
    with np.errstate(divide="ignore"):
        repetitions = optimal(1 / c, asked.budget)
    table = np.zeros(len(names), COLUMNS)
    words = (dataset, walk.model, walk.batch_norm, walk.noise, walk.seed, be.name)
    for name, value in zip((*WORDS, "seed", "backend"), words, strict=True):
        table[name] = value
    table["site"], table["site_name"] = np.arange(len(names)), names
    for name in _NUMBERS[:4]:
        table[name] = getattr(found, name).mean(axis=0)
    table["gain"], table["share"], table["repetitions"] = gain, gain / gain.sum(), repetitions
    nothing = MeasuredMidpoint(*[float("nan")] * 3)
    measured = np.array([midpoints.get(name, nothing) for name in names])  # (S, 3)
    for name, values in zip(_MEASURED, measured.T, strict=False):
        table[name] = values
    table["scaled"] = scaled(c, measured[:, 0])
    return table


def scaled(c: NDArray[np.float64], midpoints: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return k/μ with the one k that brings it nearest to c, by the mean of ln(cμ); NaN where μ is.

    c: (S,) ≥ 0; midpoints μ: (S,) > 0 or NaN. Sites with c = 0 do not count.
    """
    both = np.isfinite(midpoints) & (c > 0)
    k = np.exp(np.mean(np.log(c[both] * midpoints[both]))) if both.any() else np.nan
    return np.asarray(k / midpoints)
