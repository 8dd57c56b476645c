"""Scatter between repeats: what the fit of one pooled curve can't see. Derived in docs/midpoint.md."""

from collections.abc import Sequence
from dataclasses import replace
from math import exp, sqrt

import numpy as np
from scipy.stats import t as student

from wn.midpoint import Midpoint


def widened(pooled: Midpoint, single: Sequence[Midpoint], confidence: float = 0.95) -> Midpoint:
    """Return the pooled fit with an interval that also covers the scatter between repeats.

    The pooled fit takes all observations as independent; those of one repeat are not, they share a network.
    With R ≥ 2 repeats, each fitted alone to log midpoints m_r, the interval becomes the union of the pooled
    one and exp(log midpoint ± t_{R−1} · s/√R) with s the standard deviation of the m_r. Nothing changes for
    R = 1, or if the pooled midpoint or that of a repeat is not reached. Derived in docs/midpoint.md.
    """
    logs = np.log([fit.midpoint for fit in single])
    if len(single) < 2 or not pooled.reached or not np.isfinite(logs).all():
        return pooled
    quantile = float(student.ppf((1 + confidence) / 2, len(single) - 1))
    factor = exp(quantile * float(logs.std(ddof=1)) / sqrt(len(single)))
    return replace(
        pooled,
        ci_low=min(pooled.ci_low, pooled.midpoint / factor),
        ci_high=max(pooled.ci_high, pooled.midpoint * factor),
    )
