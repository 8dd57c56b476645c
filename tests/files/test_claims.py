"""Claims keep others away, and files appear whole or not at all, whoever else writes there meanwhile."""

import errno
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command_line import ROOT
from wn.files import locks, outputs
from wn.files import whole as files
from wn.files.claims import NAME, Claimed, claim
from wn.files.whole import whole_file, whole_files

# ---- claims ----------------------------------------------------------------------------------------------


@pytest.fixture(params=["folder", "file", "file with the longest name"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, bool]:
    if request.param == "folder":
        (tmp_path / "out").mkdir()
        return tmp_path / "out", True
    return tmp_path / ("out" if request.param == "file" else "ä" * 127), False


def test_a_claim_keeps_others_away_until_it_ends(place: tuple[Path, bool], tmp_path: Path) -> None:
    for _ in range(2):
        with claim(*place) as standing:
            assert standing()
            with pytest.raises(Claimed) as caught, claim(*place, patience=0.05):
                pass
            who = f"{place[0]} is being written by another run (process {os.getpid()} on "
            assert str(caught.value).startswith(who)
    assert [name for _, _, names in os.walk(tmp_path) for name in names] == []


def test_a_claim_is_waited_for(tmp_path: Path) -> None:
    """One of many at a time, whoever makes and removes the claim's file meanwhile."""
    inside, most = 0, 0

    def work(_: int) -> None:
        nonlocal inside, most
        with claim(tmp_path, True, patience=60):
            inside += 1
            most = max(most, inside)
            inside -= 1

    with ThreadPoolExecutor(8) as executor:
        list(executor.map(work, range(200)))
    assert (inside, most) == (0, 1)
    assert os.listdir(tmp_path) == []


CLAIMS = """
import os, sys
from pathlib import Path
from wn.files.claims import claim
with claim(Path(sys.argv[1]), True):
    print("claimed", flush=True)
    sys.stdin.read()
"""


def test_the_claim_of_a_killed_process_holds_nobody_up(tmp_path: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", CLAIMS, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == "claimed\n"
        with pytest.raises(Claimed, match=f"process {child.pid} on"), claim(tmp_path, True):
            pass
        child.kill()
    assert os.listdir(tmp_path) == [NAME]
    with claim(tmp_path, True):
        pass
    assert os.listdir(tmp_path) == []


def test_a_forked_child_does_not_hold_on_to_a_claim(tmp_path: Path) -> None:
    with claim(tmp_path, True) as standing:
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            os.read(reading, 1)
            os._exit(0)
    with claim(tmp_path, True) as standing:  # the child still lives
        assert standing()
    os.write(writing, b"x")
    os.waitpid(child, 0)
    os.close(reading)
    os.close(writing)


def test_on_a_disk_without_locks_the_file_is_the_claim(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(locks, "_flock", refuse)
    with claim(tmp_path, True) as standing:
        assert standing()
        left = f"if that run has ended, remove {tmp_path / NAME}"
        with pytest.raises(Claimed, match=left), claim(tmp_path, True, patience=0.05):
            pass
    assert os.listdir(tmp_path) == []


def test_a_claim_that_cannot_be_made_names_the_output(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught, claim(tmp_path / "none", True):
        pass
    assert caught.value.filename == str(tmp_path / "none")


def test_what_a_claim_has_made_goes_with_it(tmp_path: Path) -> None:
    with outputs.claimed_folder(tmp_path / "a" / "b"):
        assert os.listdir(tmp_path / "a" / "b") == [NAME]
    assert os.listdir(tmp_path) == []
    with outputs.claimed_file(tmp_path / "a" / "b" / "file", overwrite=False) as path:
        assert path == tmp_path / "a" / "b" / "file"
    assert os.listdir(tmp_path) == []


# ---- whole or not at all ---------------------------------------------------------------------------------


def no_links(*_: Any) -> None:
    raise OSError(errno.EPERM, os.strerror(errno.EPERM))


@pytest.mark.parametrize("links", [True, False])
def test_files_that_are_not_to_be_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    """Those that turn up while theirs are written are kept as well; none of a set is left then."""
    if not links:
        monkeypatch.setattr(os, "link", no_links)
    paths = [tmp_path / name for name in ("a", "b", "c")]

    def write(text: str) -> None:
        with whole_files(paths, replace=False) as temporaries:
            for temporary in temporaries:
                temporary.write_text(text)

    write("new")
    assert [path.read_text() for path in paths] == ["new"] * 3
    paths[0].unlink()
    with pytest.raises(FileExistsError, match=r"/b'"):
        write("newer")
    assert sorted(os.listdir(tmp_path)) == ["b", "c"]
    assert paths[1].read_text() == "new"


def test_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "file").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "file")
    with whole_file(tmp_path / "link") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "disk" / "file").read_text() == "new"


@pytest.mark.parametrize(
    "name", ["x" * 250 + ".csv", "ä" * 127, "[red] \n'\"%s{}", "-", " ", "a." + "b" * 240]
)
def test_names_of_any_kind(tmp_path: Path, name: str) -> None:
    with whole_file(tmp_path / name) as temporary:
        temporary.write_text("x")
    assert os.listdir(tmp_path) == [name]
    with outputs.claimed_file(tmp_path / name, overwrite=True) as path:
        assert path.name == name
    assert os.listdir(tmp_path) == [name]


def test_what_a_killed_process_left_half_written_is_removed(tmp_path: Path) -> None:
    for name in ("curves.csv", "net.safetensors"):
        with whole_files([tmp_path / name]) as (temporary,):
            os.link(temporary, tmp_path / "kept")
            beside = tmp_path / temporary.name
        (tmp_path / "kept").rename(beside)
    assert len(os.listdir(tmp_path)) == 4
    mine = [".curves-notes.csv", ".net-0123456.safetensors"]
    for name in mine:
        (tmp_path / name).touch()
    for name in ("curves.csv", "net.safetensors"):
        files.sweep(tmp_path / name)
    assert sorted(os.listdir(tmp_path)) == sorted(["curves.csv", "net.safetensors", *mine])


def test_threads_that_write_leave_the_mask_of_the_process_alone(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:

        def write(number: int) -> int:
            with whole_file(tmp_path / f"{number}") as temporary:
                temporary.touch()
            return (tmp_path / f"{number}").stat().st_mode & 0o777

        with ThreadPoolExecutor(8) as executor:
            assert set(executor.map(write, range(300))) == {0o640}
    finally:
        assert os.umask(before) == 0o027
