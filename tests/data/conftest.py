"""No test of the data sets sees this machine's data, download cache or network."""

from pathlib import Path

import pooch
import pytest

from wn.data import locate


def _offline(url: str, **_: object) -> str:
    raise OSError(f"no route to {url}\nand a second line")


@pytest.fixture(autouse=True)
def _isolated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(locate.VARIABLE, raising=False)
    monkeypatch.setattr(pooch, "os_cache", lambda name: tmp_path / "cache" / name)
    monkeypatch.setattr(pooch, "retrieve", _offline)
