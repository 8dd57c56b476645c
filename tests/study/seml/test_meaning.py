"""Parameters without a place in a study: those that may make another experiment leave their runs out."""

from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from tests.cli.command_line import one_line, run
from tests.study.seml.files import HEAD, NOISE, STD, grid, noisy
from wn.study import parse_study, planned_facts
from wn.study.seml.convert import Imported, import_seml
from wn.study.unit import CLEAN
from wn.study.units import sigma_grids


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "experiment.yaml"


@pytest.mark.parametrize(
    "parameter",
    [
        "optimizer.weight_decay: 1e-4",
        "optimizer.gradient_reg: 0.1",
        "optimizer.momentum: 0.9",
        "general.enable_sam: True",
        "{ general.enable_sam: True, general.sam_rho: 0.05 }",
        "general.enable_awp: 1",
        "general.adv_type: PGD",
        "general.topk: 5",
        "model.MLP.dropout: 0.5",
        "model.distill: { is_enabled: True, T: 2 }",
        "noise_settings.is_noisyweight: True",
        "noise_settings.param_sigma: { init_Std: 0.1 }",
        f"{NOISE}.GaussStd_in_training: 0.3",
        f"{NOISE}.Std_of_GaussStd_in_training: 0.3",
        "sam: { rho: 0.05 }",
        "weight_noise.std: 0.1",
        "+config: augmented",
        "data.augmentation: flip",
        "loss.name: focal",
        "optimizer.scheduler.name: step",
        "noise_settings.device: pcm",
        "optimizer.overwrite: True",
        "model.seed: 3",
        "data.notes: rotated",
        "noise_settings.workers: 3",
    ],
)
def test_what_may_be_another_experiment_is_left_out(file: Path, parameter: str) -> None:
    """The kind: a parameter that changes what is computed, while the run would stay as if it did not.

    3 σ each: `bad` is left out with the parameter and its value, and exit code 1 says that something was.
    """
    block = parameter if parameter.startswith("{") else f"{{ {parameter} }}"
    extra = f"good: {{ fixed: {{ general.experiment_name: x }} }}\nbad: {{ fixed: {block} }}\n"
    found, spec = grid(file, "type: choice, options: [1, 2, 3]", extra)
    assert (found.runs, found.left_out, noisy(spec)) == (6, 3, 3)
    (note,) = (note for note in found.notes if "left out" in note)
    assert note.startswith("bad: left out, 3 runs: ")
    assert "may make another experiment" in note
    outcome = run("study", "import-seml", file)
    assert outcome.code == 1
    assert outcome.out.endswith("the original has 6 runs, 3 of them left out\n")
    assert f"note: {note}" in outcome.err


def test_a_switch_that_is_off_changes_nothing(file: Path) -> None:
    """Of 3 σ × 2 weight decays those with 0 stay, as do options of a switch that is off."""
    extra = "  optimizer.weight_decay: { type: choice, options: [0, 1e-4] }\n"
    off = "sub: { fixed: { general: { enable_sam: False, sam_rho: 0.05, adv_type: NoAdv } } }\n"
    found, spec = grid(file, "type: choice, options: [1, 2, 3]", extra + off)
    assert (found.runs, found.left_out, noisy(spec)) == (6, 3, 3)


def test_options_that_the_published_code_passes_over_change_nothing(file: Path) -> None:
    extra = f"""
sub:
  fixed:
    {NOISE}: {{ StdRatio: 0.1, print_debug_output: True }}
    model: {{ LeNet: {{ conf_name: LeNet5, repetition_config.global: 3 }} }}
    noise_settings.layer_wise: None
"""
    found, spec = grid(file, "type: choice, options: [1, 2]", extra)
    assert (found.left_out, noisy(spec)) == (0, 2)
    assert run("study", "import-seml", file).code == 0


def test_ignored_parameters_are_named_in_the_file(file: Path) -> None:
    text = HEAD.replace("NoNoise", "GaussAdd") + f"grid:\n  {STD}: {{ type: choice, options: [1, 2] }}\n"
    file.write_text(f"{text}sub: {{ fixed: {{ general.topk: 1, a.b: 2 }} }}\n")
    refused = run("study", "import-seml", file)
    assert refused.code == 2
    assert "nothing is left for a study" in one_line(refused)
    assert "--ignore general.topk" in refused.err
    outcome = run("study", "import-seml", file, "--ignore", "general.topk, a.b")
    assert (outcome.code, outcome.out) == (0, f"Wrote {file.with_suffix('.toml')}: the original has 2 runs\n")
    assert "general.topk has no place in a study" in file.with_suffix(".toml").read_text()
    unknown = run("study", "import-seml", file, "--ignore", "general.top", "--out", file.with_name("x"))
    assert "--ignore general.top: the file has no parameter of this name" in one_line(unknown)


# ---- σ of training other than at inference ----------------------------------------------------------------

TRAINED = f"{NOISE}.GaussStd_in_training"


def measured(found: Imported) -> Counter[tuple[str, float, float | None]]:
    """The noisy units of a study: phase, σ, and σ of training where it is another axis."""
    spec = parse_study(found.toml)
    some = (unit for grid in sigma_grids(spec, planned_facts(spec)) for unit in grid.units())
    return Counter(
        (unit.phase, unit.sigma, None if unit.sigma_train is UNSET else unit.sigma_train)
        for unit in some
        if unit.phase != CLEAN
    )


def parameters(**values: Any) -> str:
    lines = [f"  {name}: {{ type: choice, options: {value} }}" for name, value in values.items()]
    return "\n".join(["", "grid:", *lines, ""])


