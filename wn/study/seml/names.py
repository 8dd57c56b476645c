"""The parameters of the authors' experiment files, and their counterparts in a study."""

from collections.abc import Collection, Iterator
from functools import cache
from itertools import product
from typing import Any, NamedTuple

from wn.basics.errors import WnError
from wn.basics.numbers import in_doubt, is_number
from wn.data.sets.entries import entry_of
from wn.engine import models
from wn.study.declare.schema import NoiseKeys, RecipeKeys
from wn.study.seml.axes import Axis
from wn.study.seml.labels import label_of
from wn.study.seml.meaning import OFF, SEEDS, SWITCHES, changes
from wn.study.unit import MATRIX
from wn.walking.places import INFERENCE, TRAINING
from wn.walking.settings import completed

DATASETS = {
    "MNIST": "mnist",
    "FashionMNIST": "fashion-mnist",
    "CIFAR10": "cifar10",
    "SVHN": "svhn",
    "GSC2_TF": "speech-commands",
}
KINDS = {
    "NoNoise": "none",
    "GaussAdd": "additive",
    "GaussMul": "multiplicative",
    "GaussCombined": "mixed",
    "GaussCombined_direct": "mixed-direct",
}
GAUSS_STD = ("additive", "multiplicative")  # whose σ is GaussStd
GLOBAL = "noise_settings.default."  # noise at every site
DEFAULT_NETWORK = {"MLP": "RL_TFC", "LeNet": "LeNet5", "CNN_HE": "CNN-S-BN", "VGG": "VGG11"}
_BN, _NO, _HIDDEN = "sites", "none", "hidden"
NETWORKS = {  # conf_name → model and batch norm
    "RL_TFC": ("mlp-64", _BN),
    "RL_TFC-noBN": ("mlp-64", _NO),
    "RL_TFC-BN-noNoise": ("mlp-64", _HIDDEN),
    **{f"RL_TFC_{width}": (f"mlp-{width}", _BN) for width in (8, 16, 32)},
    **{f"RL_TFC-noBN_{width}": (f"mlp-{width}", _NO) for width in (8, 16, 32)},
    "RL_SFC": ("mlp-256", _BN),
    "RL_SFC-noBN": ("mlp-256", _NO),
    "RL_SFC-BN-noNoise": ("mlp-256", _HIDDEN),
    "RL_LFC": ("mlp-1024", _BN),
    "RL_LFC-noBN": ("mlp-1024", _NO),
    "RL_LFC-BN-noNoise": ("mlp-1024", _HIDDEN),
    "LeNet5": ("lenet5", _NO),
    "LeNet5-BN": ("lenet5", _BN),
    "LeNet5-BN-noNoise": ("lenet5", _HIDDEN),
    "CNN-S": ("cnn-s", _NO),
    "CNN-S-BN": ("cnn-s", _BN),
    "CNN-S-BN-noNoise": ("cnn-s", _HIDDEN),
    "CNN-M-BN": ("cnn-m", _BN),
    "CNN-L-BN": ("cnn-l", _BN),
    "VGG11": ("vgg11", _BN),
    "VGG11-noBN": ("vgg11", _NO),
    "VGG11-BN-noNoise": ("vgg11", _HIDDEN),
    "VGG11_mnist": ("vgg11-28", _BN),
    "VGG11_mnist-noBN": ("vgg11-28", _NO),
    "VGG11_mnist-BN-noNoise": ("vgg11-28", _HIDDEN),
}

ALWAYS = {  # what holds for every study
    "optimizer.optimizer_type": "Adam",
    "optimizer.lr_scheduler": "CosineAnnealingLR",
    "model.criterion": "CrossEntropyLoss",
}
DEFAULT_BATCH_SIZE = 128
NEEDED = ("general.num_epochs", "optimizer.lr")

Parameters = dict[str, Axis]


class LeftOut(Exception):
    """The reason why a study can't express these parameters."""


class _UnsupportedAxis(Exception):
    """Names a parameter that has several values, but one place in an entry of a study."""


class Case(NamedTuple):
    """One noise entry, with the data set, the networks, the recipe and the numbers of repeats that it is for.

    `usual` is the recipe of the data set for the network; `repeats` are as in the file, each once.
    """

    dataset: str
    model: str
    batch_norm: list[str]
    recipe: RecipeKeys
    usual: RecipeKeys
    repeats: tuple[Any, ...]
    noise: NoiseKeys
    used: frozenset[str]  # names of parameters
    unused: dict[str, int]  # names of the others, with the number of their values
    said: tuple[str, ...]  # notes: what is taken where the file says nothing, or what may be meant otherwise


