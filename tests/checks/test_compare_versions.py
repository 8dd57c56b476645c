"""The comparison of two checkouts finds every planted difference; the checkouts are made up and quick."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from tests.checks.compare_versions import CASES, RECORD, differences, main
from tests.cli.command_line import ROOT

CSV = "site,sigma,accuracy\n0,0.5,0.81\n1,0.5,0.72\n"
PROVENANCE = "key,backend,machine,seconds,finished\nab,numpy,here,0.5,2026-01-01T00:00:00Z\n"
RUN = {
    "settings": {"epochs": 2, "sigma": [0.5, 1.0]},
    "versions": {"walking-noise": "0.1.0", "numpy": "2.4.6"},
    "machine": {"platform": "Linux-6", "cores": 2},
    "finished": "2026-01-01T00:00:00+00:00",
    "seconds": 5.25,
}


def network(version: str = "0.1.0", seed: int = 0, weight: float = 0.5) -> bytes:
    record = {"seeds": [seed], "record": {"versions": {"walking-noise": version, "numpy": "2.4.6"}}}
    tensors = {"fc1.bias": np.zeros((1, 3), np.float32), "fc1.weight": np.ones((1, 3, 4), np.float32)}
    tensors["fc1.weight"][0, 2, 1] = weight
    return save(tensors, {"wn": json.dumps(record, separators=(",", ":"))})


FILES = {
    "walk/curves.csv": CSV.encode(),
    "walk/curves.png": bytes(range(256)),
    "walk/run.json": json.dumps(RUN, indent=2).encode(),
    "tables/provenance.csv": PROVENANCE.encode(),
    "network.safetensors": network(),
    "printed.txt": "σ 3.2\nclean accuracy 0.81\n".encode(),
}


def replaced(old: str, new: str) -> Callable[[bytes], bytes]:
    def change(content: bytes) -> bytes:
        assert content.count(old.encode()) == 1
        return content.replace(old.encode(), new.encode())

    return change


# ---- what differs -----------------------------------------------------------------------------------------


def test_equal_files_do_not_differ() -> None:
    assert differences(FILES, dict(reversed(FILES.items()))) == []


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("walk/run.json", replaced('"finished": "2026', '"finished": "2027')),
        ("walk/run.json", replaced('"seconds": 5.25', '"seconds": 1e-05')),
        ("walk/run.json", replaced('"0.1.0"', '"0.10.0"')),
        ("walk/run.json", replaced("Linux-6", "Linux-7.1")),
        ("tables/provenance.csv", replaced("here,0.5,2026", "there,17.25,2027")),
        ("network.safetensors", lambda content: network(version="0.10.0-long")),
    ],
)
def test_time_and_place_are_no_difference(name: str, change: Callable[[bytes], bytes]) -> None:
    changed = change(FILES[name])
    assert changed != FILES[name]
    assert differences(FILES, FILES | {name: changed}) == []


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        ("walk/curves.png", lambda content: content[:77] + b"\0" + content[78:], "byte 77 of 256, 256"),
        ("walk/curves.png", lambda content: content[:-1], "byte 255 of 256, 255"),
        ("walk/curves.csv", replaced("0.72", "0.7200000001"), "line 3, column accuracy, '0.72', '0.7200"),
        (
            "walk/curves.csv",
            replaced("accuracy", "correct"),
            "line 1, column accuracy, 'accuracy', 'correct'",
        ),
        ("walk/curves.csv", replaced("1,0.5,0.72\n", ""), "line 3: only before"),
        ("walk/curves.csv", replaced("0.72\n", "0.72,1\n"), "line 3, column , '', '1'"),
        ("walk/curves.csv", replaced("0.72\n", "0.72\r\n"), "byte 41 of 42, 43"),
        ("walk/curves.csv", lambda content: b"", "line 1, column site, 'site', ''"),
        ("walk/curves.csv", lambda content: b"\xff" + content, "byte 0 of 42, 43"),
        ("walk/run.json", replaced("0.5", "0.75"), "line 5, '      0.5,\\n', '      0.75,\\n'"),
        ("walk/run.json", replaced("2.4.6", "2.4.7"), 'line 11, \'    "numpy": "2.4.6'),
        ("walk/run.json", replaced('"seconds": 5.25', '"time": 5.25'), 'line 18, \'  "seconds": -'),
        ("walk/run.json", replaced('"seconds": 5.25', '"seconds": "soon"'), "line 18"),
        ("tables/provenance.csv", replaced("numpy", "numba"), "line 2, column backend, 'numpy', 'numba'"),
        ("tables/provenance.csv", replaced("here", ""), "line 2, column machine, '-', ''"),
        ("tables/provenance.csv", replaced(",2026-01-01T00:00:00Z", ""), "byte"),
        (
            "network.safetensors",
            lambda content: network(weight=0.25),
            "fc1.weight[0, 2, 1]: 0.5, 0.25; 1 of 12",
        ),
        ("network.safetensors", lambda content: network(seed=1), "header, letter"),
        ("network.safetensors", lambda content: content[:-4], "byte "),
        ("network.safetensors", lambda content: b"", "header, "),
        ("printed.txt", replaced("3.2", "3.3"), "line 1, 'σ 3.2\\n', 'σ 3.3\\n'"),
        (
            "printed.txt",
            replaced("0.81\n", "0.81"),
            "line 2, 'clean accuracy 0.81\\n', 'clean accuracy 0.81'",
        ),
    ],
)
def test_a_planted_change_is_found(name: str, change: Callable[[bytes], bytes], told: str) -> None:
    changed = FILES | {name: change(FILES[name])}
    (line,) = differences(FILES, changed)
    assert line.startswith(f"{name}: {told}")
    assert len(differences(changed, FILES)) == 1


def test_every_byte_of_pictures_tables_and_numbers_counts() -> None:
    start = 8 + int.from_bytes(FILES["network.safetensors"][:8], "little")
    places = {"walk/curves.png": range(256), "walk/curves.csv": range(42)}
    places["network.safetensors"] = range(start, start + 60)
    for name, content in FILES.items():
        for place in places.get(name, ()):
            changed = content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
            assert len(differences(FILES, FILES | {name: changed})) == 1, (name, place)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_found(name: str) -> None:
    fewer = {other: content for other, content in FILES.items() if other != name}
    assert differences(FILES, fewer) == [f"{name}: only before"]
    assert differences(fewer, FILES) == [f"{name}: only after"]


# ---- the command, with checkouts that are made up ---------------------------------------------------------

PROGRAM = """
import sys
from pathlib import Path

