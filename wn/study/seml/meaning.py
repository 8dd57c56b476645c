"""Parameters of an experiment file without a place in a study: they mean nothing, or another experiment.

The names are those that the published code reads, and its successors (weight decay, SAM, weight noise, …). A
parameter that is not known may change what is computed, so its runs are left out unless the caller says that
it does not.
"""

from collections.abc import Collection
from typing import Any

from wn.study.seml.axes import Axis

_TEXT = ("description", "comment", "notes", "tags")  # also blocks of these names
SEEDS = ("seed", "general.seed")
# Names that say nothing about what is computed, by the block that they are in. Elsewhere they may: a name may
# choose an optimiser or a loss, a device the model of a chip.
BOOKKEEPING = {
    "": ("name", "device", "db_collection", "overwrite", "seed", "num_workers", "workers", *_TEXT),
    "general": ("experiment_name", "name", "device", "overwrite", "seed", "num_workers", "workers", *_TEXT),
    "data": ("num_workers", "workers"),
    "loader": ("num_workers", "workers"),
    "noise_settings.default": ("print_debug_output", "index_of_operator"),
    "noise_settings.layer_wise": ("print_debug_output", "index_of_operator"),
}
# Options of noise operators, which the published code passes over where the operator has none of the name
NOISE_OPTIONS = (
    "noise_type",
    "layer_index",
    "enable_in_training",
    "enable_in_eval",
    "normalize_to_input_size",
    "GaussMean",
    "GaussStd",
    "GaussMeanMul",
    "GaussMeanAdd",
    "GaussStdMul",
    "GaussStdAdd",
    "StdAmplitude",
    "StdRatio",
    "FirstMulThenAdd",
)
# Classes of networks; the blocks of others than the chosen one are not read
CLASSES = ("MLP", "VGG", "LeNet", "CNN_HE")
PLACES = ("default", "layer_wise")
OFF = (None, False, 0, "NoAdv")
SWITCHES = (  # what is as in a study while it is off
    "optimizer.weight_decay",
    "optimizer.gradient_reg",
    "general.enable_sam",
    "general.enable_awp",
    "general.adv_type",
    "model.enable_pretrain",
    "model.distill.is_enabled",
    "noise_settings.param_sigma",
    "noise_settings.is_incremental",
    "noise_settings.is_overshooting",
    "noise_settings.is_noisyweight",
    "noise_settings.is_std_of_std",
    "noise_settings.enable_std_per_img",
    "noise_settings.is_mean_of_std",
    "noise_settings.default.GaussStd_in_training",  # where `names` can't make it a σ of training
    "noise_settings.layer_wise.GaussStd_in_training",
)
SWITCHED = {  # by the switch without which they are not read
    "general.sam_rho": "general.enable_sam",
    "general.is_adaptive": "general.enable_sam",
    "general.awp_gamma": "general.enable_awp",
    "model.pretrain_dir": "model.enable_pretrain",
    "model.distill.teacher": "model.distill.is_enabled",
    "model.distill.T": "model.distill.is_enabled",
    "model.distill.b": "model.distill.is_enabled",
}


def changes(name: str, parameters: dict[str, Axis], chosen: Any, ignored: Collection[str]) -> bool:
    """Whether a parameter without a place may make another experiment.

    `chosen` is the class of networks. A switch with several values is to be asked about one by one.
    """
    parts = name.split(".")
    block, _, last = name.rpartition(".")
    if name in ignored or last in BOOKKEEPING.get(block, ()) or parts[0] in _TEXT:
        return False
    if parts[0] == "model" and len(parts) > 2 and parts[1] in CLASSES and parts[1] != chosen:
        return False
    if name in {f"noise_settings.{place}.{option}" for place in PLACES for option in NOISE_OPTIONS}:
        return False
    if name in (f"noise_settings.{place}" for place in PLACES):
        return False
    switch = name if name in SWITCHES else SWITCHED.get(name)
    return switch is None or any(value not in OFF for value in parameters.get(switch, Axis(())).values)
