"""Check moments of random draws against closed forms, as z-scores. Derived in docs/testing.md.

Each check computes z = (sample value − expected value) / (its standard deviation) from n draws, prints n,
the seed and z, and raises AssertionError unless |z| < 6. Chance alone exceeds that limit in two of 10⁹
checks, so a failure is a finding; with a fixed seed it is reproducible. The limit cannot be changed: to see
smaller errors, draw more.
"""

import itertools
import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wn.basics.errors import WnError
from wn.testing.errors import CheckFailure, short_traceback
from wn.testing.tolerances import Z_LIMIT

SMALLEST_SAMPLE = 1000  # below that, sample moments are not near enough to normal for z-scores

TAILS = 12.0  # samples per κ⁴: 972 for the normal distribution, 79,000 for the exponential, 2e9 for lognormal

Sample = NDArray[np.float64]


class MomentCheck(NamedTuple):
    """A passed check: the quantity, the number of draws, and the deviation."""

    name: str
    n: int
    seed: int
    sample: float
    expected: float
    z: float


@short_traceback
def check_mean(
    samples: Any, expected: float, variance: float, *, seed: int, name: str = "mean"
) -> MomentCheck:
    """Check the mean of independent draws.

    z = (mean(x) − expected) / √(variance/n).

    samples: any shape, n elements; variance > 0: the true one of a draw; seed: what the samples were drawn
    with. Raises AssertionError unless |z| < 6, WnError for fewer than 1000 samples or a variance out of
    range.
    """
    x = _sample(samples, name)
    spread = math.sqrt(_positive(variance, "variance") / x.size)
    return _judge(name, x.size, seed, float(x.mean()), expected, spread)


@short_traceback
def check_variance(
    samples: Any,
    expected: float,
    *,
    seed: int,
    mean: float | None = None,
    kurtosis: float = 3.0,
    name: str = "variance",
) -> MomentCheck:
    """Check the variance of independent draws.

    z = (v − expected) / spread; v = Σ(x − x̄)²/(n − 1), spread² = expected²·(κ − (n − 3)/(n − 1))/n, or with a
    known `mean` μ: v = Σ(x − μ)²/n, spread² = expected²·(κ − 1)/n.

    samples: any shape; expected > 0; kurtosis κ > 1: fourth central moment over squared variance, 3 for the
    normal distribution, 1.8 for the uniform, 9 for the exponential. Where tails are heavy, single draws
    decide and z is far from normal: n ≥ 12 κ⁴ is required. Raises as `check_mean`.
    """
    x = _sample(samples, name)
    n, expected = x.size, _positive(expected, "expected variance")
    if not 1 < kurtosis < math.inf:
        raise WnError(
            f"kurtosis is {kurtosis!r}: it must be finite and above 1 (3 for the normal distribution)"
        )
    _require_tails(n, kurtosis, name)
    if mean is None:
        v = float(np.sum((x - x.mean()) ** 2) / (n - 1))
        factor = (kurtosis - (n - 3) / (n - 1)) / n
    else:
        v = float(np.mean((x - mean) ** 2))
        factor = (kurtosis - 1) / n
    return _judge(name, n, seed, v, expected, expected * math.sqrt(factor))


@short_traceback
def check_covariance(
    first: Any,
    second: Any,
    expected: float,
    variances: tuple[float, float],
    *,
    seed: int,
    product_variance: float | None = None,
    name: str = "covariance",
) -> MomentCheck:
    """Check the covariance of pairs of draws.

    z = (c − expected) / √(product_variance/n), c = Σ(x − x̄)(y − ȳ)/(n − 1); product_variance is that of
    (x − E x)(y − E y), by default that of jointly normal pairs: var(x)·var(y) + expected². As for the
    variance, n ≥ 12 κ⁴ is required, with κ = 1 + product_variance / (var(x)·var(y)).

    first, second: samples of the same shape, paired element by element; variances: the true ones, > 0.
    Raises as `check_mean`, and WnError where |expected| is more than the variances allow.
    """
    x, y = _pair(first, second, name)
    bound = _positive(variances[0], "first variance") * _positive(variances[1], "second variance")
    if not expected**2 <= bound * (1 + 1e-12):
        raise WnError(f"a covariance of {expected!r} is impossible with variances {variances}")
    spread2 = (
        bound + expected**2 if product_variance is None else _positive(product_variance, "product_variance")
    )
    _require_tails(x.size, 1 + spread2 / bound, name)
    c = float(np.sum((x - x.mean()) * (y - y.mean())) / (x.size - 1))
    return _judge(name, x.size, seed, c, expected, math.sqrt(spread2 / x.size))


