"""The check of the authors' files: what it says of a checkout that is none, or differs from the facts."""

from pathlib import Path

import pytest

from tests.checks.authors_files import main, problems
from tests.study.seml import authors
from tests.study.seml.files import HEAD


def test_a_checkout_is_needed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], [str(tmp_path)], [str(tmp_path), str(tmp_path)]):
        assert main(arguments) == 2
        assert capsys.readouterr().out.startswith("usage: ")


def test_differences_are_named(tmp_path: Path) -> None:
    """A file of the authors' name with other runs, and one that they don't have."""
    folder = tmp_path / "MNIST"
    folder.mkdir()
    for name in ("mlp_no_noise_experiment", "mine_no_noise"):
        (folder / f"{name}.yaml").write_text(HEAD, encoding="utf-8")
    found = list(problems(tmp_path))
    assert "MNIST/mlp_no_noise_experiment.yaml: 1 runs, and 60 in the facts" in found
    assert "MNIST/mine_no_noise.yaml: not among the facts" in found
    assert "2 files with 2 runs, and 52 with 635120 are expected" in found
    assert "clean: 0 units of the files are not in the preset, and 503 the reverse" in found


def test_facts_are_written_as_they_are_read(tmp_path: Path) -> None:
    """Long lists are wrapped, and runs that differ in nothing that is read are counted."""
    from tests.checks.authors_files import _read

    folder = tmp_path / "experiment_configs"
    folder.mkdir()
    ratios = ", ".join(f"0.{number}" for number in range(100, 140))
    text = HEAD.replace("noise_type: NoNoise", "noise_type: GaussCombined")
    text += f"""
grid:
  general.comment: {{ type: choice, options: [a, b] }}
  noise_settings.default.StdRatio: {{ type: choice, options: [{ratios}] }}
"""
    path = folder / "global_noise.yaml"
    path.write_text(text, encoding="utf-8")
    written = authors.written([path], folder, _read)
    (file,) = authors.tables(written)
    assert (file["runs"], file["again"], authors.runs_of(file)) == (80, 40, 80)
    assert len(file["noise"][0]["ratio"]) == 40
    assert max(map(len, written.splitlines())) < 120
