"""Published figures: the package's are those of the reference, and stand beside ours where they belong."""

import tomllib
from pathlib import Path

import pytest

from wn.fit.midpoint import Midpoint
from wn.walking.report import published
from wn.walking.report.page import Picture, Table

REFERENCE = tomllib.loads((Path(__file__).parents[3] / "reference" / "published.toml").read_text("utf-8"))
NETWORKS = {"mlp": "none", "mlp_bn": "sites"}


@pytest.mark.parametrize("network", NETWORKS)
def test_figures_are_those_of_the_reference(network: str) -> None:
    wanted = {}
    for entry in REFERENCE["figures"]:
        if entry["network"] == network and entry["label"] in ("published", "derived"):
            one = entry["quantity"] == "global_midpoint"
            places = ["global"] if one else REFERENCE["networks"][network]["sites"]
            values = [entry["value"]] if one else entry["value"]
            wanted |= {place: (value, entry["label"]) for place, value in zip(places, values, strict=True)}
    found = published.midpoints(NETWORKS[network])
    assert {figure.place: (figure.value, figure.label) for figure in found} == wanted
    assert found[-1].place == "global"


def test_source_and_setting_are_those_of_the_reference() -> None:
    ours = published.record()
    for name in ("authors", "arxiv", "venue"):
        assert ours["source"][name] == REFERENCE["source"][name]
    for name in ("dataset", "noise", "phase", "epochs", "batch", "learning_rate"):
        assert ours["setting"][name] == REFERENCE["setting"][name]


def fit(midpoint: float) -> Midpoint:
    return Midpoint(
        midpoint=midpoint,
        ci_low=0.9 * midpoint,
        ci_high=1.1 * midpoint,
        reached=True,
        floor=0.1,
        clean_accuracy=0.98,
        reason="",
    )


def test_published_stands_beside_reproduced() -> None:
    lost = Midpoint.not_reached("never falls half-way", 0.1, 0.98)
    ours = {"global": fit(0.4945), "input": fit(0.25), "fc1": lost, "elsewhere": fit(1.0)}
    section = published.section([published.Reproduced("mlp", "none", 3, "all / all", ours)])
    assert section is not None
    picture, table = section.parts
    assert isinstance(picture, Picture)
    assert isinstance(table, Table)
    rows = {row[1]: row for row in table.rows}
    assert set(rows) == {"global", "input", "fc1"}
    assert rows["global"][2:6] == [
        0.471,
        "published",
        "0.494 [0.445,\u00a00.544]",
        pytest.approx(1.05, rel=1e-3),
    ]
    assert rows["input"][3] == "derived"
    assert rows["fc1"][4] == "not reached: never falls half-way"


def test_nothing_is_compared_where_nothing_was_published() -> None:
    assert published.section([]) is None
    assert published.section([published.Reproduced("mlp", "none", 3, "all", {"elsewhere": fit(1.0)})]) is None
    known = ("mnist", "mlp-64", "none", "additive", "inference")
    assert published.is_published(*known)
    for index, other in enumerate(("fashion-mnist", "mlp-8", "hidden", "mixed", "training")):
        assert not published.is_published(*(other if k == index else word for k, word in enumerate(known)))
