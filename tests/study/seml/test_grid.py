"""Experiment files of seml: the runs of each construct, counted by hand, and files that are none."""

import builtins
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tests.study.seml.files import ADDITIVE, HEAD, NOISE, REPEATS, SITES, STD, clean, grid, imported, noisy
from wn.basics.errors import WnError
from wn.study import parse_study
from wn.study.seml.convert import import_seml


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "experiment.yaml"


# ---- the constructs of the grid -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("definition", "runs", "sigma"),
    [
        ("type: choice, options: [0.5, 2, 1e-3]", 3, [0.5, 2, 1e-3]),
        ("type: choice, options: [0.5]", 1, 0.5),
        ("type: range, min: 1, max: 4, step: 1", 3, [1, 2, 3]),  # 4 is left out
        ("type: range, min: 0.5, max: 1.75, step: 0.5", 3, [0.5, 1.0, 1.5]),
        ("type: range, min: 3, max: 0, step: -1", 3, [3, 2, 1]),
        ("type: uniform, min: 0, max: 2, num: 5", 5, "lin:0:2:5"),
        ("type: uniform, min: 0, max: 2, num: 1", 1, 0),
        ("type: uniform, min: 2, max: 0, num: 3", 3, [2, 1, 0]),
        ("type: loguniform, min: 1e-2, max: 1e+2, num: 17", 17, "0.01:100:17"),
        ("type: loguniform, min: 100, max: 1, num: 3", 3, [100, 10, 1]),
    ],
)
def test_values_of_each_type(file: Path, definition: str, runs: int, sigma: Any) -> None:
    found, spec = grid(file, definition)
    assert (found.runs, found.notes) == (runs, ())
    assert spec.noise[0].sigma == sigma
    assert noisy(spec) == runs


def test_values_that_are_listed_twice_are_one_configuration(file: Path) -> None:
    found, spec = grid(file, "type: choice, options: [0.5, 1, 0.5]")
    assert (found.runs, found.duplicates, noisy(spec)) == (3, 1, 2)


def test_zipped_parameters_go_together(file: Path) -> None:
    """σ and mean have one zip_id: 3 pairs, not 9; with 2 orders of another axis: 6 runs."""
    extra = f"""
  {NOISE}.GaussMean: {{ type: choice, options: [0.1, 0.2, 0.3], zip_id: a }}
  {NOISE}.enable_in_training: {{ type: choice, options: [0, 1] }}
"""
    found, spec = grid(file, "type: range, min: 1, max: 4, step: 1, zip_id: a", extra)
    assert (found.runs, noisy(spec)) == (6, 6)
    assert [(entry.sigma, entry.mean) for entry in spec.noise] == [(1, 0.1), (2, 0.2), (3, 0.3)]


def test_what_is_no_axis_of_an_entry_gets_an_entry_for_each_value(file: Path) -> None:
    """2 means × 3 σ = 6 runs, with σ together."""
    extra = f"  {NOISE}.GaussMean: {{ type: choice, options: [0.0, 0.5] }}\n"
    found, spec = grid(file, "type: uniform, min: 0, max: 2, num: 3", extra)
    assert (found.runs, noisy(spec)) == (6, 6)
    assert [(entry.sigma, entry.mean) for entry in spec.noise] == [("lin:0:2:3", None), ("lin:0:2:3", 0.5)]


def test_a_sub_configuration_overrides_what_stands_above_it(file: Path) -> None:
    """Above: 3 σ. `wide` has 5 σ of its own, `one` a fixed σ, `same` none: 5 + 1 + 3 = 9 runs.

    σ = 1 is in `one` and in `same`; to seml they differ, as only `same` gives a mean. A study has it once.
    """
    extra = f"""
wide:
  grid:
    {STD}: {{ type: uniform, min: 10, max: 50, num: 5 }}
one:
  fixed:
    {STD}: 1.0
same:
  fixed:
    {NOISE}.GaussMean: 0.0
"""
    found, spec = grid(file, "type: range, min: 1, max: 4, step: 1", extra)
    assert [entry.sigma for entry in spec.noise] == ["lin:10:50:5", 1, [1, 2, 3]]
    assert (found.runs, found.duplicates, noisy(spec)) == (9, 0, 8)


