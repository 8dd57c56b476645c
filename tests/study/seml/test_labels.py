"""Labels of noise entries: schemes of repetitions by name, experiments by theirs."""

from pathlib import Path

import pytest

from tests.study.seml.files import HEAD, imported, noisy
from wn.analysis.repetitions import SCHEMES
from wn.study.seml.labels import label_of, scheme_of

MAPS = {"repetition_maps": [[1, 2]]}


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("network", ["with_BN", "no_BN"])
def test_every_scheme_is_found_in_the_authors_names(scheme: str, network: str) -> None:
    """log10 ends inverse_log10, layer_sort begins others: the longest name that fits is meant."""
    assert scheme_of(f"layer_repetition_{network}_{scheme}_scaling") == scheme
    assert scheme_of(scheme) == scheme


@pytest.mark.parametrize("name", ["", "mine", "logs", "log10_scaled", "mylog10", "uniform_2"])
def test_other_names_stay_as_they_are(name: str) -> None:
    assert scheme_of(name) == name


def test_what_is_a_label() -> None:
    """The name of the experiment; that of the block for maps without one; uniform repetitions are uniform."""
    assert label_of("a_sqrt_scaling", "sub", MAPS) == "sqrt"
    assert label_of(None, "outer.a_sqrt_scaling", MAPS) == "sqrt"
    assert label_of(None, "", MAPS) is None
    assert label_of("a_sqrt_scaling", "sub", {}) == "a_sqrt_scaling"
    assert label_of(3, "sub", {"repetitions": 2}) == "3"
    assert label_of(None, "sub", {"repetitions": 2}) == "uniform"
    assert label_of(None, "sub", {"repetitions": None}) is None


def test_schemes_with_the_same_map_are_entries_of_their_own(tmp_path: Path) -> None:
    """2 schemes × 2 maps, one of which is in both: 4 runs, 3 units, and neither label is lost."""
    text = HEAD.replace(
        "noise_settings.default.noise_type: NoNoise",
        "noise_settings.default: { noise_type: GaussAdd, GaussStd: 1, enable_in_training: False }",
    )
    for scheme, maps in (
        ("log10", "[2,1,1,1,1,1,1,1], [3,1,1,1,1,1,1,1]"),
        ("sqrt", "[2,1,1,1,1,1,1,1], [4,1,1,1,1,1,1,1]"),
    ):
        text += f"""
layer_repetition_no_BN_{scheme}_scaling:
  fixed: {{ general.experiment_name: layer_repetition_no_BN_{scheme}_scaling }}
  grid: {{ model.MLP.repetition_config.layer_wise_mapped: {{ type: choice, options: [{maps}] }} }}
"""
    found, spec = imported(tmp_path / "experiment.yaml", text)
    assert (found.runs, found.left_out, noisy(spec)) == (4, 0, 3)
    assert [entry.label for entry in spec.noise] == ["log10", "sqrt"]
    assert all(len(entry.repetition_maps or ()) == 2 for entry in spec.noise)
