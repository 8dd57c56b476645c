"""Words and names of experiment files: there twice, read otherwise by YAML 1.1, or too many."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.study.seml.files import HEAD, NOISE, STD, grid, imported, noisy
from wn.basics.errors import WnError
from wn.study.seml.convert import import_seml
from wn.study.seml.grid import leaves
from wn.study.seml.yaml import read_yaml

SEML = "seml: { executable: main.py }\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "experiment.yaml"


def refusal(file: Path, text: str) -> str:
    """The one line with which a file is refused."""
    file.write_text(text, encoding="utf-8")
    with pytest.raises(WnError) as caught:
        import_seml(file)
    message = str(caught.value)
    assert message.startswith(f"{file}: ")
    assert "\n" not in message
    return message


def fixed(file: Path, text: str) -> list[dict[str, Any]]:
    """The fixed parameters of each leaf of a file."""
    file.write_text(SEML + text)
    return [leaf.fixed for leaf in leaves(read_yaml(file)[0])[0]]


# ---- names that are there twice -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("fixed: { a: ccc, a: ddd }", "line 2: fixed.a is there twice"),
        ("fixed: { a: 1 }\nfixed: { b: 2 }", "line 3: fixed is there twice"),
        ("sub: { fixed: { a: 1 } }\nsub: { fixed: { b: 2 } }", "sub is there twice"),
        ("fixed: { b: { c: 1, c: 2 } }", "fixed.b.c is there twice"),
        ("fixed: { a.b: 1, a: { b: 2 } }", "fixed.a.b is there twice"),
        ("fixed: { a: { b: 2 }, a.b: 1 }", "fixed.a.b is there twice"),
        ("fixed: { a: { b.c: 2 }, a.b: { c: 1 } }", "fixed.a.b.c is there twice"),
        ("fixed: { a: 1, a.b: 2 }", "fixed.a is a parameter, and fixed.a.b is inside it"),
        ("fixed.a: 1\nfixed: { a: 2 }", "fixed.a is there twice"),
        ("fixed: { 1: 2, '1': 3 }", "fixed.1 is there twice"),
        ("fixed: { a: 1 }\nsub.fixed: { c: 1 }\nsub: { fixed: { c: 2 } }", "sub.fixed.c is there twice"),
        ("grid: { a: { type: choice, type: range } }", "grid.a.type is there twice"),
        ("base: &b { a: 1 }\nfixed: { <<: *b, a: 2 }", "fixed.a is there twice"),
        (
            "grid: { x: { type: parameter_collection, params: { y: { type: choice, options: [1] } } },"
            " x.y: { type: choice, options: [2] } }",
            "x.y is there twice",
        ),
        ("seml2: {}\nslurm: { name: a, name: b }\nfixed: { a: 1 }", "slurm.name is there twice"),
    ],
)
def test_a_name_is_there_once(file: Path, text: str, named: str) -> None:
    """The kind: of two values of one name, however written, one would win without a word."""
    assert named in refusal(file, SEML + text)


def test_names_that_only_share_their_beginning_are_several(file: Path) -> None:
    text = "fixed: { a.b: 1, a: { c: 2 }, a1: 3 }\nfixed.d: 4\n"
    assert fixed(file, text) == [{"a.b": 1, "a.c": 2, "a1": 3, "d": 4}]


def test_a_parameter_below_replaces_what_is_inside_it_and_around_it(file: Path) -> None:
    """As in seml, where the last one of these counts."""
    above = "fixed: { a: { b: 1, c: 2 }, d: None }\n"
    below = "one: { fixed: { a: None } }\ntwo: { fixed: { d.e: 3 } }\n"
    assert fixed(file, above + below) == [{"a": None, "d": None}, {"a.b": 1, "a.c": 2, "d.e": 3}]
    clash = above + "sub: { grid: { a: { type: choice, options: [1] } } }"
    assert "sub: a: above there is a.b, and one is inside the other" in refusal(file, SEML + clash)


def test_what_is_zipped_across_levels_has_one_length(file: Path) -> None:
    text = "grid: { x: { type: choice, options: [1, 2], zip_id: a } }\nsub: { grid: { y: { type: choice, "
    assert "sub: x, y have one zip_id" in refusal(file, f"{SEML}{text}options: [1], zip_id: a }} }} }}")


# ---- !remove --------------------------------------------------------------------------------------------

ABOVE = "fixed: { a: 1, w: { min: 0, max: 1 } }\ngrid: { g: { type: choice, options: [1, 2] } }\n"


def test_a_removed_parameter_is_none_of_the_sub_configuration(file: Path) -> None:
    text = f"{ABOVE}one:\n  fixed:\n    a: !remove\n    w.min: !remove\ntwo:\n  fixed: {{ b: 2 }}\n"
    assert fixed(file, text) == [{"w.max": 1}, {"a": 1, "w.min": 0, "w.max": 1, "b": 2}]
    file.write_text(f"{SEML}{ABOVE}one:\n  fixed:\n    g: !remove\ntwo:\n  grid:\n    g: !remove\n")
    assert [leaf.runs for leaf in leaves(read_yaml(file)[0])[0]] == [1, 1]


def test_a_study_without_what_was_removed(file: Path) -> None:
    """2 σ above; `clean` takes σ and noise away: 1 run of its own."""
    extra = f"noisy: {{ fixed: {{ name: y }} }}\nclean:\n  fixed:\n    {STD}: !remove\n"
    found, spec = grid(file, "type: choice, options: [1, 2]", f"{extra}    {NOISE}.noise_type: NoNoise\n")
    assert (found.runs, found.left_out, noisy(spec)) == (3, 0, 2)
    assert [entry.kind for entry in spec.noise] == ["additive", "none"]


def test_what_can_not_be_removed(file: Path) -> None:
    assert "a: !remove takes away what stands above" in refusal(file, f"{SEML}fixed:\n  a: !remove\n")
    refused = f"{SEML}{ABOVE}sub:\n  grid:\n    g:\n      type: !remove\n"
    assert "sub: g.type: a parameter here needs a type" in refusal(file, refused)
    file.write_text(f"{SEML}{ABOVE}sub:\n  fixed:\n    w: !remove\n    q: !remove\n")
    notes = leaves(read_yaml(file)[0])[1]
    assert notes == [
        "sub: w: !remove removes nothing, as no parameter above has this name: w.min, say, stays",
        "sub: q: !remove removes nothing, as no parameter above has this name",
    ]


# ---- words ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("yes", True),
        ("No", False),
        ("on", True),
        ("OFF", False),
        ("010", 8),
        ("1_000", 1000),
        ("1:30", 90),
        ("0b11", 3),
        ("2020-01-02", "2020-01-02"),
    ],
)
def test_words_that_yaml_reads_otherwise_than_they_look_are_said(file: Path, word: str, value: Any) -> None:
    """The kind: a value that is silently another one than the reader of the file sees."""
    file.write_text(f"{SEML}fixed: {{ a.b: {word} }}\nsub: {{ fixed: {{ c: [1, {word}], {word}: 1 }} }}\n")
    document, notes = read_yaml(file)
    assert str(document["fixed"]["a"]["b"]) == str(value)
    read = f"{word} is read as {value}, as YAML 1.1 has it and seml does; quoted it is text"
    assert sorted(notes) == sorted(
        f"{name}: {read}" for name in ("fixed.a.b", "sub.fixed.c", f"sub.fixed.{word}")
    )


@pytest.mark.parametrize(
    "word", ["true", "False", "null", "~", "", "1", "-1.5", "1e-3", ".5", "0x10", "text", "'yes'"]
)
def test_words_that_are_what_they_look_like_are_not_said(file: Path, word: str) -> None:
    file.write_text(f"{SEML}fixed:\n  a: {word}\n")
    assert read_yaml(file)[1] == []


def test_a_word_is_said_in_the_study_and_counts_as_in_seml(file: Path) -> None:
    found, spec = grid(
        file,
        "type: choice, options: [1]",
        f"  {NOISE}.enable_in_training: {{ type: choice, options: [no] }}\n",
    )
    assert found.notes[0].startswith(f"grid.{NOISE}.enable_in_training.options: no is read as False")
    assert f"# {found.notes[0]}" in found.toml
    assert spec.noise[0].phases == "inference"


@pytest.mark.parametrize(
    ("definition", "part"),
    [
        (
            "fixed:\n  x: { GaussStd: 0,5, b: 1 }",
            "fixed.x.5 has no value: a decimal comma? numbers have a point",
        ),
        (
            f"{HEAD}sub: {{ fixed: {{ {NOISE}: {{ noise_type: GaussAdd, GaussStd: '0,5' }} }} }}",
            "write a decimal comma as a point, 0.5",
        ),
        (
            f"{HEAD}sub:\n  fixed:\n    {NOISE}.noise_type: GaussAdd\n    {STD}: 0,5\n",
            "write a decimal comma as a point, 0.5",
        ),
        (f"{HEAD}sub:\n  fixed:\n    {NOISE}.noise_type: GaussAdd\n    {STD}: '0.1:10:3'\n", "σ is a number"),
    ],
)
def test_a_decimal_comma_is_asked_about(file: Path, definition: str, part: str) -> None:
    head = HEAD.replace("NoNoise", "Dropout")  # or the top level would be run
    text = definition.replace(HEAD, head)
    assert part in refusal(file, text if "seml" in text else SEML + text)


def test_a_range_that_has_its_end_in_it_says_so(file: Path) -> None:
    """1, 1.1, 1.2, 1.3 in steps of 0.1 below 1.3, by rounding; 0, 0.1, 0.2 below 0.3."""
    found, _ = grid(file, "type: range, min: 1, max: 1.3, step: 0.1")
    assert found.runs == 4
    assert found.notes == (
        f"the top level: {STD}: the range from 1 to 1.3 in steps of 0.1 has its end in it, by rounding, as "
        "in seml: 4 values",
    )
    found, _ = grid(file, "type: range, min: 0, max: 0.3, step: 0.1")
    assert (found.runs, found.notes) == (3, ())


def test_drawn_without_a_seed_is_said(file: Path) -> None:
    """seml seeds NumPy's generator, but draws choices with Python's."""
    drawn = """
