"""The front door: `walk` and `train` with names and numbers instead of objects."""

import os
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import msgspec
import numpy as np
import scipy
from threadpoolctl import threadpool_limits

import wn
from wn import backends, models, walking
from wn import noise as noises
from wn.backends.base import Backend
from wn.data import catalogue
from wn.data.dataset import Dataset, checksum
from wn.errors import WnError
from wn.grids import sigma_grid
from wn.midpoint import Midpoint, fit_midpoint
from wn.network import Network
from wn.noise import FloatOrMembers, Noise
from wn.results import CURVE_COLUMNS, MIDPOINT_COLUMNS, WalkResult
from wn.training import EVALUATION_BATCH, TrainSettings

# From 0.01, where nothing happens yet, to 10,000, past the midpoints of training under noise.
DEFAULT_SIGMA = "0.01:10000:13"


class NetworkSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which network is trained on which data, and how; None takes the data set's recipe."""

    dataset: str = "fashion-mini"
    data_dir: str | None = None
    model: str = "mlp"
    batch_norm: str = "none"
    epochs: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    clamp_weights: bool = False
    train_limit: int | None = None
    test_limit: int | None = None
    seed: int = 0
    backend: str = "auto"
    dtype: str = "float32"
    threads: int | None = None
    evaluation_batch: int = EVALUATION_BATCH


