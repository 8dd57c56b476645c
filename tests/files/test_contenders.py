"""Several runs at once: each has a whole output of its own or is refused; none is lost, none mixed."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.files.contenders import TRAIN, WALK, Contenders, seed_of
from wn.engine.files import checkpoint

ROUNDS = 50
AT_ONCE = 3


@pytest.fixture(scope="module")
def contenders() -> Iterator[Contenders]:
    found = Contenders(AT_ONCE)
    yield found
    found.close()


def test_walks_to_one_folder_fifty_times(contenders: Contenders, tmp_path: Path) -> None:
    """One whole folder per run: the first has the one asked for, the others have folders beside it.

    A run that begins when another has ended is refused, as one after the other would be. Every fourth round
    all have the same settings.
    """
    runs = beside = 0
    for number in range(ROUNDS):
        out = tmp_path / f"{number}" / "out"
        seeds = [0] * AT_ONCE if number % 4 == 3 else list(range(AT_ONCE))
        found = contenders.run([[*WALK, "--seed", str(seed), "--out", str(out)] for seed in seeds])
        done = [seed for seed, (code, _) in zip(seeds, found, strict=True) if code == 0]
        for code, complaint in found:
            assert code in (0, 2)
            assert "Traceback" not in complaint
            assert code == 0 or f"{out} holds the results of another run" in complaint
            beside += "is being written by another run (process " in complaint
        folders = sorted(os.listdir(out.parent))
        told = sum(f"results go to {out}-" in complaint for _, complaint in found)
        assert folders == ["out", *(f"out-{place}" for place in range(2, told + 2))]
        if len(set(seeds)) > 1:
            assert sorted(seed_of(out.parent / folder) for folder in folders) == done
        else:
            assert {seed_of(out.parent / folder) for folder in folders} == {0}
        runs += len(done)
    assert beside > ROUNDS  # they did meet
    assert runs > 2 * ROUNDS


def test_trainings_to_one_file(contenders: Contenders, tmp_path: Path) -> None:
    """One has the file, the others are refused before they train."""
    met = 0
    for number in range(10):
        out = tmp_path / f"{number}" / "net"
        found = contenders.run([[*TRAIN, "--seed", str(seed), "--out", str(out)] for seed in range(AT_ONCE)])
        codes = [code for code, _ in found]
        assert sorted(codes) == [0, 2, 2]
        for code, complaint in found:
            assert ("training: 100 %" in complaint) == (code == 0)
            met += f"{out} is being written by another run (process " in complaint
        assert os.listdir(out.parent) == ["net"]
        assert checkpoint.load(out).record["asked"]["seed"] == codes.index(0)
    assert met


def test_a_running_training_has_its_file_also_where_it_may_be_overwritten(
    contenders: Contenders, tmp_path: Path
) -> None:
    out = tmp_path / "net"
    out.write_text("old")
    command = [*TRAIN, "--out", str(out), "--overwrite"]
    found = contenders.run([[*command, "--seed", str(seed)] for seed in range(AT_ONCE)])
    assert [complaint for code, complaint in found if code not in (0, 2)] == []
    assert os.listdir(tmp_path) == ["net"]
    seed = checkpoint.load(out).record["asked"]["seed"]
    assert found[seed][0] == 0


def test_exports_to_one_file(contenders: Contenders, tmp_path: Path) -> None:
    """And imports: one has the file, the others are told that it exists."""
    assert contenders.run([[*TRAIN, "--out", str(tmp_path / f"{n}"), "--seed", f"{n}"] for n in range(3)])
    for number in range(10):
        out = tmp_path / f"member-{number}"
        found = contenders.run([["export", str(tmp_path / f"{n}"), "--out", str(out)] for n in range(3)])
        assert sorted(code for code, _ in found) == [0, 2, 2]
        for code, complaint in found:
            assert code == 0 or "exists: choose another --out, or --overwrite" in complaint
        winner = [code for code, _ in found].index(0)
        with checkpoint.opened(out) as file:
            assert json.loads(file.metadata()["wn"])["record"]["asked"]["seed"] == winner
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".")]
