"""Noise operators: what is allowed, what is refused and how, and where they apply."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.engine.populations import check_error
from wn.engine import noise as noises
from wn.engine.noise import Noise, additive, mixed, mixed_direct, multiplicative, of_kind
from wn.engine.noise_spec import EXECUTIONS, KINDS, ORDERS
from wn.random import REPETITION_BITS
from wn.testing import strategies

OPTIONS = ("in_training", "in_inference", "normalize_to_input_size", "repetitions", "execution")
STRENGTHS = {
    "sigma of additive noise": additive,
    "sigma of multiplicative noise": multiplicative,
    "amplitude of mixed noise": lambda value: mixed(value, 0.5),
    "sigma_mul": lambda value: mixed_direct(value, 1.0),
    "sigma_add": lambda value: mixed_direct(1.0, value),
    "factor of site 3": lambda value: noises.mapped(additive(1.0), {3: value}),
}
MEANS = {
    "mean_add": lambda value: additive(1.0, mean=value),
    "mean_mul": lambda value: multiplicative(1.0, mean=value),
    "mean_mul ": lambda value: mixed(1.0, 0.5, mean_mul=value),
    "mean_add ": lambda value: mixed_direct(1.0, 0.5, mean_add=value),
}


# ---- what is refused ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STRENGTHS)
@pytest.mark.parametrize(
    ("value", "shown"),
    [(-1e-9, "-1e-09"), (np.nan, "nan"), (np.inf, "inf"), ([0.1, -2.0], "-2"), ([np.nan, 1.0], "nan")],
)
def test_a_strength_is_finite_and_not_negative(name, value, shown):
    check_error(lambda: STRENGTHS[name](value), f"{name} is {shown}: it must be finite and ≥ 0")


@pytest.mark.parametrize("name", MEANS)
@pytest.mark.parametrize(("value", "shown"), [(np.nan, "nan"), (-np.inf, "-inf"), ([0.0, np.inf], "inf")])
def test_a_mean_is_finite(name, value, shown):
    check_error(lambda: MEANS[name](value), f"{name.strip()} is {shown}: it must be finite")


def test_a_negative_mean_is_allowed():
    assert additive(1.0, mean=-2.0).mean_add == -2
    assert multiplicative(1.0, mean=-2.0).mean_mul == -2


@pytest.mark.parametrize(("ratio", "shown"), [(-0.01, "-0.01"), (1.01, "1.01"), (np.nan, "nan")])
def test_a_ratio_is_a_share(ratio, shown):
    check_error(lambda: mixed(1.0, ratio), f"ratio of mixed noise is {shown}: it must be finite, ≥ 0 and ≤ 1")


@pytest.mark.parametrize("make", [*STRENGTHS.values(), *MEANS.values(), lambda value: mixed(1.0, value)])
@pytest.mark.parametrize("value", ["0.5", None, 1j, True, {}, [0.1, "x"], [[1], [2, 3]], [], [[1.0]], [None]])
def test_what_is_not_a_number_is_refused(make, value):
    check_error(lambda: make(value), "it must be a number or one number per member")


def test_unknown_names_are_refused_with_the_known_ones():
    for act in (lambda: of_kind("gaussian", 1.0), lambda: Noise("gaussian")):
        check_error(act, "unknown noise kind 'gaussian'", *KINDS)
    check_error(lambda: mixed(1, 0.5, order="both"), "order", "'both'", *ORDERS)
    check_error(lambda: additive(1, execution="twice"), "execution 'twice'", *EXECUTIONS)
    check_error(lambda: Noise(["additive"]), "unknown noise kind ['additive']", *KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_unknown_options_are_refused_with_the_known_ones(kind):
    message = check_error(
        lambda: of_kind(kind, 1.0, colour="pink"), f"{kind} noise has no option 'colour'", *OPTIONS
    )
    assert ("mean_mul" in message) == kind.startswith("mixed")


@pytest.mark.parametrize("kind", ["none", "additive", "multiplicative"])
def test_an_order_is_for_mixed_noise_only(kind):
    check_error(lambda: of_kind(kind, 1.0, order="add_mul"), f"{kind} noise has no option 'order'")


@pytest.mark.parametrize("repetitions", [0, -1])
def test_there_is_at_least_one_repetition(repetitions):
    check_error(
        lambda: additive(1.0, repetitions=repetitions),
        f"repetitions is {repetitions}: it must be at least 1",
    )


@pytest.mark.parametrize("repetitions", [1.0, 2.5, "3", None, True, np.nan, [2]])
def test_repetitions_are_an_integer(repetitions):
    check_error(
        lambda: additive(1.0, repetitions=repetitions),
        f"repetitions is {repetitions!r}: it must be an integer of at least 1",
    )
    assert additive(1.0, repetitions=np.int64(3)).repetitions == 3


def test_separate_draws_have_a_limit():
    assert noises.MOST_DRAWS == 2**REPETITION_BITS
    for options in ({"execution": "each"}, {"order": "add_mul"}):
        assert mixed(1.0, 0.5, repetitions=4096, **options).repetitions == 4096
        check_error(
            lambda options=options: mixed(1.0, 0.5, repetitions=4097, **options),
            "repetitions is 4097: at most 4096 can be drawn separately",
        )
    assert additive(1.0, repetitions=10**6).repetitions == 10**6


@pytest.mark.parametrize(
    ("kind", "values", "words"),
    [
        ("none", {"sigma_add": 3.0}, "none noise does not add"),
        ("none", {"mean_mul": [1.0, 2.0]}, "none noise does not multiply"),
        (
            "additive",
            {"sigma_mul": 3.0},
            "additive noise does not multiply: sigma_mul must be 0 and mean_mul 1",
        ),
        (
            "multiplicative",
            {"mean_add": 0.5},
            "multiplicative noise does not add: sigma_add and mean_add must",
        ),
        ("additive", {"order": "add_mul"}, "additive noise has no order add_mul"),
    ],
)
def test_values_fit_the_kind(kind, values, words):
    check_error(lambda: Noise(kind, **values), words)
    assert Noise("mixed-direct", **values).kind == "mixed-direct"


@pytest.mark.parametrize("kind", ["none", "additive", "multiplicative", "mixed-direct"])
def test_a_ratio_is_for_mixed_noise_only(kind):
    words = f"{kind} noise has no option 'ratio': it goes with mixed"
    check_error(lambda: of_kind(kind, 1.0, ratio=0.3), words)
    assert of_kind("mixed", 1.0).sigma_add == 0.5


@pytest.mark.parametrize("name", ["in_training", "in_inference", "normalize_to_input_size"])
@pytest.mark.parametrize("value", ["no", 1, None])
def test_a_switch_is_true_or_false(name, value):
    check_error(lambda: additive(1.0, **{name: value}), f"{name} is {value!r}: it must be True or False")


def test_values_of_members_have_one_size():
    check_error(lambda: additive([0.1, 0.2], mean=[1.0, 2.0, 3.0]), "different numbers of members: [2, 3]")
    check_error(lambda: mixed_direct([0.1] * 4, [0.2] * 3), "different numbers of members: [3, 4]")
    assert mixed_direct([0.1, 0.2], 0.3, mean_mul=[1.0]).members() == 2


def test_a_mapped_strength_that_overflows_is_refused():
    for sigma in (1e300, np.array([1.0, 1e300])):
        check_error(lambda s=sigma: noises.mapped(additive(s), {0: 1e300}), "sigma_add is inf")


# ---- what they are --------------------------------------------------------------------------------------


@given(strategies.noise_specifications(extreme=True))
def test_every_specification_is_an_operator(specification):
    noise = of_kind(**specification)
    assert noise.kind == specification["kind"]
    for name in set(specification) & {*OPTIONS, "mean_mul", "mean_add", "order"}:
        assert getattr(noise, name) == specification[name]
    sigma, ratio = specification["sigma"], specification.get("ratio")
    expected = {
        "none": (0.0, 0.0),
        "additive": (0.0, sigma),
        "multiplicative": (sigma, 0.0),
        "mixed": (None, None) if ratio is None else (sigma * (1 - ratio), sigma * ratio),
        "mixed-direct": (sigma, sigma),
    }
    assert (noise.sigma_mul, noise.sigma_add) == expected[noise.kind]
    assert noise.members() == 1


def test_defaults_do_not_shift_or_scale():
    for noise in (additive(1.0), multiplicative(1.0), mixed(1.0, 0.5), mixed_direct(1.0, 1.0)):
        assert (noise.mean_mul, noise.mean_add, noise.repetitions, noise.order) == (1.0, 0.0, 1, "mul_add")
        assert noise.in_training
        assert noise.in_inference
        assert not noise.normalize_to_input_size


@given(st.lists(strategies.sigmas(extreme=True), min_size=2, max_size=5))
def test_values_of_members_are_kept_as_float64(sigma):
    for given_as in (sigma, np.array(sigma), tuple(sigma)):
        noise = additive(given_as)
        assert isinstance(noise.sigma_add, np.ndarray)
        assert noise.sigma_add.dtype == np.float64
        assert noise.sigma_add.tolist() == sigma
        assert noise.members() == len(sigma)


def test_values_are_copied():
    sigma = np.array([1.0, 2.0])
    noise = additive(sigma)
    sigma[:] = -1
    assert noise.sigma_add.tolist() == [1, 2]


def test_equal_values_make_equal_operators():
    for sigma in (0.5, [0.5, 1.0]):
        assert additive(sigma) == additive(np.array(sigma)) == Noise("additive", sigma_add=sigma)
        assert len({additive(sigma), additive(sigma), additive(np.multiply(sigma, 2.0))}) == 2
    assert additive([0.5, 0.5]) != additive(0.5)
    assert additive(0.0) != noises.none()
    assert additive(0.5) != 0.5


def test_amplitude_and_ratio_by_member():
    noise = mixed([1.0, 2.0], 0.25)
    assert noise.sigma_add.tolist() == [0.25, 0.5]
    assert noise.sigma_mul.tolist() == [0.75, 1.5]


@pytest.mark.parametrize(
    ("noise", "acts"),
    [
        (noises.none(), False),
        (additive(0.0), False),
        (multiplicative([0.0, 0.0]), False),
        (mixed(0.0, 0.5), False),
        (additive(0.0, mean=0.1), True),
        (multiplicative(0.0, mean=0.0), True),
        (additive([0.0, 0.1]), True),
        (mixed(1.0, 0.0), True),
        (mixed(1.0, 1.0), True),
    ],
)
def test_an_operator_is_active_where_it_changes_something(noise, acts):
    assert noise.active(training=True) is acts
    assert noise.active(training=False) is acts


@pytest.mark.parametrize("in_training", [False, True])
@pytest.mark.parametrize("in_inference", [False, True])
def test_switches(in_training, in_inference):
    noise = additive(1.0, in_training=in_training, in_inference=in_inference)
    assert noise.active(training=True) is in_training
    assert noise.active(training=False) is in_inference


def test_when_repetitions_are_separate_draws():
    assert additive(1.0, repetitions=3, execution="each").draws_each
    assert not additive(1.0, repetitions=3).draws_each
    assert not additive(1.0, execution="each").draws_each
    assert not mixed(1.0, 0.5, repetitions=3).draws_each
    assert mixed(1.0, 0.5, repetitions=3, order="add_mul").draws_each
    assert not mixed(1.0, 0.5, order="add_mul").draws_each


# ---- where they apply -----------------------------------------------------------------------------------


def test_every_site():
    noise = additive(0.5)
    assert noises.everywhere(3, noise) == {0: noise, 1: noise, 2: noise}


@given(
    st.dictionaries(st.integers(0, 9), st.floats(0, 100), max_size=4),
    st.sampled_from([0.5, [0.5, 0.25]]),
)
def test_mapped_noise_scales_both_strengths_and_nothing_else(factors, sigma):
    noise = mixed_direct(sigma, 3.0, mean_mul=0.5, mean_add=2.0, order="add_mul", repetitions=3)
    placed = noises.mapped(noise, factors)
    assert set(placed) == set(factors)
    for site, factor in factors.items():
        np.testing.assert_array_equal(placed[site].sigma_mul, np.multiply(sigma, factor))
        assert placed[site].sigma_add == 3.0 * factor
        kept = ("kind", "mean_mul", "mean_add", "order", "repetitions", "execution", "in_training")
        for name in kept:
            assert getattr(placed[site], name) == getattr(noise, name)
