"""Settings of walks and trainings by name: checked, and turned into objects."""

import re
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from functools import partial
from math import prod
from os import PathLike
from typing import Any, TypeVar

import msgspec
import numpy as np
from msgspec import UNSET
from numpy.typing import NDArray

from wn.basics.errors import WnError
from wn.basics.options import settings_of
from wn.data.dataset import Dataset
from wn.data.recipes import Recipe
from wn.data.sets import speech
from wn.data.sets.entries import entry_of
from wn.engine import backends, models
from wn.engine import noise as noises
from wn.engine.network import Network
from wn.engine.noise import FloatOrMembers, Noise
from wn.engine.noise_spec import OPTIONS, specified
from wn.engine.training import TrainSettings
from wn.random import checked_integer
from wn.walking.asked import (
    FLAGS,
    MEANT,
    PREDICT_IMAGES,
    EvaluationSettings,
    NetworkSettings,
    NoiseSettings,
    SingleSettings,
    WalkSettings,
)
from wn.walking.grids import sigma_grid
from wn.walking.inputs import whole_data, with_data
from wn.walking.places import (
    ALLOWED,
    INFERENCE,
    PHASES,
    Place,
    numbered,
    numbered_factors,
    places,
    read_repetitions,
    read_where,
    with_repetitions,
)
from wn.walking.saved.network import network_of, settled

# From 0.1, where little happens yet, to 10,000, past the midpoints of training under additive noise.
DEFAULT_SIGMA = "0.1:10000:16"
DEFAULT_SIGMA_MULTIPLICATIVE = "lin:0:6:16"

MOST_POINTS = 1_000_000  # of a walk; a study has room for more


Chosen = TypeVar("Chosen", bound=NoiseSettings)


def read_settings(kind: type[Any], settings: Mapping[str, Any]) -> Any:
    """Return the settings as a checked `kind`; None means "not given". Raises WnError with the key's name.

    `lr` and `clamp`, the names of the flags, are other names of learning_rate and clamp_weights.
    """
    given: dict[str, Any] = {}
    keys: dict[str, str] = {}  # under which a setting was given
    for key, value in settings.items():
        name = FLAGS.get(key, key)
        if value is None:
            continue
        if name in given:
            raise WnError(f"{keys[name]} and {key} are one setting: give one of them")
        given[name], keys[name] = _plain(value, key), key
    unknown = sorted(set(given) - set(kind.__struct_fields__))
    if unknown:
        raise WnError(_unknown(unknown[0], kind))
    for setting in settings_of(kind):
        if setting.quiet and setting.field in given and given[setting.field] == setting.default:
            del given[setting.field]
    if "repetitions" in given:
        given["repetitions"] = read_repetitions(given["repetitions"])
    if "where" in given:
        given["where"], factors = read_where(given["where"])
        if factors is not None and "factors" in given:
            raise WnError("where is a map of factors, and factors is another one: give one of them")
        given |= {} if factors is None else {"factors": factors}
    try:
        # str_keys: run.json can't but write the sites of `factors` as text
        return msgspec.convert(given, kind, strict=True, str_keys=True)
    except msgspec.ValidationError as error:
        reason, _, path = str(error).rpartition(" - at ")
        name = re.sub(r"^(`key` in )?`\$\.(.*)`$", r"\2", path)
        raise WnError(f"setting {keys.get(name, name)}: {reason[:1].lower()}{reason[1:]}") from None


def _unknown(name: str, kind: type[Any]) -> str:
    """The message about an unknown setting: a name that is close, and the flags' names of all there are."""
    known = {*kind.__struct_fields__, *FLAGS}
    close = [MEANT[name]] if MEANT.get(name) in known else get_close_matches(name, sorted(known), 1)
    meant = f": did you mean {close[0]}?" if close else ":"
    allowed = ", ".join(setting.name for setting in settings_of(kind))  # without those of records alone
    return f"unknown setting {name!r}{meant} allowed are {allowed}"


def prepare(chosen: NetworkSettings) -> tuple[Dataset, Network, TrainSettings]:
    """Load the data, build the network and complete the training settings from the data set's recipe.

    Class weights are those of the whole data set: limits, which even out the classes, leave them as they are.
    """
    check_network(chosen)
    whole = whole_data(chosen)
    if getattr(chosen, "network", UNSET) is UNSET:
        whole.check_trainable()
    dataset = whole.limited(chosen.train_limit, chosen.test_limit)
    network = network_of(chosen, (dataset.image_shape, len(dataset.classes)))
    train_settings = TrainSettings(
        **completed(chosen, dataset.recipe, network),
        clamp_weights=chosen.clamp_weights,
        class_weights=class_weights(whole),
    )
    return dataset, network, train_settings


