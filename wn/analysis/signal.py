"""Signal and noise at a site: their ratio, and how much of a gain in midpoint the signal explains (claim C2).

Trained under noise that is added, a network can make its signal larger, which buys signal-to-noise ratio. If
it did nothing else, the midpoint of a site would grow as the square root of the signal's power: that is the
null hypothesis. Derived in docs/signal.md.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wn.basics.errors import WnError

Floats = NDArray[np.float64]

ORDERS = ("mul_add", "add_mul")


def signal_to_noise(
    power: ArrayLike,
    sigma_add: ArrayLike = 0.0,
    sigma_mul: ArrayLike = 0.0,
    mean_mul: float = 1.0,
    order: str = "mul_add",
    repetitions: int = 1,
) -> Floats:
    """The signal-to-noise ratio behind a noisy site, as a ratio of powers; arrays that broadcast.

    power: P = E[x²] ≥ 0 at the site; M has mean m = mean_mul and standard deviation s = sigma_mul, D mean 0
    and standard deviation t = sigma_add, both independent of x. What is noise is the part of y that x does
    not say, so that

        y = x·M + D  (mul_add):  R m² P / (s² P + t²)
        y = (x + D)·M  (add_mul):  R m² P / (s² P + (m² + s²) t²)

    for the average of R executions. Additive noise has P/t², multiplicative noise m²/s² whatever the power.
    inf without noise. Raises WnError for negative numbers, R < 1 and an unknown order.
    """
    p, t, s = (np.asarray(value, np.float64) for value in (power, sigma_add, sigma_mul))
    if order not in ORDERS:
        raise WnError(f"order {order!r}: allowed are {', '.join(ORDERS)}")
    if not all((value >= 0).all() for value in (p, t, s)) or repetitions < 1:
        raise WnError("power, sigma_add and sigma_mul must be ≥ 0, and repetitions ≥ 1")
    m2 = mean_mul * mean_mul
    added = t * t if order == "mul_add" else (m2 + s * s) * t * t
    signal, noise = np.broadcast_arrays(repetitions * m2 * p, s * s * p + added)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(noise > 0, signal / noise, np.inf))


def explained_share(power: float, clean_power: float, midpoint: float, clean_midpoint: float) -> float:
    """The share of a gain in midpoint that the gain in signal explains: ln √(P_t/P_c) / ln(μ_t/μ_i).

    P_c is the power at the site in the clean network and μ_i its midpoint; P_t and μ_t are those of networks
    trained under noise. 1: the midpoint grew as the root of the power; 0: the power stayed; below 0: it fell.
    NaN for a midpoint that did not change, or numbers that are not finite and > 0.
    """
    numbers = np.array([power, clean_power, midpoint, clean_midpoint], np.float64)
    if not (np.isfinite(numbers) & (numbers > 0)).all() or midpoint == clean_midpoint:
        return float("nan")
    logs = np.log(numbers)
    return float(0.5 * (logs[0] - logs[1]) / (logs[2] - logs[3]))


def power_at(sigma: float, levels: ArrayLike, powers: ArrayLike) -> float:
    """The power of the network trained at σ, linear in ln P against ln σ between the levels trained at.

    levels: (N,) > 0 ascending, powers: (N,) > 0. NaN beyond the levels: nothing is made up there. Raises
    WnError for others.
    """
    s, p = np.asarray(levels, np.float64), np.asarray(powers, np.float64)
    if s.ndim != 1 or s.shape != p.shape or not ((s > 0).all() and (p > 0).all() and (np.diff(s) > 0).all()):
        raise WnError(f"levels {s.shape} and powers {p.shape}: as many numbers > 0, levels ascending")
    if not s.size or not s[0] <= sigma <= s[-1]:
        return float("nan")
    return float(np.exp(np.interp(np.log(sigma), np.log(s), np.log(p))))
