"""A folder with the few files of one command: checked before the work, and written whole or not at all."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from wn.basics.errors import WnError
from wn.files import outputs
from wn.files.whole import whole_files
from wn.walking.asked import CHANGE_NOTHING


def check_folder(folder: Path, names: Sequence[str], asked: Mapping[str, Any]) -> None:
    """Raise WnError if a folder can't be written, or has such files of a run that was asked for otherwise.

    The last of the names is that of the record. Files without a record count as another run's.
    """
    outputs.check_folder(folder)
    if not any((folder / name).exists() for name in names):
        return
    try:
        found = msgspec.json.decode((folder / names[-1]).read_bytes(), type=dict[str, Any])["asked"]
    except (OSError, msgspec.DecodeError, KeyError):
        found = None
    if not isinstance(found, dict) or _identity(found) != _identity(asked):
        raise WnError(f"{folder} has {names[0]} of another run: choose another --out, or --overwrite")


def write_folder(folder: Path, contents: Mapping[str, bytes]) -> list[Path]:
    """Write files, all or none short of a crash, and return their paths; the folder is made if need be."""
    outputs.make_folder(folder)
    paths = [folder / name for name in contents]
    with whole_files(paths) as temporaries:
        for temporary, content in zip(temporaries, contents.values(), strict=True):
            temporary.write_bytes(content)
    return paths


def record_bytes(run: Mapping[str, Any]) -> bytes:
    """A record as its file has it."""
    return msgspec.json.format(msgspec.json.encode(dict(run)), indent=2) + b"\n"


def _identity(asked: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in asked.items() if name not in CHANGE_NOTHING}
