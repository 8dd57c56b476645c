"""Trained networks on disk: a population in one safetensors file, without pickle: docs/checkpoints.md."""

import errno
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from wn import random
from wn.basics.errors import WnError
from wn.data.formats.kinds import described, head_of
from wn.engine import backends
from wn.engine.files.header import POPULATION, metadata_of, network_of, read_header
from wn.engine.layers.base import Shape
from wn.engine.network import Network
from wn.engine.training import Population
from wn.files.outputs import AlreadyThere, make_folder
from wn.files.whole import StrPath, as_path, naming, whole_files

TENSOR_NAMES = {
    "w": "weight",
    "b": "bias",
    "gamma": "weight",
    "beta": "bias",
    "mean": "running_mean",
    "variance": "running_var",
    "residual": "running_mean_residual",  # in whole populations; PyTorch's running mean is one number
}
TYPES = {"F32": "float32", "F64": "float64", "I64": "int64"}  # safetensors' names of those that may occur
NAMED_AT_MOST = 8  # tensors per kind of problem in an error message

_SAVE = (
    "it holds pickles, which are never loaded; in PyTorch, load it and write "
    "safetensors.torch.save_file(module.state_dict(), …)"
)

Tensors = dict[str, NDArray[Any]]


class TensorSpec(NamedTuple):
    """Type and shape of a tensor."""

    dtype: str
    shape: Shape


class Loaded(NamedTuple):
    """The content of a file: network, trained population (NumPy arrays), and the record as JSON gives it."""

    network: Network
    population: Population
    record: dict[str, Any]


# ---- whole populations ------------------------------------------------------------------------------------


def save(
    path: StrPath,
    network: Network,
    population: Population,
    record: Mapping[str, Any],
    *,
    overwrite: bool = True,
) -> None:
    """Write a population as one safetensors file, whole or not at all.

    Tensors are named `<layer>.weight`, `.bias`, `.running_mean`, `.running_mean_residual`, `.running_var`
    and have a leading population axis: (P, …); nothing is rounded. `record` is kept as JSON, so tuples come
    back as lists.
    A network that `models` does not build is described in the file.
    Raises WnError for a network with layers of one's own, for tensors that do not fit it or are not
    finite, for a record that JSON cannot hold, if the file cannot be written, and without `overwrite` if it
    is there already.
    """
    path = as_path(path)
    tensors = named(network, population, residuals=True)
    specs = {name: TensorSpec(str(array.dtype), array.shape) for name, array in tensors.items()}
    what = f"{path}: can't be saved: the population"
    check_specs(what, network, specs, expected_specs(network, len(population.seeds), residuals=True))
    check_values(what, tensors)
    metadata = metadata_of(POPULATION, network, population.seeds, tensors, record)
    write({path: (tensors, metadata)}, overwrite)


def load(path: StrPath) -> Loaded:
    """Read a population that `save` wrote, in any version; the numbers are the same bit for bit.

    Raises WnError, naming the file, for anything else: other or broken files, and missing, additional,
    wrongly shaped, wrongly typed, NaN or infinite tensors, which are named.
    """
    path = as_path(path)
    with opened(path) as file:
        header = read_header(path, file.metadata())
        try:
            network = network_of(header)
            seeds = tuple(random.checked_integer("a seed", seed, 64) for seed in header.seeds)
            wanted = expected_specs(network, len(seeds), residuals=header.version > 1)
        except WnError as error:
            raise WnError(f"{path}: {error}") from None
        if not seeds:
            raise WnError(f"{path}: the population has no members; it must have at least one")
        check_specs(str(path), network, specs_of(file), wanted, {header.dtype})
        tensors = {name: file.get_tensor(name) for name in wanted}
    check_values(str(path), tensors)
    return Loaded(network, from_tensors(network, tensors, seeds), header.record)


def describe(network: Network, population: Population) -> str:
    """Return a network and its population in one line."""
    members = len(population.seeds)
    return f"{_in_words(network)}, {members} member{'s' if members > 1 else ''}"


