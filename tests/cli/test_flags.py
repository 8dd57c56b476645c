"""Flags as text: what has two readings, what is given twice, and what only looks like a number."""

from pathlib import Path

import pytest

from tests.cli.command_line import one_line, run


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("walk --sigma 0,5", "write 0.5 or 0.0,5.0"),
        ("walk --sigma 0,1,0,2,0,3", "write 0.1,0.2,0.3"),
        ("train --noise additive --sigma 0,5", "'0,5' is no number: write 0.5"),
        ("walk --lr 0,001", "'0,001' is no number: write 0.001"),
        ("walk --mean 0,5", "write 0.5"),
        ("walk --ratio 0,5", "write 0.5"),
        ("walk --epochs 1_0", "'1_0' is no whole number: write 10"),
        ("walk --repeats 1,5", "'1,5' is no whole number"),
        ("walk --seed \uff15", "write 5"),
        ("models lenet5 --input-shape 1,2_8,28", "channels,height,width"),
    ],
)
def test_a_number_has_one_form_in_every_flag(
    line: str, part: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kind: a flag that is read as another number than the one that was meant."""
    monkeypatch.chdir(tmp_path)
    outcome = run(*line.split())
    assert outcome.code == 2
    assert part in one_line(outcome)


@pytest.mark.parametrize(
    ("line", "flag"),
    [
        ("walk --sigma 1 --sigma 2", "--sigma"),
        ("walk -m mlp --seed=1 --model=lenet5", "--model"),
        ("walk --clamp --clamp", "--clamp"),
        ("walk -omine --out yours", "--out"),
        ("models lenet5 --batch-norm none --batch-norm sites", "--batch-norm"),
        ("export none --member 0 --member 1", "--member"),
        ("data check mnist --data-dir a --data-dir b", "--data-dir"),
        ("study run x.toml --workers 1 --workers 2", "--workers"),
    ],
)
def test_a_flag_is_given_once(line: str, flag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kind: of two values of one key the last one would win without a word."""
    monkeypatch.chdir(tmp_path)
    outcome = run(*line.split())
    assert outcome.code == 2
    assert one_line(outcome) == f"wn: {flag} is given twice: give it once\n"


@pytest.mark.parametrize("line", ["walk --out --sigma --sigma -1", "walk --phase -m --sigma=-1 -m mlp-8"])
def test_values_that_look_like_flags_are_values(line: str) -> None:
    outcome = run(*line.split())
    assert outcome.code == 2
    assert "twice" not in one_line(outcome)


@pytest.mark.parametrize(
    "line", ["walk --out|", "train -o|", "export x --out=", "walk --data-dir|", "study run x --backend|"]
)
def test_an_empty_value_is_no_folder(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kind: a shell variable that is not set, read as the current folder."""
    monkeypatch.chdir(tmp_path)
    outcome = run(
        *(word for part in line.split() for word in ([part[:-1], ""] if part[-1] == "|" else [part]))
    )
    assert outcome.code == 2
    assert "is empty: give it a value, or leave it out" in one_line(outcome)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (("--learning-rate", "0.1"), "did you mean --lr?"),
        (("--sites", "3"), "did you mean --where?"),
        (("net.safetensors",), "a network in a file is --network FILE"),
        (("net.onnx",), "a network in a file is --network FILE"),
        (("mine.npz",), "a data set in a file is --data FILE"),
        (("--dataset", "mine.npz"), "give a file as data"),
    ],
)
def test_what_was_meant_is_said(words: tuple[str, ...], meant: str) -> None:
    assert meant in one_line(run("walk", *words))