def test_sub_configurations_nest(file: Path) -> None:
    """outer has 2 σ: inner_a × 2 phases = 4; inner_b has 4 σ of its own = 4. Only innermost ones are run."""
    extra = f"""
outer:
  grid:
    {STD}: {{ type: choice, options: [1, 2] }}
  inner_a:
    grid:
      {NOISE}.enable_in_training: {{ type: choice, options: [0, 1] }}
  inner_b:
    grid:
      {STD}: {{ type: range, min: 3, max: 7, step: 1 }}
"""
    found, spec = grid(file, "type: choice, options: [0.1]", extra)
    assert (found.runs, noisy(spec)) == (8, 8)
    assert [entry.sigma for entry in spec.noise] == [[1, 2], [3, 4, 5, 6]]


def test_without_sub_configurations_the_top_level_is_run(file: Path) -> None:
    found, spec = imported(file, HEAD)
    assert (found.runs, noisy(spec), clean(spec)) == (1, 0, 1)


def test_names_with_dots_and_nested_names_are_the_same(file: Path) -> None:
    nested = HEAD + REPEATS + SITES + ADDITIVE
    dotted = nested.replace(
        "noise_settings.layer_wise:\n    layer_index:", "noise_settings.layer_wise.layer_index:"
    ).replace("    enable_in_training:", "  noise_settings.layer_wise.enable_in_training:")
    assert dotted != nested
    assert imported(file, dotted)[0].toml == imported(file, nested)[0].toml


def test_parameter_collections_are_another_way_to_nest(file: Path) -> None:
    collection = """
grid:
  noise_settings.layer_wise:
    type: parameter_collection
    params:
      layer_index: { type: range, min: 0, max: 8, step: 1 }
      enable_in_training: { type: choice, options: [0, 1] }
"""
    found, _ = imported(file, HEAD + collection + ADDITIVE)
    assert found.runs == 8 * 2 * 41
    assert found.toml == imported(file, f"{HEAD}grid:{SITES}{ADDITIVE}")[0].toml