def cases(
    parameters: Parameters, block: str = "", ignored: Collection[str] = ()
) -> Iterator[tuple[Parameters, Case | LeftOut]]:
    """Yield the noise entries that parameters come to, each with its part of them, or the reason for none.

    Values that are an axis of noise entries stay together; all others get an entry for each value. `block` is
    the sub-configuration; `ignored` are names of parameters that change nothing.
    """
    try:
        yield parameters, _case(_ParameterReader(parameters), block, ignored)
    except LeftOut as reason:
        yield parameters, reason
    except _UnsupportedAxis as error:
        name = str(error)
        for value in parameters[name].values:
            yield from cases(parameters | {name: Axis((value,))}, block, ignored)


class _ParameterReader:
    """Parameters by name; those never asked for have no place in a study."""

    def __init__(self, parameters: Parameters) -> None:
        self.parameters = parameters
        self.used: set[str] = set()
        self.said: list[str] = []

    def axis(self, name: str) -> Axis | None:
        self.used.add(name)
        return self.parameters.get(name)

    def one(self, name: str, default: Any = None) -> Any:
        """Return the value of a parameter; with several there is an entry for each."""
        axis = self.axis(name)
        if axis is None:
            return default
        if len(axis.values) > 1:
            raise _UnsupportedAxis(name)
        return axis.values[0]

    def truths(self, name: str, default: bool) -> list[bool]:
        """Return the distinct values of a parameter that is true or false, also written as 1 and 0."""
        values = (self.axis(name) or Axis((default,))).values
        for value in values:
            if value not in (True, False):
                raise LeftOut(f"{name} is {value!r}, neither True (1) nor False (0)")
        return _distinct(map(bool, values))

    def truth(self, name: str, default: bool) -> bool:
        """Whether a parameter is true; with several values there is an entry for each."""
        values = self.truths(name, default)
        if len(values) > 1:
            raise _UnsupportedAxis(name)
        return values[0]

    def grid(self, name: str) -> Any:
        """Return a parameter that is a σ grid: numbers, or the text of a grid; 1 if it is not given."""
        values = (self.axis(name) or Axis((1.0,))).values
        if name not in self.parameters:
            self.said.append(f"{name} is not given: 1, as in the published code")
        if len(values) > 1 and all(type(value) is int for value in values) and in_doubt(values):
            listed = ", ".join(map(str, values))
            self.said.append(f"{name}: {listed} are {len(values)} whole numbers; decimals have a point")
        for value in values:
            if not is_number(value):
                hint = ""
                if isinstance(value, list):  # seml reads 0,5 as a list
                    hint = f": write a decimal comma as a point, {'.'.join(map(str, value))}"
                raise LeftOut(f"{name} is {value!r}, and σ is a number{hint}")
        return self.listed(name, 1.0)

    def listed(self, name: str, default: Any = None) -> Any:
        """Return a parameter as an axis of a study: its value, the list of its values, or a grid as text."""
        axis = self.axis(name)
        if axis is None:
            return default
        if axis.text is not None:
            return axis.text
        values = _distinct(axis.values)
        return values if len(values) > 1 else values[0]

    def has(self, prefix: str) -> bool:
        return any(name.startswith(prefix) for name in self.parameters)

    def unused(self) -> dict[str, int]:
        """Return the names that were not asked for, with the number of their values."""
        return {n: len(axis.values) for n, axis in self.parameters.items() if n not in self.used}


