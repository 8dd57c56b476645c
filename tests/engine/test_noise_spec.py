"""One declaration of noise: every way in has its options, with its rules, and makes the same operator."""

import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from msgspec import UNSET

import wn
from wn import random
from wn.basics.errors import WnError
from wn.basics.options import settings_of
from wn.cli import main as cli
from wn.engine import noise as noises
from wn.engine.noise_spec import (
    DISTRIBUTIONS,
    FIELDS,
    KINDS,
    OPTIONS,
    RULES,
    NoiseSpec,
    options_of,
    specified,
)
from wn.study import parse_study
from wn.study.declare.resolve import noise_entries
from wn.study.declare.schema import NoiseKeys
from wn.walking.asked import SingleSettings, WalkSettings
from wn.walking.settings import noise_factory, read_walk

STUDY = """
[data]
names = "mnist"
[[models]]
name = "mlp-8"
[[noise]]
kind = "{kind}"
{keys}
"""
SIGMA = {"mixed-direct": "sigma_mul = 0.5\nsigma_add = 0.5"}
VALUES: dict[str, Any] = {  # another one than the default
    "mean": 0.25,
    "mean_mul": 0.75,
    "mean_add": -0.5,
    "ratio": 0.125,
    "order": "add_mul",
    "normalize_to_input_size": True,
    "repetitions": 3,
    "execution": "each",
    "distribution": "laplace",
}


def test_every_option_has_a_value_here() -> None:
    assert tuple(VALUES) == OPTIONS


@pytest.mark.parametrize("function", [wn.walk, wn.train, cli.walk, cli.train])
@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_is_a_keyword_a_flag_and_a_key(function: Any, name: str) -> None:
    """The kind: an option that one way in has and the other has not."""
    (setting,) = (s for s in settings_of(WalkSettings) if s.field == name)
    assert inspect.signature(function).parameters[setting.name].default == setting.default
    assert {name} <= set(WalkSettings.__struct_fields__) & set(SingleSettings.__struct_fields__)
    assert name in NoiseKeys.__struct_fields__
    assert len(setting.option.help) > 10


def in_a_study(kind: str, options: dict[str, Any]) -> NoiseSpec:
    given = options if kind != "mixed" else {"ratio": 0.5} | options
    keys = [f"{name} = {msgspec.json.encode(value).decode()}" for name, value in given.items()]
    text = STUDY.format(kind=kind, keys="\n".join([SIGMA.get(kind, "sigma = 0.5"), *keys]))
    (entry,) = noise_entries(parse_study(text))
    (operator,) = entry.operators
    return operator


@pytest.mark.parametrize("kind", KINDS[1:])
def test_all_ways_in_make_the_same_operator(kind: str) -> None:
    """An execution that makes no difference may have another name."""
    for names in [(), *((name,) for name in options_of(kind)), options_of(kind)]:
        options = {name: VALUES[name] for name in names}
        expected = noises.of_kind(kind, 0.5, **options)
        for operator in (
            noise_factory(read_walk({"noise": kind, "sigma": 0.5, **options}))(0.5),
            noises.of_spec(specified(kind, options), 0.5),
            noises.of_spec(in_a_study(kind, options), 0.5),
        ):
            assert operator.draws_each == expected.draws_each
            assert replace(operator, execution=expected.execution) == expected


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", OPTIONS)
def test_all_ways_in_refuse_what_does_not_go_together(kind: str, name: str) -> None:
    """The kind: a rule that one way in has and the other has not."""
    if kind in RULES[name].kinds:
        return
    words = f"{kind} noise has no option {name!r}: it goes with {', '.join(RULES[name].kinds)}"
    option = {name: VALUES[name]}
    check_words(lambda: noises.of_kind(kind, 0.5, **option), words)
    check_words(lambda: specified(kind, option), words)
    check_words(lambda: read_walk({"noise": kind, **option}), words)
    if kind != "none":
        check_words(lambda: in_a_study(kind, option), f"study: noise[0].{name}: {words}")


@pytest.mark.parametrize("name", [name for name in OPTIONS if RULES[name].choices])
def test_all_ways_in_refuse_other_words(name: str) -> None:
    allowed = f"'odd': allowed are {', '.join(RULES[name].choices)}"
    check_words(lambda: noises.of_kind("mixed", 0.5, **{name: "odd"}), allowed)
    check_words(lambda: read_walk({"noise": "mixed", name: "odd"}), allowed)
    check_words(lambda: in_a_study("mixed", {name: "odd"}), allowed)


def check_words(act: Callable[[], Any], words: str) -> None:
    with pytest.raises(WnError) as caught:
        act()
    assert str(caught.value).endswith(words)


def test_equal_operators_are_equal() -> None:
    same: list[dict[str, Any]] = [{}, {"execution": "each"}, {"mean": -0.0}, {"repetitions": (1, 1)}]
    assert {specified("additive", options) for options in same} == {NoiseSpec(kind="additive")}
    each = specified("additive", {"repetitions": (1, 2), "execution": "each"})
    assert (each.repetitions, each.execution) == ((1, 2), "each")
    add_mul = {"order": "add_mul", "repetitions": 2, "ratio": 0.5}
    assert specified("mixed", add_mul | {"execution": "each"}) == specified("mixed", add_mul)


def test_the_default_distribution_is_not_written() -> None:
    """Keys of units and records of runs are what they were before there was another one."""
    for given in ({}, {"distribution": None}, {"distribution": "normal"}):
        assert "distribution" not in msgspec.to_builtins(specified("additive", given))
        assert "distribution" not in msgspec.to_builtins(read_walk(given))
        assert read_walk(given) == read_walk({})
    assert msgspec.to_builtins(read_walk({"distribution": "uniform"}))["distribution"] == "uniform"
    assert DISTRIBUTIONS == random.DISTRIBUTIONS  # whose order is that of the kernels


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_one_draw_stands_for_many_where_draws_are_normal(distribution: str) -> None:
    options = {"distribution": distribution, "repetitions": 3}
    noise = noises.of_spec(specified("additive", options), 1.0)
    assert noise.draws_each == (distribution != "normal")
    each = specified("additive", options | {"execution": "each"})
    assert (each == specified("additive", options)) == (distribution != "normal")  # it is the same


def test_a_study_may_list_distributions() -> None:
    keys = 'sigma = 0.5\nrepetitions = [1, 2]\ndistribution = ["normal", "laplace"]'
    (entry,) = noise_entries(parse_study(STUDY.format(kind="additive", keys=keys)))
    found = [(o.repetitions, o.distribution) for o in entry.operators]
    assert found == [(1, UNSET), (1, "laplace"), (2, UNSET), (2, "laplace")]


def test_what_a_specification_got_later_is_not_in_old_keys() -> None:
    first = "kind ratio sigma_mul mean_mul mean_add order normalize_to_input_size repetitions execution"
    assert list(msgspec.to_builtins(NoiseSpec(kind="additive"))) == first.split()
    assert set(FIELDS) - {"mean"} <= set(NoiseSpec.__struct_fields__)
