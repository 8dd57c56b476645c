"""Experiment files of seml as studies: the published forms, and what has no place in a study."""

from pathlib import Path

import pytest

from tests.study.seml.files import ADDITIVE, HEAD, NOISE, REPEATS, SITES, STD, clean, grid, imported, noisy


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "experiment.yaml"


# ---- the published form ---------------------------------------------------------------------------------


def test_a_sub_configuration_multiplies_with_the_grid_above_it(file: Path) -> None:
    """5 repeats (the end of a range is left out) × 8 sites × 2 phases × 41 σ (both ends included) = 3280."""
    found, spec = imported(file, HEAD + REPEATS + SITES + ADDITIVE)
    assert (found.runs, found.duplicates, found.left_out, found.notes) == (3280, 0, 0, ())
    assert (noisy(spec), clean(spec)) == (3280, 5)
    assert (spec.name, spec.repeats, spec.phases, spec.recipe.epochs) == ("mine", 5, None, 100)
    assert (spec.recipe.batch_size, spec.recipe.learning_rate) == (128, 1e-3)  # 1e-3 is text in YAML
    (entry,) = spec.noise
    assert (entry.kind, entry.sigma, entry.where, entry.mean) == ("additive", "0.01:1e+08:41", None, None)


def test_sub_configurations_add_up_and_seml_drops_what_is_there_twice(file: Path) -> None:
    """5 repeats × 8 sites × 2 phases = 80 each; × (41 + 41 clamped + 61 + 65 + 25·5) σ = 80 × 333 = 26,640.

    σ = 1 of multiplicative noise is in the linear grid and in the logarithmic one: 80 runs are there twice.
    """
    rest = """
clamped:
  fixed:
    general.weight_clamping: { min: -1, max: 1 }
    noise_settings.layer_wise: { noise_type: GaussAdd, GaussMean: 0.0 }
  grid:
    noise_settings.layer_wise.GaussStd: { type: loguniform, min: 1e-2, max: 1e+8, num: 41 }
multiplicative:
  fixed:
    noise_settings.layer_wise: { noise_type: GaussMul, GaussMean: 1.0 }
  grid:
    noise_settings.layer_wise.GaussStd: { type: uniform, min: 0., max: 6.0, num: 61 }
multiplicative_log:
  fixed:
    noise_settings.layer_wise: { noise_type: GaussMul, GaussMean: 1.0 }
  grid:
    noise_settings.layer_wise.GaussStd: { type: loguniform, min: 1e-0, max: 1e+16, num: 65 }
mixed:
  fixed:
    noise_settings.layer_wise:
      { noise_type: GaussCombined, GaussMeanMul: 1.0, GaussMeanAdd: 0.0, FirstMulThenAdd: True }
  grid:
    noise_settings.layer_wise:
      StdAmplitude: { type: loguniform, min: 1e-2, max: 1e+10, num: 25 }
      StdRatio: { type: choice, options: [0.01, 0.1, 0.5, 0.9, 0.99] }
"""
    found, spec = imported(file, HEAD + REPEATS + SITES + ADDITIVE + rest)
    note = "80 runs have the parameters of another one: seml adds them once"
    assert (found.runs, found.duplicates, found.left_out, found.notes) == (26_640, 80, 0, (note,))
    assert noisy(spec) == 26_640 - 80
    assert [entry.kind for entry in spec.noise] == [
        "additive",
        "additive",
        "multiplicative",
        "multiplicative",
        "mixed",
    ]
    assert [entry.clamp_weights for entry in spec.noise] == [None, True, None, None, None]
    assert spec.noise[4].ratio == [0.01, 0.1, 0.5, 0.9, 0.99]


