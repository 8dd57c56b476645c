"""Sites by number, name and pattern, for walks and for maps of factors."""

import pytest

import wn
from tests.engine.networks.test_graphs import BRANCHED
from wn.basics.errors import WnError
from wn.engine import models
from wn.walking.places import numbered, numbered_factors, read_where

LENET = models.build("lenet5", (1, 28, 28), 10)
NAMES = LENET.site_names


@pytest.mark.parametrize(
    ("sites", "names"),
    [
        (["conv*"], ["conv1", "conv2"]),
        (["relu[12]", "input"], ["relu1", "relu2", "input"]),
        (["fc?", "conv1"], ["fc1", "fc2", "conv1"]),
        (["conv1", "*1"], ["conv1", "relu1", "pool1", "fc1"]),  # what is listed already is left out
        (["*"], list(NAMES)),
        ([0, "pool2"], ["input", "pool2"]),
        (["3", 1], ["pool1", "conv1"]),
    ],
)
def test_patterns_stand_for_the_sites_that_they_fit(sites, names):
    assert [NAMES[number] for number in numbered(LENET, sites)] == names
    if all(isinstance(site, str) for site in sites):
        assert numbered(LENET, read_where(",".join(sites))[0]) == numbered(LENET, sites)


def test_sites_within_blocks():
    found = numbered(BRANCHED, ["block1.*", "block2.add"])
    assert [BRANCHED.site_names[number] for number in found] == [
        "block1.conv1", "block1.bn1", "block1.relu1", "block1.add", "block2.add"
    ]  # fmt: skip
    assert len(numbered(BRANCHED, ["*.shortcut.*"])) == 2


def test_factors_by_pattern():
    where, factors = read_where("conv1:3,conv*:0.5,logits:2")
    assert where == "mapped"
    assert numbered_factors(LENET, factors) == {1: 3, 4: 0.5, 11: 2}
    with pytest.raises(WnError, match="site 1 conv1 is listed twice"):
        numbered_factors(LENET, {"conv*": 1, 1: 2})
    with pytest.raises(WnError, match="site 1 conv1 is listed twice"):
        numbered_factors(LENET, {1: 1, "conv1": 2})


@pytest.mark.parametrize(
    ("sites", "message"),
    [
        (["bn*"], r"lenet5 has no site that fits 'bn\*': allowed are 0 input, 1 conv1"),
        (["conv1", "conv1"], "site 1 conv1 is listed twice"),
        (["*1", "conv1"], "site 1 conv1 is listed twice"),
        (["Conv*"], "no site that fits"),  # names are as they are written
        (["[a"], "no site that fits"),
    ],
)
def test_what_fits_nothing_is_named(sites, message):
    with pytest.raises(WnError, match=message):
        numbered(LENET, sites)


def test_a_walk_takes_patterns():
    settings = {"dataset": "fashion-mini", "model": "mlp-8", "phase": "inference", "epochs": 1, "sigma": "1"}
    few = {"train_limit": 200, "test_limit": 100}
    result = wn.walk(where="relu*", **settings, **few)
    assert sorted(set(result.curves["site_name"])) == ["relu1", "relu2", "relu3"]
    assert result.run["asked"]["where"] == [2, 4, 6]