def _in_words(network: Network) -> str:
    shape = "×".join(map(str, network.input_shape))
    return f"{network.name} (batch norm {network.batch_norm}, input {shape}, {network.classes} classes)"


# ---- names and trees --------------------------------------------------------------------------------------


def named(network: Network, population: Population, residuals: bool = False) -> Tensors:
    """Return the arrays of a population by name, in the host's memory; WnError for one of another network.

    With `residuals` those of running means too, which no layer of PyTorch has.
    """
    if not len(network.nodes) == len(population.params) == len(population.states):
        raise WnError(
            f"{network.name} has {len(network.nodes)} layers, but the population has parameters of "
            f"{len(population.params)} and states of {len(population.states)}"
        )
    tensors = {}
    for node, *trees in zip(network.nodes, population.params, population.states, strict=True):
        for tree in trees:
            for field, array in zip(getattr(tree, "_fields", ()), tree, strict=True):
                if field not in TENSOR_NAMES:
                    known = f"only for {', '.join(TENSOR_NAMES)}"
                    own = "a layer of your own can't be saved"
                    raise WnError(f"layer {node.name!r}: {own}: a file has no name for {field!r}, {known}")
                if residuals or field != "residual":
                    tensors[f"{node.name}.{TENSOR_NAMES[field]}"] = _on_host(array)
    return tensors