def completed(asked: Any, recipe: Recipe, network: Network) -> dict[str, Any]:
    """Epochs, batch size and learning rate as asked for; those that are None come from the recipe."""
    epochs = recipe.epochs_conv if network.convolutional else recipe.epochs_mlp
    found = {"epochs": epochs, "batch_size": recipe.batch_size, "learning_rate": recipe.lr}
    given = {name: getattr(asked, name) for name in found}
    return found | {name: value for name, value in given.items() if value is not None}


def class_weights(dataset: Dataset) -> tuple[float, ...] | None:
    """The weights of the loss for a data set that is loaded whole, None if its recipe has none."""
    return tuple(speech.class_weights(dataset).tolist()) if dataset.recipe.weighted_loss else None


def check_network(chosen: NetworkSettings) -> None:
    """Raise WnError for errors that show before the data are loaded or even downloaded."""
    if chosen.dtype not in ("float32", "float64"):
        raise WnError(f"unknown dtype {chosen.dtype!r}: allowed are float32, float64")
    _check_at_least_one("threads", chosen.threads)
    checked_integer("seed", chosen.seed, 64)
    if getattr(chosen, "network", UNSET) is UNSET and chosen.architecture is UNSET:
        models.check_name(chosen.model, chosen.batch_norm)
    if chosen.data is UNSET:
        entry_of(chosen.dataset)
    backends.check_name(chosen.backend)
    given = {name: getattr(chosen, name, None) for name in ("epochs", "batch_size", "learning_rate")}
    TrainSettings(**{"epochs": 1} | {name: value for name, value in given.items() if value is not None})


def _check_at_least_one(name: str, value: int | None) -> None:
    if value is not None and value < 1:
        raise WnError(f"{name} is {value}: it must be at least 1")


def read_single(settings: Mapping[str, Any]) -> SingleSettings:
    """Return the settings of a single training, checked as far as that goes without data and network."""
    chosen: SingleSettings = with_data(read_settings(SingleSettings, settings), _given(settings))
    check_network(chosen)
    if chosen.where == "each":
        raise WnError("one network has its noise at global, mapped or listed sites; 'each' is for walks")
    single_noise(chosen)
    return _with_numbers(chosen)[0]


def read_walk(settings: Mapping[str, Any]) -> WalkSettings:
    """Return the settings of a walk, checked as far as that goes without data and network."""
    chosen: WalkSettings = with_data(read_settings(WalkSettings, settings), _given(settings))
    if chosen.network is not UNSET:
        given = _given(settings)
        if "phase" in given:  # before its file is read
            _check_inference(chosen)
        chosen = msgspec.structs.replace(settled(chosen, given), phase=INFERENCE)
    elif chosen.network_sha256 is not UNSET:
        raise WnError("network_sha256 goes with network: the file that it is the digest of")
    check_network(chosen)
    phases(chosen)
    for name in ("repeats", "evaluation_batch"):
        _check_at_least_one(name, getattr(chosen, name))
    noise_factory(chosen)(walk_sigma(chosen))
    predicted_images(chosen)
    found, places_of_walk = _with_numbers(chosen)
    points = prod(map(len, (phases(found), places_of_walk, walk_sigma(found)))) * found.repeats
    if points > MOST_POINTS:
        raise WnError(
            f"{points:,} points (phases × places × σ × repeats): at most {MOST_POINTS:,} are a walk"
        )
    return found


def read_evaluation(settings: Mapping[str, Any]) -> EvaluationSettings:
    """Return the settings of an evaluation, checked on the network's file; no data are needed."""
    chosen: EvaluationSettings = with_data(read_settings(EvaluationSettings, settings), _given(settings))
    if chosen.where == "each":
        raise WnError("an evaluation has its noise at global, mapped or listed sites; 'each' is for walks")
    chosen = settled(chosen, _given(settings))
    check_network(chosen)
    for name in ("repeats", "evaluation_batch"):
        _check_at_least_one(name, getattr(chosen, name))
    noise_factory(chosen)(evaluation_sigma(chosen))
    found = _with_numbers(chosen)[0]
    if len(evaluation_sigma(found)) * found.repeats > MOST_POINTS:
        raise WnError(f"σ × repeats: at most {MOST_POINTS:,} are an evaluation")
    return found