def _case(read: _ParameterReader, block: str, ignored: Collection[str]) -> Case:
    for name, expected in ALWAYS.items():
        value = read.one(name, expected)
        if value != expected:
            raise LeftOut(f"{name} is {value!r}, and a study has {expected}")
    dataset = _dataset(read)
    model, batch_norm = _networks(read)
    usual = _usual(dataset, model)
    if entry_of(dataset).recipe.weighted_loss and not read.truth("model.weight_criterion", False):
        raise LeftOut(f"model.weight_criterion is off, and a study weighs the classes of {dataset}")
    read.axis("model.weight_criterion")  # for other data the published code builds an error and goes on
    recipe = RecipeKeys(
        epochs=read.one("general.num_epochs"),
        learning_rate=read.one("optimizer.lr"),
        batch_size=read.one("data.batch_size", DEFAULT_BATCH_SIZE),
    )
    keys = _noise(read, dataset, model, batch_norm)
    if keys["kind"] == "none":  # all executions are equal; clean networks are shared, and have no label
        ignored = {*ignored, *(name for name in read.parameters if ".repetition_config." in name)}
    else:
        keys["label"] = label_of(read.one("general.experiment_name"), block, keys)
    noise = NoiseKeys(**keys, clamp_weights=_clamping(read))
    repeats = _repeats(read)
    unused = read.unused()
    for name in unused:
        if changes(name, read.parameters, read.one("model.model_class"), ignored):
            values = read.parameters[name].values
            if name in SWITCHES and len(values) > 1:
                raise _UnsupportedAxis(name)
            shown = ", ".join(map(repr, values[:3])) + (", …" if len(values) > 3 else "")
            raise LeftOut(
                f"{name} is {shown}: it may make another experiment, and has no place in a study "
                f"(--ignore {name} if it does not)"
            )
    missing = [name for name in NEEDED if name not in read.parameters]
    read.said += [f"{name} is not given: in the study it is that of its data set" for name in missing]
    used = frozenset(read.used)
    return Case(dataset, model, batch_norm, recipe, usual, repeats, noise, used, unused, tuple(read.said))


@cache
def _usual(dataset: str, model: str) -> RecipeKeys:
    """The recipe of a data set for a network. Raises LeftOut if the network does not fit its images."""
    entry = entry_of(dataset)
    try:
        network = models.build(model, entry.image_shape, len(entry.classes))
    except WnError as error:
        raise LeftOut(f"{model} does not fit {dataset}: {error}") from None
    return RecipeKeys(**completed(RecipeKeys(), entry.recipe, network))


def _dataset(read: _ParameterReader) -> str:
    return DATASETS[_known("data.dataset", read.one("data.dataset"), DATASETS)]


def _known(path: str, name: Any, known: dict[str, Any]) -> str:
    if not isinstance(name, str) or name not in known:
        raise LeftOut(f"{path} is {name!r}, and known are {', '.join(known)}")
    return name


def _networks(read: _ParameterReader) -> tuple[str, list[str]]:
    """Return the model and its kinds of batch norm; names that are several models have an entry for each."""
    kind = _known("model.model_class", read.one("model.model_class"), DEFAULT_NETWORK)
    path = f"model.{kind}.conf_name"
    axis = read.axis(path) or Axis((DEFAULT_NETWORK[kind],))
    try:
        found = [NETWORKS[_known(path, name, NETWORKS)] for name in axis.values]
    except LeftOut:
        read.one(path)  # names that are known are not left out with the others
        raise
    if len({model for model, _ in found}) > 1:
        raise _UnsupportedAxis(path)
    return found[0][0], _distinct(batch_norm for _, batch_norm in found)


def _repeats(read: _ParameterReader) -> tuple[Any, ...]:
    """Return the repeats as the file numbers them, () if it does not; several seeds are repeats as well."""
    names = ["general.repeat_number", *(n for n in SEEDS if len(read.parameters.get(n, Axis(())).values) > 1)]
    axes = [map(repr, _distinct(axis.values)) for axis in map(read.axis, names) if axis is not None]
    return tuple(product(*axes)) if axes else ()


def _clamping(read: _ParameterReader) -> bool:
    ends = (read.one("general.weight_clamping.min"), read.one("general.weight_clamping.max"))
    if ends not in ((None, None), (-1, 1)):
        raise LeftOut(f"general.weight_clamping is {ends[0]} to {ends[1]}, and a study clamps to -1 to 1")
    return ends == (-1, 1)


# ---- noise ----------------------------------------------------------------------------------------------


