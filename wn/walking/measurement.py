"""Walk noise through the sites of a network: accuracy against σ, site by site, phase by phase."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import pairwise
from math import prod
from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from wn.data.dataset import Dataset
from wn.engine.backends.plain.base import Backend, Room
from wn.engine.groups import group_sizes
from wn.engine.halving import Keeper, alone, fitting, halves, of_members
from wn.engine.models import parameter_count
from wn.engine.network import Network
from wn.engine.noise import FloatOrMembers, Noise, SiteNoise
from wn.engine.ranges import OutOfRange, out_of_range
from wn.engine.training import (
    EVALUATION_BATCH,
    Monitor,
    Population,
    TrainingState,
    TrainSettings,
    count_finite,
    evaluate,
    evaluation_batches,
    train,
)
from wn.errors import WnError
from wn.random import member_seed
from wn.walking.curves import CleanResult as CleanResult
from wn.walking.curves import Curve as Curve
from wn.walking.curves import Failure as Failure
from wn.walking.curves import Result as Result
from wn.walking.curves import joined
from wn.walking.jobs import Stopped as Stopped
from wn.walking.jobs import run_jobs as run_jobs
from wn.walking.places import GLOBAL as GLOBAL
from wn.walking.places import MAPPED as MAPPED
from wn.walking.places import PHASES as PHASES
from wn.walking.places import Place as Place
from wn.walking.places import check_range as check_range
from wn.walking.places import places as places

EVALUATED_PER_TRAINED = 2  # members side by side at inference, for each that is trained
ON_A_CPU = Room()


class WalkPlan(NamedTuple):
    """Everything that the numbers of a walk depend on, apart from the backend."""

    network: Network
    dataset: Dataset
    noise: Callable[[FloatOrMembers], Noise]  # σ → operator
    places: tuple[Place, ...]
    phases: tuple[str, ...]
    sigma: NDArray[np.float64]
    train: TrainSettings
    repeats: int
    seed: int
    dtype: DTypeLike = np.float32
    evaluation_batch: int = EVALUATION_BATCH
    members: int = ON_A_CPU.members


Job = Callable[[Backend, Monitor], list[Result]]


def jobs(plan: WalkPlan) -> list[tuple[int, Job]]:
    """Cut a walk into independent jobs, each with the number of trained members: (members, job).

    A job is a clean network with its walk at inference, or a population trained under noise at one place.
    """
    plan.dataset.check_alike()
    cut: list[tuple[int, Job]] = []
    for repeat in range(plan.repeats):
        if "training" in plan.phases:
            for place in plan.places:
                for part in _parts(plan):
                    cut.append((len(plan.sigma[part]), _noisy_job(plan, repeat, place, part)))
        cut.append((1, _clean_job(plan, repeat)))
    return cut


def merge(plan: WalkPlan, results: Sequence[Result]) -> tuple[list[CleanResult], list[Curve]]:
    """Order results by repeat, and by phase, place, repeat; join curves that were cut into parts.

    There is a curve for each phase, place and repeat, without the points that failed. Raises WnError if no
    clean network, or no point at all, has a result.
    """
    clean = sorted((r for r in results if isinstance(r, CleanResult)), key=lambda r: r.repeat)
    curves = []
    for phase in plan.phases:
        for place in plan.places:
            for repeat in range(plan.repeats):
                parts = [
                    r
                    for r in results
                    if isinstance(r, Curve) and (r.phase, r.place, r.repeat) == (phase, place, repeat)
                ]
                curves.append(joined(sorted(parts, key=lambda part: part.sigma.tolist())))
    if not clean or not any(len(curve.sigma) for curve in curves):
        first = failures(plan, results)[0]
        raise WnError(f"{first.place.name}, σ {first.sigma:g}: {first.reason}; use a smaller σ or float64")
    return clean, curves


def failures(plan: WalkPlan, results: Sequence[Result]) -> list[Failure]:
    """Return the points that failed by phase, place, repeat and σ."""
    found = (result for result in results if isinstance(result, Failure))
    phases, sites = plan.phases, [place.site for place in plan.places]
    return sorted(found, key=lambda r: (phases.index(r.phase), sites.index(r.place.site), r.repeat, r.sigma))


@np.errstate(over="ignore", invalid="ignore")  # what is not finite fails
def walk_inference(
    be: Backend,
    plan: WalkPlan,
    population: Population,
    repeat: int,
    monitor: Monitor | None = None,
    reuse: bool = True,
) -> list[Curve | Failure]:
    """Walk noise through one clean network: accuracy at every place and σ, or why there is none.

    The clean activations at all sites are computed once per batch; each σ starts from the one at its first
    noisy site. `reuse=False` starts from the input every time: slower, the same numbers.
    """
    monitor = Monitor() if monitor is None else monitor
    # Without backward only a layer's input and output are in memory
    parts = _parts(plan._replace(members=EVALUATED_PER_TRAINED * plan.members))
    groups = len(group_sizes(len(plan.dataset.test)))
    correct = np.zeros((len(plan.places), len(plan.sigma), groups), np.int64)
    lost = np.zeros(correct.shape[:2], np.bool_)

    @cache
    def noise_at(row: int, start: int, stop: int) -> SiteNoise:
        return plan.places[row].noise(plan.noise(plan.sigma[start:stop]))

    batches = evaluation_batches(be, plan.dataset, population.seeds, {}, 0, plan.evaluation_batch, plan.dtype)
    for x, run, labels in batches:
        with alone():
            clean = (
                plan.network.clean_activations(be, population.params, population.states, x) if reuse else [x]
            )
        for row, place in enumerate(plan.places):
            first = min(place.factors) if reuse else 0
            done = 0  # parts of this batch and place
            while done < len(parts):
                part = parts[done]
                with _naming(place, plan.sigma[part]):
                    noisy = run._replace(noise=noise_at(row, part.start, part.stop))
                    try:
                        logits = plan.network.forward_from_site(
                            be, population.params, population.states, clean[first], noisy, first
                        )
                        hits = count_finite(be, logits, labels, groups)
                        correct[row, part] += hits
                        lost[row, part] |= (hits < 0).any(axis=1)
                        done += 1
                    except MemoryError:
                        logits = None
                    if logits is None:  # not within the except clause, where the error holds arrays
                        parts[done : done + 1] = halves(be, part)  # for the batches to come as well
                monitor.step()
    found: list[Curve | Failure] = []
    for row, place in enumerate(plan.places):
        whole = ~lost[row]
        found.append(_counted(plan, "inference", place, repeat, plan.sigma[whole], correct[row, whole]))
        reasons = dict.fromkeys(plan.sigma[lost[row]].tolist(), out_of_range(np.dtype(plan.dtype)))
        found += _failures("inference", place, repeat, reasons)
    return found


def _counted(
    plan: WalkPlan,
    phase: str,
    place: Place,
    repeat: int,
    sigma: NDArray[np.float64],
    by_group: NDArray[np.int64],
) -> Curve:
    """The curve of counts by group (S, G)."""
    return Curve(phase, place, repeat, sigma, by_group.sum(axis=1), len(plan.dataset.test), by_group)


def _failures(phase: str, place: Place, repeat: int, reasons: Mapping[float, str]) -> Iterator[Failure]:
    """Yield the failures of a curve, given why by σ."""
    return (Failure(phase, place, repeat, sigma, reason) for sigma, reason in reasons.items())


def _clean_job(plan: WalkPlan, repeat: int) -> Job:
    """Train one network without noise; evaluate it clean and, if asked for, under noise at inference."""

    def job(be: Backend, monitor: Monitor) -> list[Result]:
        keeper = Keeper(monitor, None)
        try:
            with alone():
                population = _trained(be, plan, repeat, 1, {}, keeper)
                correct = evaluate(
                    be,
                    plan.network,
                    population,
                    plan.dataset,
                    batch_size=plan.evaluation_batch,
                    dtype=plan.dtype,
                    monitor=monitor,
                    by_group=True,
                )[0]
        except OutOfRange as error:
            monitor.given_up(_epochs_left(plan, keeper))
            return _without_network(plan, repeat, error.reasons[0])
        total, by_group = len(plan.dataset.test), tuple(correct.tolist())
        results: list[Result] = [CleanResult(repeat, int(correct.sum()), total, by_group)]
        if "inference" in plan.phases:
            results += walk_inference(be, plan, population, repeat, monitor)
        return results

    return job


def _without_network(plan: WalkPlan, repeat: int, reason: str) -> list[Result]:
    """The results at inference where the clean network of a repeat has failed."""
    found: list[Result] = []
    if "inference" not in plan.phases:
        return found
    for place in plan.places:
        found.append(_empty(plan, "inference", place, repeat))
        reasons = dict.fromkeys(plan.sigma.tolist(), f"the clean network: {reason}")
        found += _failures("inference", place, repeat, reasons)
    return found


def _empty(plan: WalkPlan, phase: str, place: Place, repeat: int) -> Curve:
    """A curve without points."""
    groups = len(group_sizes(len(plan.dataset.test)))
    return _counted(plan, phase, place, repeat, np.zeros(0), np.zeros((0, groups), np.int64))


def _epochs_left(plan: WalkPlan, keeper: Keeper) -> int:
    """The epochs of a training that its monitor was not told of."""
    return plan.train.epochs - (0 if keeper.state is None else keeper.state.epoch)


def _noisy_job(plan: WalkPlan, repeat: int, place: Place, part: slice) -> Job:
    """Train one network per σ of this part under noise at the place; evaluate each under the same noise."""

    def job(be: Backend, monitor: Monitor) -> list[Result]:
        return list(_points(be, plan, repeat, place, plan.sigma[part], monitor))

    return job


def _points(
    be: Backend,
    plan: WalkPlan,
    repeat: int,
    place: Place,
    sigma: NDArray[np.float64],
    monitor: Monitor,
    start: TrainingState | None = None,
) -> Iterator[Result]:
    """Yield the results of some σ: curves, and the failures of those whose numbers leave the range.

    Where some fail, the others go on from the last step that all have done.
    """

    def work(members: slice, keeper: Keeper, state: TrainingState | None) -> list[Result]:
        some = sigma[members]
        try:
            return [_curve(be, plan, repeat, place, some, keeper, state)]
        except OutOfRange as error:
            reasons = {float(some[member]): reason for member, reason in error.reasons.items()}
            kept = [member for member in range(len(some)) if member not in error.reasons]
            rest = of_members(keeper.state, kept)
        monitor.given_up(_epochs_left(plan, keeper) * len(reasons))
        failed: list[Result] = list(_failures("training", place, repeat, reasons))
        return failed + list(_points(be, plan, repeat, place, some[kept], monitor, rest))

    if len(sigma):
        for found in fitting(be, slice(0, len(sigma)), monitor, work, start):
            yield from found
    else:
        yield _empty(plan, "training", place, repeat)


def _curve(
    be: Backend,
    plan: WalkPlan,
    repeat: int,
    place: Place,
    sigma: NDArray[np.float64],
    monitor: Monitor,
    start: TrainingState | None,
) -> Curve:
    noise = place.noise(plan.noise(sigma))
    with _naming(place, sigma):
        population = _trained(be, plan, repeat, len(sigma), noise, monitor, start)
        correct = evaluate(
            be,
            plan.network,
            population,
            plan.dataset,
            noise=noise,
            batch_size=plan.evaluation_batch,
            dtype=plan.dtype,
            monitor=monitor,
            by_group=True,
        )
    return _counted(plan, "training", place, repeat, sigma, correct)


@contextmanager
def _naming(place: Place, sigma: NDArray[np.float64]) -> Iterator[None]:
    """Say at which place and σ of the walk an error came up."""
    try:
        yield
    except OutOfRange:  # of some σ, which fail alone
        raise
    except WnError as error:
        levels = f"{sigma[0]:g}" if len(sigma) == 1 else f"{sigma[0]:g} to {sigma[-1]:g}"
        raise WnError(f"{place.name}, σ {levels}: {error}") from None


def _trained(
    be: Backend,
    plan: WalkPlan,
    repeat: int,
    members: int,
    noise: SiteNoise,
    monitor: Monitor,
    start: TrainingState | None = None,
) -> Population:
    seeds = (member_seed(plan.seed, repeat),) * members
    return train(
        be,
        plan.network,
        plan.dataset,
        plan.train,
        seeds=seeds,
        noise=noise,
        dtype=plan.dtype,
        monitor=monitor,
        start=start,
    )


def _parts(plan: WalkPlan) -> list[slice]:
    """Return slices of the σ grid of at most `members` each, as even as can be."""
    count = -(-len(plan.sigma) // plan.members)
    edges = np.linspace(0, len(plan.sigma), count + 1).round().astype(int)
    return [slice(int(a), int(b)) for a, b in pairwise(edges)]


def members_at_once(network: Network, train: TrainSettings, dtype: DTypeLike, room: Room = ON_A_CPU) -> int:
    """Return how many members one job takes: as many as its backend has room for, by default a CPU's.

    A member holds each activation and its gradient for a batch, and each parameter with its gradient and two
    moments. Results do not depend on this number.
    """
    activations = 2 * sum(prod(shape) for shape in network.shapes()) * train.batch_size
    parameters = 4 * parameter_count(network)
    bytes_per_member = (activations + parameters) * np.dtype(dtype).itemsize
    return int(min(max(room.job_bytes // bytes_per_member, 1), room.members))


def chance(dataset: Dataset) -> float:
    """Return the accuracy of a guess, 1/classes."""
    return 1 / len(dataset.classes)
