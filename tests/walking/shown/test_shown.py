"""Results in notebooks and papers: HTML, axes, data frames, the statement, short lines."""

import builtins
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

import wn
from tests.walking.own import SMALL, own_data
from wn.basics.errors import WnError
from wn.walking.api import Trained
from wn.walking.results import WORDS, WalkResult

DATA = own_data()
TRAINING: dict[str, Any] = {name: SMALL[name] for name in ("model", "epochs", "batch_size", "lr")}


@pytest.fixture(scope="module")
def walked() -> WalkResult:
    return wn.walk(data=DATA, **(SMALL | {"where": ["input", "fc1"]}))


@pytest.fixture(scope="module")
def trained() -> Trained:
    return wn.train(data=DATA, **TRAINING)


@pytest.fixture(scope="module")
def results(walked: WalkResult, trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One of each kind."""
    net = trained.save(tmp_path_factory.mktemp("net") / "net.safetensors")
    on_disk: dict[str, Any] = {"network": net, "data": DATA}
    return {
        "walk": walked,
        "train": trained,
        "evaluate": wn.evaluate(noise="additive", sigma="1:10:3", **on_disk),
        "gains": wn.gains(**on_disk),
        "predict": wn.predict(where=["fc1"], sigma="1:10:3", **on_disk),
    }


class Seen(HTMLParser):
    """The cells of a table and the pictures of a page; every tag is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.cells: list[str] = []
        self.pictures: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "img":
            self.pictures.append(str(dict(attrs)["src"]))
        else:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.cells.append(data)


# ---- lines and HTML -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["walk", "train", "evaluate", "gains", "predict"])
def test_a_result_is_one_short_line(kind: str, results: dict[str, Any]) -> None:
    text = repr(results[kind])
    assert "\n" not in text
    assert len(text) < 160
    assert "patterns" in text
    assert "mlp-8" in text


def test_a_walk_in_a_notebook_is_its_midpoints_and_their_picture(walked: WalkResult) -> None:
    seen = Seen(walked._repr_html_())
    text = " ".join(seen.cells)
    assert [name for name in ("input", "fc1", "inference", "training") if name not in seen.cells] == []
    assert f"chance {DATA.chance:.4g}" in text
    for row in walked.midpoints:
        assert f"{row['midpoint']:.3g} [{row['ci_low']:.3g}" in text
    assert [picture[:22] for picture in seen.pictures] == ["data:image/png;base64,"]


def test_a_midpoint_that_is_not_reached_says_why() -> None:
    result = wn.walk(data=DATA, **(SMALL | {"sigma": "0.001:0.002:2", "phase": "inference"}))
    assert "not reached: " in result._repr_html_()


@pytest.mark.parametrize(("kind", "pictures"), [("evaluate", 0), ("gains", 1), ("predict", 1)])
def test_other_results_are_tables(kind: str, pictures: int, results: dict[str, Any]) -> None:
    seen = Seen(results[kind]._repr_html_())
    assert len(seen.pictures) == pictures
    assert any("patterns, mlp-8, additive noise" in cell for cell in seen.cells)


def test_names_are_texts_and_no_tags() -> None:
    data = own_data(name="<b>&x")
    found = wn.walk(data=data, **(SMALL | {"phase": "inference", "epochs": 1}))._repr_html_()
    assert "<b>" not in found
    assert "&lt;b&gt;&amp;x" in found


# ---- pictures -------------------------------------------------------------------------------------------


def test_midpoints_and_curves_on_axes_of_ones_own(walked: WalkResult) -> None:
    figure = Figure()
    first, second = figure.subplots(1, 2)
    assert walked.plot(ax=first) is first
    assert walked.plot("curves", phase="training", ax=second) is second
    drawn = {line.get_gid(): line for line in first.lines}
    for phase in ("inference", "training"):
        rows = walked.midpoints[walked.midpoints["phase"] == phase]
        assert np.array_equal(drawn[f"midpoints-{phase}"].get_ydata(), rows["midpoint"])
    curves = {line.get_gid(): line for line in second.lines}
    rows = walked.curves[(walked.curves["phase"] == "training") & (walked.curves["site_name"] == "fc1")]
    assert np.array_equal(curves["site1"].get_ydata(), rows["accuracy"])
    assert [text.get_text() for text in second.get_legend().get_texts()] == ["0 input", "1 fc1"]


def test_without_axes_a_figure_of_pyplot_is_made(walked: WalkResult) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    before = pyplot.get_fignums()
    axes = walked.plot("curves")
    assert axes.get_title() == "noise at inference only"
    assert len(pyplot.get_fignums()) == len(before) + 1
    pyplot.close(axes.figure)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"kind": "bars"}, "kind is 'bars': allowed are midpoints, curves"),
        ({"kind": "curves", "phase": "both"}, "phase is 'both': allowed are inference, training"),
        ({"phase": "training"}, "allowed are none, since midpoints are of all"),
        ({"ax": "left"}, "ax is str: it must be axes of Matplotlib"),
    ],
)
def test_other_pictures_are_refused(walked: WalkResult, given: dict[str, Any], words: str) -> None:
    with pytest.raises(WnError, match=re.escape(words)):
        walked.plot(**given)


