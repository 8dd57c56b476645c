"""Entries that wait for midpoints: what they become, and one clear error for what can't be served."""

from collections.abc import Mapping
from math import inf

import pytest

from wn.analysis.repetitions import allocate
from wn.basics.errors import WnError
from wn.engine.noise_spec import NoiseSpec
from wn.study.declare.derived import MidpointsOf, explicit, has_derived, planned, waiting
from wn.study.declare.resolve import StudyNetwork, noise_entries
from wn.study.declare.spec import narrowed, parse_study, to_toml
from wn.study.units import count, planned_facts

BASE = """
[data]
names = "fashion-mini"

[[models]]
name = "mlp"
batch_norm = ["sites", "none"]
"""
WALK = """
[[noise]]
kind = "additive"
sigma = "0.1:100:4"
phases = "inference"
"""
AT_ALL = WALK + 'where = "global"\n'
MAPS = """
[[noise]]
kind = "additive"
sigma = "midpoint"
where = "global"
phases = "inference"
allocation = ["uniform", "optimal", "inverse_sqrt"]
budget = ["2x", "3x"]
"""


def midpoints(network: StudyNetwork, clamp: bool, operator: NoiseSpec) -> Mapping[str, float]:
    scale = 2.0 if network.batch_norm == "sites" else 1.0
    found = {name: scale * (1 + site) for site, name in enumerate(network.network.site_names)}
    return found | {"global": 0.25 * scale}


def no_gains(network: StudyNetwork, clamp: bool, operator: NoiseSpec) -> Mapping[str, float]:
    raise AssertionError("gains are not asked for")


def test_an_entry_becomes_one_per_network_and_scheme_with_maps_of_its_midpoints() -> None:
    spec = parse_study(BASE + WALK + AT_ALL + MAPS)
    assert has_derived(spec)
    made, left_out = explicit(spec, midpoints, no_gains)
    assert left_out == ()
    assert made.noise[:2] == spec.noise[:2]
    assert [(keys.batch_norm, keys.label) for keys in made.noise[2:]] == [
        (kind, scheme) for kind in ("sites", "none") for scheme in ("uniform", "optimal", "inverse_sqrt")
    ]
    best = made.noise[6]
    assert (best.sigma, best.data, best.models, best.clamp_weights) == (0.25, "fashion-mini", "mlp-64", False)
    assert best.repetition_maps == [list(allocate("optimal", range(1, 9), total)) for total in (16, 24)]
    again = parse_study(to_toml(made))
    assert again.noise == made.noise
    assert not has_derived(again)


def test_before_midpoints_are_known_such_an_entry_is_clean_networks_alone() -> None:
    spec = parse_study(BASE + WALK + AT_ALL + MAPS)
    assert [len(entry.operators) for entry in noise_entries(spec)] == [1, 1, 0]
    facts = planned_facts(spec)
    first = sum(found.inference for found in count(spec, facts))
    assert sum(found.inference for found in count(planned(spec), facts)) == first + 2 * 3 * 2


def test_sigma_alone_may_be_the_midpoint() -> None:
    text = AT_ALL.replace('"0.1:100:4"', '"midpoint"') + "repetitions = [1, 2]\n"
    made = explicit(parse_study(BASE + AT_ALL + text), midpoints, no_gains).study
    assert [(keys.sigma, keys.repetitions, keys.label) for keys in made.noise[1:]] == [
        (0.5, [1, 2], None),
        (0.25, [1, 2], None),
    ]


def test_part_of_a_study_keeps_its_derived_entries() -> None:
    spec = parse_study(BASE + WALK + AT_ALL + MAPS)
    assert has_derived(narrowed(spec, model="mlp"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (WALK + MAPS, r"noise\[1\].sigma: needs midpoints of fashion-mini mlp-64 batch norm sites: an entry"),
        (AT_ALL + MAPS, r'noise\[1\].allocation: needs midpoints .* where = "each", phase inference'),
        (WALK + AT_ALL + MAPS + "clamp_weights = true\n", r"noise\[2\].sigma: needs midpoints"),
        (WALK + 'batch_norm = "none"\n' + AT_ALL + MAPS, r"noise\[2\].allocation: needs midpoints"),
        (WALK + "mean = 1.0\n" + AT_ALL + MAPS, r"noise\[2\].allocation: needs midpoints"),
        (WALK + "repetitions = 3\n" + AT_ALL + MAPS, r"noise\[2\].allocation: needs midpoints"),
        (WALK + AT_ALL + MAPS.replace('"optimal"', '"best"'), "unknown scheme of repetitions 'best'"),
        (WALK + AT_ALL + MAPS.replace('"2x"', '"0.5x"'), "a budget of"),
        (WALK + AT_ALL + MAPS.replace('"2x"', '"many"'), "budget 'many'"),
        (WALK + AT_ALL + MAPS.replace('"2x", ', '"3x", '), "listed twice"),
        (
            WALK + AT_ALL + MAPS.replace('budget = ["2x", "3x"]', ""),
            r"noise\[2\].budget: allocation and budget go",
        ),
        (
            WALK + AT_ALL + MAPS.replace('allocation = ["uniform", "optimal", "inverse_sqrt"]', ""),
            "go together",
        ),
        (WALK + AT_ALL + MAPS + 'label = "mine"\n', r"noise\[2\].label: leave it out: .* its scheme"),
        (WALK + AT_ALL + MAPS.replace('phases = "inference"', ""), r"noise\[2\].phases: .* inference alone"),
        (
            WALK + AT_ALL + MAPS.replace('"2x"', '"1x"'),
            r"noise\[2\].budget: '1x' is one execution",
        ),
        (WALK + AT_ALL + MAPS.replace('"2x"', '"3X"'), r"noise\[2\].budget: budget '3X'"),
        (WALK + 'label = "a, b"\n', r"noise\[0\].label: 'a, b': a label is text without commas"),
        (WALK + 'label = " "\n', r"noise\[0\].label: ' '"),
        (WALK + AT_ALL + MAPS.replace('where = "global"', ""), r'noise\[2\].where: .* where = "global"'),
        (WALK + AT_ALL + MAPS + "repetitions = 2\n", r"noise\[2\].repetitions: leave it out"),
        (WALK + AT_ALL + MAPS.replace('"additive"', '"none"'), "goes with the kinds"),
    ],
)
def test_what_a_study_can_not_serve(text: str, message: str) -> None:
    with pytest.raises(WnError, match=message):
        parse_study(BASE + text)


