"""Bounded Hypothesis strategies for layers under noise: shapes that fit, arrays, labels, noise.

Sizes are small, because a bug that needs a large array is rare and a small counterexample is readable.
Arrays are drawn through one integer seed each, which is fast and shrinks well, and differ even where seeds
are equal; their values are normal, or kept away from kinks. Needs Hypothesis:
`pip install 'walking-noise[test]'`.
"""

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wn.basics.errors import WnError
from wn.engine.noise_spec import DISTRIBUTIONS

try:
    from hypothesis import strategies as st
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "wn.testing.strategies needs Hypothesis: install it with pip install 'walking-noise[test]'",
        name="hypothesis",
    ) from error

Array = NDArray[Any]
Shape = tuple[int, ...]

MARGIN = 0.05  # least distance from a kink: far beyond the steps of `check_gradient`


class LinearShape(NamedTuple):
    """x (P, I, B), w (P, O, I), b (P, O)."""

    population: int
    inputs: int
    outputs: int
    batch: int

    @property
    def x(self) -> Shape:
        """(P, I, B)."""
        return self.population, self.inputs, self.batch

    @property
    def w(self) -> Shape:
        """(P, O, I)."""
        return self.population, self.outputs, self.inputs

    @property
    def b(self) -> Shape:
        """(P, O)."""
        return self.population, self.outputs


