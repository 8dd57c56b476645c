"""The front door: `walk` and `train` with the names, forms and defaults of the flags of the commands."""

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

from numpy.typing import NDArray

from wn.walking import api
from wn.walking.api import Progress, Trained
from wn.walking.results import WalkResult

Sigma = str | float | Sequence[float] | NDArray[Any]
Where = str | int | Sequence[int | str] | Mapping[Any, float]


def walk(
    *,
    dataset: str = "fashion-mini",
    data_dir: str | PathLike[str] | None = None,
    model: str = "mlp",
    batch_norm: str = "none",
    noise: str = "additive",
    where: Where = "each",
    phase: str = "both",
    sigma: Sigma | None = None,
    mean: float | None = None,
    mean_mul: float | None = None,
    mean_add: float | None = None,
    ratio: float | None = None,
    order: str | None = None,
    normalize_to_input_size: bool = False,
    repetitions: int = 1,
    execution: str = "single",
    epochs: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    clamp: bool = False,
    repeats: int = 1,
    train_limit: int | None = None,
    test_limit: int | None = None,
    seed: int = 0,
    backend: str = "auto",
    dtype: str = "float32",
    threads: int | None = None,
    evaluation_batch: int | None = None,
    progress: Progress | None = None,
    **recorded: Any,
) -> WalkResult:
    """Walk noise through the sites of a network and fit each site's midpoint.

    The keywords are the flags of `wn walk`, with the same names, forms and defaults; `wn walk --help` says
    what each means. For example `wn.walk(dataset="mnist", phase="inference", sigma="1:9:5", where="0,fc1")`.

    `sigma`: a grid as text ("0.1:100:16", "lin:0:2:21", "0.1,1,10"), a number, or a sequence of numbers ≥ 0;
    None is the default grid of the noise. `where`: "each", "global", sites by number or name ("0,fc1", 3 or
    [0, "fc1"]), or a map of factors on σ ("0:0.5,fc1:2" or {0: 0.5, "fc1": 2}). `epochs`, `batch_size`, `lr`:
    None takes the data set's recipe. `progress` is called with (finished, all) member-epochs. `recorded`: the
    names of `WalkSettings` under which run.json has some of these (learning_rate, clamp_weights, factors), so
    that `wn.walk(**record["asked"])` repeats a run.

    Returns the curves and midpoints as plain arrays. Raises WnError, which names the keyword, for anything
    unknown or out of range, before anything is trained.
    """
    return api.walk(progress=progress, **_given(walk.__kwdefaults__, locals()))


def train(
    *,
    dataset: str = "fashion-mini",
    data_dir: str | PathLike[str] | None = None,
    model: str = "mlp",
    batch_norm: str = "none",
    noise: str = "none",
    where: Where = "global",
    sigma: float | None = None,
    mean: float | None = None,
    mean_mul: float | None = None,
    mean_add: float | None = None,
    ratio: float | None = None,
    order: str | None = None,
    normalize_to_input_size: bool = False,
    repetitions: int = 1,
    execution: str = "single",
    epochs: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    clamp: bool = False,
    train_limit: int | None = None,
    test_limit: int | None = None,
    seed: int = 0,
    backend: str = "auto",
    dtype: str = "float32",
    threads: int | None = None,
    progress: Progress | None = None,
    **recorded: Any,
) -> Trained:
    """Train one network, clean or under noise of one σ, and evaluate it.

    The keywords are the flags of `wn train`, with the same names, forms and defaults; `wn train --help` says
    what each means, and `walk` which forms `where` has. For example
    `wn.train(noise="additive", sigma=0.3, where="fc1")`. `progress` is called with (finished, all) epochs.
    `recorded`: names of `SingleSettings` as records have them (learning_rate, clamp_weights, factors).

    Returns the network with its counts of correct test images. Raises WnError, which names the keyword, for
    anything unknown or out of range, before anything is trained.
    """
    return api.train(progress=progress, **_given(train.__kwdefaults__, locals()))


def _given(defaults: dict[str, Any] | None, arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the settings among the arguments of a call that are not as by default."""
    recorded: dict[str, Any] = arguments["recorded"]
    settings = {name: value for name, value in arguments.items() if name not in ("progress", "recorded")}
    return {n: value for n, value in settings.items() if value is not (defaults or {})[n]} | recorded