def test_a_network_without_a_midpoint_is_left_out_and_the_other_stays() -> None:
    spec = parse_study(BASE + WALK + AT_ALL + MAPS)

    def lacking(place: str, value: float | None = None) -> MidpointsOf:
        def found(network: StudyNetwork, clamp: bool, operator: NoiseSpec) -> Mapping[str, float]:
            whole = dict(midpoints(network, clamp, operator))
            if network.batch_norm == "sites":
                del whole[place]
                if value is not None:
                    whole[place] = value
            return whole

        return found

    who, short = "fashion-mini mlp-64 batch norm sites", "its grid of σ may be too short"
    for place, value, line in (
        ("global", None, f"noise[2].sigma: {who}: no midpoint was found at global: {short}"),
        ("global", inf, f"noise[2].sigma: {who}: accuracy never falls half-way: there is no midpoint"),
        ("relu2", None, f"noise[2].allocation: {who}: no midpoint was found at relu2: {short}"),
    ):
        made, left_out = explicit(spec, lacking(place, value), no_gains)
        assert left_out == (line,)
        there = [(keys.batch_norm, keys.label) for keys in made.noise[2:]]
        rest = [("none", scheme) for scheme in ("uniform", "optimal", "inverse_sqrt")]
        assert there == ([] if place == "global" else [("sites", "uniform")]) + rest
    made, left_out = explicit(spec, lambda *_: {}, no_gains)
    assert (len(made.noise), len(left_out)) == (2, 2)


def test_a_site_that_no_noise_harms_is_executed_once() -> None:
    spec = parse_study(BASE + WALK + AT_ALL + MAPS)
    made, left_out = explicit(spec, lambda *_: midpoints(*_) | {"logits": inf}, no_gains)
    assert [numbers[-1] for numbers in made.noise[3].repetition_maps or []] == [1, 1]
    assert left_out == ()


def test_a_scheme_without_a_weight_is_left_out_and_the_others_stay() -> None:
    """1/log₁₀ μ at μ = 1, which is that of the input without batch norm."""
    spec = parse_study(BASE + WALK + AT_ALL + MAPS.replace('"inverse_sqrt"', '"inverse_log10", "sqrt"'))
    made, left_out = explicit(spec, midpoints, no_gains)
    assert [(keys.batch_norm, keys.label) for keys in made.noise[2:]] == [
        *(("sites", scheme) for scheme in ("uniform", "optimal", "inverse_log10", "sqrt")),
        *(("none", scheme) for scheme in ("uniform", "optimal", "sqrt")),
    ]
    (line,) = left_out
    assert line.startswith(
        "noise[2].allocation: fashion-mini mlp-64 batch norm none: the scheme inverse_log10 has"
    )
    assert line.endswith("no weight for the midpoints of sites [0]: [1.0]")


def test_entries_that_wait_are_named() -> None:
    spec = parse_study(BASE + WALK + AT_ALL + MAPS)
    line = "noise[2]: waits for midpoints or gains of this study, which are not all known yet"
    assert waiting(spec) == [line]
    assert waiting(explicit(spec, midpoints, no_gains).study) == []


def test_gains_make_maps_without_midpoints() -> None:
    """R ∝ c, and no entry that measures each site; uniform needs none either."""
    maps = MAPS.replace('"midpoint"', "0.5").replace('"optimal", "inverse_sqrt"', '"gains"')
    spec = parse_study(BASE + maps)
    asked = []

    def gains(network: StudyNetwork, clamp: bool, operator: NoiseSpec) -> Mapping[str, float]:
        asked.append((network.batch_norm, clamp, operator))
        return {name: 1 / c for name, c in zip(network.network.site_names, range(20, 0, -1), strict=False)}

    made = explicit(spec, lambda *_: {}, gains).study
    assert [(keys.batch_norm, keys.label) for keys in made.noise] == [
        (kind, scheme) for kind in ("sites", "none") for scheme in ("uniform", "gains")
    ]
    assert asked == [(kind, False, NoiseSpec(kind="additive")) for kind in ("sites", "none")]
    assert made.noise[2].repetition_maps == [[2] * 8, [3] * 8]
    expected = [list(allocate("gains", [1 / c for c in range(20, 12, -1)], total)) for total in (16, 24)]
    assert made.noise[3].repetition_maps == expected
    assert not has_derived(parse_study(to_toml(made)))


def test_gains_go_with_noise_of_usual_means() -> None:
    maps = MAPS.replace('"midpoint"', "0.5").replace('"optimal", "inverse_sqrt"', '"gains"')
    with pytest.raises(WnError, match=r"noise\[0\].allocation: gains go with noise whose factor has mean 1"):
        parse_study(BASE + maps + "mean = 0.5\n")
