"""The settings of a walk or a training: flags and keywords are made of these fields.

What each means is said once, in its Option; those of the noise are in `wn.engine.noise_spec`.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec

from wn.basics.options import Option, Setting, settings_of
from wn.engine.noise_spec import FIELDS

CHANGE_NOTHING = ("threads", "evaluation_batch")  # settings that no number depends on


class NetworkSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The network, its data and its training; None takes the data set's recipe."""

    dataset: Annotated[
        str, Option("Data set; `wn data list` shows them.", "Data", flags=("--dataset", "-d"))
    ] = "fashion-mini"
    data_dir: Annotated[
        str | None, Option("Folder with data files, searched before $WN_DATA.", "Data", type=Path | None)
    ] = None
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


if TYPE_CHECKING:
    _Operator = _NoiseKind
else:
    _Operator = msgspec.defstruct(
        "_Operator",
        [(field.name, field.type, field.default) for field in FIELDS.values()],
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


class WalkSettings(NoiseSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A walk: noise, sites, phases and the σ grid."""

    phase: Annotated[
        str,
        Option("inference (networks trained clean), training (the same σ in both) or both.", "Noise"),
    ] = "both"
    sigma: Annotated[
        str | float | list[float] | None,
        Option(
            "σ grid: FIRST:LAST:COUNT (log), lin:FIRST:LAST:COUNT, or values with commas. "
            "Default: 0.1:10000:16; multiplicative noise: lin:0:6:16.",
            "Noise",
            type=str | None,
        ),
    ] = None
    repeats: Annotated[
        int, Option("Independent repeats: everything is trained anew, from another seed.", "Training")
    ] = 1
    evaluation_batch: Annotated[
        int,
        Option(
            "Test images at once, rounded up to tiles of 256; no result depends on it.",
            "Run",
            type=int | None,
            default=None,
        ),
    ] = msgspec.field(default_factory=_evaluation_batch)


class SingleSettings(NoiseSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One network, trained and evaluated under noise of one σ at some sites."""

    noise: Annotated[str, KIND] = "none"
    where: Annotated[
        str | list[int | str],
        Option(
            "global (at all sites), sites such as 0,3,7 or conv1,relu1 (at these at once), or a map such as "
            "0:0.5,3:2 (σ times a factor at each of these).",
            "Noise",
            type=str,
        ),
    ] = "global"
    sigma: Annotated[float | None, Option("σ of the noise in training and evaluation.", "Noise")] = None


FLAGS = {  # where flags and keywords have another name than the setting
    setting.name: setting.field
    for kind in (WalkSettings, SingleSettings)
    for setting in settings_of(kind)
    if setting.name != setting.field
}
PANELS = ("Data", "Network", "Noise", "Training", "Run")
_FIRST = ("noise", "where", "phase", "sigma")


def in_order(kind: type[NetworkSettings]) -> list[Setting]:
    """The settings in the order of flags and keywords: by panel, in that of noise first what, where and σ."""

    def place(setting: Setting) -> tuple[int, int]:
        first = _FIRST.index(setting.name) if setting.name in _FIRST else len(_FIRST)
        return PANELS.index(setting.option.panel), first

    return sorted(settings_of(kind), key=place)