good: { fixed: { general.experiment_name: x } }
drawn:
  random:
    samples: 2
    a.x: { type: choice, options: [1, 2] }
    a.y: { type: uniform, min: 0, max: 1 }
    a.z: { type: randint, min: 0, max: 5, seed: 3 }
seeded: { random: { samples: 2, seed: 1, a.w: { type: loguniform, min: 1, max: 2 } } }
"""
    found, _ = imported(file, HEAD + drawn)
    (note,) = (note for note in found.notes if "without a seed" in note)
    assert note.startswith("drawn: a.x, a.y: drawn without a seed (seml seeds no choice)")
    assert [note.partition(":")[0] for note in found.notes if "left out" in note] == ["drawn", "seeded"]


@pytest.mark.parametrize(
    ("random", "part"),
    [
        ("x: { type: normal }", "unknown type 'normal': allowed in random are choice, uniform"),
        ("x: { type: uniform, min: 0 }", "x.max: the keys of type uniform are min, max"),
        ("x: { type: uniform, min: 0, max: 1, num: 3 }", "x.num: the keys"),
        ("x: { type: choice, options: 3 }", "must be a list"),
        ("x: { type: loguniform, min: 0, max: 1 }", "above 0"),
        ("x: { type: randint, min: a, max: 1 }", "x.min: must be a number"),
    ],
)
def test_random_parameters_that_seml_refuses(file: Path, random: str, part: str) -> None:
    assert part in refusal(file, f"{HEAD}sub: {{ random: {{ samples: 2, {random} }} }}\n")


# ---- files that are too large ---------------------------------------------------------------------------


def laughs(levels: int, inner: str, outer: str) -> str:
    """Aliases of aliases: 9 to the power of the number of levels."""
    lines = [f"a0: &a0 {inner}"]
    lines += [f"a{n}: &a{n} {outer.format(', '.join([f'*a{n - 1}'] * 9))}" for n in range(1, levels)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    "text",
    [
        laughs(12, "[x, x, x]", "[{}]"),
        laughs(12, "{ b: 1 }", "{{ b: [{}] }}"),
        laughs(12, "{ b: 1 }", "{{ <<: [{}] }}"),
    ],
)
def test_aliases_of_aliases_are_refused_at_once(file: Path, text: str) -> None:
    """The kind: a few lines that stand for more than memory holds."""
    assert "more than 100000 values, with those of aliases" in refusal(file, SEML + text)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("fixed: " + "{ a: " * 500 + "1" + " }" * 500, "nested"),
        ("fixed: " + "[" * 5000 + "]" * 5000, "nested more"),
        ("fixed: { a: " + "9" * 5000 + " }", "not YAML"),
        ("fixed: { ? [1, 2] : 3 }", "a name is text"),
        ("fixed: { a: !!timestamp x }", "line 2: not YAML: x"),
        ("fixed: { a: !!bool x }", "line 2: not YAML: x"),
        ("fixed: { a: 2020-13-45 }", "line 2: not YAML: 2020-13-45"),
        ("fixed: { <<: 3 }", "<< takes a table"),
        ("x" * 200_000, "200030 bytes: an experiment file has at most 200000"),
        ("grid: { x: { type: uniform, min: 0, max: 1, num: 1e12 } }", "x.num"),
        ("grid: { x: { type: uniform, min: 0, max: 1, num: 2.5 } }", "whole number"),
        ("grid: { x: { type: uniform, min: 0, max: .inf, num: 3 } }", "x.max: must be a finite number"),
        (
            f"grid: {{ x: {{ type: loguniform, min: 1, max: 1{'0' * 400}, num: 3 }} }}",
            "x.max: must be a finite",
        ),
        ("grid: { x: { type: range, min: 0, max: 1, step: .nan } }", "x.step: must be a finite"),
        (
            "\n".join(f"s{n}: {{ fixed: {{ a: 1 }} }}" for n in range(1001)) + "\nfixed: { b: 1 }",
            "sub-config",
        ),
    ],
)
def test_what_no_experiment_has_is_refused_at_once(file: Path, text: str, part: str) -> None:
    assert part in refusal(file, SEML + text)


def test_more_entries_than_a_study_has_are_refused_at_once(file: Path) -> None:
    """A study has one learning rate: each of 100,000 would be an entry of its own."""
    rates = "grid: { optimizer.lr: { type: uniform, min: 1, max: 2, num: 100000 } }\n"
    assert "more than 2000 noise entries" in refusal(file, HEAD.replace(", lr: 1e-3", "") + rates)


def test_other_users_of_yaml_are_left_alone(file: Path) -> None:
    """The tag is understood here, and nowhere else in the process."""
    fixed(file, f"{ABOVE}sub:\n  fixed:\n    a: !remove\n")
    with pytest.raises(yaml.YAMLError, match="!remove"):
        yaml.safe_load("a: !remove")