# ---- data frames ----------------------------------------------------------------------------------------


def test_tables_as_pandas(walked: WalkResult, results: dict[str, Any]) -> None:
    pytest.importorskip("pandas")
    frame = walked.to_pandas("curves")
    assert list(frame.columns) == list(walked.curves.dtype.names or ())
    assert np.array_equal(frame["accuracy"].to_numpy(), walked.curves["accuracy"])
    assert len(walked.to_pandas()) == len(walked.midpoints)
    assert len(results["evaluate"].to_pandas()) == 3
    assert len(results["gains"].to_pandas()) == 8
    assert len(results["predict"].to_pandas("curves")) == 3
    for found in (walked, results["predict"]):
        with pytest.raises(WnError, match="table is 'rows': allowed are"):
            found.to_pandas("rows")


def test_a_walk_as_xarray(walked: WalkResult) -> None:
    pytest.importorskip("xarray")
    found = walked.to_xarray()
    assert found["accuracy"].dims == ("phase", "site", "repeat", "sigma")
    for row in walked.curves:
        at = {"phase": str(row["phase"]), "site": str(row["site_name"]), "repeat": int(row["repeat"])}
        point = found.sel(**at, sigma=float(row["sigma"]))
        assert (float(point["accuracy"]), float(point["correct"])) == (row["accuracy"], row["correct"])
    for row in walked.midpoints:
        at = {"phase": str(row["phase"]), "site": str(row["site_name"])}
        assert float(found["midpoint"].sel(**at)) == row["midpoint"]
        assert bool(found["reached"].sel(**at)) == row["reached"]
    assert {name: found.attrs[name] for name in WORDS} == {
        name: str(walked.midpoints[name][0]) for name in WORDS
    }
    assert found.attrs["chance"] == DATA.chance


@pytest.mark.parametrize("library", ["pandas", "xarray"])
def test_a_library_that_is_missing_is_named(
    walked: WalkResult, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(name: str, *_: Any) -> Any:
        assert name == library
        raise ImportError(name)

    monkeypatch.setattr("wn.walking.shown.frames.import_module", refuse)
    with pytest.raises(WnError, match=f"to_{library} needs {library}, which is not installed: pip install"):
        getattr(walked, f"to_{library}")()


# ---- the statement --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["walk", "train", "evaluate", "gains", "predict"])
def test_a_statement_has_versions_digests_and_seeds(kind: str, results: dict[str, Any]) -> None:
    result = results[kind]
    run = result.record if kind == "train" else result.run
    text = result.statement()
    assert "\n" not in text
    assert f"wn {wn.__version__}" in text
    assert run["data"]["sha256"] in text
    assert "base seed 0" in text
    assert "patterns" in text
    assert "read as (x/255 − 0)/1" in text
    for version in run["versions"].values():
        assert version in text
    if kind in ("walk", "train"):
        assert "for 12 epochs, batch size 16" in text
    else:
        assert run["network"]["sha256"] in text


def test_a_statement_says_the_noise(results: dict[str, Any]) -> None:
    assert "Noise: additive, 9 σ from 0.03 to 1000, at sites 0, 1, phase both." in results["walk"].statement()
    assert "Noise: additive, 3 σ from 1 to 10, at all sites at once." in results["evaluate"].statement()
    assert "Noise: additive, 3 σ from 1 to 10, at site 1, phase inference." in results["predict"].statement()
    for kind in ("train", "gains"):
        assert "Noise:" not in results[kind].statement()


# ---- text as a path -------------------------------------------------------------------------------------


def test_results_are_saved_where_a_text_says(results: dict[str, Any], tmp_path: Path) -> None:
    for kind in ("walk", "gains", "predict"):
        for path in results[kind].save(f"{tmp_path}/{kind}"):
            assert path.is_file()
    assert results["train"].save(f"{tmp_path}/net.safetensors").is_file()
    assert results["evaluate"].save(f"{tmp_path}/table.csv").is_file()


def test_showing_needs_no_pyplot(walked: WalkResult, monkeypatch: pytest.MonkeyPatch) -> None:
    """A notebook's table has its picture whatever the backend of Matplotlib is."""
    real = builtins.__import__

    def without_pyplot(name: str, *rest: Any, **more: Any) -> Any:
        assert name != "matplotlib.pyplot"
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without_pyplot)
    assert walked._repr_html_()
