"""The command line: flags, files, exit codes, and one line for whatever goes wrong."""

import errno
import inspect
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import wn
from tests.cli.command_line import ROOT, one_line, process, run
from tests.walking.saved.networks import made
from tests.walking.test_results import FILES
from wn.cli import main as cli
from wn.walking import api
from wn.walking.pictures import plots
from wn.walking.settings import SingleSettings, WalkSettings

README = (ROOT / "README.md").read_text(encoding="utf-8")
LIMITS = "--train-limit 1000 --test-limit 300 --epochs 2"
TINY = f"{LIMITS} --where 7 --sigma 0.1,1,10 --phase inference".split()
FLAGS = """
    --dataset --model --batch-norm --noise --where --phase --sigma --epochs --repeats --seed --backend --dtype
    --train-limit --test-limit --out --data-dir --clamp --repetitions --normalize-to-input-size
"""


@pytest.fixture
def _no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("plot_curves", "plot_midpoints"):
        monkeypatch.setattr(plots, name, lambda _result, path: path.write_bytes(b"picture"))


# ---- help -----------------------------------------------------------------------------------------------


def test_the_package_can_be_run_as_a_module() -> None:
    command = [sys.executable, "-m", "wn", "models", "--backend"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("wn: No such option: --backend")


def test_help_of_the_main_job_explains_its_flags() -> None:
    code, out, err = run("walk", "--help")
    assert (code, err) == (0, "")
    assert [flag for flag in FLAGS.split() if f" {flag} " not in out] == []
    words = (
        "site",
        "midpoint",
        "clean",
        "FIRST:LAST:COUNT",
        "curves.csv",
        "run.json",
        "fashion-mini",
        "lin:0:6:16",
    )
    assert [word for word in words if word not in out] == []
    assert "Examples:" in out
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize(
    "command",
    ["walk", "train", "models", "export", "import", "data", "data list", "data fetch", "data check"],
)
def test_every_command_has_help(command: str) -> None:
    code, out, err = run(*command.split(), "--help")
    assert (code, err) == (0, "")
    assert f"Usage: wn {command}" in out
    assert len(out.splitlines()) > 5


@pytest.mark.parametrize("command", ["", "data"])
def test_without_arguments_there_is_help(command: str) -> None:
    code, out, err = run(*command.split())
    assert (code, err) == (2, "")
    assert "Usage: wn" in out


def test_version() -> None:
    assert run("--version") == (0, f"wn {wn.__version__}\n", "")


@pytest.mark.parametrize(("command", "kind"), [(cli.walk, WalkSettings), (cli.train, SingleSettings)])
def test_flags_and_settings_are_the_same(command: Any, kind: Any) -> None:
    """Every setting has its flag with the same default, and no flag is without a setting."""
    names = {"lr": "learning_rate", "clamp": "clamp_weights"}
    flags = {
        names.get(name, name): parameter.default
        for name, parameter in inspect.signature(command).parameters.items()
        if name not in ("context", "out", "overwrite")
    }
    default = kind()
    of_records = ("factors", "network_sha256", "data_sha256", "architecture")
    wanted = {name: getattr(default, name) for name in kind.__struct_fields__ if name not in of_records}
    if kind is WalkSettings:
        wanted |= {"evaluation_batch": None, "network": None}  # not given: the default of the settings
        wanted |= {"predict": False, "predict_images": 1000}  # at which records say nothing of them
    wanted |= {"distribution": "normal", "data": None}  # of which records say nothing
    assert flags == wanted


def examples() -> list[str]:
    commands = (cli.walk, cli.train, cli.evaluate, cli.predict)
    pages = [inspect.getdoc(command) or "" for command in commands] + [README]
    lines = [line.strip() for page in pages for line in page.splitlines()]
    return sorted({line for line in lines if re.match(r"wn (walk|train|evaluate|predict) [-n]", line)})


@pytest.mark.parametrize("line", examples())
def test_examples_of_help_and_readme_are_accepted(
    line: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class AcceptedError(Exception):
        pass

    def accept(*_: Any, **__: Any) -> None:
        raise AcceptedError

    monkeypatch.chdir(tmp_path)
    if named := re.search(r"^wn (?:walk --network|predict --network|evaluate) (\S+)", line):
        made(tmp_path, {"data": {"name": "fashion-mini"}}, "mlp-64").rename(named[1])
    monkeypatch.setattr("wn.walking.walk.Walk.jobs", accept)
    monkeypatch.setattr("wn.walking.walk.Walk.predict_at_inference", accept)
    monkeypatch.setattr("wn.engine.training.train", accept)
    mini = line.replace("-d mnist", "").replace("--dataset mnist", "")  # which is not here for sure
    with pytest.raises(AcceptedError):
        cli.main(shlex.split(mini)[1:])


def test_there_are_examples() -> None:
    assert len(examples()) >= 6


# ---- walks ----------------------------------------------------------------------------------------------


def test_a_walk_writes_its_files_and_prints_midpoints(tmp_path: Path) -> None:
    out = tmp_path / "new" / "out"
    code, printed, progress = run("walk", *TINY, "--out", out)
    assert code == 0
    assert sorted(os.listdir(out)) == FILES
    assert re.search(r"│ +7 │ logits │ +[\d.]+ \[[\d.]+, ([\d.]+|∞)\] │", printed)
    assert "clean accuracy" in printed
    assert "[95 % interval]" in printed
    assert all(name in printed for name in FILES)
    assert str(out) in printed
    assert "walking: 100 % (2 of 2 network-epochs)" in progress
    assert "\x1b" not in printed + progress
    asked = json.loads((out / "run.json").read_text())["asked"]
    assert (asked["where"], asked["sigma"], asked["phase"], asked["train_limit"]) == (
        [7],
        "0.1,1,10",
        "inference",
        1000,
    )


@pytest.mark.usefixtures("_no_pictures")
def test_results_of_another_run_are_kept_unless_asked(tmp_path: Path) -> None:
    assert run("walk", *TINY, "--out", tmp_path).code == 0
    curves = (tmp_path / "curves.csv").read_bytes()
    assert run("walk", *TINY, "--out", tmp_path, "--threads", "1").code == 0  # the same numbers
    assert (tmp_path / "curves.csv").read_bytes() == curves
    refused = run("walk", *TINY, "--seed", "1", "--out", tmp_path)
    assert refused.code == 2
    assert "holds the results of another run: choose another --out, or --overwrite" in one_line(refused)
    assert (tmp_path / "curves.csv").read_bytes() == curves
    assert run("walk", *TINY, "--seed", "1", "--out", tmp_path, "--overwrite").code == 0
    assert (tmp_path / "curves.csv").read_bytes() != curves


@pytest.mark.usefixtures("_no_pictures")
def test_flags_reach_the_walk(tmp_path: Path) -> None:
    line = (
        "-d fashion-mini -m lenet5 --batch-norm hidden -n mixed --ratio 0.2 --order add_mul --mean-add 0.1 "
        "--mean-mul 1.5 --normalize-to-input-size -R 2 --execution each --epochs 1 --batch-size 50 --lr 0.01 "
        "--clamp --repeats 1 --seed 9 --backend numpy --dtype float64 --threads 1 --evaluation-batch 256 "
        "--train-limit 50 --test-limit 40 --where 0:0.5,3:2 --phase inference --sigma lin:0:2:3"
    )
    assert run("walk", *line.split(), "--out", tmp_path).code == 0
    asked = json.loads((tmp_path / "run.json").read_text())["asked"]
    wanted = {
        "dataset": "fashion-mini",
        "model": "lenet5",
        "batch_norm": "hidden",
        "noise": "mixed",
        "ratio": 0.2,
        "order": "add_mul",
        "mean_add": 0.1,
        "mean_mul": 1.5,
        "normalize_to_input_size": True,
        "repetitions": 2,
        "execution": "each",
        "epochs": 1,
        "batch_size": 50,
        "learning_rate": 0.01,
        "clamp_weights": True,
        "repeats": 1,
        "seed": 9,
        "backend": "numpy",
        "dtype": "float64",
        "threads": 1,
        "evaluation_batch": 256,
        "train_limit": 50,
        "test_limit": 40,
        "where": "mapped",
        "factors": {"0": 0.5, "3": 2.0},
        "phase": "inference",
        "sigma": "lin:0:2:3",
    }
    assert {key: value for key, value in asked.items() if value is not None} == wanted
    rows = (tmp_path / "curves.csv").read_text().splitlines()
    assert [row.split(",")[7:10] for row in rows[1:]] == [
        ["-2", "mapped", sigma] for sigma in ("0.0", "1.0", "2.0")
    ]


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("walk --foo", "--foo"),
        ("walk stray", "stray"),
        ("stroll", "'stroll'"),
        ("walk --epochs", "--epochs"),
        ("walk --epochs many", "--epochs"),
        ("walk --epochs 0", "epochs is 0"),
        ("walk --epochs 1.5", "--epochs"),
        ("walk --lr nan", "learning_rate is nan"),
        ("walk --dataset imagenet", "'imagenet'"),
        ("walk --model resnet", "lenet5"),
        ("walk --batch-norm maybe", "none, sites, hidden"),
        ("walk --noise salt", "additive, multiplicative"),
        ("walk --where 99", "7 logits"),
        ("walk --where -1", "no site -1"),
        ("walk --where here", "each, global, sites such as 0,3,7"),
        ("walk --where 0:1:2", "0:0.5,3:2"),
        ("walk --where 0:1,0:2", "names a site twice"),
        ("walk --where 0:-1", "factor of site 0 is -1"),
        ("walk --where 0:nan", "factor of site 0 is nan"),
        ("walk --where 1,,2", "can't be read"),
        ("walk --phase later", "inference, training, both"),
        ("walk --sigma 1:0:3", "FIRST"),
        ("walk --sigma=-1", "≥ 0"),
        ("walk --sigma nan", "finite"),
        ("walk --noise mixed --ratio 2", "ratio"),
        ("walk --ratio 0.5", "ratio"),
        ("walk --repeats 0", "repeats is 0"),
        ("walk --threads 0", "threads is 0"),
        ("walk --seed -1", "seed"),
        ("walk --backend abacus", "allowed are numpy, numba"),
        ("walk --dtype float8", "float32, float64"),
        ("walk --train-limit 0", "1 to 10000"),
        ("walk --test-limit 9999", "1 to 2000"),
        ("walk --out {file}", "is a file"),
        ("walk --out {file}/below", "is a file"),
        ("train --out {file}", "exists"),
        ("train --out {file}/below/x", "is a file"),
        ("train --out {folder} --overwrite", "is a folder"),
        ("train --where each", "walks"),
        ("train --noise additive", "needs a sigma"),
        ("train --repeats 3", "--repeats"),
        ("models resnet", "'resnet'"),
        ("models lenet5 --input-shape 1,4,4", "conv1"),
        ("models lenet5 --input-shape big", "'big'"),
        ("models --classes 3", "name of a network"),
        ("data", ""),
        ("data sell", "'sell'"),
        ("data check", "name"),
        ("data check imagenet", "fashion-mini"),
        ("data fetch imagenet", "fashion-mini"),
        ("export {folder}/none", "no such file"),
        ("export {file}", "empty"),
        ("export {file} --all --member 2", "--all"),
        ("export", "source"),
        ("import {file}", "--model"),
        ("import {file} --model lenet5 --out {folder}/new", "empty"),
        ("import {file} --model resnet", "'resnet'"),
    ],
)
def test_bad_input_ends_with_one_line_and_code_2(
    line: str, part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    outcome = run(*line.format(file=tmp_path / "file", folder=tmp_path).split())
    assert outcome.code == 2
    if line != "data":  # which shows its help instead
        assert part in one_line(outcome)
    assert os.listdir(tmp_path) == ["file"]


# ---- what may happen meanwhile --------------------------------------------------------------------------


def test_interruption_leaves_nothing_and_says_so(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with process("walk", "--epochs", "100000", "--train-limit", "500", "--out", str(out)) as child:
        assert child.stderr is not None
        first = child.stderr.readline()  # comes when a network has finished its first epoch
        child.send_signal(signal.SIGINT)
        printed, complaint = child.communicate(timeout=300)
    assert first.startswith("walking: 0 %")
    assert child.returncode == 130
    assert printed == ""
    assert complaint.splitlines()[-1] == "wn: interrupted"
    assert "Traceback" not in complaint
    assert "Exception" not in complaint
    assert list(out.iterdir()) == []
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize("where", ["walk", "check_out_folder"])
def test_interruption_at_any_time_has_code_130(
    where: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(api, where, interrupt)
    outcome = run("walk", "--out", tmp_path / "out")
    assert outcome.code == 130
    assert one_line(outcome) == "wn: interrupted\n"
    assert os.listdir(tmp_path) == []


def test_a_full_disk_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def full(_result: Any, path: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(plots, "plot_curves", full)
    code, out, err = run("walk", *TINY, "--out", tmp_path)
    assert code == 1
    assert " ".join(err.splitlines()[-1].split()) == f"wn: {tmp_path}/curves.png: No space left on device"
    assert "Midpoint σ" in out  # what was found is not lost
    assert out.endswith(
        f"Wrote curves.csv, midpoints.csv, weights.csv, signal.csv, run.json to {tmp_path}/\n"
    )
    assert sorted(os.listdir(tmp_path)) == [
        "curves.csv",
        "midpoints.csv",
        "run.json",
        "signal.csv",
        "weights.csv",
    ]


@pytest.mark.usefixtures("_no_pictures")
def test_results_that_another_run_has_written_meanwhile_are_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The later one goes to a folder beside it: what took long to compute is not thrown away."""
    out, original = tmp_path / "out", api.walk

    def walk(*given: Any) -> Any:
        found = original(*given)
        (out / "run.json").write_text("of another run")
        return found

    monkeypatch.setattr(api, "walk", walk)
    code, printed, err = run("walk", *TINY, "--out", out)
    assert code == 0
    assert f"{out} holds the results of another run" in err
    assert printed.endswith(f" to {out}-2/\n")
    assert sorted(os.listdir(tmp_path / "out-2")) == FILES
    assert (out / "run.json").read_text() == "of another run"


@pytest.mark.parametrize("flags", ["--noise foo", "--seed -1", "--epochs 0", "--backend abacus", "-d foo"])
@pytest.mark.parametrize("command", ["walk", "train"])
def test_bad_flags_are_told_before_files_that_are_in_the_way(
    command: str, flags: str, tmp_path: Path
) -> None:
    (tmp_path / "run.json").write_text("{}")
    out = tmp_path if command == "walk" else tmp_path / "run.json"
    outcome = run(command, *flags.split(), "--out", out)
    assert outcome.code == 2
    assert flags.split()[1] in one_line(outcome)
    assert "--out" not in outcome.err
