"""Outputs are claimed before the work, appear whole, and are never lost.

The kind: everything that commands and the Python API write (folders of walks, networks, exported members,
tables, pictures, study files) while others write the same, or where it can't be written.
"""

import errno
import json
import os
import re
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command_line import one_line, run
from tests.engine.populations import example
from tests.walking.test_results import FILES, result
from wn.engine.files import checkpoint, exchange
from wn.files import outputs
from wn.files import whole as files
from wn.files.claims import NAME
from wn.files.outputs import AlreadyThere
from wn.walking import api
from wn.walking.pictures import plots
from wn.walking.report import walks
from wn.walking.results import PICTURES, WalkResult

LINE = "--train-limit 200 --test-limit 100 --epochs 1 --sigma 1.0,10.0 --where 7 --phase inference"
TINY = LINE.split()


@pytest.fixture(autouse=True)
def _quick_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    def draw(tables: plots.Tables, path: Path) -> None:
        column = "seed" if tables.curves["seed"][0] < 2**63 else "correct"  # of a walk, or of `saved`
        path.write_text(json.dumps({"seed": int(tables.curves[column][0])}))

    for name in ("plot_curves", "plot_midpoints"):
        monkeypatch.setattr(plots, name, draw)
    monkeypatch.setattr(walks, "write_report", lambda tables, run, path: draw(tables, path))


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outputs, "PATIENCE", 0.1)


def run_of(seed: int) -> dict[str, Any]:
    return {"command": "walk", "asked": {"seed": seed}}


def saved(seed: int) -> WalkResult:
    """A result whose tables and pictures all say of which seed they are."""
    found = result(correct=seed)
    return WalkResult(found.curves, found.midpoints, found.reasons, run_of(seed))


def seed_in(folder: Path) -> int:
    """The seed of the results in a folder, which must be whole and of one run."""
    assert sorted(os.listdir(folder)) == FILES
    seed = json.loads((folder / "run.json").read_text())["asked"]["seed"]
    assert {row.split(",")[11] for row in (folder / "curves.csv").read_text().splitlines()[1:]} == {str(seed)}
    for name in PICTURES:
        assert json.loads((folder / name).read_text())["seed"] == seed
    assert isinstance(seed, int)
    return seed


# ---- several at once, from Python ------------------------------------------------------------------------


def test_results_that_threads_save_to_one_folder_are_all_there(tmp_path: Path) -> None:
    """None lost, none mixed, and the paths returned say where each is."""
    with ThreadPoolExecutor(8) as executor:
        paths = list(executor.map(lambda seed: saved(seed).save(tmp_path / "out"), range(8)))
    folders = [found[0].parent for found in paths]
    assert [seed_in(folder) for folder in folders] == list(range(8))
    assert {folder.name for folder in folders} == {"out", *(f"out-{number}" for number in range(2, 9))}
    assert sorted(os.listdir(tmp_path)) == sorted(folder.name for folder in folders)