def _noise(read: _ParameterReader, dataset: str, model: str, batch_norm: list[str]) -> dict[str, Any]:
    """Return the keys of a noise entry."""
    everywhere = read.one("noise_settings.default.noise_type", "NoNoise")
    for name in ("layer_wise", "layer_mapped"):
        if read.one(f"noise_settings.{name}") is not None:
            raise LeftOut(f"noise_settings.{name} is neither None nor a block of parameters")
    if read.has("noise_settings.layer_mapped."):
        raise LeftOut("noise_settings.layer_mapped: write it by hand, with where = mapped and factors")
    one_site = read.has("noise_settings.layer_wise.")
    if one_site and everywhere != "NoNoise":
        raise LeftOut("noise at one site and other noise at all others has no form in a study")
    prefix = "noise_settings.layer_wise." if one_site else GLOBAL
    name = _known(f"{prefix}noise_type", read.one(f"{prefix}noise_type", "NoNoise"), KINDS)
    keys: dict[str, Any] = {"kind": KINDS[name]}
    if keys["kind"] == "none":
        return keys
    if not read.truth(f"{prefix}enable_in_eval", True):
        raise LeftOut(f"{prefix}enable_in_eval is off: a study has no noise in training only")
    keys |= _strength(read, prefix, keys["kind"])
    keys["normalize_to_input_size"] = read.truth(f"{prefix}normalize_to_input_size", False) or None
    keys |= _phases(read, prefix, keys["kind"])
    if one_site:
        sites = read.axis(f"{prefix}layer_index")
        if sites is None:
            raise LeftOut(f"{prefix}layer_index is missing")
        keys["where"] = _where(list(sites.values), dataset, model, batch_norm)
    else:
        keys["where"] = "global"
    return keys | _repetitions(read, one_site)


def _phases(read: _ParameterReader, prefix: str, kind: str) -> dict[str, Any]:
    """Return the phases, and σ of training where it is another one than at inference.

    GaussStd_in_training is read for noise at every site of which GaussStd is σ: without noise of its own in
    training, a run evaluates the network that was trained under it. A run with noise in training has GaussStd
    in both, and is clear only if the two are equal.
    """
    enable, other = f"{prefix}enable_in_training", f"{prefix}GaussStd_in_training"
    values = read.parameters.get(other, Axis(())).values
    if all(value in OFF for value in values) or not (prefix == GLOBAL and kind in GAUSS_STD):
        return {"phases": [TRAINING if value else INFERENCE for value in read.truths(enable, True)]}
    if not read.truth(enable, True):
        return {"phases": [MATRIX], "sigma_train": read.grid(other)}
    if values == (read.parameters.get(f"{prefix}GaussStd") or Axis((1.0,))).values and len(values) == 1:
        read.axis(other)
    return {"phases": [TRAINING]}  # what was not asked for leaves the run out


def _strength(read: _ParameterReader, prefix: str, kind: str) -> dict[str, Any]:
    """Return σ and the options of the operator; defaults are those of the published code."""
    if kind in GAUSS_STD:
        mean = read.one(f"{prefix}GaussMean")
        return {"sigma": read.grid(f"{prefix}GaussStd"), "mean": mean}
    keys: dict[str, Any] = {
        "mean_mul": read.one(f"{prefix}GaussMeanMul"),
        "mean_add": read.one(f"{prefix}GaussMeanAdd"),
    }
    orders = read.truths(f"{prefix}FirstMulThenAdd", True)
    keys["order"] = ["mul_add" if value else "add_mul" for value in orders]
    if kind == "mixed":
        ratio = read.axis(f"{prefix}StdRatio") or Axis((0.5,))
        return keys | {"sigma": read.grid(f"{prefix}StdAmplitude"), "ratio": _distinct(ratio.values)}
    return keys | {
        "sigma_mul": read.grid(f"{prefix}GaussStdMul"),
        "sigma_add": read.grid(f"{prefix}GaussStdAdd"),
    }


def _where(sites: list[Any], dataset: str, model: str, batch_norm: list[str]) -> str | list[Any]:
    """Return "each" for all sites of the networks, else the list."""
    entry = entry_of(dataset)
    for kind in batch_norm:
        network = models.build(model, entry.image_shape, len(entry.classes), kind)
        if sorted(map(str, sites)) != sorted(map(str, range(len(network.site_names)))):
            return _distinct(sites)
    return "each"


def _repetitions(read: _ParameterReader, one_site: bool) -> dict[str, Any]:
    """Return uniform repetitions, or maps with a number for each site."""
    path = f"model.{read.one('model.model_class')}.repetition_config."
    if read.has(f"{path}layer_wise_mapped."):
        raise LeftOut(f"{path}layer_wise_mapped: only lists with a number for every site are known")
    maps = read.axis(f"{path}layer_wise_mapped")
    if maps is None:
        return {"repetitions": read.listed(f"{path}global")}
    if one_site:
        raise LeftOut(f"{path}layer_wise_mapped goes with noise at every site")
    read.axis(f"{path}global")  # every site has a number of its own
    return {"repetition_maps": _distinct(maps.values)}


def _distinct(values: Any) -> list[Any]:
    """Return the values in their order, each once."""
    found: dict[Any, Any] = {}
    for value in values:
        found.setdefault(repr(value) if isinstance(value, list | dict) else value, value)
    return list(found.values())
