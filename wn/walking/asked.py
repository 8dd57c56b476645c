"""The settings of a walk or a training: flags and keywords are made of these fields.

What each means is said once, in its Option; those of the noise are in `wn.engine.noise_spec`.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import UNSET, UnsetType

from wn.basics.options import Option, Setting, settings_of
from wn.engine.noise_spec import FIELDS

PREDICT_IMAGES = 1000  # test images of a prediction
CHANGE_NOTHING = ("threads", "evaluation_batch")  # settings that no number depends on


class NetworkSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The network, its data and its training; None takes the data set's recipe.

    As records have them, `data_sha256` is the digest of `data` (`wn.data.dataset.identity`), `architecture`
    the description of a network that was a value (`wn.engine.networks.description`).
    """

    dataset: Annotated[
        str, Option("Data set; `wn data list` shows them.", "Data", flags=("--dataset", "-d"))
    ] = "fashion-mini"
    data_dir: Annotated[
        str | None, Option("Folder with data files, searched before $WN_DATA.", "Data", type=Path | None)
    ] = None
    data: Annotated[
        str | UnsetType,
        Option(
            "Data of your own: a .npz file with arrays x_test, y_test and, for training, x_train, y_train.",
            "Data",
            type=Path | None,
            default=None,
        ),
    ] = UNSET
    data_sha256: str | UnsetType = UNSET
    architecture: dict[str, Any] | UnsetType = UNSET
    model: Annotated[str, Option("Network; `wn models` shows them.", "Network", flags=("--model", "-m"))] = (
        "mlp"
    )
    batch_norm: Annotated[
        str,
        Option("Batch norm: none, sites (each is a noise site) or hidden (no sites of its own).", "Network"),
    ] = "none"
    epochs: Annotated[int | None, Option("Epochs; default: the data set's recipe.", "Training")] = None
    batch_size: Annotated[int | None, Option("Batch size; default: the recipe's.", "Training")] = None
    learning_rate: Annotated[
        float | None,
        Option("Adam's initial learning rate; default: the recipe's.", "Training", name="lr"),
    ] = None
    clamp_weights: Annotated[
        bool, Option("Clamp weights to [-1, 1] after each step.", "Training", name="clamp")
    ] = False
    train_limit: Annotated[int | None, Option("Use only so many training samples.", "Data")] = None
    test_limit: Annotated[int | None, Option("Use only so many test samples.", "Data")] = None
    seed: Annotated[int, Option("Base seed of all randomness, ≥ 0.", "Run")] = 0
    backend: Annotated[
        str,
        Option("numpy, numba, cupy, cupy-tf32, or auto: cupy if a GPU answers, else numba.", "Run"),
    ] = "auto"
    dtype: Annotated[str, Option("float32 or float64.", "Run")] = "float32"
    threads: Annotated[int | None, Option("Processors to use; default: all.", "Run")] = None


KIND = Option(
    "none, additive, multiplicative, mixed (--ratio divides σ between the two parts) or mixed-direct (both "
    "have σ).",
    "Noise",
    flags=("--noise", "-n"),
)


