"""The published figures are complete, hang together, and are reached by the authors' networks."""

import tomllib
from pathlib import Path

import numpy as np
import pytest

from wn.walking.report.published import midpoints

RECORD = tomllib.loads((Path(__file__).parents[2] / "reference" / "published.toml").read_text("utf-8"))
NETWORKS = {"mlp": "none", "mlp_bn": "sites"}


def reproduced(network, quantity):
    found = [
        entry["value"]
        for entry in RECORD["figures"]
        if (entry["network"], entry["quantity"]) == (network, quantity)
    ]
    assert len(found) == 1, (network, quantity)
    return found[0]


def published(network):
    """The midpoints by site, and the global one."""
    *sites, everywhere = midpoints(NETWORKS[network])
    return np.array([figure.value for figure in sites]), everywhere.value


@pytest.mark.parametrize("network", NETWORKS)
def test_there_is_a_midpoint_per_site_with_its_label(network):
    names = RECORD["networks"][network]["sites"]
    figures = midpoints(NETWORKS[network])
    assert [figure.place for figure in figures] == [*names, "global"]
    assert [figure.label for figure in figures] == [*["derived"] * len(names), "published"]
    assert len(reproduced(network, "site_midpoints")) == len(names) == {"mlp": 8, "mlp_bn": 11}[network]


def test_every_figure_is_of_a_known_network():
    for entry in RECORD["figures"]:
        assert set(entry) == {"network", "quantity", "value"}
        assert entry["network"] in RECORD["networks"]


@pytest.mark.parametrize("network", NETWORKS)
def test_the_reproduction_lands_within_the_goals(network):
    goals, (sites, everywhere) = RECORD["goals"], published(network)
    ratios = np.array(reproduced(network, "site_midpoints")) / sites
    assert np.all(np.abs(ratios - 1) < goals["site_midpoint_within"])
    ratio = reproduced(network, "global_midpoint") / everywhere
    assert abs(ratio - 1) < goals["global_midpoint_within"]


@pytest.mark.parametrize("network", NETWORKS)
def test_root_sum_square_rule(network):
    """The rule is an approximation: it is 1.8 % (MLP) and 3.8 % (with batch norm) above the published σ."""
    sites, everywhere = published(network)
    assert np.sum(sites**-2) ** -0.5 == pytest.approx(everywhere, rel=0.05)
