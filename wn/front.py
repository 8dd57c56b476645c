"""The front door: `walk`, `train`, `evaluate`, `gains` with names, forms and defaults of the commands' flags.

Type checkers and editors read the same keywords in front.pyi, written by `python -m tests.checks.front_stub`.
"""

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

from msgspec import UNSET
from numpy.typing import NDArray

from wn.basics.errors import WnError
from wn.basics.options import with_keywords
from wn.data.dataset import Dataset
from wn.engine.network import Network
from wn.engine.networks.weighted import Weighted
from wn.walking import api
from wn.walking.api import Trained
from wn.walking.asked import (
    EvaluationSettings,
    GainsSettings,
    PredictionSettings,
    SingleSettings,
    WalkSettings,
    in_order,
)
from wn.walking.evaluation import evaluate as evaluation
from wn.walking.evaluation import predicting
from wn.walking.evaluation.evaluate import Evaluated
from wn.walking.evaluation.predicting import PredictedWalk
from wn.walking.gains import gained
from wn.walking.gains.gained import Gained
from wn.walking.gains.settings import read_gains
from wn.walking.inputs import holding
from wn.walking.results import WalkResult
from wn.walking.settings import read_evaluation, read_single, read_walk
from wn.walking.shown.progress import AUTO, EPOCHS, NETWORKS, ProgressCallback, reporting

# Keywords that take more than the settings themselves
_FORMS: dict[str, Any] = {
    "data_dir": str | PathLike[str] | None,
    "data": Dataset | str | PathLike[str] | None,
    "where": str | int | Sequence[int | str] | Mapping[Any, float],
    "repetitions": str | int | Sequence[int],
    "evaluation_batch": int | None,
    "network": Network | Weighted | Trained | str | PathLike[str] | None,
    "walk": str | PathLike[str] | None,
}
_SIGMA = str | float | Sequence[float] | NDArray[Any] | None


@with_keywords(in_order(WalkSettings), _FORMS | {"sigma": _SIGMA})
def walk(*, progress: ProgressCallback | str | None = AUTO, **recorded: Any) -> WalkResult:
    """Walk noise through the sites of a network and fit each site's midpoint.

    The keywords are the flags of `wn walk`, with the same names, forms and defaults; `wn walk --help` says
    what each means. For example `wn.walk(dataset="mnist", phase="inference", sigma="1:9:5", where="0,fc1")`.

    `sigma`: a grid as text ("0.1:100:16", "lin:0:2:21", "0.1,1,10"), a number, or a sequence of numbers ≥
    0; None is the default grid of the noise. `where`: "each", "global", sites by number or name ("0,fc1", 3
    or [0, "fc1"]), or a map of factors on σ ("0:0.5,fc1:2" or {0: 0.5, "fc1": 2}). `data`: `wn.dataset(…)`
    of your own arrays, or a .npz file, in place of `dataset`, a name. `epochs`, `batch_size`, `lr`: None
    takes the data set's recipe. `repetitions`: a number, or one for each site with noise. `network`: a
    file, to walk through what is on disk at inference. `progress`: "auto" shows a bar in notebooks and
    terminals, None shows none, a function is called with (finished, all) member-epochs. `recorded`: the
    names of `WalkSettings` under which run.json has some of these (learning_rate, clamp_weights, factors),
    so that `wn.walk(**record["asked"])` repeats a run.

    Returns the curves and midpoints as plain arrays. Raises WnError, which names the keyword, for anything
    unknown or out of range, before anything is trained.
    """
    with holding(recorded) as settings:
        chosen = read_walk(settings)
        parts = EPOCHS if chosen.network is UNSET else NETWORKS
        with reporting(progress, "walking", parts) as report:
            return api.walk(chosen, report)