class ConvolutionShape(NamedTuple):
    """x (P, C, H, W, B), w (P, O, C, KH, KW), b (P, O); stride and padding by axis, the kernel fits."""

    population: int
    channels: int
    height: int
    width: int
    batch: int
    outputs: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]

    @property
    def x(self) -> Shape:
        """(P, C, H, W, B)."""
        return self.population, self.channels, self.height, self.width, self.batch

    @property
    def w(self) -> Shape:
        """(P, O, C, KH, KW)."""
        return self.population, self.outputs, self.channels, *self.kernel

    @property
    def b(self) -> Shape:
        """(P, O)."""
        return self.population, self.outputs

    @property
    def y(self) -> Shape:
        """(P, O, U, V, B)."""
        sizes = zip((self.height, self.width), self.kernel, self.stride, self.padding, strict=True)
        rows, columns = ((size + 2 * pad - kernel) // step + 1 for size, kernel, step, pad in sizes)
        return self.population, self.outputs, rows, columns, self.batch


class PoolingShape(NamedTuple):
    """x (P, C, H, W, B) and a window that fits; rows and columns may be left over."""

    x: Shape
    window: tuple[int, int]


# ---- sizes and shapes -----------------------------------------------------------------------------------


def seeds() -> st.SearchStrategy[int]:
    """Seeds of a NumPy generator: 0 … 2³² − 1."""
    return st.integers(0, 2**32 - 1)


def populations(largest: int = 3, smallest: int = 1) -> st.SearchStrategy[int]:
    """Numbers of members P."""
    return st.integers(smallest, largest)


def dense_shapes(
    *, smallest_population: int = 1, features: int = 6, smallest_batch: int = 1, batch: int = 6
) -> st.SearchStrategy[Shape]:
    """Shapes (P, F, B) of activations of linear layers; `features` and `batch` are the largest sizes."""
    return st.tuples(
        populations(smallest=smallest_population),
        st.integers(1, features),
        st.integers(smallest_batch, batch),
    )


def image_shapes(
    *, smallest_population: int = 1, channels: int = 3, size: int = 6, smallest_batch: int = 1, batch: int = 3
) -> st.SearchStrategy[Shape]:
    """Shapes (P, C, H, W, B) of activations of convolutions; H and W differ as a rule."""
    return st.tuples(
        populations(smallest=smallest_population),
        st.integers(1, channels),
        st.integers(1, size),
        st.integers(1, size),
        st.integers(smallest_batch, batch),
    )


def linear_shapes(*, smallest_population: int = 1, size: int = 6) -> st.SearchStrategy[LinearShape]:
    """Sizes of a linear layer; `size` is the largest number of inputs, outputs and samples."""
    return st.builds(
        LinearShape,
        populations(smallest=smallest_population),
        st.integers(1, size),
        st.integers(1, size),
        st.integers(1, size),
    )


@st.composite
def convolution_shapes(
    draw: st.DrawFn, *, smallest_population: int = 1, size: int = 6, padding: int = 2
) -> ConvolutionShape:
    """Sizes of a convolution: rectangular images, kernels, strides and paddings; the kernel always fits."""
    population, channels, height, width, batch = draw(
        image_shapes(smallest_population=smallest_population, channels=2, size=size)
    )
    paddings = draw(st.integers(0, padding)), draw(st.integers(0, padding))
    kernel = (
        draw(st.integers(1, min(4, height + 2 * paddings[0]))),
        draw(st.integers(1, min(4, width + 2 * paddings[1]))),
    )
    stride = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    outputs = draw(st.integers(1, 3))
    return ConvolutionShape(population, channels, height, width, batch, outputs, kernel, stride, paddings)


@st.composite
def pooling_shapes(draw: st.DrawFn, *, smallest_population: int = 1, size: int = 6) -> PoolingShape:
    """An image shape and a rectangular window that fits into it."""
    shape = draw(image_shapes(smallest_population=smallest_population, size=size))
    return PoolingShape(shape, (draw(st.integers(1, shape[2])), draw(st.integers(1, shape[3]))))


# ---- values ---------------------------------------------------------------------------------------------


def arrays(shape: Shape, *, dtype: Any = np.float64, scale: float = 1.0) -> st.SearchStrategy[Array]:
    """Standard normal values times `scale`."""
    return _built(lambda rng: (scale * rng.standard_normal(shape)).astype(dtype))


def away_from_zero(
    shape: Shape, *, dtype: Any = np.float64, margin: float = MARGIN
) -> st.SearchStrategy[Array]:
    """Values of either sign with |value| ≥ margin: away from the kink of ReLU."""
    _check_margin(margin)

    def build(rng: np.random.Generator) -> Array:
        z = rng.standard_normal(shape)
        return (z + np.copysign(margin, z)).astype(dtype)

    return _built(build)


def distinct(shape: Shape, *, dtype: Any = np.float64, margin: float = MARGIN) -> st.SearchStrategy[Array]:
    """Values in random order, any two at least `margin` apart: away from the ties of max pooling."""
    _check_margin(margin)

    def build(rng: np.random.Generator) -> Array:
        size = int(np.prod(shape))
        steps = 2 * margin * (rng.permutation(size) - (size - 1) / 2)
        return (steps + margin * rng.uniform(-0.5, 0.5, size)).reshape(shape).astype(dtype)

    return _built(build)


def tied(shape: Shape, *, values: int = 2, dtype: Any = np.float64) -> st.SearchStrategy[Array]:
    """Small integers, so that many are equal: for tests of ties and kinks themselves."""
    return _built(lambda rng: rng.integers(0, values, shape).astype(dtype))


def labels(batch: int, classes: int) -> st.SearchStrategy[NDArray[np.int64]]:
    """Class numbers (B,) in 0 … classes − 1."""
    return _built(lambda rng: rng.integers(0, classes, batch))


@st.composite
def _built(draw: st.DrawFn, build: Callable[[np.random.Generator], Array]) -> Array:
    """An array from a seed and its number among the arrays of the example.

    The number keeps arrays apart that have the same seed: all seeds shrink to 0, and w, b and x of the same
    numbers would hide what a mistake needs. A composite, because Hypothesis then shows the values.
    """
    numbers = draw(st.shared(st.builds(itertools.count), key="numbers of the arrays of wn.testing"))
    return build(np.random.default_rng([draw(seeds()), next(numbers)]))


# ---- noise ----------------------------------------------------------------------------------------------


def sigmas(*, extreme: bool = False) -> st.SearchStrategy[float]:
    """Standard deviations: 0 and 1e-3 … 10 log-uniformly; `extreme`: up to the 1e10 of the study."""
    exponents = st.integers(-24, 80 if extreme else 8)
    return st.just(0.0) | exponents.map(lambda eighth: float(10 ** (eighth / 8)))


def noise_specifications(*, extreme: bool = False, repetitions: int = 3) -> st.SearchStrategy[dict[str, Any]]:
    """Plain dicts of every noise kind, fit for `wn.engine.noise.of_kind(**specification)`.

    kind and sigma; mean for additive and multiplicative; ratio (mixed), mean_mul, mean_add and order for
    both kinds of mixed; in_training, in_inference, normalize_to_input_size, repetitions and distribution for
    all but "none".
    """
    means = st.sampled_from([-1.0, 0.0, 0.5, 1.0])
    common = {
        "sigma": sigmas(extreme=extreme),
        "in_training": st.booleans(),
        "in_inference": st.booleans(),
        "normalize_to_input_size": st.booleans(),
        "repetitions": st.integers(1, repetitions),
        "distribution": st.sampled_from(DISTRIBUTIONS),
    }
    both = {
        **common,
        "mean_mul": means,
        "mean_add": means,
        "order": st.sampled_from(["mul_add", "add_mul"]),
    }
    return st.one_of(
        st.just({"kind": "none", "sigma": 0.0}),
        st.fixed_dictionaries({"kind": st.just("additive"), **common, "mean": means}),
        st.fixed_dictionaries({"kind": st.just("multiplicative"), **common, "mean": means}),
        st.fixed_dictionaries(
            {"kind": st.just("mixed"), **both, "ratio": st.sampled_from([0.0, 0.1, 0.5, 1.0])}
        ),
        st.fixed_dictionaries({"kind": st.just("mixed-direct"), **both}),
    )


def _check_margin(margin: float) -> None:
    if not margin > 0:
        raise WnError(f"margin is {margin!r}: it must be positive")
