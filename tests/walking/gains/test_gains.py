"""`wn gains`: gains of trained, saved and walked networks, beside midpoints, on paper and on disk."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import wn
from tests.cli.command_line import one_line, run
from wn.analysis.repetitions import optimal
from wn.basics.errors import WnError
from wn.data import catalogue
from wn.engine import backends
from wn.theory.gains import site_gains
from wn.walking.gains.gained import FILES, Gained, scaled
from wn.walking.gains.picture import figure

TINY: dict[str, Any] = {
    "model": "mlp-8",
    "train_limit": 600,
    "test_limit": 200,
    "epochs": 3,
    "lr": 0.01,
    "backend": "numpy",
    "seed": 4,
}
SIGMA = "0.1:1000:13"
FLAGS = [word for name, value in TINY.items() for word in (f"--{name.replace('_', '-')}", str(value))]


@pytest.fixture(scope="module")
def trained() -> Gained:
    return wn.gains(**TINY, measure=True, sigma=SIGMA)


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A walk with two repeats through networks of the same settings."""
    folder = tmp_path_factory.mktemp("gains") / "walk"
    wn.walk(**TINY, phase="inference", sigma=SIGMA, repeats=2).save_tables(folder)
    return folder


def test_gains_are_those_of_the_network_that_the_settings_train(trained: Gained, tmp_path: Path) -> None:
    alone = wn.train(**TINY)
    data = catalogue.load("fashion-mini").limited(600, 200)
    expected = site_gains(backends.get("numpy"), alone.network, alone.population, data)
    for name in ("additive", "multiplicative", "additive_error", "multiplicative_error"):
        assert trained.table[name].tolist() == getattr(expected, name)[0].tolist()
    assert trained.run["images"] == 200
    assert trained.table["gain"].tolist() == expected.additive[0].tolist()
    assert trained.table["share"].sum() == pytest.approx(1)
    assert trained.repetitions == optimal(expected.additive[0] ** -0.5, 3 * len(trained.table))
    path = alone.save(tmp_path / "network.safetensors")
    of_file = wn.gains(network=path, backend="numpy", test_limit=200, noise="multiplicative", budget=30)
    assert of_file.table["additive"].tolist() == expected.additive[0].tolist()
    assert of_file.table["gain"].tolist() == expected.multiplicative[0].tolist()
    assert sum(of_file.repetitions) == 30
    assert np.isnan(of_file.table["midpoint"]).all()


def test_measured_midpoints_are_those_of_the_walk(trained: Gained) -> None:
    walk = wn.walk(**TINY, phase="inference", sigma=SIGMA)
    expected = np.where(walk.midpoints["reached"], walk.midpoints["midpoint"], np.nan)
    np.testing.assert_array_equal(trained.table["midpoint"], expected)
    assert np.isfinite(expected).sum() >= 4


def test_a_walk_has_its_own_networks_noise_and_midpoints(walked: Path) -> None:
    found = wn.gains(walk=walked)
    twice = wn.gains(**TINY, repeats=2)
    assert found.run["networks"] == 2
    assert found.table["additive"].tolist() == twice.table["additive"].tolist()
    one, other = (wn.gains(**TINY, repeats=count).table["additive"] for count in (1, 2))
    assert (one != other)[:-1].all()
    rows = [line.split(",") for line in (walked / "midpoints.csv").read_text().splitlines()]
    place = rows[0].index("midpoint")
    assert [float(row[place] or "nan") for row in rows[1:]] == pytest.approx(
        found.table["midpoint"].tolist(), nan_ok=True
    )


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=12), st.floats(0.01, 100))
def test_one_constant_makes_midpoints_in_proportion_equal(c: list[float], k: float) -> None:
    gains = np.array(c)
    np.testing.assert_allclose(scaled(gains, k / gains), gains, rtol=1e-9)
    some = np.append(k / gains, np.nan)
    assert np.isnan(scaled(np.append(gains, 1.0), some)[-1])
    np.testing.assert_allclose(scaled(np.append(gains, 1.0), some)[:-1], gains, rtol=1e-9)


