"""Several experiment files as one study: what they share, and where they contradict each other."""

from pathlib import Path

import pytest

from tests.cli.command_line import one_line, run
from tests.study.seml.files import HEAD, STD, clean, noisy
from wn.basics.errors import WnError
from wn.study import StudySpec, parse_study, planned_facts, units
from wn.study.seml.convert import Imported, Units, import_seml

MLP, LENET = "model_class: MLP", "model_class: LeNet, LeNet: { conf_name: LeNet5 }"


def text(sigma: str = "[1, 2, 3]", repeats: str = "[0, 1]", **replaced: str) -> str:
    """A file with global additive noise; `replaced` are words of its head."""
    head = HEAD.replace("noise_type: NoNoise", "noise_type: GaussAdd")
    for old, new in replaced.items():
        assert old in head
        head = head.replace(old, new)
    return f"""{head}
grid:
  {STD}: {{ type: choice, options: {sigma} }}
  general.repeat_number: {{ type: choice, options: {repeats} }}
"""


def write(folder: Path, **files: str) -> list[Path]:
    paths = [folder / f"{name}.yaml" for name in files]
    for path, content in zip(paths, files.values(), strict=True):
        path.write_text(content, encoding="utf-8")
    return paths


def together(paths: list[Path]) -> tuple[Imported, StudySpec]:
    found = import_seml(*paths)
    return found, parse_study(found.toml)


def keys(spec: StudySpec) -> set[str]:
    return {unit.key for unit in units(spec, planned_facts(spec))}


def test_files_share_clean_networks_and_what_is_in_both(tmp_path: Path) -> None:
    """3 σ in 2 repeats and 2 σ in 3 are 6 + 6 runs; σ = 3 in repeats 0 and 1 is in both files: 10 units.

    3 networks are trained clean, and 2 + 3 if each file is a study.
    """
    paths = write(tmp_path, a=text(), b=text("[3, 4]", "[0, 1, 2]"))
    found, spec = together(paths)
    assert [(file.name, file.runs, file.left_out) for file in found.files] == [
        ("a.yaml", 6, 0),
        ("b.yaml", 6, 0),
    ]
    assert (found.runs, noisy(spec), clean(spec)) == (12, 10, 3)
    assert (found.units, found.apart) == (Units(10, 3), Units(12, 5))
    assert found.toml.startswith("# a.yaml, an experiment file of seml with 6 runs.\n# b.yaml, an exp")
    assert spec.name == "study"  # its name is that of the file


def test_the_command_says_what_is_shared(tmp_path: Path) -> None:
    paths = write(tmp_path, a=text(), b=text("[3, 4]", "[0, 1, 2]"))
    outcome = run("study", "import-seml", *paths, "--out", tmp_path / "both.toml")
    assert outcome.code == 0
    assert outcome.out.endswith(
        "the 2 originals have 12 runs\nThe study has 10 noisy units (2 that are in several files count once) "
        "and 3 networks trained clean (5 if each file were a study)\n"
    )


def test_the_study_of_several_files_has_the_units_of_each(tmp_path: Path) -> None:
    """Other data, networks and batch norm: entries keep to theirs, whatever the order of the files."""
    paths = write(
        tmp_path,
        a=text(),
        b=text(MNIST="FashionMNIST", **{"num_epochs: 100": "num_epochs: 250"}),
        c=text("[5]", **{MLP: LENET, "num_epochs: 100": "num_epochs: 50"}),
        d=text("[1]", **{"conf_name: RL_TFC-noBN": "conf_name: RL_TFC"}),
        e=text("[1]", "[0]", **{"conf_name: RL_TFC-noBN": "conf_name: RL_SFC-BN-noNoise"}),
    )
    apart = [keys(together([path])[1]) for path in paths]
    for ordered in (paths, paths[::-1]):
        _, spec = together(ordered)
        assert keys(spec) == set().union(*apart)
    assert spec.recipe.epochs is None  # of the recipes of the data sets, which all files have