def evaluation_sigma(chosen: EvaluationSettings) -> NDArray[np.float64]:
    """Return the σ values of an evaluation (S,); WnError if they are missing, or given without noise."""
    if chosen.noise == "none":
        if chosen.sigma is not None:
            raise WnError("sigma goes with noise, and noise is none")
        return np.zeros(1)
    if chosen.sigma is None:
        raise WnError(f"{chosen.noise} noise needs a sigma, for example 0.5 or 0.1:100:17")
    return sigma_grid(chosen.sigma)


def _given(settings: Mapping[str, Any]) -> set[str]:
    """The names of the settings that are given."""
    return {FLAGS.get(key, key) for key, value in settings.items() if value is not None}


def _with_numbers(chosen: Chosen) -> tuple[Chosen, tuple[Place, ...]]:
    """Return settings with sites by number, and their places, checked on the network; no data are needed."""
    network = network_of(chosen)
    where: str | Sequence[int | str] = chosen.where
    factors: Mapping[Any, float] | None = chosen.factors
    advice = f"; or write {ALLOWED}"
    if not isinstance(where, str):
        where = numbered(network, where, advice)
    if factors is not None:
        factors = numbered_factors(network, factors, advice)
    found = msgspec.structs.replace(chosen, where=where, factors=factors)
    of_walk = places_of(found, network)
    for place in of_walk:
        place.noise(noise_factory(found)(0.0))  # checks what a site has of its own
    return found, of_walk


def places_of(chosen: NoiseSettings, network: Network) -> tuple[Place, ...]:
    """The places of the noise, with the executions of each site; WnError for what the network has not."""
    found, repetitions = places(network, chosen.where, chosen.factors), chosen.repetitions
    return found if isinstance(repetitions, int) else with_repetitions(found, repetitions)


def phases(chosen: WalkSettings) -> tuple[str, ...]:
    """Return the phases of a walk; WnError for an unknown one."""
    if chosen.phase not in (*PHASES, "both"):
        raise WnError(f"unknown phase {chosen.phase!r}: allowed are {', '.join(PHASES)}, both")
    return PHASES if chosen.phase == "both" else (chosen.phase,)


def predicted_images(chosen: WalkSettings) -> int:
    """Test images that the curves of a walk are predicted from, 0 if they are not; WnError if that is 0."""
    if not chosen.predict:
        if chosen.predict_images is not UNSET:
            raise WnError("predict_images goes with predict")
        return 0
    images = PREDICT_IMAGES if chosen.predict_images is UNSET else chosen.predict_images
    _check_at_least_one("predict_images", images)
    return images


def _check_inference(chosen: WalkSettings) -> None:
    """Raise WnError for a phase that trains networks."""
    if phases(chosen) != (INFERENCE,):
        raise WnError(
            f"phase {chosen.phase} trains networks, and {chosen.network} is trained already: leave phase "
            f"out, or make it {INFERENCE}"
        )


def walk_sigma(chosen: WalkSettings) -> NDArray[np.float64]:
    """Return the σ values of a walk (S,), those of the default grid if none is given."""
    default = DEFAULT_SIGMA_MULTIPLICATIVE if chosen.noise == "multiplicative" else DEFAULT_SIGMA
    return sigma_grid(default if chosen.sigma is None else chosen.sigma)


def single_noise(chosen: SingleSettings) -> Noise:
    """Return the operator of a single training; WnError if σ is missing, or given without a noise kind."""
    if chosen.noise == "none" and chosen.sigma is not None:
        raise WnError("sigma goes with noise, and noise is none")
    if chosen.noise != "none" and chosen.sigma is None:
        raise WnError(f"{chosen.noise} noise needs a sigma, for example 0.5")
    return noise_factory(chosen)(chosen.sigma or 0.0)


def noise_factory(chosen: NoiseSettings) -> Callable[[FloatOrMembers], Noise]:
    """Return σ → operator for the noise that the settings describe."""
    options = {name: getattr(chosen, name) for name in OPTIONS}
    if not isinstance(chosen.repetitions, int):
        options["repetitions"] = tuple(chosen.repetitions)  # of which `places_of` gives each site its own
    spec = specified(chosen.noise, options)
    return partial(noises.of_spec, spec)


def _plain(value: Any, name: str) -> Any:
    """Return NumPy values, paths and tuples as plain Python, as a settings file would hold them."""
    if isinstance(value, np.ndarray | np.generic):
        if value.size > MOST_POINTS:
            raise WnError(f"setting {name}: {value.size} values, more than {MOST_POINTS}")
        return value.tolist()
    if isinstance(value, PathLike):
        return str(value)
    if isinstance(value, Mapping):
        return {_plain(key, name): _plain(item, name) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray):
        return [_plain(item, name) for item in value]
    return value