def from_tensors(network: Network, tensors: Tensors, seeds: tuple[int, ...]) -> Population:
    """Return the population whose arrays are `tensors`; a residual that is not among them is 0."""
    means = [name for name in tensors if name.endswith(".running_mean")]
    tensors = {f"{name}_residual": np.zeros_like(tensors[name]) for name in means} | tensors

    def fill(trees: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(
            type(tree)(*(tensors[f"{node.name}.{TENSOR_NAMES[field]}"] for field in tree._fields))
            if tree
            else ()
            for node, tree in zip(network.nodes, trees, strict=True)
        )

    template = _template(network, 1)
    return Population(fill(template.params), fill(template.states), seeds)


def expected_specs(network: Network, population: int, residuals: bool = False) -> dict[str, TensorSpec]:
    """Return shape and (for now float32) type of every tensor of a population, in the order of the layers."""
    tensors = named(network, _template(network, population), residuals)
    return {name: TensorSpec(str(array.dtype), array.shape) for name, array in tensors.items()}


def _template(network: Network, population: int) -> Population:
    """A population of zeros that take no memory."""
    try:
        params, states = network.template(backends.get("numpy"), population)
    except (ValueError, OverflowError, MemoryError):  # from NumPy: too many elements to count or hold
        raise WnError(
            f"{network.name} is too large with an input of shape {network.input_shape} "
            f"and {network.classes} classes"
        ) from None
    return Population(params, states, (0,) * population)


def _on_host(array: Any) -> NDArray[Any]:
    """Return an array of any backend as a NumPy array (CuPy's arrays have a `get` for that)."""
    return np.asarray(array.get() if hasattr(array, "get") else array)


# ---- checks -----------------------------------------------------------------------------------------------


def check_specs(
    what: str,
    network: Network,
    found: Mapping[str, TensorSpec],
    expected: Mapping[str, TensorSpec],
    allowed_types: set[str] | None = None,
) -> None:
    """Raise WnError unless `found` has the names and shapes of `expected` and all one allowed float type."""
    allowed = allowed_types or {"float32", "float64"}
    common = [name for name in expected if name in found]
    types = {name: found[name].dtype for name in common}
    shapes = [name for name in common if found[name].shape != expected[name].shape]
    problems = {
        "missing": [f"{name} {expected[name].shape}" for name in expected if name not in found],
        "not part of it": [repr(name) for name in sorted(set(found) - set(expected))],
        "wrong shape": [f"{name} {found[name].shape}, expected {expected[name].shape}" for name in shapes],
        f"wrong type, expected {' or '.join(sorted(allowed))}": [
            f"{name} {dtype}" for name, dtype in types.items() if dtype not in allowed
        ],
        "types are mixed": [f"{name} {dtype}" for name, dtype in types.items()]
        if len(set(types.values())) > 1 and allowed.issuperset(types.values())
        else [],
    }
    texts = [f"{problem}: {_some(names)}" for problem, names in problems.items() if names]
    if texts:
        raise WnError(f"{what} does not fit {_in_words(network)}: {'; '.join(texts)}")


def check_values(what: str, tensors: Tensors) -> None:
    """Raise WnError unless every number is finite, and no variance is negative.

    A variance may be infinite: it is where activations in training were beyond the range of the dtype.
    """
    variances = {name: array for name, array in tensors.items() if name.endswith("running_var")}
    wrong = [
        name for name, array in tensors.items() if name not in variances and not np.isfinite(array).all()
    ]
    wrong += [name for name, array in variances.items() if np.isnan(array).any()]
    if wrong:
        raise WnError(
            f"{what} has NaN or infinite values in: {_some(wrong)}; all must be finite, "
            "variances may be infinite"
        )
    wrong = [name for name, array in variances.items() if (array < 0).any()]
    if wrong:
        raise WnError(f"{what} has negative variances in: {_some(wrong)}; all must be at least 0")


def _some(names: list[str]) -> str:
    rest = len(names) - NAMED_AT_MOST
    return ", ".join(names[:NAMED_AT_MOST]) + (f" and {rest} more" if rest > 0 else "")


# ---- files ------------------------------------------------------------------------------------------------


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Open a safetensors file; errors of the library and of the system become a WnError naming the file."""
    try:
        if path.is_dir():
            raise WnError(f"{path} is a folder, not a safetensors file")
        if path.stat().st_size == 0:
            raise WnError(f"{path}: the file is empty")
        with safe_open(path, framework="np") as file:
            yield file
    except FileNotFoundError:
        raise WnError(f"{path}: no such file") from None
    except SafetensorError as error:
        reason = " ".join(str(error).split())
        what = described(head_of(path), torch=_SAVE, pickle=_SAVE, safetensors=reason) or reason
        raise WnError(f"{path}: not a whole safetensors file: {what}") from None
    except OSError as error:
        raise WnError(f"{path}: can't be read: {error.strerror or error}") from None


def specs_of(file: Any) -> dict[str, TensorSpec]:
    """Return type and shape of every tensor of an open file, without reading the tensors."""
    names: list[str] = file.keys()
    slices = {name: file.get_slice(name) for name in names}
    return {
        name: TensorSpec(TYPES.get(part.get_dtype(), part.get_dtype()), tuple(part.get_shape()))
        for name, part in slices.items()
    }


def write(files: Mapping[Path, tuple[Tensors, dict[str, str]]], overwrite: bool = True) -> None:
    """Write safetensors files, tensors and metadata of each, and their folder: all of them or none.

    Raises WnError if that fails, and for a file that is there and not to be overwritten.
    """
    paths = list(files)
    try:
        for folder in dict.fromkeys(path.parent for path in paths):
            make_folder(folder)
        with whole_files(paths, replace=overwrite) as temporaries:
            for path, temporary in zip(paths, temporaries, strict=True):
                tensors, metadata = files[path]
                with naming(path, temporary):
                    _save_file(tensors, temporary, metadata)
    except FileExistsError as error:
        raise AlreadyThere(error.filename) from None
    except OSError as error:
        path = error.filename or paths[0]
        raise WnError(f"{path}: can't be written: {error.strerror or error}") from None


def _save_file(tensors: Tensors, path: Path, metadata: dict[str, str]) -> None:
    contiguous = {name: np.asarray(array, order="C") for name, array in tensors.items()}
    try:
        save_file(contiguous, path, metadata)
    except SafetensorError as error:
        raise OSError(errno.EIO, str(error)) from None