def test_global_noise_for_several_networks_and_none_at_all(file: Path) -> None:
    """3 repeats × 3 networks = 9 each: no noise 9; additive 9 × 17 σ × 2 phases = 306; together 315."""
    text = HEAD.replace(", MLP: { conf_name: RL_TFC-noBN }", "").replace(
        "noise_settings.default.noise_type: NoNoise", "noise_settings.layer_wise: None"
    )
    text += """
grid:
  general.repeat_number: { type: range, min: 0, max: 3, step: 1 }
  model.MLP.conf_name: { type: choice, options: [RL_TFC, RL_TFC-noBN, RL_TFC-BN-noNoise] }
no_noise:
  fixed:
    noise_settings.default.noise_type: NoNoise
additive:
  fixed:
    noise_settings.default: { noise_type: GaussAdd, GaussMean: 0.0 }
  grid:
    noise_settings.default:
      GaussStd: { type: loguniform, min: 1e-2, max: 1e+2, num: 17 }
      enable_in_training: { type: choice, options: [1, 0] }
"""
    found, spec = imported(file, text)
    assert (found.runs, found.notes) == (315, ())
    assert (noisy(spec), clean(spec)) == (306, 9)
    assert spec.models[0].batch_norm == ["sites", "none", "hidden"]
    assert [(entry.kind, entry.where) for entry in spec.noise] == [("none", None), ("additive", "global")]


def test_repetitions_even_and_by_maps(file: Path) -> None:
    """2 repeats × (3 uniform repetitions + 2 maps + 1 map) = 12 runs, at inference only."""
    text = HEAD.replace(", MLP: { conf_name: RL_TFC-noBN }", "").replace(
        "noise_settings.default.noise_type: NoNoise",
        "noise_settings: { layer_wise: None, default: { noise_type: GaussAdd, enable_in_training: False } }",
    )
    text += """
grid:
  general.repeat_number: { type: choice, options: [0, 1] }
uniform:
  fixed: { noise_settings.default.GaussStd: 0.35, model.MLP.conf_name: RL_TFC }
  grid:
    model.MLP.repetition_config.global: { type: choice, options: [1, 2, 3] }
maps:
  fixed: { noise_settings.default.GaussStd: 0.35, general.experiment_name: x }
  grid:
    model.MLP.repetition_config.layer_wise_mapped:
      type: choice
      options: [[4,2,3,3,2,2,2,1,1,1,1,], [5,3,4,5,4,3,4,2,1,1,1,]]
map:
  fixed: { noise_settings.default.GaussStd: 0.471, model.MLP.conf_name: RL_TFC-noBN }
  grid:
    model.MLP.repetition_config.layer_wise_mapped: { type: choice, options: [[5,2,3,1,2,1,1,1]] }
"""
    found, spec = imported(file, text)
    assert (found.runs, found.left_out, noisy(spec), clean(spec)) == (12, 0, 12, 4)
    assert found.notes == ()
    assert [entry.label for entry in spec.noise] == ["uniform", "x", "map"]
    assert spec.noise[0].repetitions == [1, 2, 3]
    assert spec.noise[1].repetition_maps == [
        [4, 2, 3, 3, 2, 2, 2, 1, 1, 1, 1],
        [5, 3, 4, 5, 4, 3, 4, 2, 1, 1, 1],
    ]
    assert [entry.batch_norm for entry in spec.noise] == ["sites", "sites", "none"]
    assert [entry.phases for entry in spec.noise] == ["inference"] * 3