class _NoiseKind(NetworkSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    noise: Annotated[str, KIND] = "additive"


_REPETITIONS = Annotated[
    int | list[int],
    Option(
        "Execute each noisy site R times and average: one number, or one for each of these sites in order, "
        "such as 5,1,3.",
        "Noise",
        flags=("-R", "--repetitions"),
        type=str,
    ),
]

if TYPE_CHECKING:

    class _Operator(_NoiseKind, frozen=True, kw_only=True):
        repetitions: int | list[int] = 1

else:
    _TYPES = {name: field.type for name, field in FIELDS.items()} | {"repetitions": _REPETITIONS}
    _Operator = msgspec.defstruct(
        "_Operator",
        [(name, _TYPES[name], field.default) for name, field in FIELDS.items()],
        bases=(_NoiseKind,),
        frozen=True,
        kw_only=True,
        forbid_unknown_fields=True,
        module=__name__,
    )


class NoiseSettings(_Operator, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The noise, with the options of `wn.engine.noise_spec`, and its place."""

    where: Annotated[
        str | list[int | str],
        Option(
            "each (noise walks from site to site), global (at all sites at once), sites such as 0,3,7 or "
            "conv1,relu1, or a map such as 0:0.5,3:2 (σ times a factor at each of these sites at once).",
            "Noise",
            type=str,
        ),
    ] = "each"
    factors: dict[int | str, float] | None = None


def _evaluation_batch() -> int:
    from wn.engine.training import EVALUATION_BATCH  # late: `--help` answers without NumPy

    return EVALUATION_BATCH


_AtOnce = Annotated[
    str | list[int | str],
    Option(
        "global (at all sites), sites such as 0,3,7 or conv1,relu1 (at these at once), or a map such as "
        "0:0.5,3:2 (σ times a factor at each of these).",
        "Noise",
        type=str,
    ),
]
_Batch = Annotated[
    int,
    Option(
        "Test images at once, rounded up to tiles of 256; no result depends on it.",
        "Run",
        type=int | None,
        default=None,
    ),
]


_File = Annotated[
    str | UnsetType,
    Option(
        "Take this network on disk, at inference, instead of training some: a file of wn train, "
        "wn import or a study. It decides model, batch norm and dtype, and data set and seed unless "
        "they are given.",
        "Network",
        type=Path | None,
        default=None,
    ),
]
_Grid = Annotated[
    str | float | list[float] | None,
    Option(
        "σ grid: FIRST:LAST:COUNT (log), lin:FIRST:LAST:COUNT, or values with commas. "
        "Default: 0.1:10000:16; multiplicative noise: lin:0:6:16.",
        "Noise",
        type=str | None,
    ),
]


class WalkSettings(NoiseSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A walk: noise, sites, phases and the σ grid; with `network`, of one that is on disk.

    `network_sha256`, as records have it, is the digest of that file.
    """

    network: _File = UNSET
    network_sha256: str | UnsetType = UNSET
    phase: Annotated[
        str,
        Option("inference (networks trained clean), training (the same σ in both) or both.", "Noise"),
    ] = "both"
    sigma: _Grid = None
    repeats: Annotated[
        int,
        Option(
            "Independent repeats: everything is trained anew, from another seed; of a network on disk: the "
            "noise is drawn anew.",
            "Training",
        ),
    ] = 1
    evaluation_batch: _Batch = msgspec.field(default_factory=_evaluation_batch)
    predict: Annotated[
        bool | UnsetType,
        Option(
            "Predict each curve too, without drawing any noise, with an estimate of the error.",
            "Run",
            type=bool,
            default=False,
        ),
    ] = UNSET
    predict_images: Annotated[
        int | UnsetType,
        Option(
            "Test images that predictions are over, evenly from the classes.",
            "Run",
            type=int,
            default=PREDICT_IMAGES,
        ),
    ] = UNSET


class SingleSettings(NoiseSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One network, trained and evaluated under noise of one σ at some sites."""

    noise: Annotated[str, KIND] = "none"
    where: _AtOnce = "global"
    sigma: Annotated[float | None, Option("σ of the noise in training and evaluation.", "Noise")] = None


class PredictionSettings(NoiseSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Curves at inference without drawing noise: of networks that are trained clean, or of one on disk."""

    network: _File = UNSET
    network_sha256: str | UnsetType = UNSET
    sigma: _Grid = None
    images: Annotated[int, Option("Test images, evenly from the classes.", "Data")] = PREDICT_IMAGES
    repeats: Annotated[int, Option("Networks, each trained from another seed.", "Training")] = 1


_EVALUATED = ("data_dir", "data", "data_sha256", "test_limit", "backend", "threads", "noise", *FIELDS)

if TYPE_CHECKING:
    _Evaluation = NoiseSettings
else:
    _Evaluation = msgspec.defstruct(
        "_Evaluation",
        [
            (field.name, field.type, field.default)
            for field in msgspec.structs.fields(SingleSettings)
            if field.name in _EVALUATED
        ],
        frozen=True,
        kw_only=True,
        forbid_unknown_fields=True,
        module=__name__,
    )


class EvaluationSettings(_Evaluation, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A network on disk, evaluated under noise at one place: the settings of its file are not given.

    `model`, `batch_norm` and `dtype` are those of the file; `network_sha256`, as records have it, its digest.
    """

    network: str
    network_sha256: str | UnsetType = UNSET
    dataset: Annotated[
        str,
        Option(
            "Data set; default: that of the file's record.",
            "Data",
            flags=("--dataset", "-d"),
            type=str | None,
            default=None,
        ),
    ] = ""
    seed: Annotated[
        int,
        Option(
            "Base seed of the noise, ≥ 0; default: that of the file's record, or 0.",
            "Run",
            type=int | None,
            default=None,
        ),
    ] = 0
    model: str = "mlp"
    batch_norm: str = "none"
    dtype: str = "float32"
    where: _AtOnce = "global"
    factors: dict[int | str, float] | None = None
    sigma: Annotated[
        str | float | list[float] | None,
        Option(
            "σ, or a grid: FIRST:LAST:COUNT (log), lin:FIRST:LAST:COUNT, or values with commas.",
            "Noise",
            type=str | None,
        ),
    ] = None
    repeats: Annotated[int, Option("Evaluations at each σ: the noise is drawn anew.", "Noise")] = 1
    evaluation_batch: _Batch = msgspec.field(default_factory=_evaluation_batch)


_OF_WALKS = [field.name for field in msgspec.structs.fields(NetworkSettings)]
_OF_WALKS += ["noise", "ratio", "normalize_to_input_size", "repeats"]

if TYPE_CHECKING:

    class _Gained(_NoiseKind, frozen=True, kw_only=True):
        repeats: int = 1

else:
    _Gained = msgspec.defstruct(
        "_Gained",
        [
            (field.name, field.type, field.default)
            for field in msgspec.structs.fields(WalkSettings)
            if field.name in _OF_WALKS
        ],
        frozen=True,
        kw_only=True,
        forbid_unknown_fields=True,
        module=__name__,
    )


class GainsSettings(_Gained, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The gains of networks: trained here, on disk, or those of a walk; and what is to stand beside them."""

    network: Annotated[
        str | UnsetType,
        Option(
            "The gains of this network on disk instead of one that is trained: a file of wn train, wn import "
            "or a study.",
            "Network",
            type=Path | None,
            default=None,
        ),
    ] = UNSET
    network_sha256: str | UnsetType = UNSET
    walk: Annotated[
        str | UnsetType,
        Option(
            "Folder of a walk: its networks and its noise, and its midpoints at inference beside the gains.",
            "Network",
            type=Path | None,
            default=None,
        ),
    ] = UNSET
    measure: Annotated[
        bool, Option("Measure the midpoint of every site as well, as wn walk does at inference.", "Noise")
    ] = False
    sigma: Annotated[
        str | float | list[float] | None,
        Option("σ grid of --measure; default: that of wn walk.", "Noise", type=str | None),
    ] = None
    budget: Annotated[
        str | int,
        Option(
            "Sum of the repetitions that are to be divided: a multiple of the sites, 3x, or a number, 64.",
            "Noise",
            type=str,
        ),
    ] = "3x"
    images: Annotated[int, Option("Test images that the gains are the mean of.", "Data")] = 500


FLAGS = {  # where flags and keywords have another name than the setting
    setting.name: setting.field
    for kind in (WalkSettings, SingleSettings, EvaluationSettings, GainsSettings)
    for setting in settings_of(kind)
    if setting.name != setting.field
}
MEANT = {  # names that settings have elsewhere
    "architecture": "model",
    "batch": "batch_size",
    "checkpoint": "network",
    "data_set": "dataset",
    "device": "backend",
    "jobs": "threads",
    "layer": "where",
    "layers": "where",
    "learning_rate": "lr",
    "net": "network",
    "npz": "data",
    "sigmas": "sigma",
    "site": "where",
    "sites": "where",
    "std": "sigma",
    "weights": "network",
    "workers": "threads",
}
PANELS = ("Data", "Network", "Noise", "Training", "Run")
_FIRST = ("noise", "where", "phase", "sigma")


def in_order(kind: type[msgspec.Struct]) -> list[Setting]:
    """The settings in the order of flags and keywords: by panel, in that of noise first what, where and σ."""

    def place(setting: Setting) -> tuple[int, int]:
        first = _FIRST.index(setting.name) if setting.name in _FIRST else len(_FIRST)
        return PANELS.index(setting.option.panel), first

    return sorted(settings_of(kind), key=place)
