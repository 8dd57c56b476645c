"""Labels of noise entries: what an experiment file calls them, in the words of a study."""

from typing import Any

from wn.analysis.repetitions import SCHEMES, UNIFORM

_SUFFIX = "_scaling"  # of blocks and experiments of repetition maps: layer_repetition_no_BN_log10_scaling


def label_of(experiment: Any, block: str, keys: dict[str, Any]) -> str | None:
    """The label of an entry: the name of its experiment, else that of its repetitions, None for neither.

    `experiment` is general.experiment_name; `block` the sub-configuration, which names repetition maps that
    have no experiment name; `keys` those of the entry. Of maps, a name that ends in a scheme of
    wn.analysis.repetitions becomes the scheme.
    """
    name = "" if experiment is None else str(experiment)
    if keys.get("repetition_maps"):
        return scheme_of(name or block.rpartition(".")[2]) or None
    if name:
        return name
    return UNIFORM if keys.get("repetitions") is not None else None


def scheme_of(name: str) -> str:
    """The longest scheme that a name ends in, before "_scaling"; the name itself if there is none."""
    stem = name.removesuffix(_SUFFIX)
    fitting = [scheme for scheme in SCHEMES if stem == scheme or stem.endswith(f"_{scheme}")]
    return max(fitting, key=len, default=name)
