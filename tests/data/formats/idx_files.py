"""Small IDX data sets in files, and their "download", for the tests of the catalogue."""

import gzip
import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pooch
import pytest

import wn.data
from wn.data.formats.idx import write_idx
from wn.data.sets import entries
from wn.data.sets.entries import entry_of
from wn.data.sets.entry import DataFile

NAMES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def write_files(folder: Path, value: int, suffix: str = "") -> None:
    """Four valid files; every pixel is `value`, so that it shows which folder was read."""
    folder.mkdir(parents=True, exist_ok=True)
    for prefix, count in (("train", 20), ("t10k", 10)):
        labels = (np.arange(count) % 10).astype(np.uint8)
        write_idx(folder / f"{prefix}-images-idx3-ubyte{suffix}", np.full((count, 28, 28), value, np.uint8))
        write_idx(folder / f"{prefix}-labels-idx1-ubyte{suffix}", labels)


def pixel(dataset: wn.data.Dataset) -> int:
    return int(dataset.train.images[0, 0, 0, 0])


def serve(monkeypatch: pytest.MonkeyPatch, files: dict[str, bytes]) -> list[str]:
    """Let pooch "download" from memory, with its own check of the checksum; returns the urls asked for."""
    asked: list[str] = []

    def retrieve(url: str, known_hash: str, fname: str, path: Path, **_: object) -> str:
        asked.append(url)
        if url not in files:
            raise OSError("not served")
        if known_hash != "md5:" + hashlib.md5(files[url]).hexdigest():
            raise ValueError(f"MD5 hash of downloaded file ({fname}) does not match")
        path.mkdir(parents=True, exist_ok=True)
        (path / fname).write_bytes(files[url])
        return str(path / fname)

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    return asked


def publish(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, bytes]:
    """Make `mnist` a small data set on two mirrors, of which the first serves one file with other content."""
    write_files(tmp_path / "published", 9, suffix=".gz")
    contents = {f"{name}.gz": (tmp_path / "published" / f"{name}.gz").read_bytes() for name in NAMES}
    layout = tuple(
        DataFile(
            file.names,
            hashlib.md5(contents[file.name]).hexdigest(),
            hashlib.sha256(gzip.decompress(contents[file.name])).hexdigest(),
        )
        for file in entry_of("mnist").layouts[0]
    )
    mirrors = ("https://one.example/", "https://two.example/")
    monkeypatch.setitem(
        entries.ENTRIES, "mnist", replace(entry_of("mnist"), layouts=(layout,), mirrors=mirrors)
    )
    served = {mirror + name: content for mirror in mirrors for name, content in contents.items()}
    served[mirrors[0] + f"{NAMES[2]}.gz"] = b"not the file"
    return served