def test_the_picture_has_midpoints_where_there_are_some(trained: Gained) -> None:
    (axes,) = figure(trained.table).axes
    assert [len(line.get_xdata()) for line in axes.lines[:2]] == [
        len(trained.table),
        np.isfinite(trained.table["midpoint"]).sum(),
    ]
    assert axes.get_yscale() == "log"
    without = trained.table.copy()
    without["scaled"] = np.nan
    (axes,) = figure(without).axes
    assert len(axes.containers) == 1


def test_files_are_written_whole_and_not_over_those_of_another_run(trained: Gained, tmp_path: Path) -> None:
    paths = trained.save(tmp_path / "out")
    assert [path.name for path in paths] == list(FILES)
    before = [path.read_bytes() for path in paths]
    trained.save(tmp_path / "out")
    assert [path.read_bytes() for path in paths] == before
    other = wn.gains(**TINY | {"test_limit": 100})
    with pytest.raises(WnError, match="of another run"):
        other.save(tmp_path / "out")
    assert [path.read_bytes() for path in paths] == before
    other.save(tmp_path / "out", overwrite=True)
    record = msgspec.json.decode(paths[2].read_bytes())
    again = wn.gains(**record["asked"])
    assert again.table["additive"].tolist() == other.table["additive"].tolist()


def test_the_command_prints_a_map_that_a_walk_takes(walked: Path, tmp_path: Path) -> None:
    outcome = run("gains", "--walk", walked, "--budget", "4x", "--out", tmp_path / "out")
    assert outcome.code == 0
    (line,) = (line for line in outcome.out.splitlines() if line.startswith("Repetitions: "))
    words = line.removeprefix("Repetitions: wn ").split()
    assert sum(map(int, words[-1].split(","))) == 4 * 8
    assert "not how much noise" in outcome.out
    assert "relu1" in outcome.out
    rest = ["--phase", "inference", "--sigma", "1", "--out", tmp_path / "again"]
    assert run(*words, *FLAGS, *rest).code == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"images": 1}, "images is 1"),
        ({"sigma": "1:2:3"}, "sigma is the grid of measured midpoints"),
        ({"noise": "none"}, "noise is none"),
        ({"budget": "0.5x"}, "a budget of 4 executions"),
        ({"walk": "nowhere"}, "nowhere has no walk that can be read: No such file"),
        ({"walk": "nowhere", "epochs": 3}, "epochs does not go with walk"),
        ({"walk": "nowhere", "noise": "additive"}, "noise does not go with walk"),
        ({"where": "global"}, "unknown setting 'where'"),
        ({"model": "mpl"}, "mpl"),
    ],
)
def test_what_is_not_allowed_is_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(WnError, match=message):
        wn.gains(**settings)


def test_walks_that_gains_do_not_go_with(walked: Path, tmp_path: Path) -> None:
    for changes, message in (
        ({"where": "global"}, "no midpoints of single sites"),
        ({"repetitions": 2}, "executed several times"),
        ({"mean": 1.0}, "whose offset has mean 0, not 1 and 1"),
    ):
        folder = tmp_path / message[:5]
        wn.walk(**TINY, phase="inference", sigma="1", **changes).save_tables(folder)
        with pytest.raises(WnError, match=message):
            wn.gains(walk=folder)
    (walked / "broken").mkdir()
    (walked / "broken" / "run.json").write_text("{")
    (walked / "broken" / "midpoints.csv").write_text("")
    with pytest.raises(WnError, match="has no walk that can be read: DecodeError"):
        wn.gains(walk=walked / "broken")
    assert "has no walk that" in one_line(run("gains", "--walk", walked / "broken", "-o", tmp_path / "x"))
    assert not (tmp_path / "x").exists()
