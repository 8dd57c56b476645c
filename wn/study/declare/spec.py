"""Study files: TOML in, a checked StudySpec out, and back; every mistake is one line."""

import math
import re
import tomllib
from pathlib import Path
from typing import Any

import msgspec

from wn.basics.errors import WnError
from wn.files.whole import StrPath
from wn.study.declare import derived, resolve
from wn.study.declare.data import with_files
from wn.study.declare.networks import model_name, trained_names, with_networks
from wn.study.declare.schema import NoiseKeys, StudySpec, TomlTable, as_axis, at, decode

LARGEST = 4_000_000  # characters
_DECIMAL_COMMA = re.compile(r"=\s*[+-]?\d+,\d+\s*(#.*)?$")

__all__ = ["StudySpec", "narrowed", "parse_study", "read_study", "to_toml"]


def read_study(path: StrPath) -> StudySpec:
    """Return the study that a file declares; its name is that of the file unless it gives one.

    Raises WnError, in one line with the file and the path of the key, for everything that is wrong in it.
    """
    path = Path(path)
    try:
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        raise WnError(f"{path}: can't be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise WnError(f"{path}: not UTF-8 text: byte {error.start} can't be decoded") from None
    return parse_study(text, str(path), path.stem, path.parent)


def parse_study(
    text: str, source: str = "study", name: str = "study", folder: Path | None = None
) -> StudySpec:
    """Return the study that a text declares; `source` leads every WnError, `name` is the default.

    .npz files are looked for in `folder`, by default the working one.
    """
    with at(source):
        if len(text) > LARGEST:
            raise WnError(f"{len(text)} characters: a study file has at most {LARGEST}")
        try:
            document = tomllib.loads(text)
        except RecursionError:
            raise WnError("lists or tables are nested too deep: a study needs two levels") from None
        except ValueError as error:  # no TOML, or a number of too many digits
            raise WnError(_not_toml(str(error), text)) from None
        spec = with_files(decode({"name": name} | document), folder or Path())
        spec = with_networks(spec, folder or Path())
        check(spec)
    return spec


def check(spec: StudySpec) -> None:
    """Raise WnError, with the path of the key, for everything in a study that can be seen to be wrong."""
    resolve.check(spec)
    if derived.has_derived(spec):
        derived.check(spec)
        resolve.check(derived.planned(spec))


def narrowed(spec: StudySpec, dataset: str | None = None, model: str | None = None) -> StudySpec:
    """Return the part of a study that is about one data set, one model, or both.

    Raises WnError, with what there is, if the study has no such network.
    """
    own = trained_names(spec)
    found = [
        network
        for network in resolve.networks(spec)
        if dataset in (None, network.dataset) and (model is None or network.model == model_name(model, own))
    ]
    if not found:
        there = dict.fromkeys(f"{network.dataset} {network.model}" for network in resolve.networks(spec))
        raise WnError(f"{spec.name} has no network {dataset or ''} {model or ''}: it has {', '.join(there)}")
    datasets = list(dict.fromkeys(network.dataset for network in found))
    chosen = {network.model for network in found}
    models = [
        msgspec.structs.replace(keys, data=_kept(keys.data, datasets))
        for keys in spec.models
        if model_name(keys.name, own) in chosen
    ]
    entries = [
        _for_networks(entry.keys, datasets, chosen, own)
        for entry in resolve.noise_entries(spec)
        if any(entry.covers(network) for network in found)
    ]
    part = msgspec.structs.replace(
        spec,
        name="-".join([spec.name, *filter(None, (dataset, model))]),
        data=msgspec.structs.replace(
            spec.data,
            names=datasets,
            own=[own for own in spec.data.own or () if own.name in datasets] or None,
        ),
        models=[keys for keys in models if keys.data != []],
        noise=entries,
    )
    with at(part.name):
        check(part)
    return part


def _for_networks(keys: NoiseKeys, datasets: list[str], models: set[str], own: frozenset[str]) -> NoiseKeys:
    named = keys.models
    if named is not None:
        named = [name for name in as_axis("models", named) if model_name(name, own) in models]
    return msgspec.structs.replace(keys, data=_kept(keys.data, datasets), models=named)


def _kept(chosen: str | list[str] | None, there: list[str]) -> list[str] | None:
    return None if chosen is None else [value for value in as_axis("data", chosen) if value in there]


def _not_toml(error: str, text: str) -> str:
    """Return tomllib's message with the place in front; line 1 is the first.

    Of a key that is there twice tomllib says the place only: its line is shown. A decimal comma is guessed.
    """
    reason, at_place, place = error.rstrip(")").rpartition(" (at ")
    if not at_place:
        return f"not TOML: {error.partition(':')[0]}"
    lines = text.splitlines() or [""]
    place = place.removeprefix("end of document") or f"line {text.count(chr(10)) + 1}"
    message = f"{place}: not TOML: {reason[:1].lower()}{reason[1:]}"
    number = int(place.removeprefix("line ").partition(",")[0])
    line = lines[min(number, len(lines)) - 1].strip()
    if reason == "Cannot overwrite a value":
        return f"{message} that is there already: {line[:60]}"
    return f"{message}: a decimal comma? numbers have a point" if _DECIMAL_COMMA.search(line) else message


# ---- back to TOML ---------------------------------------------------------------------------------------


def to_toml(spec: StudySpec, comments: tuple[str, ...] = ()) -> str:
    """The text of a study's file: non-default values, after the `comments`."""
    lines = [f"# {''.join(c if c.isprintable() else ' ' for c in line)}".rstrip() for line in comments]
    lines += _lines(spec, ("data", "models", "recipe", "noise"))
    for title, tables in (
        ("[data]", [msgspec.structs.replace(spec.data, own=None)]),
        ("[[data.own]]", spec.data.own or []),
        ("[[models]]", spec.models),
        ("[recipe]", [spec.recipe]),
        ("[[noise]]", spec.noise),
    ):
        for table in tables:
            content = _lines(table)
            lines += ["", title, *content] if content else []
    return "\n".join(lines) + "\n"


def _lines(table: TomlTable, left_out: tuple[str, ...] = ()) -> list[str]:
    defaults = {field.name: field.default for field in msgspec.structs.fields(table)}
    return [
        f"{name} = {_value(value)}"
        for name, value in msgspec.structs.asdict(table).items()
        if name not in left_out and value is not None and value != defaults[name]
    ]


def _value(value: Any) -> str:
    """Return a value as TOML writes it: JSON's text is TOML's too, but for control characters and DEL."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return msgspec.json.encode(value).decode().replace("\x7f", "\\u007f")
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else str(value)
    if isinstance(value, list):
        return f"[{', '.join(_value(item) for item in value)}]"
    if isinstance(value, dict):
        pairs = (f"{_key(key)} = {_value(item)}" for key, item in value.items())
        return f"{{ {', '.join(pairs)} }}"
    return str(value)


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _value(key)