class NoiseSettings(NetworkSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which noise, and where: the operator of `wn.noise` and the sites; None takes the operator's default."""

    noise: str = "additive"
    mean: float | None = None
    mean_mul: float | None = None
    mean_add: float | None = None
    ratio: float | None = None
    order: str | None = None
    normalize_to_input_size: bool = False
    repetitions: int = 1
    execution: str = "single"
    where: str | list[int] = "each"
    factors: dict[int, float] | None = None


class WalkSettings(NoiseSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A walk: noise, sites, phases and the σ grid."""

    phase: str = "both"
    sigma: str | list[float] = DEFAULT_SIGMA
    repeats: int = 1


Progress = Callable[[int, int], None]  # (finished, all) member-epochs


def walk(*, progress: Progress | None = None, **settings: Any) -> WalkResult:
    """Walk noise through the sites of a network and fit each site's midpoint.

    Settings are the fields of `WalkSettings` (the same as the flags of `wn walk`), for example
    `wn.walk(dataset="mnist", model="mlp", noise="additive", phase="inference", sigma="0.01:100:17")`.
    Returns the curves and midpoints as plain arrays. Raises WnError for anything unknown or out of range.
    """
    chosen = read_settings(WalkSettings, settings)
    started = time.perf_counter()
    be = backends.get(chosen.backend)
    dataset, network, train_settings = prepare(chosen)
    plan = walk_plan(chosen, dataset, network, train_settings)
    work = walking.jobs(plan)
    total = sum(members for members, _ in work) * plan.train.epochs
    finished = 0

    def report(members: int) -> None:
        nonlocal finished
        finished += members
        if progress is not None:
            progress(finished, total)

    with single_threaded_blas(), ThreadPoolExecutor(thread_count(chosen.threads)) as executor:
        clean, curves = walking.merge(plan, walking.run_jobs(be, work, executor, report))
    fits = _fits(chosen, plan, clean, curves)
    prefix = (dataset.name, chosen.model, chosen.batch_norm, chosen.noise)
    run = run_record("walk", chosen, plan.train, dataset, be)
    run["seconds"] = round(time.perf_counter() - started, 3)
    run["clean_correct"] = [[result.correct, result.total] for result in clean]
    return WalkResult(
        curves=_curve_table(prefix, curves),
        midpoints=_midpoint_table(prefix, fits),
        reasons=tuple(fit.reason for _, _, fit in fits),
        run=run,
    )


def read_settings(kind: type[Any], settings: Mapping[str, Any]) -> Any:
    """Return the settings as a checked `kind`; None means "not given". Raises WnError with the key's name."""
    given = {key: _plain(value) for key, value in settings.items() if value is not None}
    unknown = sorted(set(given) - set(kind.__struct_fields__))
    if unknown:
        raise WnError(f"unknown setting {unknown[0]!r}: allowed are {', '.join(kind.__struct_fields__)}")
    try:
        return msgspec.convert(given, kind, strict=True)
    except msgspec.ValidationError as error:
        raise WnError(f"bad setting: {error}") from None


def prepare(chosen: NetworkSettings) -> tuple[Dataset, Network, TrainSettings]:
    """Load the data, build the network and complete the training settings from the data set's recipe."""
    if chosen.dtype not in ("float32", "float64"):
        raise WnError(f"unknown dtype {chosen.dtype!r}: allowed are float32, float64")
    if chosen.threads is not None and chosen.threads < 1:
        raise WnError(f"threads is {chosen.threads}: it must be at least 1")
    models.check_name(chosen.model, chosen.batch_norm)  # before the data, which may have to be downloaded
    dataset = catalogue.load(chosen.dataset, chosen.data_dir)
    dataset = dataset.limited(chosen.train_limit, chosen.test_limit)
    network = models.build(chosen.model, dataset.image_shape, len(dataset.classes), chosen.batch_norm)
    recipe = dataset.recipe
    convolutional = len(network.site_shapes()[1]) == 3
    epochs = recipe.epochs_conv if convolutional else recipe.epochs_mlp
    train_settings = TrainSettings(
        epochs=epochs if chosen.epochs is None else chosen.epochs,
        batch_size=recipe.batch_size if chosen.batch_size is None else chosen.batch_size,
        learning_rate=recipe.lr if chosen.learning_rate is None else chosen.learning_rate,
        clamp_weights=chosen.clamp_weights,
    )
    return dataset, network, train_settings


def walk_plan(
    chosen: WalkSettings, dataset: Dataset, network: Network, train_settings: TrainSettings
) -> walking.WalkPlan:
    """Return the plan of a walk; all its parts are checked here, before anything is trained."""
    phases = walking.PHASES if chosen.phase == "both" else (chosen.phase,)
    if chosen.phase not in (*walking.PHASES, "both"):
        raise WnError(f"unknown phase {chosen.phase!r}: allowed are {', '.join(walking.PHASES)}, both")
    if chosen.repeats < 1:
        raise WnError(f"repeats is {chosen.repeats}: it must be at least 1")
    sigma = sigma_grid(chosen.sigma)
    noise_at = noise_factory(chosen)
    noise_at(sigma)
    return walking.WalkPlan(
        network=network,
        dataset=dataset,
        noise=noise_at,
        places=walking.places(network, chosen.where, chosen.factors),
        phases=phases,
        sigma=sigma,
        train=train_settings,
        repeats=chosen.repeats,
        seed=chosen.seed,
        dtype=np.dtype(chosen.dtype),
        evaluation_batch=chosen.evaluation_batch,
    )


def noise_factory(chosen: NoiseSettings) -> Callable[[FloatOrMembers], Noise]:
    """Return σ → operator for the noise that the settings describe."""
    names = ("mean", "mean_mul", "mean_add", "ratio", "order")
    options = {name: getattr(chosen, name) for name in names if getattr(chosen, name) is not None}
    options |= {
        "normalize_to_input_size": chosen.normalize_to_input_size,
        "repetitions": chosen.repetitions,
        "execution": chosen.execution,
    }

    def noise_at(sigma: FloatOrMembers) -> Noise:
        return noises.of_kind(chosen.noise, sigma, **options)

    return noise_at


def thread_count(threads: int | None) -> int:
    """Return how many jobs run at once: as asked for, else one per processor this process may use."""
    return threads or len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def single_threaded_blas() -> Any:
    """Return a context in which each BLAS call uses one thread: jobs run side by side instead."""
    return threadpool_limits(limits=1, user_api="blas")


def run_record(
    command: str, chosen: NetworkSettings, train_settings: TrainSettings, dataset: Dataset, be: Backend
) -> dict[str, Any]:
    """Return everything needed to repeat a run: settings, completed from the recipe, data and versions."""
    settings = msgspec.structs.asdict(chosen) | {
        "epochs": train_settings.epochs,
        "batch_size": train_settings.batch_size,
        "learning_rate": train_settings.learning_rate,
    }
    return {
        "command": command,
        "settings": settings,
        "data": {"name": dataset.name, "sha256": checksum(dataset), "samples": _samples(dataset)},
        "backend": be.name,
        "versions": {
            "wn": wn.__version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
            "scipy": scipy.__version__,
        },
        "machine": {"platform": platform.platform(), "processor": platform.machine(), "cores": os.cpu_count()},
        "argv": sys.argv[1:] if sys.argv[:1] and sys.argv[0].endswith("wn") else [],
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _samples(dataset: Dataset) -> dict[str, int]:
    return {"train": len(dataset.train), "test": len(dataset.test)}


def _plain(value: Any) -> Any:
    """Return NumPy values and tuples as plain Python, as a settings file would hold them."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return value


def _fits(
    chosen: WalkSettings,
    plan: walking.WalkPlan,
    clean: list[walking.CleanResult],
    curves: list[walking.Curve],
) -> list[tuple[str, walking.Place, Midpoint]]:
    """Fit one midpoint per phase and place, from all repeats together."""
    accuracy = sum(result.correct for result in clean) / sum(result.total for result in clean)
    fits = []
    for phase in plan.phases:
        for place in plan.places:
            repeats = [curve for curve in curves if curve.phase == phase and curve.place == place]
            to_chance = phase == "inference" and chosen.noise == "additive"
            fit = fit_midpoint(
                np.concatenate([curve.sigma for curve in repeats]),
                np.concatenate([curve.correct for curve in repeats]),
                np.concatenate([np.full(len(curve.sigma), curve.total) for curve in repeats]),
                clean_accuracy=accuracy,
                chance=walking.chance(plan.dataset),
                floor="chance" if to_chance else "free",
            )
            fits.append((phase, place, fit))
    return fits


def _curve_table(prefix: tuple[str, ...], curves: list[walking.Curve]) -> Any:
    rows = [
        (*prefix, curve.phase, curve.place.site, curve.place.name)
        + (float(sigma), curve.repeat, int(correct), curve.total, int(correct) / curve.total)
        for curve in curves
        for sigma, correct in zip(curve.sigma, curve.correct, strict=True)
    ]
    return np.array(rows, CURVE_COLUMNS)


def _midpoint_table(prefix: tuple[str, ...], fits: list[tuple[str, walking.Place, Midpoint]]) -> Any:
    rows = [
        (*prefix, phase, place.site, place.name)
        + (fit.midpoint, fit.ci_low, fit.ci_high, fit.slope, fit.reached, fit.clean_accuracy)
        for phase, place, fit in fits
    ]
    return np.array(rows, MIDPOINT_COLUMNS)