def test_recipes_of_the_data_sets_agree_and_others_contradict(tmp_path: Path) -> None:
    """MLPs learn MNIST for 100 epochs and LeNet-5 for 50; 70 is of neither, unless all files have it."""
    lenet = {MLP: LENET}
    usual = {"num_epochs: 100": "num_epochs: 50"} | lenet
    other = {"num_epochs: 100": "num_epochs: 70"}
    mlp, lenet5, mine, mine_too = write(
        tmp_path, a=text(), b=text(**usual), c=text(**other), d=text(**(other | lenet))
    )
    assert together([mlp, lenet5])[1].recipe.epochs is None
    assert together([mine, mine_too])[1].recipe.epochs == 70
    with pytest.raises(WnError) as caught:
        import_seml(mlp, lenet5, mine)
    assert str(caught.value) == (
        f"{mine}: general.num_epochs is 70 for mnist mlp-64, and 100 for mnist mlp-64 in {mlp}: a study has "
        "one recipe, or those of its data sets: import them apart"
    )


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("lr: 1e-3", "lr: 1e-4", "optimizer.lr is 0.0001 for mnist mlp-64, and 0.001 for"),
        ("data.dataset: MNIST", "data: { dataset: MNIST, batch_size: 64 }", "data.batch_size is 64 for"),
    ],
)
def test_contradictory_files_are_one_error(tmp_path: Path, old: str, new: str, reason: str) -> None:
    paths = write(tmp_path, a=text(), b=text(**{old: new}))
    with pytest.raises(WnError, match=reason):
        import_seml(*paths)


def test_what_a_study_can_not_express_is_left_out_of_one_file(tmp_path: Path) -> None:
    paths = write(tmp_path, a=text(), b=text(**{"lr: 1e-3": "lr: 1e-3, weight_decay: 0.1"}))
    found, spec = together(paths)
    assert [(file.runs, file.left_out) for file in found.files] == [(6, 0), (6, 6)]
    assert noisy(spec) == 6
    (note,) = found.notes
    assert note.startswith("b.yaml: the top level: left out, 6 runs: optimizer.weight_decay is 0.1")
    outcome = run("study", "import-seml", *paths, "--out", tmp_path / "both.toml")
    assert outcome.code == 1
    assert outcome.out == (
        "a.yaml: 6 runs\nb.yaml: 6 runs, 6 of them left out\n"
        f"Wrote {tmp_path}/both.toml: the 2 originals have 12 runs, 6 of them left out\n"
        "The study has 6 noisy units and 2 networks trained clean\n"
    )


def test_repeats_in_several_files_add_up(tmp_path: Path) -> None:
    """The same noise in repeats 0 … 1 and 2 … 4 is noise in five repeats; 0 … 2 and 2 … 3 in four."""
    paths = write(tmp_path, a=text(), b=text(repeats="[2, 3, 4]"), c=text(repeats="[1, 2]"))
    assert noisy(together(paths[:2])[1]) == 3 * 5
    assert noisy(together([paths[0], paths[2]])[1]) == 3 * 3


def test_repeats_that_are_not_within_each_other_are_left_out(tmp_path: Path) -> None:
    """Other σ in repeats 1 and 2 share the clean network 1, and have none of 0: a study can't say that."""
    a, b, c = write(tmp_path, a=text(), b=text("[7]", "[1, 2]"), c=text("[8]", "[1]"))
    found, spec = together([a, b])
    assert (found.left_out, noisy(spec)) == (2, 6)
    assert "its repeats, 1, 2, and those of other noise on the same networks, 0, 1, are not" in found.notes[0]
    assert noisy(together([a, c])[1]) == 7  # repeat 1 is one of 0 and 1: the first


def test_a_file_without_repeats_has_the_first(tmp_path: Path) -> None:
    one = text("[7]").replace("  general.repeat_number: { type: choice, options: [0, 1] }\n", "")
    paths = write(tmp_path, a=one, b=text("[7, 8]", "[1, 2, 3]"), c=text("[9]", "[2]"))
    assert noisy(together(paths[:1])[1]) == 1
    assert noisy(together(paths)[1]) == 2 * 3 + 1


