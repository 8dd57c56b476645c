"""σ = 1e10 in training, in float32: nothing overflows, and where a value truly does, the walk says so."""

from typing import Any

import numpy as np
import pytest

import wn
from wn.basics.errors import WnError

TINY: dict[str, Any] = {"phase": "training", "epochs": 1, "train_limit": 200, "test_limit": 60}
KINDS: list[dict[str, Any]] = [
    {"noise": "additive"},
    {"noise": "multiplicative"},
    {"noise": "mixed", "ratio": 0.5},
    {"noise": "mixed-direct"},
]


@pytest.mark.parametrize("batch_norm", ["none", "sites", "hidden"])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: "-".join(map(str, kind.values())))
@pytest.mark.parametrize("model", ["mlp", "lenet5"])
def test_each_site_trains_at_1e10(model: str, kind: dict[str, Any], batch_norm: str) -> None:
    result = wn.walk(model=model, batch_norm=batch_norm, sigma="1e10", **kind, **TINY)
    assert (result.curves["total"] == 60).all()
    assert np.isfinite(result.curves["accuracy"]).all()


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_a_variance_beyond_float32_before_a_batch_norm_gives_beta(backend: str) -> None:
    """(x + D)·M with both σ 5e9 is of size 2.5e19, its variance of 6e38: y = β, as in PyTorch."""
    mixed = {"noise": "mixed", "ratio": 0.5, "order": "add_mul", "where": [1], "sigma": "1e10"}
    for batch_norm, dtype in (("sites", "float32"), ("sites", "float64"), ("none", "float32")):
        result = wn.walk(batch_norm=batch_norm, dtype=dtype, backend=backend, **mixed, **TINY)
        assert np.isfinite(result.curves["accuracy"]).all()


def test_what_is_not_finite_before_a_batch_norm_stops_in_one_line() -> None:
    """Factors of 1e30 on a sum of 1e30 are infinite in float32: no number may come of that."""
    mixed = {"noise": "mixed", "ratio": 0.5, "order": "add_mul", "where": [1], "sigma": "1e30"}
    with pytest.raises(WnError, match=r"fc1, σ 1e\+30: batch norm: an activation is not finite in float32"):
        wn.walk(batch_norm="sites", **mixed, **TINY)


@pytest.mark.parametrize("kind", ["multiplicative", "mixed"])
def test_noise_that_leaves_float32_is_named_and_stops(kind: str) -> None:
    """At eight sites at once factors of 1e10 multiply to 1e80; float32 ends at 3e38."""
    with pytest.raises(WnError, match=r"global.*1e\+10.*float32"):
        wn.walk(noise=kind, where="global", sigma="1e10", **TINY)
    result = wn.walk(noise=kind, where="global", sigma="1e10", dtype="float64", **TINY)
    assert np.isfinite(result.curves["accuracy"]).all()
