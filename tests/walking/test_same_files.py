"""The same run gives the same files, byte for byte, at any time of day.

The kind: what is promised of whole files must hold of whole files. What differs between two equal runs, the
time, stands in run.json alone.
"""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import wn
from wn.walking import api
from wn.walking.results import FILES

TIMES = {"finished", "seconds", "predicted"}  # the last with the seconds that predictions took
SMALL: dict[str, Any] = {"train_limit": 300, "test_limit": 200, "epochs": 1, "seed": 3, "model": "mlp-8"}


class Later(datetime):
    """A clock that is a day ahead."""

    @classmethod
    def now(cls, tz: Any = UTC) -> "Later":
        return super().now(tz) + timedelta(days=1)


def test_a_walk_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = SMALL | {"sigma": "1:10:2", "where": [0, 2], "phase": "both", "predict": True}
    for name in ("today", "tomorrow"):
        wn.walk(**settings).save(tmp_path / name)
        monkeypatch.setattr(api, "datetime", Later)
    records = []
    for name in FILES:
        today, tomorrow = ((tmp_path / folder / name).read_bytes() for folder in ("today", "tomorrow"))
        if name == "run.json":
            records = [json.loads(content) for content in (today, tomorrow)]
            assert records[0]["finished"] != records[1]["finished"]
            records = [{key: value for key, value in r.items() if key not in TIMES} for r in records]
        else:
            assert today == tomorrow, name
    assert records[0] == records[1]
    assert len(records[0]) > 5


def test_a_training_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("today", "tomorrow"):
        wn.train(**SMALL).save(tmp_path / f"{name}.safetensors")
        monkeypatch.setattr(api, "datetime", Later)
    today, tomorrow = ((tmp_path / f"{name}.safetensors").read_bytes() for name in ("today", "tomorrow"))
    assert today == tomorrow


def test_a_training_with_more_threads(tmp_path: Path) -> None:
    """The file holds no setting that changes no number in it, and still repeats its run."""
    first = wn.train(**SMALL, threads=1)
    first.save(tmp_path / "one.safetensors")
    wn.train(**SMALL, threads=2).save(tmp_path / "two.safetensors")
    wn.train(**first.record["asked"]).save(tmp_path / "repeated.safetensors")
    one, two, repeated = (
        (tmp_path / f"{name}.safetensors").read_bytes() for name in ("one", "two", "repeated")
    )
    assert one == two == repeated
