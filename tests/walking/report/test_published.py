"""Published figures stand beside ours where they belong."""

import pytest

from wn.fit.midpoint import Midpoint
from wn.walking.report import published
from wn.walking.report.page import Picture, Table


def test_the_setting_is_that_of_the_recipe() -> None:
    """Figures in the files of the authors, so that a slip of the pen here is seen."""
    known = {"dataset": "mnist", "model": "mlp-64", "noise": "additive", "phase": "inference"}
    recipe = {"epochs": 100, "batch": 128, "learning_rate": 1e-3}
    assert published.record()["setting"] == known | recipe
    assert published.record()["source"]["arxiv"] == "2212.10430v2"
    assert [published.midpoints(kind)[-1].value for kind in ("sites", "none")] == [0.350, 0.471]


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