def written(file: Path, head: str, **values: Any) -> Imported:
    """Import a file of noise with these axes, by the last part of their names."""
    names = {f"{NOISE}.{name}": value for name, value in values.items()}
    file.write_text(head.replace("noise_type: NoNoise", "noise_type: GaussMul") + parameters(**names))
    return import_seml(file)


@given(
    sigma=st.lists(st.sampled_from([0.1, 0.5, 1.0, 3.0]), min_size=1, max_size=3, unique=True),
    trained=st.lists(st.sampled_from([0, 0.25, 0.5, 2.0]), min_size=1, max_size=3, unique=True),
)
def test_each_run_trained_under_another_sigma_is_a_unit(sigma: list[float], trained: list[float]) -> None:
    """Without noise of its own in training a run evaluates the network trained under GaussStd_in_training."""
    with TemporaryDirectory() as folder:
        axes = {"GaussStd": sigma, "GaussStd_in_training": trained, "enable_in_training": [0]}
        found = written(Path(folder) / "file.yaml", HEAD, **axes)
    clean = trained == [0]
    expected = {
        ("inference" if clean else "matrix", s, None if clean else float(t)) for s in sigma for t in trained
    }
    assert measured(found) == Counter(expected)
    assert (found.runs, found.left_out) == (len(sigma) * len(trained), 0)
    assert found.units.noisy == len(expected)


def test_sigma_that_go_in_pairs_stay_pairs(file: Path) -> None:
    zipped = f"""
grid:
  {STD}: {{ type: choice, options: [1.0, 2.0], zip_id: pair }}
  {TRAINED}: {{ type: choice, options: [0.5, 0.25], zip_id: pair }}
sub: {{ fixed: {{ {NOISE}.enable_in_training: False }} }}
"""
    file.write_text(HEAD.replace("NoNoise", "GaussAdd") + zipped)
    assert measured(import_seml(file)) == Counter([("matrix", 1.0, 0.5), ("matrix", 2.0, 0.25)])


def test_noise_in_training_is_clear_only_where_both_sigma_are_equal(file: Path) -> None:
    """With it on the published code trains under GaussStd, whatever the other one says."""
    axes = {"GaussStd": [0.5, 1.0], "GaussStd_in_training": [0.5]}
    found = written(file, HEAD, **axes, enable_in_training=[0, 1])
    assert measured(found) == Counter([("matrix", 0.5, 0.5), ("matrix", 1.0, 0.5)])
    assert (found.runs, found.left_out) == (4, 2)
    assert any(f"{TRAINED} is 0.5: it may make another experiment" in note for note in found.notes)
    equal = written(file, HEAD, GaussStd=[0.5], GaussStd_in_training=[0.5], enable_in_training=[1])
    assert measured(equal) == Counter([("training", 0.5, None)])
    assert equal.notes == ()


@pytest.mark.parametrize(
    "noise",
    [
        "noise_settings.layer_wise: { noise_type: GaussAdd, GaussStd: 1, layer_index: 0, SIGMA, OFF }",
        "noise_settings.default: { noise_type: GaussCombined, StdAmplitude: 1, SIGMA, OFF }",
        "noise_settings.default: { noise_type: GaussCombined_direct, GaussStdAdd: 1, SIGMA, OFF }",
    ],
)
def test_noise_for_which_the_published_code_reads_no_other_sigma_is_left_out(file: Path, noise: str) -> None:
    noise = noise.replace("SIGMA", "GaussStd_in_training: 0.5").replace("OFF", "enable_in_training: 0")
    head = HEAD.replace("  noise_settings.default.noise_type: NoNoise\n", "")
    file.write_text(f"{head}good: {{ fixed: {{ seed: 1 }} }}\nbad: {{ fixed: {{ {noise} }} }}\n")
    found = import_seml(file)
    assert (found.runs, found.left_out, measured(found)) == (2, 1, Counter())


# ---- what is said -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["enable_in_training", "enable_in_eval", "normalize_to_input_size"])
def test_truth_values_are_true_or_false(file: Path, name: str) -> None:
    """The text 'no' is true to Python, and was to the published code."""
    extra = (
        f"good: {{ fixed: {{ general.experiment_name: x }} }}\nbad: {{ fixed: {{ {NOISE}.{name}: 'no' }} }}\n"
    )
    found, _ = grid(file, "type: choice, options: [1]", extra)
    (note,) = (note for note in found.notes if "left out" in note)
    assert f"{NOISE}.{name} is 'no', neither True (1) nor False (0)" in note


def test_what_the_original_needs_and_has_not_is_named(file: Path) -> None:
    file.write_text(HEAD.replace("general: { num_epochs: 100 }", "general: { experiment_name: x }"))
    outcome = run("study", "import-seml", file)
    assert "note: general.num_epochs is not given: in the study it is that of its data set" in outcome.err


def test_sigma_that_is_not_given_or_may_have_been_decimals_is_said(file: Path) -> None:
    file.write_text(HEAD.replace("NoNoise", "GaussAdd"))
    assert f"note: {STD} is not given: 1, as in the published code" in run("study", "import-seml", file).err
    found, _ = grid(file, "type: choice, options: [0,1,0,2,0,3]")
    assert found.notes[0] == f"{STD}: 0, 1, 0, 2, 0, 3 are 6 whole numbers; decimals have a point"
    assert grid(file, "type: choice, options: [0, 1, 10]")[0].notes == ()