def test_one_site_both_orders_and_both_standard_deviations(file: Path) -> None:
    """Mixed: 2 orders × 3 amplitudes × 2 ratios = 12. Direct: 2 orders × 2 σ_mul × 3 σ_add = 12."""
    text = HEAD.replace("MNIST", "CIFAR10").replace("model_class: MLP", "model_class: LeNet")
    text = text.replace("MLP: { conf_name: RL_TFC-noBN }", "LeNet: { conf_name: LeNet5-BN }")
    text += """  noise_settings.layer_wise: { layer_index: 5, enable_in_training: 1 }
mixed:
  fixed: { noise_settings.layer_wise.noise_type: GaussCombined }
  grid:
    noise_settings.layer_wise:
      FirstMulThenAdd: { type: choice, options: [True, False] }
      StdAmplitude: { type: loguniform, min: 1e-4, max: 1e+13, num: 3 }
      StdRatio: { type: choice, options: [0.00000000000000001, 0.5] }
direct:
  fixed: { noise_settings.layer_wise.noise_type: GaussCombined_direct }
  grid:
    noise_settings.layer_wise:
      FirstMulThenAdd: { type: choice, options: [True, False] }
      GaussStdMul: { type: uniform, min: 0.1, max: 2.5, num: 2 }
      GaussStdAdd: { type: uniform, min: 0.1, max: 2.5, num: 3 }
"""
    found, spec = imported(file, text)
    assert (found.runs, noisy(spec), found.notes) == (24, 24, ())
    assert [entry.kind for entry in spec.noise] == ["mixed", "mixed-direct"]
    assert all(entry.where == [5] and entry.phases == "training" for entry in spec.noise)
    assert spec.noise[0].order == ["mul_add", "add_mul"]
    assert spec.noise[0].ratio == [1e-17, 0.5]


@pytest.mark.parametrize(
    ("fixed", "dataset", "model", "batch_norm"),
    [
        ("data.dataset: FashionMNIST", "fashion-mnist", "mlp-64", "none"),
        ("data.dataset: SVHN", "svhn", "mlp-64", "none"),
        ("model.MLP.conf_name: RL_LFC", "mnist", "mlp-1024", "sites"),
        ("model.MLP.conf_name: RL_SFC-BN-noNoise", "mnist", "mlp-256", "hidden"),
        ("model.MLP.conf_name: RL_TFC-noBN_16", "mnist", "mlp-16", "none"),
        ("model: { model_class: LeNet }", "mnist", "lenet5", "none"),
        ("{ model.model_class: VGG, model.VGG.conf_name: VGG11_mnist-noBN }", "mnist", "vgg11-28", "none"),
        (
            "{ model: { model_class: CNN_HE, weight_criterion: True },"
            " data: { dataset: GSC2_TF, batch_size: 512 } }",
            "speech-commands",
            "cnn-s",
            "sites",
        ),
    ],
)
def test_names_of_data_and_networks(
    file: Path, fixed: str, dataset: str, model: str, batch_norm: str
) -> None:
    block = fixed if fixed.startswith("{") else f"{{ {fixed} }}"
    _, spec = imported(file, f"{HEAD}\nsub:\n  fixed: {block}\n")
    assert (spec.data.names, spec.models[0].name, spec.models[0].batch_norm) == (dataset, model, batch_norm)
    assert spec.recipe.batch_size == (512 if dataset == "speech-commands" else 128)


# ---- what has no place ----------------------------------------------------------------------------------


def test_parameters_without_a_place_are_named(file: Path) -> None:
    """4 repeats × 3 values of an unknown parameter × 2 σ = 24 runs, of which a study has 8."""
    extra = """
  general.repeat_number: { type: range, min: 2, max: 6, step: 1 }
  loader.workers: { type: choice, options: [1, 2, 3] }
sub:
  fixed: { general.experiment_name: x, model.LeNet.conf_name: LeNet5 }
"""
    found, spec = grid(file, "type: choice, options: [0.5, 2]", extra)
    assert (found.runs, noisy(spec)) == (24, 8)
    assert found.notes == (
        "model.LeNet.conf_name has no place in a study",
        "loader.workers has no place in a study: its 3 values become one",
    )
    assert all(f"# {note}\n" in found.toml for note in found.notes)
    assert [entry.label for entry in spec.noise] == ["x"]


