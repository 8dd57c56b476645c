"""The largest of independent Gaussians by quadrature, window by window, as `wn.theory.maximum` says.

Φ and φ come from tables, by Taylor's formula about the nearest point of a grid: faster than erfc and exp.
"""

import math
from typing import Any

import numpy as np

from wn.engine.backends.numba.kernels.compile import FUSED, serial

Array = Any

NODES, WEIGHTS = np.polynomial.legendre.leggauss(8)  # on [−1, 1]
PANEL = 3.0  # length of a panel at most, in the smallest of the standard deviations that matter there
REACH = 6.0  # standard deviations: 1e-9 lies beyond, on either side
STEPS = 32  # points of the grid for each unit
FARTHEST = 8.0
GRID = np.arange(-FARTHEST * STEPS, FARTHEST * STEPS + 1) / STEPS
DENSITY = np.exp(-(GRID**2) / 2) / math.sqrt(2 * math.pi)
BELOW = np.array([math.erfc(-z / math.sqrt(2)) / 2 for z in GRID])


@serial(FUSED)
def normal(z: float) -> tuple[float, float]:
    """Φ(z) and φ(z) to 1e-8: Φ(z₀ + δ) = Φ + φ·(δ − z₀δ²/2 + (z₀² − 1)δ³/6 − (z₀³ − 3z₀)δ⁴/24) at z₀."""
    if z >= FARTHEST:
        return 1.0, 0.0
    if z <= -FARTHEST:
        return 0.0, 0.0
    index = np.uint64(z * STEPS + FARTHEST * STEPS + 0.5)
    at, density = GRID[index], DENSITY[index]
    d = z - at
    second, third = (at * at - 1) * d * d, (at * at - 3) * at * d * d * d
    below = BELOW[index] + density * d * (1 - at * d / 2 + second / 6 - third / 24)
    return below, density * (1 - at * d + second / 2 - third / 6)


@serial(FUSED)
def independent(m: Array, s: Array, low: float, mean: Array, variance: Array, gates: Array) -> None:
    """Write mean, variance (N,) and gates (W, N) of max(low, x_1, …, x_W); m, s: (W, N)."""
    count, windows = m.shape
    active, centre, scale = np.empty(count, np.int64), np.empty(count), np.empty(count)
    work = np.empty((3, count))
    for n in range(windows):
        floor = start = low
        for j in range(count):
            gates[j, n] = 0.0
            start = max(start, m[j, n] - REACH * s[j, n])
            if s[j, n] == 0.0:
                floor = max(floor, m[j, n])
        few = 0
        for j in range(count):
            if s[j, n] > 0.0 and m[j, n] + REACH * s[j, n] > start:
                active[few], centre[few], scale[few] = j, m[j, n], s[j, n]
                few += 1
        if few == 1 and floor < start:  # nothing else comes near
            mean[n], variance[n], gates[active[0], n] = centre[0], scale[0] ** 2, 1.0
            continue
        mean[n], variance[n] = _integrate(start, centre[:few], scale[:few], work)
        for k in range(few):
            gates[active[k], n] = work[0, k]
        if floor > low:
            _give_rest(m, s, floor, gates, n)


@serial(FUSED)
def _integrate(start: float, m: Array, s: Array, work: Array) -> tuple[float, float]:
    """Mean and variance of the largest of x_k ~ N(m_k, s_k²), s_k > 0, above start; gates go to work[0]."""
    gates, below, density = work[0], work[1], work[2]
    few, end, first, second = len(m), start, 0.0, 0.0
    for k in range(few):
        gates[k] = 0.0
        end = max(end, m[k] + REACH * s[k])
    t = start
    while t < end:
        length = end - t
        for k in range(few):
            if t < m[k] + REACH * s[k]:
                length = min(length, PANEL * s[k])
        for node in range(len(NODES)):
            point, weight = t + length / 2 * (1 + NODES[node]), length / 2 * WEIGHTS[node]
            product = weight
            for k in range(few):
                below[k], density[k] = normal((point - m[k]) / s[k])
                product *= below[k]
            first += weight - product
            second += 2 * (point - start) * (weight - product)
            for k in range(few):
                others = weight * density[k] / s[k]
                for other in range(few):
                    others *= below[other] if other != k else 1.0
                gates[k] += others
        t = end if length == end - t else t + length
    return start + first, max(second - first * first, 0.0)


@serial(FUSED)
def _give_rest(m: Array, s: Array, floor: float, gates: Array, n: int) -> None:
    """Where no variable is above the largest constants, these win: equal ones share what is left of 1."""
    left, equal = 1.0, 0
    for j in range(len(m)):
        left -= gates[j, n]
        equal += s[j, n] == 0.0 and m[j, n] == floor
    for j in range(len(m)):
        if s[j, n] == 0.0 and m[j, n] == floor:
            gates[j, n] = max(left, 0.0) / equal
