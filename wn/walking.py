"""Walk noise through the sites of a network: accuracy against σ, site by site, phase by phase."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, as_completed
from contextlib import contextmanager
from functools import cache
from itertools import pairwise
from math import prod
from threading import Event
from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from wn import noise as noises
from wn.backends.base import Backend, Room
from wn.data.dataset import Dataset
from wn.errors import WnError
from wn.groups import group_sizes
from wn.halving import alone, fitting, halves
from wn.models import parameter_count
from wn.network import Network
from wn.noise import FloatOrMembers, Noise, SiteNoise
from wn.random import member_seed
from wn.training import (
    EVALUATION_BATCH,
    Monitor,
    Population,
    TrainingState,
    TrainSettings,
    count_correct,
    evaluate,
    evaluation_batches,
    train,
)

PHASES = ("inference", "training")
GLOBAL = -1  # site number of global noise in results
MAPPED = -2  # site number of mapped noise in results

EVALUATED_PER_TRAINED = 2  # members side by side at inference, for each that is trained
ON_A_CPU = Room()


class Place(NamedTuple):
    """Where a walk puts its noise: the number and name in results, and each noisy site's factor on σ."""

    site: int
    name: str
    factors: dict[int, float]

    def noise(self, noise: Noise) -> SiteNoise:
        """Return the operator at each site of this place."""
        return noises.mapped(noise, self.factors)


class Curve(NamedTuple):
    """Accuracy against σ at one place, in one phase, for one repeat: σ (S,), correct (S,) of total.

    `by_group` (S, G) is the same by group of test images (`wn.groups`), if it was counted so.
    """

    phase: str
    place: Place
    repeat: int
    sigma: NDArray[np.float64]
    correct: NDArray[np.int64]
    total: int
    by_group: NDArray[np.int64] | None = None


class CleanResult(NamedTuple):
    """A clean network of one repeat: how many test images it gets right without noise, also by group."""

    repeat: int
    correct: int
    total: int
    by_group: tuple[int, ...] = ()


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


Result = Curve | CleanResult
Job = Callable[[Backend, Monitor], list[Result]]


class Stopped(Exception):
    """Ends the jobs that are running when a walk is interrupted."""


class _JobMonitor(Monitor):
    """Counts the members whose epoch is done, and ends the job when told to stop."""

    def __init__(self, report: Callable[[int], None], stop: Event) -> None:
        self.report, self.stop = report, stop

    def step(self) -> None:
        """End the job if the walk is being stopped."""
        if self.stop.is_set():
            raise Stopped

    def epoch(self, epoch: int, loss: NDArray[np.float64]) -> None:
        """Report the epoch."""
        self.report(len(loss))


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


def run_jobs(
    be: Backend,
    work: list[tuple[int, Job]],
    executor: Executor,
    report: Callable[[int], None],
    threads: int = 1,
) -> list[Result]:
    """Run jobs on an executor, each with so many processors.

    `report` is told after each epoch how many members have finished one.

    An error in a job, or Ctrl-C, stops the others at their next step and is raised.
    """
    stop = Event()
    futures: list[Future[list[Result]]] = []
    try:
        for _, job in work:  # one by one: Ctrl-C meanwhile finds those that are queued already
            monitor = _JobMonitor(report, stop)
            futures.append(executor.submit(_working, job, be, monitor, threads))
        return [result for future in as_completed(futures) for result in future.result()]
    finally:
        stop.set()
        for future in futures:
            future.cancel()


def _working(job: Job, be: Backend, monitor: Monitor, threads: int) -> list[Result]:
    with be.working(threads):
        return job(be, monitor)


def merge(plan: WalkPlan, results: Sequence[Result]) -> tuple[list[CleanResult], list[Curve]]:
    """Order results by repeat, and by phase, place, repeat; join curves that were cut into parts."""
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
                parts.sort(key=lambda part: float(part.sigma[0]))
                sigma = np.concatenate([part.sigma for part in parts])
                correct = np.concatenate([part.correct for part in parts])
                by_group = np.concatenate([part.by_group for part in parts if part.by_group is not None])
                curves.append(Curve(phase, place, repeat, sigma, correct, parts[0].total, by_group))
    return clean, curves


def walk_inference(
    be: Backend,
    plan: WalkPlan,
    population: Population,
    repeat: int,
    monitor: Monitor | None = None,
    reuse: bool = True,
) -> list[Curve]:
    """Walk noise through one clean network: accuracy at every place and σ.

    The clean activations at all sites are computed once per batch; each σ starts from the one at its first
    noisy site. `reuse=False` starts from the input every time: slower, the same numbers.
    """
    monitor = Monitor() if monitor is None else monitor
    # Without backward only a layer's input and output are in memory
    parts = _parts(plan._replace(members=EVALUATED_PER_TRAINED * plan.members))
    groups = len(group_sizes(len(plan.dataset.test)))
    correct = np.zeros((len(plan.places), len(plan.sigma), groups), np.int64)

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
                        correct[row, part] += count_correct(be, logits, labels, groups)
                        done += 1
                    except MemoryError:
                        logits = None
                    if logits is None:  # not within the except clause, where the error holds arrays
                        parts[done : done + 1] = halves(be, part)  # for the batches to come as well
                monitor.step()
    total = len(plan.dataset.test)
    return [
        Curve("inference", place, repeat, plan.sigma, correct[row].sum(axis=1), total, correct[row])
        for row, place in enumerate(plan.places)
    ]


def _clean_job(plan: WalkPlan, repeat: int) -> Job:
    """Train one network without noise; evaluate it clean and, if asked for, under noise at inference."""

    def job(be: Backend, monitor: Monitor) -> list[Result]:
        with alone():
            population = _trained(be, plan, repeat, 1, {}, monitor)
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
        total, by_group = len(plan.dataset.test), tuple(correct.tolist())
        results: list[Result] = [CleanResult(repeat, int(correct.sum()), total, by_group)]
        if "inference" in plan.phases:
            results += walk_inference(be, plan, population, repeat, monitor)
        return results

    return job


def _noisy_job(plan: WalkPlan, repeat: int, place: Place, part: slice) -> Job:
    """Train one network per σ of this part under noise at the place; evaluate each under the same noise."""

    def job(be: Backend, monitor: Monitor) -> list[Result]:
        return list(fitting(be, part, monitor, lambda *some: _curve(be, plan, repeat, place, *some)))

    return job


def _curve(
    be: Backend,
    plan: WalkPlan,
    repeat: int,
    place: Place,
    part: slice,
    monitor: Monitor,
    start: TrainingState | None,
) -> Curve:
    sigma = plan.sigma[part]
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
    return Curve("training", place, repeat, sigma, correct.sum(axis=1), len(plan.dataset.test), correct)


@contextmanager
def _naming(place: Place, sigma: NDArray[np.float64]) -> Iterator[None]:
    """Say at which place and σ of the walk an error came up."""
    try:
        yield
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


def chance(dataset: Dataset) -> float:
    """Return the accuracy of a guess, 1/classes."""
    return 1 / len(dataset.classes)
