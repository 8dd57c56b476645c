"""Walking Noise: what noise does to a neural network, layer by layer."""

from typing import TYPE_CHECKING, Any

from wn.basics.installed import __version__

__all__ = [
    "Weighted",
    "WnError",
    "__version__",
    "dataset",
    "evaluate",
    "fit_midpoint",
    "gains",
    "layers",
    "load_dataset",
    "load_network",
    "load_weights",
    "network",
    "predict",
    "train",
    "walk",
]

if TYPE_CHECKING:
    from wn import layers
    from wn.basics.errors import WnError
    from wn.data.own import dataset, load_dataset
    from wn.engine.files.exchange import load_weights
    from wn.engine.files.onnx.load import load_network
    from wn.engine.networks.build import network
    from wn.engine.networks.weighted import Weighted
    from wn.fit.midpoint import fit_midpoint
    from wn.front import evaluate, gains, predict, train, walk

_HOME = {
    "walk": "wn.front",
    "train": "wn.front",
    "evaluate": "wn.front",
    "gains": "wn.front",
    "predict": "wn.front",
    "dataset": "wn.data.own",
    "load_dataset": "wn.data.own",
    "load_network": "wn.engine.files.onnx.load",
    "load_weights": "wn.engine.files.exchange",
    "network": "wn.engine.networks.build",
    "Weighted": "wn.engine.networks.weighted",
    "fit_midpoint": "wn.fit.midpoint",
    "WnError": "wn.basics.errors",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: SciPy is slow to import and `--help` needs none of it.

    Raises ImportError if another distribution has put files into this package's folder.
    """
    from importlib import import_module

    if name == "layers":
        return import_module("wn.layers")
    if name not in _HOME:
        raise AttributeError(f"module 'wn' has no attribute {name!r}")

    from wn.basics.installed import clash

    if (problem := clash()) is not None:
        raise ImportError(problem, name="wn")
    return getattr(import_module(_HOME[name]), name)