# ---- files that are none --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", ("fixed, grid, random",)),
        ("- 1\n- 2", ("fixed, grid, random",)),
        ("a: [", ("line 1", "not YAML")),
        ("fixed:\n  a: b: c\n", ("line 2", "not YAML")),
        ("a: !!python/object:os.system {}", ("line 1", "not YAML")),
        ("seml: { executable: main.py }\n", ("the top level", "no parameters")),
        ("fixed: { x: 1 }\n", ("seml: this block is missing",)),
        ("seml: { name: x }\nfixed: { x: 1 }\n", ("seml.executable: this key is missing",)),
        ("seml: { executable: a, fixed: {} }\n", ("seml.fixed: unknown key; seml allows executable",)),
        (HEAD.replace("sbatch_options", "sbatch"), ("slurm.sbatch: unknown key",)),
        (HEAD + "sub: {}\n", ("sub: no parameters",)),
        (
            HEAD + "sub: { fixed: { x: 1 }, grid: { x: { type: choice, options: [1] } } }\n",
            ("sub: x is in two",),
        ),
        (
            HEAD + "sub: { fixed: { x: 1, x.y: 2 } }\n",
            ("sub.fixed.x is a parameter", "sub.fixed.x.y is inside it"),
        ),
        (HEAD + "sub: { grid: { x: 1 } }\n", ("sub: x: a parameter here needs a type",)),
        (
            HEAD + "sub: { grid: { x: { type: normal } } }\n",
            ("unknown type 'normal'", "choice, range, uniform"),
        ),
        (HEAD + "sub: { grid: { x: { options: [1] } } }\n", ("unknown type None",)),
        (HEAD + "sub: { grid: { x: { type: choice } } }\n", ("sub: x.options",)),
        (HEAD + "sub: { grid: { x: { type: choice, options: [] } } }\n", ("at least one value",)),
        (HEAD + "sub: { grid: { x: { type: choice, options: abc } } }\n", ("must be a list",)),
        (HEAD + "sub: { grid: { x: { type: choice, options: [1], min: 2 } } }\n", ("x.min", "options")),
        (HEAD + "sub: { grid: { x: { type: range, min: 0, max: 3 } } }\n", ("x.step", "min, max, step")),
        (HEAD + "sub: { grid: { x: { type: range, min: 0, max: 3, step: 0 } } }\n", ("no values",)),
        (HEAD + "sub: { grid: { x: { type: range, min: 3, max: 0, step: 1 } } }\n", ("no values",)),
        (HEAD + "sub: { grid: { x: { type: range, min: 0, max: 1e9, step: 1 } } }\n", ("more than 100000",)),
        (
            HEAD + "sub: { grid: { x: { type: uniform, min: a, max: 3, num: 2 } } }\n",
            ("x.min", "number", "'a'"),
        ),
        (HEAD + "sub: { grid: { x: { type: uniform, min: 0, max: 3, num: 0 } } }\n", ("x.num", "1…100000")),
        (HEAD + "sub: { grid: { x: { type: loguniform, min: 0, max: 3, num: 2 } } }\n", ("above 0",)),
        (HEAD + "sub: { random: { x: { type: uniform } } }\n", ("random.samples",)),
        (
            HEAD
            + "sub: { grid: { x: { type: choice, options: [1], zip_id: a },"
            + " y: { type: choice, options: [1, 2], zip_id: a } } }\n",
            ("x, y have one zip_id",),
        ),
        (HEAD.replace("Adam", "SGD"), ("nothing is left", "a study has Adam")),
        (HEAD.replace("num_epochs: 100", "num_epochs: many"), ("as a study: recipe.epochs", "whole number")),
        (HEAD.replace("num_epochs: 100", "num_epochs: -5"), ("as a study: recipe.epochs", "at least 1")),
        (
            HEAD + "  noise_settings.layer_wise: { noise_type: GaussAdd, layer_index: 8 }\n",
            ("as a study: noise[0].where", "no site 8"),
        ),
        (HEAD + "a: &a { fixed: { x: 1 }, b: *a }\n", ("line 10: an alias within what it stands for",)),
        (HEAD + f"sub: {'{ a: ' * 40}{'}' * 40}\n", ("nested more than 30 deep",)),
    ],
)
def test_what_is_no_experiment_file_is_refused_in_one_line(
    file: Path, text: str, parts: tuple[str, ...]
) -> None:
    file.write_text(text)
    with pytest.raises(WnError) as caught:
        import_seml(file)
    message = str(caught.value)
    assert message.startswith(f"{file}: ")
    assert "\n" not in message
    assert all(part in message for part in parts), message


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(WnError, match=r"absent.yaml: can't be read: No such file"):
        import_seml(tmp_path / "absent.yaml")


def test_without_pyyaml_the_error_says_what_to_install(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def without_yaml(name: str, *rest: Any) -> Any:
        if name == "yaml":
            raise ImportError(name)
        return original(name, *rest)

    file.write_text(HEAD)
    monkeypatch.setattr(builtins, "__import__", without_yaml)
    with pytest.raises(WnError, match=r"PyYAML: pip install 'walking-noise\[seml\]'$"):
        import_seml(file)


NAMES = st.sampled_from(
    [
        "fixed",
        "grid",
        "random",
        "sub",
        "data.dataset",
        "type",
        "options",
        "min",
        "max",
        "num",
        "samples",
        STD,
        "x",
    ]
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-3, 200)
    | st.floats(width=16)
    | st.sampled_from(["choice", "range", "uniform", "MNIST", "1e-3", "None", "a\nb = 1"])
)
TREES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(NAMES, TREES, max_size=4), st.booleans())
def test_any_tree_is_imported_or_refused_in_one_line(tree: dict[str, Any], with_head: bool) -> None:
    path = Path("tree.yaml")
    document = {**(yaml.safe_load(HEAD) if with_head else {}), **tree}
    message, toml = "", ""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "read_bytes", lambda _: yaml.safe_dump(document).encode())
        try:
            toml = import_seml(path).toml
        except WnError as error:
            message = str(error)
    assert bool(message) != bool(toml)
    assert "\n" not in message
    assert not toml or parse_study(toml)