@short_traceback
def check_independence(
    first: Any, second: Any, *, seed: int, name: str = "independence"
) -> tuple[MomentCheck, ...]:
    """Check that paired draws do not depend on each other, in place or in size.

    With r the ranks of a sample (scaled to −½…½) and s = |r| its distance from the median, four
    correlations are tested: r with r, r with s, s with r and s with s; z = correlation · √(n − 1). Ranks
    make this exact for any distribution. `second = −first`, `second = first·random sign` and shared
    variances are all seen.

    first, second: samples of the same shape, paired element by element. Raises as `check_mean`.
    """
    x, y = _pair(first, second, name)
    forms = ("place", "distance")
    results = []
    for (i, a), (j, b) in itertools.product(enumerate(_rank_forms(x)), enumerate(_rank_forms(y))):
        size = math.sqrt(float(np.mean(a * a)) * float(np.mean(b * b)))
        if size == 0:
            raise CheckFailure(f"{name}: the {forms[i]} or {forms[j]} of the draws is constant (seed {seed})")
        correlation = float(np.mean(a * b)) / size
        label = f"{name} of {forms[i]} and {forms[j]}"
        results.append(_judge(label, x.size, seed, correlation, 0.0, 1 / math.sqrt(x.size - 1)))
    return tuple(results)


def _rank_forms(x: Sample) -> tuple[Sample, Sample]:
    """Return centred ranks of x, ties sharing their mean rank, and centred distances from the median."""
    _, inverse, counts = np.unique(x, return_inverse=True, return_counts=True)
    middle_rank = np.cumsum(counts) - (counts + 1) / 2
    place = (middle_rank[inverse.reshape(-1)] + 0.5) / x.size - 0.5
    distance = np.abs(place)
    return place, distance - distance.mean()


def _judge(name: str, n: int, seed: int, sample: float, expected: float, spread: float) -> MomentCheck:
    """Print n, seed and z; raise AssertionError unless |z| < 6."""
    z = (sample - expected) / spread
    line = f"{name}: n = {n}, seed = {seed}, sample {sample:.8g}, expected {expected:.8g}, z = {z:+.2f}"
    print(line)
    if not abs(z) < Z_LIMIT:  # NaN fails too
        raise CheckFailure(f"{line}: |z| must be below {Z_LIMIT:g}")
    return MomentCheck(name, n, seed, sample, expected, z)


def _sample(samples: Any, name: str) -> Sample:
    array = np.asarray(samples)
    if array.dtype.kind not in "biuf":
        raise WnError(f"{name}: the samples are {array.dtype}: moments are of real numbers")
    x = array.astype(np.float64).reshape(-1)
    if x.size < SMALLEST_SAMPLE:
        raise WnError(f"{name}: {x.size} samples are too few, at least {SMALLEST_SAMPLE} are needed")
    if not np.all(np.isfinite(x)):
        raise CheckFailure(f"{name}: {int(np.sum(~np.isfinite(x)))} of {x.size} samples are NaN or infinite")
    return x


def _pair(first: Any, second: Any, name: str) -> tuple[Sample, Sample]:
    if np.shape(first) != np.shape(second):
        raise WnError(f"{name}: paired samples have shapes {np.shape(first)} and {np.shape(second)}")
    return _sample(first, name), _sample(second, name)


def _require_tails(n: int, kurtosis: float, name: str) -> None:
    """Refuse samples in which one draw in the tails decides: the false alarms would be many."""
    needed = TAILS * kurtosis**4
    if n < needed:
        raise WnError(
            f"{name}: {n} samples are too few for a kurtosis of {kurtosis:g}, at least {needed:.3g} are "
            "needed; draw more, or check draws with lighter tails, as the logarithm of these"
        )


def _positive(value: float, name: str) -> float:
    if not 0 < value < math.inf:
        raise WnError(f"{name} is {value!r}: it must be positive and finite")
    return float(value)
