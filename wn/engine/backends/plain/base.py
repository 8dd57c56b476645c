"""What every backend can do, in plain array code over a namespace `xp` (NumPy or CuPy).

Letters: P population, O/I outputs/inputs of a layer, F features, K classes, B batch. A leading 1 stands for
"shared by the whole population" and broadcasts.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import prod
from types import ModuleType
from typing import Any, ClassVar, NamedTuple

from wn import random
from wn.engine.backends.plain import crops
from wn.engine.backends.threads import single_threaded_blas
from wn.engine.layers import batch_norm, dropout
from wn.engine.layers.base import Formula, Runnable
from wn.engine.layers.batch_norm import BatchStatistics, RunningStatistics
from wn.engine.layers.cross_entropy import check_labels
from wn.engine.layers.noise import DrawKey, Draws
from wn.engine.layers.windows import Array
from wn.engine.ranges import not_finite
from wn.random import Purpose

# What a step of a training is given: sample ids (B,), uint32, the epoch, and Adam's constants.
TrainingStep = Callable[[Array, int, Sequence[float]], None]

# Columns (samples) of one matrix product; evaluation batches are whole tiles of it.
SAMPLE_TILE = 256


class Room(NamedTuple):
    """How large a population may be: bytes that one job may be planned to take, and members at most."""

    job_bytes: int = 1 << 30
    members: int = 16  # enough to share draws and batches, few enough for a processor's cache


class Backend:
    """What a network is run by: layers, noise, batches, and the optimiser.

    `own` holds what it computes differently from the formula of a layer: by that formula, its own pair of
    functions, which take the backend in the place of `xp`.
    """

    name: str
    own: ClassVar[Mapping[Formula, Formula]] = {}
    xp: ModuleType
    libraries: tuple[str, ...] = ()  # besides NumPy, whose versions a record of a run names
    takes_jobs_side_by_side = True  # whether several threads of this process may use it at once

    # ---- layers -----------------------------------------------------------------------------------------

    def forward(self, layer: Formula, *given: Any, **static: Any) -> tuple[Array, Any]:
        """Return (y, cache) of a layer, by this backend's own function or by the layer's formula."""
        own = self.own.get(layer)
        if own is None:
            return layer.forward(self.xp, *given, **static)
        return own.forward(self, *given, **static)

    def backward(self, layer: Formula, dy: Array, cache: Any, **static: Any) -> tuple[Array | None, Any]:
        """Return (dx, grads) of a layer, by this backend's own function or by the layer's formula."""
        own = self.own.get(layer)
        if own is None:
            return layer.backward(self.xp, dy, cache, **static)
        return own.backward(self, dy, cache, **static)

    @staticmethod
    def rewritten(layers: Sequence[Runnable], quiet: Sequence[bool]) -> list[tuple[Runnable, int]]:
        """The layers of a network in order as this backend runs them, each with how many it stands for.

        A backend may put one layer in the place of neighbours that it does at once (`wn.engine.fusion`), but
        never across noise. quiet: for each layer, whether no noise is active at its output.
        """
        return [(layer, 1) for layer in layers]

    def update_running(
        self, running: RunningStatistics, batch: BatchStatistics, momentum: float = batch_norm.MOMENTUM
    ) -> RunningStatistics:
        """Return the running statistics of a batch norm after a batch, see `layers.batch_norm`."""
        return batch_norm.update_running(running, batch, momentum)

    # ---- evaluation -------------------------------------------------------------------------------------

    def count_correct(self, logits: Array, labels: Array, groups: int | None = None) -> Array:
        """The number of labels (B,) that are the largest of logits (P, K, ≥B); −1 if one is not finite: (P,).

        With `groups` G, by group of samples, n mod G: (P, G).
        """
        check_labels(labels, logits.shape[1])
        batch, parts = len(labels), 1 if groups is None else groups
        logits = logits[:, :, :batch]
        hits = (logits.argmax(axis=1) == labels).astype(self.xp.int64)
        hits = self.xp.where(self.xp.isfinite(logits).all(axis=1), hits, -batch - 1)  # never made up for
        padded = self.xp.pad(hits, ((0, 0), (0, -batch % parts)))
        counts = self.xp.maximum(padded.reshape(len(hits), -1, parts).sum(axis=1), -1)
        return counts[:, 0] if groups is None else counts

    def square_sums(self, x: Array) -> Array:
        """Return Σ_f x² for each member and sample, in float64: (P|1, …, B) → (P|1, B).

        Member by member, so that none depends on the population; of several samples each is added up in the
        order of the features on a CPU.
        """
        sums = self.xp.empty((len(x), x.shape[-1]))
        for member, out in zip(x, sums, strict=True):
            squares = self.xp.square(member.reshape(-1, x.shape[-1]), dtype=self.xp.float64)  # (F, B)
            out[...] = squares.sum(axis=0)
        return sums

    # ---- arrays -----------------------------------------------------------------------------------------

    def asarray(self, values: Any, dtype: Any = None) -> Array:
        """Return `values` as an array of this backend."""
        return self.xp.asarray(values, dtype=dtype)

    def constant(self, values: Any, dtype: Any = None) -> Array:
        """Return `values` as an array that may be used again, and is not to be changed."""
        return self.asarray(values, dtype)

    def resident(self, values: Any) -> Array:
        """Return an array of the host that never changes as one of this backend, where it may stay."""
        return self.asarray(values)

    def to_numpy(self, array: Array) -> Any:
        """Return `array` in the host's memory."""
        return array

    def all_finite(self, array: Array) -> bool:
        """Whether all elements are finite, as far as that is known at once.

        A device that would have to be waited for says yes, and makes NaN of what follows.
        """
        return bool(self.xp.isfinite(array).all())

    def check_finite(self, array: Array, what: str) -> None:
        """Raise OutOfRange for members of (P, …) with an element known not to be finite, see `all_finite`.

        `what` is wrong with them.
        """
        if not self.all_finite(array):
            raise not_finite(what, self.to_numpy(array))

    def assign(self, target: Array, values: Array) -> None:
        """Write values to an array that is kept."""
        target[...] = values

    def accumulate(self, total: Array, values: Array, factor: int) -> None:
        """Add values·factor, computed in float64, to total: (P,)."""
        total += values.astype(total.dtype) * factor

    @contextmanager
    def working(self, threads: int = 1) -> Iterator[None]:
        """Give the work of the calling thread so many processors; plain array code uses one of them."""
        with single_threaded_blas():
            yield

    def release(self) -> None:
        """Give back memory that is kept for later."""

    @property
    def lost(self) -> bool:
        """Whether this process can't compute any more: on a device that failed, only another one can."""
        return False

    @property
    def room(self) -> Room:
        """How many networks may be trained side by side here."""
        return Room()

    def recorded(self, step: TrainingStep) -> TrainingStep:
        """A step that does the same as `step`; it may repeat a recording of what `step` did before.

        So it is for steps whose parts all say that they are `recordable`: whatever differs from step to step
        has to be in the arguments, and every array is computed and changed by primitives of the backend. What
        else is done – an operator between arrays, a counter, an `if` – may be done in the recording only.
        `wn.testing.check_recorded` finds out.
        """
        return step

    def enclosed(self, state: Any) -> Any:
        """Return the arrays that a step changes, in their structure of tuples, as the step is to use them.

        Where a step is being recorded, primitives alone can look into them: anything else ends the recording.
        """
        return state

    def not_repeatable(self, what: str) -> None:
        """End the recording of a step, if one is being recorded: `what` may be another thing in each step."""

    @contextmanager
    def step(self) -> Iterator[None]:
        """Enclose one of many steps of about equal cost: a backend may choose threads by what they took."""
        yield

    # ---- batches ----------------------------------------------------------------------------------------

    def take(self, values: Array, samples: Array) -> Array:
        """Return the values of the samples (B,): (N,) → (B,)."""
        return values[samples]

    def gather(
        self,
        images: Array,
        samples: Array,
        scale: float,
        mean: Sequence[float],
        std: Sequence[float],
        dtype: Any,
    ) -> Array:
        """Return the samples (B,) of images (N, C, H, W), standardised: a network input (1, C, H, W, B)."""
        return self.standardise(self.xp.moveaxis(images[samples], 0, -1), scale, mean, std, dtype)

    def gather_augmented(
        self,
        images: Array,
        samples: Array,
        scale: float,
        mean: Sequence[float],
        std: Sequence[float],
        dtype: Any,
        padding: int,
        flip: bool,
        seed: int,
        epoch: int,
    ) -> Array:
        """The result of `gather` for images that are cropped and flipped first: see `crops.augment`."""
        x = crops.augment(self.xp, images, samples, padding, flip, seed, epoch)
        return self.standardise(x, scale, mean, std, dtype)

    def standardise(
        self, x: Array, scale: float, mean: Sequence[float], std: Sequence[float], dtype: Any
    ) -> Array:
        """Return (x / scale − mean) / std, mean and std per channel: (C, H, W, B) → (1, C, H, W, B).

        Each step is rounded to `dtype`; the leading 1 stands for "shared by all members".
        """
        y = self.xp.ascontiguousarray(x).astype(dtype)
        y /= scale  # a Python number: computed in y's dtype
        y -= self.constant(mean, dtype)[:, None, None, None]
        y /= self.constant(std, dtype)[:, None, None, None]
        return y[None]

    # ---- initial parameters -----------------------------------------------------------------------------

    def uniforms(
        self, seeds: Sequence[int], count: int, purpose: Purpose, site: int = 0, repetition: int = 0
    ) -> Array:
        """Return uniform draws on [0, 1) for each seed, (P, count) float32: see `random.uniforms`."""
        unique = {
            seed: random.uniforms(self.xp, seed, count, purpose, site, repetition=repetition)
            for seed in seeds
        }
        return self.xp.stack([unique[seed] for seed in seeds])

    # ---- noise ------------------------------------------------------------------------------------------

    def standard_draws(
        self, key: DrawKey, features: int, repetition: int = 0, distribution: str = "normal"
    ) -> Array:
        """Return draws of mean 0 and variance 1 (S, F, B), float32; S is 1 if members share a seed, else P.

        Members that share a seed share their draws, whatever their σ (common random numbers).
        """
        seeds = list(dict.fromkeys(key.seeds))
        drawn = [self._draws_of_seed(key, seed, features, repetition, distribution) for seed in seeds]
        if len(seeds) == 1:
            return drawn[0][None]  # (1, F, B)
        return self.xp.stack([drawn[seeds.index(seed)] for seed in key.seeds])  # (P, F, B)

    def _draws_of_seed(
        self, key: DrawKey, seed: int, features: int, repetition: int, distribution: str
    ) -> Array:
        place = key.epoch, key.purpose, key.site, repetition, distribution
        return random.standard_draws(self.xp, seed, key.samples, features, *place)

    def draw(self, draws: Draws, x: Array, repetition: int = 0) -> Array:
        """Return scale·z + shift for an activation x (P|1, …, B): (S|P, …, B) in x's dtype."""
        features, ones = prod(x.shape[1:-1]), (1,) * (x.ndim - 1)
        z = self.standard_draws(draws.key, features, repetition, draws.distribution)
        z = z.reshape(-1, *x.shape[1:])  # (S, …, B)
        y = z.astype(x.dtype, copy=False) * self.constant(draws.scale).reshape(-1, *ones)
        y += self.constant(draws.shift).reshape(-1, *ones)
        return y

    def apply_draws(
        self, x: Array, multiplier: Draws | None, offset: Draws | None, add_first: bool, keep: bool
    ) -> tuple[Array, Array | None]:
        """Return y = x·M + D, or (x + D)·M = x·M + D·M if `add_first`, and M, which backward needs.

        None stands for the constants M = 1 and D = 0. x: (P|1, …, B); y: (P, …, B); M: (S|P, …, B), or None
        unless there is one and `keep` asks for it. Every product and every sum is rounded on its own.
        """
        m = None if multiplier is None else self.draw(multiplier, x)
        y = x if m is None else x * m
        if offset is not None:
            d = self.draw(offset, x)
            y = y + (d * m if add_first and m is not None else d)
        return y, m if keep else None

    def dropout_mask(self, key: DrawKey, x: Array, p: float) -> Array:
        """Return 0 with probability p, else 1/(1 − p), for each element of x (P|1, …, B): (S, …, B).

        S is 1 if members share a seed, else P. The same bits on all backends: see `layers.dropout`.
        """
        z = self.standard_draws(key, prod(x.shape[1:-1]), distribution="uniform")
        kept, dropped = (x.dtype.type(value) for value in (1 / (1 - p), 0))
        return self.xp.where(z < dropout.threshold(p), dropped, kept).reshape(-1, *x.shape[1:])

    def multiply(self, dy: Array, m: Array) -> Array:
        """Return dy·m, (P, …, B), for multipliers m (P|1, …, B)."""
        return dy * m

    # ---- optimiser --------------------------------------------------------------------------------------

    def adam_update(
        self,
        parameter: Array,
        gradient: Array,
        first: Array,
        second: Array,
        constants: Sequence[float] | Array,
    ) -> None:
        """Update one parameter and its two moments in place; see `optim.adam_update` for the formula."""
        step_size, beta1, beta2, second_correction, epsilon = constants
        first *= beta1
        first += (1 - beta1) * gradient
        second *= beta2
        second += (1 - beta2) * gradient * gradient
        denominator = self.xp.sqrt(second)
        denominator *= second_correction
        denominator += epsilon
        parameter -= step_size * first / denominator

    def adam_updates(
        self,
        parameters: list[Array],
        gradients: list[Array],
        first: list[Array],
        second: list[Array],
        constants: Sequence[float] | Array,
    ) -> None:
        """Apply `adam_update` to all parameters of a network."""
        for arrays in zip(parameters, gradients, first, second, strict=True):
            self.adam_update(*arrays, constants)

    def clip(self, w: Array, limit: float) -> None:
        """Clamp w to [−limit, limit] in place."""
        self.xp.clip(w, -limit, limit, out=w)


__all__ = ["SAMPLE_TILE", "Array", "Backend", "DrawKey", "Draws", "Room", "TrainingStep"]
