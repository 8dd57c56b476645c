"""Study files that are too large, too deep, or say something twice: one line, at once."""

import pytest

from tests.study.declare.test_spec import EVERYTHING, SMALL
from wn.basics.errors import WnError
from wn.study import count, parse_study, planned_facts
from wn.study.declare.spec import narrowed

DIRECT = 'kind = "mixed-direct"\nsigma_mul = "0.1:1:2000"\nsigma_add = "0.1:1:9"\n'
DIRECT += "repetitions = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]"
ADDITIVE = 'kind = "additive"\nsigma = "0.1:10:3"'


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("a = " + "[" * 5000 + "]" * 5000, "nested too deep"),
        ("a = " + "{ b = " * 5000 + "}" * 5000, "nested too deep"),
        ("seed = " + "9" * 5000, "not TOML: Exceeds the limit"),
        ("# " + "x" * 4_000_000, "4000002 characters: a study file has at most 4000000"),
        (SMALL.replace("repeats = 2", f"repeats = {'9' * 100}"), "repeats: "),
        (SMALL.replace("epochs = 3", f"learning_rate = 1{'0' * 400}"), "recipe.learning_rate: "),
        (SMALL.replace('"0.1:10:3"', '"0.1:10:1000000000"'), "COUNT in 2…10000"),
        (SMALL.replace('"0.1:10:3"', str([n / 7 for n in range(20_000)])), "20000 values: at most 10000"),
        (SMALL + f"repetitions = {list(range(1, 100_001))}", "noise[0].repetitions: 100000 values: at most"),
        (SMALL + 'where = "global"\nrepetition_maps = ' + str([[n] for n in range(10_001)]), "10001 values"),
        (SMALL.replace(ADDITIVE, DIRECT), "noise[0]: 22000 operators (sigma_mul × ratio"),
        (SMALL.replace("repeats = 2", "repeats = 10000"), ""),
        (
            SMALL.replace("repeats = 2", "repeats = 10000").replace("0.1:10:3", "0.1:10:10000"),
            "units: a study has at most 100,000,000",
        ),
    ],
)
def test_more_than_a_study_can_be_is_refused_at_once(text: str, part: str) -> None:
    """The kind: short text that stands for more than memory or a life holds."""
    if not part:
        assert parse_study(text).repeats == 10_000
        return
    with pytest.raises(WnError) as caught:
        parse_study(text, "x.toml")
    message = str(caught.value)
    assert message.startswith("x.toml: ")
    assert part in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("text", "part"),
    [
        (
            "repeats = 1\n" + SMALL,
            "line 3, column 12: not TOML: cannot overwrite a value that is there already: repeats = 2",
        ),
        (SMALL + "[data]\n", "cannot declare ('data',) twice"),
        ("recipe.epochs = 1\n" + SMALL, "cannot declare ('recipe',) twice"),
        (SMALL + "factors = { 0 = 1, 0 = 2 }", "duplicate inline table key '0'"),
        (SMALL.replace('"0.1:10:3"', '"0,1,0,2,0,3"'), "write 0.1,0.2,0.3"),
        (SMALL.replace('"0.1:10:3"', '"0,5"'), "noise[0].sigma: σ grid '0,5': the commas"),
    ],
)
def test_what_is_said_twice_is_named(text: str, part: str) -> None:
    """The kind: of two values of one key, or of one σ, the last would count without a word."""
    with pytest.raises(WnError) as caught:
        parse_study(text, "x.toml")
    assert part in str(caught.value)


def test_where_has_the_forms_of_the_flag() -> None:
    """The kind: sites that one way in takes, and the other refuses."""
    texts = ('"0,relu1"', '[0, "relu1"]', '["input", 2]')
    specs = [
        parse_study(SMALL.replace('["none", "sites"]', '"none"') + f"where = {text}\n") for text in texts
    ]
    facts = planned_facts(specs[0])
    assert count(specs[0], facts) == count(specs[1], facts) == count(specs[2], facts)
    assert count(specs[0], facts)[0].inference == 2 * 2 * 3


def test_a_part_has_the_counts_that_it_has_in_the_whole() -> None:
    spec = parse_study(EVERYTHING)
    whole = count(spec, planned_facts(spec))
    for dataset, model in (("mnist", "mlp"), ("mnist", "lenet5"), ("fashion-mini", "tfc")):
        narrow = narrowed(spec, dataset, model)
        canonical = "mlp-64" if model in ("mlp", "tfc") else model
        expected = [c for c in whole if (c.dataset, c.model) == (dataset, canonical)]
        assert list(count(narrow, planned_facts(narrow))) == expected