@with_keywords(in_order(SingleSettings), _FORMS)
def train(
    *, network: Network | None = None, progress: ProgressCallback | str | None = AUTO, **recorded: Any
) -> Trained:
    """Train one network, clean or under noise of one σ, and evaluate it.

    The keywords are the flags of `wn train`, with the same names, forms and defaults; `wn train --help` says
    what each means, and `walk` which forms `where` has. For example
    `wn.train(noise="additive", sigma=0.3, where="fc1")`. `progress` is called with (finished, all) epochs.
    `recorded`: names of `SingleSettings` as records have them (learning_rate, clamp_weights, factors).

    Returns the network with its counts of correct test images. Raises WnError, which names the keyword, for
    anything unknown or out of range, before anything is trained.
    """
    if network is not None and not isinstance(network, Network):
        raise WnError("network: what is trained is wn.network(…), without weights, or a model by name")
    with holding(recorded | {"network": network}) as settings:
        chosen = read_single(settings)
        with reporting(progress, "training") as report:
            return api.train(chosen, report)


_OF_THE_FILE = {"dataset": str | None, "seed": int | None}


@with_keywords(in_order(EvaluationSettings), _FORMS | {"sigma": _SIGMA} | _OF_THE_FILE)
def evaluate(
    *,
    network: Weighted | Trained | str | PathLike[str],
    progress: ProgressCallback | str | None = AUTO,
    **recorded: Any,
) -> Evaluated:
    """Evaluate a network on disk under noise at one place, at one σ or each of a grid.

    `network` is a file that `wn train`, `wn import` or a study wrote. The keywords are the flags of
    `wn evaluate`, with the same names, forms and defaults; `wn evaluate --help` says what each means, and
    `walk` which forms `sigma` and `where` have. For example
    `wn.evaluate(network="network.safetensors", noise="additive", sigma="0.1:10:5", where="fc1")`. Draws, and
    so counts, are those of `walk(network=…)`. `progress` is called with (finished, all) networks. `recorded`:
    names of `EvaluationSettings` as records have them (factors, network_sha256).

    Returns the accuracies with their intervals. Raises WnError, which names the keyword, for anything unknown
    or out of range, and if it is not known on which data to evaluate.
    """
    with holding(recorded | {"network": network}) as settings:
        chosen = read_evaluation(settings)
        with reporting(progress, "evaluating", NETWORKS) as report:
            return evaluation.evaluate(chosen, report)


@with_keywords(in_order(GainsSettings), _FORMS | {"sigma": _SIGMA, "budget": str | int})
def gains(*, progress: ProgressCallback | str | None = AUTO, **recorded: Any) -> Gained:
    """Find how much of the noise at each site reaches the margin of the logits, without drawing any.

    The keywords are the flags of `wn gains`, with the same names, forms and defaults; `wn gains --help` says
    what each means. For example `wn.gains(network="network.safetensors", budget=64).repetitions`. `walk`: the
    folder of a walk, whose networks and noise they are about. `progress` is called with (finished, all)
    network-epochs. `recorded`: names of `GainsSettings` as records have them (learning_rate, clamp_weights).

    Returns a table with a row for each site, and the map of repetitions. Raises WnError, which names the
    keyword, for anything unknown or out of range, before anything is trained.
    """
    with holding(recorded) as settings:
        asked = read_gains(settings)
        with reporting(progress, "training") as report:
            return gained.gains(asked, report)


@with_keywords(in_order(PredictionSettings), _FORMS | {"sigma": _SIGMA})
def predict(*, progress: ProgressCallback | str | None = AUTO, **recorded: Any) -> PredictedWalk:
    """Predict accuracy under noise at inference, without drawing any.

    The keywords are the flags of `wn predict`, with the same names, forms and defaults; `wn predict --help`
    says what each means, and `walk` which forms `sigma` and `where` have. For example
    `wn.predict(network="network.safetensors", noise="multiplicative").crossings`. `progress` is called with
    (finished, all) network-epochs. `recorded`: names of `PredictionSettings` as records have them
    (learning_rate, clamp_weights, factors, network_sha256).

    Returns the predicted curves and where they fall half-way, as plain arrays; NaN, with the reason, where
    theory can't go. Raises WnError, which names the keyword, for anything unknown or out of range, before
    anything is trained.
    """
    with holding(recorded) as settings:
        asked = predicting.read_prediction(settings)
        with reporting(progress, "training") as report:
            return predicting.predict(asked, report)
