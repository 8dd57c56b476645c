"""Single networks in PyTorch's layout: safetensors files that a module's `load_state_dict` takes, and back.

The layout is described in docs/checkpoints.md.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from wn import random
from wn.basics.errors import WnError
from wn.basics.numbers import is_integer, whole
from wn.engine import models
from wn.engine.files import checkpoint
from wn.engine.files.checkpoint import Loaded, Tensors, TensorSpec
from wn.engine.files.header import MEMBER, metadata_of
from wn.engine.layers.base import Shape
from wn.engine.layers.batch_norm import BatchNorm
from wn.engine.network import Network
from wn.engine.networks.weighted import Weighted
from wn.engine.training import Population
from wn.files.outputs import check_file
from wn.files.whole import StrPath, as_path

log = logging.getLogger("wn")

# Names that PyTorch's wrappers and frameworks put before those of a network, up to the first dot.
WRAPPERS = {
    "module": "DataParallel or DistributedDataParallel",
    "_orig_mod": "torch.compile",
    "model": "a module that holds the network as model (such as Lightning's)",
    "net": "a module that holds the network as net",
}
# Parts of names that say how a state_dict came about, and what to do.
MARKS = {
    "weight_orig": "pruned or spectrally normalised: remove that first (torch.nn.utils.prune.remove)",
    "parametrizations.": "parametrised: remove that first (parametrize.remove_parametrizations)",
    "weight_g": "weight normalisation: remove that first (torch.nn.utils.remove_weight_norm)",
    "n_averaged": "an averaged model: save the state_dict of its module alone",
    "_packed_params": "quantised: save the network as it was before",
}
HALF = {"F16": "float16", "BF16": "bfloat16"}  # safetensors' names of types, and PyTorch's
COUNTER = "num_batches_tracked"  # PyTorch's count of batches, which its own batch norm does not use either


def member_tensors(network: Network, population: Population, member: int) -> Tensors:
    """Return one member's tensors with the names and shapes of PyTorch's state_dict: no population axis.

    Batch norm also gets `num_batches_tracked`, an int64 scalar that PyTorch expects and that is 0 here:
    batches are not counted, and PyTorch uses the count only where momentum is None. A running mean is what
    PyTorch has for it, one number: the residual is left out.
    Raises WnError if there is no such member.
    """
    allowed = f"member {member!r}: allowed are 0 to {len(population.seeds) - 1}"
    if not is_integer(member) or not 0 <= member < len(population.seeds):
        raise WnError(allowed)
    tensors = {name: np.array(array[member]) for name, array in checkpoint.named(network, population).items()}
    return tensors | {name: np.zeros((), np.int64) for name in _counters(network)}


def export_member(source: StrPath, member: int, out: StrPath, *, overwrite: bool = False) -> Path:
    """Write one member of a saved population as a state_dict file and return its path.

    In PyTorch: `twin.load_state_dict(safetensors.torch.load_file(out))`. Raises WnError as `load` does, for a
    member that does not exist, and if `out` exists and `overwrite` is not set.
    """
    loaded, out = checkpoint.load(source), as_path(out)
    check_file(out, overwrite)
    _write_members(loaded, {out: member}, overwrite)
    return out


def export_members(source: StrPath, folder: StrPath, *, overwrite: bool = False) -> list[Path]:
    """Write every member of a saved population as member-‹index›.safetensors, all or none; return the paths.

    The folder is made if need be. Raises WnError as `export_member` does.
    """
    folder = as_path(folder)
    loaded = checkpoint.load(source)
    count = len(loaded.population.seeds)
    width = len(str(count - 1))
    paths = [folder / f"member-{member:0{width}}.safetensors" for member in range(count)]
    for path in paths:
        check_file(path, overwrite)
    _write_members(loaded, {path: member for member, path in enumerate(paths)}, overwrite)
    return paths


def import_members(
    paths: Sequence[StrPath],
    model: str,
    input_shape: Shape,
    classes: int,
    batch_norm: str = "none",
    *,
    seed: int = 0,
) -> tuple[Network, Population]:
    """Read state_dict files (PyTorch's names and shapes, no population axis) and stack them to a population.

    The tensors must be exactly those of `models.build(model, input_shape, classes, batch_norm)`, all float32
    or all float64; `num_batches_tracked` may be there or not. A prefix that all names have, such as
    "module.", is left out, and a line of the logger "wn" says so. Member i gets the seed
    `member_seed(seed, i)`, from which noise at inference is drawn. Raises WnError, naming file and tensors,
    for everything else.
    """
    return import_into(paths, models.build(model, input_shape, classes, batch_norm), seed=seed)


def import_into(paths: Sequence[StrPath], network: Network, *, seed: int = 0) -> tuple[Network, Population]:
    """As `import_members`, into a network given as a value; names are those of its nodes."""
    if not paths:
        raise WnError("no files to import: name at least one")
    wanted = {
        name: spec._replace(shape=spec.shape[1:])
        for name, spec in checkpoint.expected_specs(network, 1).items()
    }
    files = [as_path(path) for path in paths]
    read = [_read_member(path, network, wanted) for path in files]
    members = [tensors for tensors, _ in read]
    _say_prefixes({path: prefix for path, (_, prefix) in zip(files, read, strict=True) if prefix})
    types = {
        str(next(iter(member.values())).dtype): path for path, member in zip(files, members, strict=True)
    }
    if len(types) > 1:
        found = " and ".join(f"{dtype} ({path})" for dtype, path in sorted(types.items()))
        raise WnError(f"members of one population have the same type, but these have {found}")
    tensors = {name: np.stack([member[name] for member in members]) for name in wanted}
    seeds = tuple(random.member_seed(seed, index) for index in range(len(paths)))
    return network, checkpoint.from_tensors(network, tensors, seeds)


def load_weights(network: Network, path: StrPath, *, seed: int = 0) -> Weighted:
    """Read the weights of a network that is given as a value from one PyTorch state_dict in safetensors.

    Names are those of the network's layers, with PyTorch's for the tensors: "fc1.weight". A prefix that all
    names have ("module.", "_orig_mod.", …) is left out, `num_batches_tracked` is read past. Tensors are
    float32 or float64, those of linear layers (O, I). `seed` is the one that noise is drawn from.

    Raises WnError, naming file and tensors, for those that are missing, not part of the network, of another
    shape or type, NaN or infinite.
    """
    return Weighted(*import_into([path], network, seed=seed))


def import_files(
    paths: Sequence[StrPath],
    out: StrPath,
    *,
    model: str,
    input_shape: str | None = None,
    classes: int | None = None,
    batch_norm: str = "none",
    seed: int = 0,
    overwrite: bool = False,
) -> Loaded:
    """Import state_dict files, save them as one population at `out` and return that population.

    `input_shape` is text such as "1,28,28"; it and `classes` are those of the study where they are None.
    Raises WnError as `import_members` and `save` do, and if `out` exists and `overwrite` is not set.
    """
    files, out = [as_path(path) for path in paths], as_path(out)
    usual = models.default_input(model)
    shape = usual.shape if input_shape is None else parse_input_shape(input_shape)
    classes = usual.classes if classes is None else classes
    check_file(out, overwrite)
    network, population = import_members(files, model, shape, classes, batch_norm, seed=seed)
    record = {"command": "import", "files": [path.name for path in files], "seed": seed}
    checkpoint.save(out, network, population, record, overwrite=overwrite)
    return Loaded(network, population, record)


def parse_input_shape(text: str) -> Shape:
    """Return the shape (C, H, W) written as text such as "1,28,28"; WnError for other text."""
    try:
        channels, height, width = map(whole, text.split(","))
    except ValueError:
        raise WnError(
            f"input shape {text!r} can't be read: write channels,height,width such as 1,28,28"
        ) from None
    return channels, height, width


def _counters(network: Network) -> list[str]:
    return [f"{node.name}.{COUNTER}" for node in network.nodes if isinstance(node.layer, BatchNorm)]


def _read_member(path: Path, network: Network, wanted: dict[str, TensorSpec]) -> tuple[Tensors, str]:
    """Return the tensors of a state_dict file without its counters, and the prefix that their names had."""
    with checkpoint.opened(path) as file:
        specs = checkpoint.specs_of(file)
        prefix = _prefix(specs, wanted)
        specs = {name.removeprefix(prefix): spec for name, spec in specs.items()}
        for name in _counters(network):
            counter = specs.pop(name, TensorSpec("int64", ()))
            if counter != TensorSpec("int64", ()):
                raise WnError(f"{path}: {name} is {counter.dtype} {counter.shape}, expected int64 ()")
        try:
            checkpoint.check_specs(str(path), network, specs, wanted)
        except WnError as error:
            hints = _hints(specs, wanted)
            raise WnError(f"{error}{hints}") if hints else error from None
        tensors = {name: file.get_tensor(prefix + name) for name in wanted}
    checkpoint.check_values(str(path), tensors)
    return tensors, prefix


def _prefix(found: Mapping[str, TensorSpec], wanted: Mapping[str, TensorSpec]) -> str:
    """The beginning, up to a dot, that all names found have before names wanted; "" if there is none."""
    prefixes = {
        name.removesuffix(other) for name in found for other in wanted if name.endswith(f".{other}")
    } - {""}
    common = [prefix for prefix in prefixes if all(name.startswith(prefix) for name in found)]
    return max(common, key=lambda prefix: sum(prefix + name in found for name in wanted), default="")


def _say_prefixes(prefixes: Mapping[Path, str]) -> None:
    """Log one line for each prefix that was left out."""
    for prefix in dict.fromkeys(prefixes.values()):
        files = [path for path, other in prefixes.items() if other == prefix]
        more = f" and {len(files) - 1} more" if len(files) > 1 else ""
        log.warning("%s%s: names are read without %r, %s", files[0], more, prefix, _meaning(prefix))


def _meaning(prefix: str) -> str:
    """The origin of a prefix, as part of a sentence."""
    known = dict.fromkeys(WRAPPERS[part] for part in prefix.split(".") if part in WRAPPERS)
    return f"put before them by {' and '.join(known)}" if known else "with which all of them begin"


def _hints(found: Mapping[str, TensorSpec], wanted: Mapping[str, TensorSpec]) -> str:
    """Advice about tensors that do not fit, where their names or types tell."""
    names = " ".join(found)
    hints = [hint for mark, hint in MARKS.items() if mark in names]
    prefixed = [
        name for name in found if any(name != other and name.endswith(f".{other}") for other in wanted)
    ]
    if prefixed:
        hints.append(
            f"some names have a prefix ({prefixed[0]}), not all: save the state_dict of the network alone"
        )
    turned = [
        name
        for name, spec in wanted.items()
        if len(spec.shape) == 2
        and spec.shape[0] != spec.shape[1]
        and name in found
        and found[name].shape == spec.shape[::-1]
    ]
    if turned:
        hints.append(f"{turned[0]} is stored as (I, O), as other frameworks do: save its transpose, (O, I)")
    if halves := [HALF[kind] for kind in HALF if any(spec.dtype == kind for spec in found.values())]:
        hints.append(f"{' and '.join(halves)} is half precision: save module.float().state_dict()")
    return "".join(f"; {hint}" for hint in hints)


def _write_members(loaded: Loaded, members: Mapping[Path, int], overwrite: bool) -> None:
    network, population, record = loaded
    files = {}
    for path, member in members.items():
        tensors = member_tensors(network, population, member)
        seeds = (population.seeds[member],)
        metadata = metadata_of(MEMBER, network, seeds, tensors, record)
        files[path] = (tensors, metadata)
    checkpoint.write(files, overwrite)