def test_an_error_names_the_file(tmp_path: Path) -> None:
    """A site that the network does not have: of several files, the one with it."""
    site = "noise_settings.layer_wise: { noise_type: GaussAdd, layer_index: 99 }\n"
    paths = write(tmp_path, a=text(), b=f"{HEAD}  {site}")
    with pytest.raises(WnError, match=r"b\.yaml: as a study: noise\[0\]\.where: .*no site 99"):
        import_seml(*paths)


def test_networks_with_recipes_of_their_own_may_be_in_one_file(tmp_path: Path) -> None:
    """MNIST: 100 epochs of MLPs and 50 of LeNet-5 are the recipe of the data; 51 are not."""
    blocks = "mlp: { fixed: { general.experiment_name: x } }\n"
    for epochs in (50, 51):
        model = "model: { model_class: LeNet, LeNet.conf_name: LeNet5 }"
        blocks += f"lenet_{epochs}: {{ fixed: {{ general.num_epochs: {epochs}, {model} }} }}\n"
    (path,) = write(tmp_path, a=text() + blocks)
    found, spec = together([path])
    assert (found.runs, found.left_out, spec.recipe.epochs) == (18, 6, None)
    assert {(unit.model, unit.epochs) for unit in units(spec, planned_facts(spec))} == {
        ("mlp-64", 100),
        ("lenet5", 50),
    }


def test_several_seeds_are_repeats(tmp_path: Path) -> None:
    (path,) = write(tmp_path, a=text().replace("general.repeat_number", "seed"))
    found, spec = together([path])
    assert (noisy(spec), spec.repeats, found.notes) == (6, 2, ())


def test_a_file_is_given_once_and_the_study_has_a_name(tmp_path: Path) -> None:
    paths = write(tmp_path, a=text(), b=text("[9]"))
    (tmp_path / "link.yaml").symlink_to(paths[0])
    for again in (paths[0], tmp_path / "link.yaml"):
        assert "given twice" in one_line(
            run("study", "import-seml", paths[0], again, "--out", tmp_path / "x")
        )
    assert "--out is missing" in one_line(run("study", "import-seml", *paths))
    assert run("study", "import-seml", *paths, "--out", tmp_path / "mine.toml").code == 0
    assert "name" not in (tmp_path / "mine.toml").read_text().partition("[data]")[0]


def test_an_import_needs_a_file() -> None:
    with pytest.raises(WnError, match="at least one"):
        import_seml()


def test_files_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    for name in ("x", "y"):
        (tmp_path / name).mkdir()
    paths = [*write(tmp_path / "x", a=text()), *write(tmp_path / "y", a=text("[9]"))]
    assert [file.name for file in import_seml(*paths).files] == ["x/a.yaml", "y/a.yaml"]


def test_what_is_ignored_is_in_one_of_the_files(tmp_path: Path) -> None:
    paths = write(
        tmp_path, a=text(), b=text("[9]", **{"data.dataset: MNIST": "data: { dataset: MNIST, x: 1 }"})
    )
    assert import_seml(*paths).left_out == 2
    assert import_seml(*paths, ignored=["data.x"]).left_out == 0
    with pytest.raises(WnError, match="no file has a parameter of this name"):
        import_seml(*paths, ignored=["data.y"])


def test_clean_networks_have_no_label_and_repetitions_of_nothing_change_nothing(tmp_path: Path) -> None:
    head = HEAD.replace(
        "fixed:", "fixed:\n  model.MLP.repetition_config.global: 3\n  general.experiment_name: x", 1
    )
    (path,) = write(tmp_path, a=head)
    found, spec = together([path])
    assert (found.left_out, clean(spec), noisy(spec)) == (0, 1, 0)
    assert [entry.label for entry in spec.noise] == [None]