@pytest.mark.parametrize(
    ("fixed", "reason"),
    [
        ("optimizer.optimizer_type: SGD", "optimizer.optimizer_type is 'SGD', and a study has Adam"),
        ("optimizer.lr_scheduler: None", "lr_scheduler is None, and a study has CosineAnnealingLR"),
        ("model.criterion: MSE", "a study has CrossEntropyLoss"),
        ("general.weight_clamping: { min: -2, max: 2 }", "general.weight_clamping is -2 to 2"),
        ("general.num_epochs: 7", "its recipe is not that of good"),
        ("data.dataset: GSC2_PyTorch", "data.dataset is 'GSC2_PyTorch', and known are MNIST"),
        ("data.dataset: [MNIST]", "data.dataset is ['MNIST']"),
        ("data.dataset: GSC2_TF", "model.weight_criterion is off"),
        ("model.model_class: ResNet", "model.model_class is 'ResNet', and known are MLP, LeNet"),
        ("model.MLP.conf_name: mlp1r", "model.MLP.conf_name is 'mlp1r', and known are RL_TFC"),
        (f"{NOISE}.noise_type: Dropout", "noise_type is 'Dropout', and known are NoNoise"),
        (f"{NOISE}.enable_in_eval: False", "no noise in training only"),
        (
            "noise_settings.layer_wise: { noise_type: GaussAdd, layer_index: 1 }",
            "noise at one site and other",
        ),
        ("noise_settings.layer_mapped: { noise_type: GaussAdd }", "where = mapped and factors"),
        ("noise_settings.layer_wise: 3", "neither None nor a block"),
    ],
)
def test_what_a_study_can_not_express_is_left_out_with_the_reason(
    file: Path, fixed: str, reason: str
) -> None:
    """3 σ each: `bad` is left out, and said to be."""
    found, spec = grid(
        file,
        "type: choice, options: [1, 2, 3]",
        f"good: {{ fixed: {{ general.experiment_name: x }} }}\nbad: {{ fixed: {{ {fixed} }} }}\n",
    )
    assert (found.runs, found.left_out, noisy(spec)) == (6, 3, 3)
    (note,) = (note for note in found.notes if note.startswith("bad: left out, 3 runs: "))
    assert reason in note
    assert f"# {note}\n" in found.toml


def test_some_values_of_an_axis_may_be_left_out(file: Path) -> None:
    extra = "  model.MLP.conf_name: { type: choice, options: [RL_TFC, mlp1r, RL_SFC] }\n"
    text = HEAD.replace(", MLP: { conf_name: RL_TFC-noBN }", "").replace("NoNoise", "GaussAdd")
    found, spec = imported(file, f"{text}grid:\n  {STD}: {{ type: choice, options: [1, 2] }}\n{extra}")
    assert (found.runs, found.left_out, noisy(spec)) == (6, 2, 4)
    assert [entry.models for entry in spec.noise] == ["mlp-64", "mlp-256"]


def test_random_parameters_are_counted_and_left_out(file: Path) -> None:
    """`drawn`: 2 σ × 4 samples = 8 runs; `own` has 5 samples of its own: 10; `none` 2."""
    extra = f"""
none: {{ fixed: {{ general.experiment_name: x }} }}
random_block:
  random: {{ samples: 4, seed: 1, {NOISE}.GaussMean: {{ type: uniform, min: 0, max: 1 }} }}
  drawn: {{ fixed: {{ x: 2 }} }}
  own: {{ random: {{ samples: 5, y: {{ type: randint, min: 0, max: 9 }} }} }}
"""
    found, spec = grid(file, "type: choice, options: [1, 2]", extra)
    assert (found.runs, found.left_out, noisy(spec)) == (8 + 10 + 2, 18, 2)
    notes = [note for note in found.notes if "left out" in note]
    assert notes[0].startswith("random_block.drawn: left out, 8 runs: noise_settings.default.GaussMean")
    assert notes[1].startswith("random_block.own: left out, 10 runs")


def test_parts_that_seml_passes_over_are_named(file: Path) -> None:
    found, _ = imported(file, HEAD + "comment: hello\n")
    assert found.notes == ("comment: not a block of parameters: seml passes over it",)
