"""Mean and covariance through a linear layer, in closed form."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wn.basics.errors import WnError
from wn.theory.moments import Moments

Floats = NDArray[np.float64]


def linear_moments(
    w: ArrayLike, b: ArrayLike, mean: ArrayLike, covariance: ArrayLike
) -> tuple[Floats, Floats]:
    """Mean and covariance matrix of W·x + b for one sample of random x.

    E = W·E[x] + b;  Cov = W·Cov[x]·Wᵀ.
    w: (O, I), b: (O,), mean: (I,), covariance: (I, I), or (I,) for independent elements with these variances;
    returns (O,) and (O, O). Raises WnError if the shapes do not fit. Derived in docs/noise.md.
    """
    weight, bias, centre, spread = (np.asarray(v, np.float64) for v in (w, b, mean, covariance))
    outputs, inputs = weight.shape if weight.ndim == 2 else (-1, -1)
    fits = (
        bias.shape == (outputs,) and centre.shape == (inputs,) and spread.shape in ((inputs,), (inputs,) * 2)
    )
    if not fits:
        shapes = ", ".join(str(v.shape) for v in (weight, bias, centre, spread))
        raise WnError(f"w (O, I), b (O,), mean (I,), covariance (I,) or (I, I) do not fit: {shapes}")
    through = weight * spread if spread.ndim == 1 else weight @ spread
    return weight @ centre + bias, through @ weight.T


def linear_variance(w: ArrayLike, mean: ArrayLike, variance: ArrayLike, b: ArrayLike = 0.0) -> Moments:
    """Mean and variance per output of W·x + b for a population and a batch of x with independent elements.

    E = W·E[x] + b;  Var_o = Σ_i W_oi²·Var[x_i].
    w: (P, O, I), mean and variance: (P, I, B), b: (P, O) or 0; a leading 1 is shared by the population;
    returns (P, O, B). Raises WnError if the shapes do not fit. Derived in docs/noise.md.
    """
    weight, centre, spread, bias = (np.asarray(v, np.float64) for v in (w, mean, variance, b))
    column = bias[..., None] if bias.ndim else bias
    try:
        return Moments(weight @ centre + column, weight**2 @ spread)
    except ValueError:
        shapes = ", ".join(str(v.shape) for v in (weight, centre, spread, bias))
        raise WnError(f"w (P, O, I), mean and variance (P, I, B), b (P, O) do not fit: {shapes}") from None