def test_the_same_run_goes_where_it_was(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    out = tmp_path / "out"
    saved(1).save(out)
    saved(1).save(out)
    assert (os.listdir(tmp_path), caplog.messages) == (["out"], [])
    for _ in range(2):
        assert saved(2).save_tables(out)[0].parent == tmp_path / "out-2"
        assert saved(2).save_pictures(out)[0].parent == tmp_path / "out-2"
    assert (seed_in(out), seed_in(tmp_path / "out-2")) == (1, 2)
    told = f"{out} holds the results of another run; written to {tmp_path / 'out-2'} instead"
    assert caplog.messages == [told] * 4
    saved(3).save(out, overwrite=True)
    assert seed_in(out) == 3


@pytest.mark.usefixtures("patience")
def test_a_folder_that_a_walk_has_claimed_is_left_to_it(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with outputs.claimed_folder(out):
        assert saved(1).save(out, overwrite=True)[0].parent == tmp_path / "out-2"
    assert os.listdir(tmp_path) == ["out-2"]


def test_networks_that_threads_save_to_one_file_are_all_there(tmp_path: Path) -> None:
    network, population = example("mlp-8", "none")

    def save(seed: int) -> Path:
        trained = api.Trained(network, population._replace(seeds=(seed, seed)), {}, 1, {"seed": seed})
        return trained.save(str(tmp_path / "new" / "net.safetensors"))

    with ThreadPoolExecutor(8) as executor:
        paths = list(executor.map(save, range(8)))
    names = {"net.safetensors", *(f"net-{number}.safetensors" for number in range(2, 9))}
    assert {path.name for path in paths} == names == set(os.listdir(tmp_path / "new"))
    assert [checkpoint.load(path).record["seed"] for path in paths] == list(range(8))


def test_exported_members_are_not_replaced_by_those_of_another(tmp_path: Path) -> None:
    network, population = example("mlp-8", "none")
    checkpoint.save(tmp_path / "net", network, population, {})

    def export(_: int) -> int:
        try:
            return len(exchange.export_members(tmp_path / "net", tmp_path / "members"))
        except AlreadyThere:
            return 0

    with ThreadPoolExecutor(4) as executor:
        counts = sorted(executor.map(export, range(4)))
    assert counts == [0, 0, 0, len(population.seeds)]
    assert len(os.listdir(tmp_path / "members")) == len(population.seeds)


# ---- places that can't be had ----------------------------------------------------------------------------


def link_to_nowhere(folder: Path) -> Path:
    (folder / "link").symlink_to(folder / "gone")
    return folder / "link"


def loop_of_links(folder: Path) -> Path:
    (folder / "loop").symlink_to("loop")
    return folder / "loop"


PLACES: dict[str, tuple[Any, str]] = {
    "link to nowhere": (link_to_nowhere, "is a link to "),
    "below a link to nowhere": (lambda folder: link_to_nowhere(folder) / "x" / "y", "is a link to "),
    "below a file": (lambda folder: folder / "file" / "x", "is a file, not a folder"),
    "name too long": (lambda folder: folder / ("x" * 256), "File name too long"),
    "a loop of links": (loop_of_links, "link"),
}


@pytest.mark.parametrize(
    "command", ["walk", "train", "export", "export --all", "import", "study import-seml"]
)
@pytest.mark.parametrize("case", PLACES)
def test_a_place_that_cannot_be_had_is_told_before_the_work(
    command: str, case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("the work has begun")

    for name in ("walk", "train"):
        monkeypatch.setattr(api, name, never)
    (tmp_path / "file").touch()
    network, population = example("mlp-8", "none")
    checkpoint.save(tmp_path / "net", network, population, {})
    exchange.export_member(tmp_path / "net", 0, tmp_path / "member")
    (tmp_path / "seml.yaml").write_text("fixed: {}")
    source = {"export": "net", "export --all": "net", "import": "member", "study import-seml": "seml.yaml"}
    model = ["--model", "mlp-8"] if command == "import" else []
    if command == "study import-seml":
        monkeypatch.setattr("wn.study.seml.convert.import_seml", lambda *_, **__: import_seml_of("x"))
    make, part = PLACES[case]
    out = make(tmp_path)
    before = sorted(os.listdir(tmp_path))
    words = [str(tmp_path / source[command])] if command in source else []
    outcome = run(*command.split(), *words, *model, "--out", out)
    assert outcome.code == 2
    assert part in one_line(outcome)
    assert sorted(os.listdir(tmp_path)) == before


def import_seml_of(toml: str) -> Any:
    from wn.study.seml.convert import Imported, ImportedFile, Units

    file = ImportedFile("seml.yaml", runs=1, duplicates=0, left_out=0)
    return Imported(toml, files=(file,), units=Units(1, 1), apart=Units(1, 1), notes=())


def test_a_device_is_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for flags in ([], ["--overwrite"]):
        outcome = run("train", "--out", tmp_path / "pipe", *flags)
        assert outcome.code == 2
    assert "is a device, a pipe or the like" in one_line(outcome)


def test_a_folder_in_the_place_of_a_file_is_told_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "midpoints.png").mkdir()
    outcome = run("walk", *TINY, "--out", tmp_path, "--overwrite")
    assert outcome.code == 2
    assert "midpoints.png is a folder, not a file" in one_line(outcome)


# ---- a place lost during the work ------------------------------------------------------------------------


@pytest.fixture
def temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def full(path: Path) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


@pytest.fixture
def full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on a disk that gets full after the claim: no new file can be made."""
    original = files._new_file

    def new_file(path: Path) -> Path:
        if "disk" in path.parts:
            full(path)
        return original(path)

    monkeypatch.setattr(files, "_new_file", new_file)
    (tmp_path / "disk").mkdir()
    return tmp_path / "disk"


def test_a_walk_whose_disk_is_full_is_written_elsewhere(full_disk: Path, temporary_folder: Path) -> None:
    code, out, err = run("walk", *TINY, "--out", full_disk / "out")
    assert code == 1
    (name,) = os.listdir(temporary_folder)
    place = temporary_folder / name
    assert err.splitlines()[-1] == (
        f"wn: {full_disk}/out/curves.csv: No space left on device; written to {place} instead"
    )
    assert sorted(os.listdir(place)) == FILES
    assert out.endswith(
        "Wrote curves.csv, midpoints.csv, weights.csv, signal.csv, run.json, curves.png, midpoints.png, "
        f"report.html to {place}/\n"
    )
    assert os.listdir(full_disk) == []


def test_a_walk_that_can_be_written_nowhere_is_printed(
    full_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(full_disk))
    code, out, err = run("walk", *TINY, "--out", full_disk / "out")
    assert code == 1
    assert "No space left on device" in err.splitlines()[-1]
    assert len(re.findall(r"fashion-mini,mlp,none,additive,0,\w+,inference,7,logits,", out)) == 2


def test_a_network_whose_disk_is_full_is_written_elsewhere(full_disk: Path, temporary_folder: Path) -> None:
    limits = ["--train-limit", "100", "--test-limit", "50", "--epochs", "1"]
    code, out, err = run("train", *limits, "--out", full_disk / "net")
    (name,) = os.listdir(temporary_folder)
    assert code == 1
    assert err.splitlines()[-1].endswith(f"; written to {temporary_folder / name / 'net'} instead")
    assert f"Wrote {temporary_folder / name / 'net'}" in out
    assert checkpoint.load(temporary_folder / name / "net").population.params[1].w.size


def test_a_folder_that_was_removed_meanwhile_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = api.walk

    def walk(*given: Any) -> Any:
        found = original(*given)
        (tmp_path / "out" / NAME).unlink()
        (tmp_path / "out").rmdir()
        return found

    monkeypatch.setattr(api, "walk", walk)
    assert run("walk", *TINY, "--out", tmp_path / "out").code == 0
    assert sorted(os.listdir(tmp_path / "out")) == FILES


def test_a_file_that_turned_up_meanwhile_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original, out = api.train, tmp_path / "net.safetensors"

    def train(*given: Any) -> Any:
        out.write_text("mine")
        return original(*given)

    monkeypatch.setattr(api, "train", train)
    code, printed, err = run(
        "train", "--train-limit", "100", "--test-limit", "50", "--epochs", "1", "-o", out
    )
    assert code == 0
    assert out.read_text() == "mine"
    assert f"{out} exists: saved to {tmp_path / 'net-2.safetensors'} instead" in err
    assert f"Wrote {tmp_path / 'net-2.safetensors'}" in printed
    assert checkpoint.load(tmp_path / "net-2.safetensors")