words = sys.argv[1:]
out = Path(words[words.index("--out") + 1])
if words[0] == "train":
    out.write_text("NUMBER of " + words[words.index("--backend") + 1])
elif EXPORTS:
    out.write_text("exported")
print(words[0], "NUMBER")
"""
ONLY = ("--only", "train-mlp-additive/numpy")


def checkout(folder: Path, number: str = "0.5", exports: str = "True") -> str:
    (folder / "wn").mkdir(parents=True)
    (folder / "wn" / "__init__.py").write_text("")
    program = PROGRAM.replace("NUMBER", number).replace("EXPORTS", exports)
    (folder / "wn" / "__main__.py").write_text(program)
    return str(folder)


def test_equal_checkouts_are_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, after = checkout(tmp_path / "a"), checkout(tmp_path / "b")
    assert main(["--before", before, "--after", after, "--only", "train-mlp-additive"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1:3] + line.split()[-1:] for line in lines[3:5]] == [
        ["numpy", "3", "same"],
        ["numba", "3", "same"],
    ]
    assert lines[5] == "2 compared, 0 different, 0 left out for want of --mnist"
    assert sorted(path.name for path in (tmp_path / "b").rglob("*")) == ["__init__.py", "__main__.py", "wn"]


@pytest.mark.parametrize(
    ("number", "exports", "told"),
    [
        ("0.25", "True", "network.safetensors: "),
        ("0.25", "True", "printed.txt: line 2, 'train 0.5\\n', 'train 0.25\\n'"),
        ("0.5", "False", "member.safetensors: only before"),
        (
            "0.5",
            "None.x",
            "after: wn export results/network.safetensors --out results/member.safetensors: exit",
        ),
    ],
)
def test_a_checkout_that_differs_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], number: str, exports: str, told: str
) -> None:
    before, after = checkout(tmp_path / "a"), checkout(tmp_path / "b", number, exports)
    assert main(["--before", before, "--after", after, *ONLY]) == 1
    out = capsys.readouterr().out
    assert f"    {told}" in out
    assert out.endswith("1 compared, 1 different, 0 left out for want of --mnist\n")


def test_what_fails_on_both_sides_is_not_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = checkout(tmp_path / "a", exports="None.x")
    assert main(["--before", broken, "--after", broken, *ONLY, "--keep", str(tmp_path / "kept")]) == 1
    out = capsys.readouterr().out
    assert out.count("exit code 1: AttributeError") == 2
    assert not (tmp_path / "kept").exists()


def test_kept_results_stand_for_their_checkout(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, other, kept = checkout(tmp_path / "a"), checkout(tmp_path / "b", "0.25"), str(tmp_path / "kept")
    assert main(["--before", before, "--after", before, *ONLY, "--keep", kept]) == 0
    assert main(["--before", kept, "--after", before, *ONLY]) == 0
    assert main(["--before", kept, "--after", other, *ONLY]) == 1
    assert "'train 0.5\\n', 'train 0.25\\n'" in capsys.readouterr().out
    assert main(["--before", kept, "--after", before, "--only", "train-lenet5*/numpy"]) == 1
    assert "before: not kept" in capsys.readouterr().out
    record = tmp_path / "kept" / "train-mlp-additive" / "numpy" / RECORD
    record.write_text(record.read_text().replace("additive", "multiplicative"))
    assert main(["--before", kept, "--after", before, *ONLY]) == 1
    assert "before: kept with other commands" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--only", "no-such-case"], "cases are walk, walk-multiplicative, "),
        (["--only", "*mnist*"], "--mnist is missing"),
        (["--mnist", "nowhere"], "--mnist: nowhere is no folder"),
        (["--after", "nowhere", *ONLY], "nowhere: neither a checkout nor results"),
    ],
)
def test_mistakes_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], told: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--before", checkout(tmp_path / "a"), *arguments])
    assert ended.value.code == 2
    assert told in capsys.readouterr().err


def test_cases_have_names_and_backends_of_their_own() -> None:
    assert len({case.name for case in CASES}) == len(CASES)
    for case in CASES:
        assert case.lines("numpy") != case.lines("numba")
        assert "BACKEND" not in " ".join(case.lines("numba"))


def test_it_runs_as_a_command(tmp_path: Path) -> None:
    before, after = checkout(tmp_path / "a"), checkout(tmp_path / "b", "0.25")
    line = [
        sys.executable,
        str(ROOT / "tests/checks/compare_versions.py"),
        "--before",
        before,
        *ONLY,
        "--after",
    ]
    for other, code in ((before, 0), (after, 1)):
        assert (
            subprocess.run([*line, other], cwd=tmp_path, capture_output=True, check=False).returncode == code
        )
