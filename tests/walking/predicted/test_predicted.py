"""Predicted curves beside measured ones, and on their own."""

import numpy as np
import pytest

import wn
from tests.cli.command_line import run
from wn.basics.errors import WnError
from wn.testing.tolerances import Z_LIMIT
from wn.walking.predicted.curves import PredictedCurve, crossing
from wn.walking.results import FILES, PREDICTED, csv_of

TINY = {
    "train_limit": 1000,
    "test_limit": 200,
    "epochs": 8,
    "lr": 0.005,
    "model": "mlp-8",
    "phase": "inference",
    "sigma": "0.3:30:7",
}


@pytest.fixture(scope="module")
def both():
    """A walk with predictions, and the same without."""
    return wn.walk(**TINY, predict=True), wn.walk(**TINY)


def test_a_walk_is_what_it_was_the_new_columns_apart(both):
    predicted, ordinary = both
    for name in ("curves", "weights", "signal", "failures"):
        assert csv_of(getattr(predicted, name)) == csv_of(getattr(ordinary, name)), name
    old = list(ordinary.midpoints.dtype.names)
    assert csv_of(predicted.midpoints[old]) == csv_of(ordinary.midpoints)
    assert not ordinary.predicted.size
    assert ordinary.run["asked"].keys() == predicted.run["asked"].keys() - {"predict"}


def test_exact_predictions_are_what_many_draws_count(both, tmp_path):
    """At the last ReLU and the logits, over the same images: z of 300 repeats at each σ."""
    predicted, _ = both
    training = {key: value for key, value in TINY.items() if key not in ("phase", "sigma")}
    path = wn.train(**training).save(tmp_path / "network.safetensors")
    rows = predicted.predicted[predicted.predicted["predicted_by"] == "exact"]
    assert set(rows["site_name"].tolist()) == {"relu3", "logits"}
    for name in ("relu3", "logits"):
        repeats = wn.evaluate(
            network=path, noise="additive", sigma="0.3:30:7", where=name, repeats=300, test_limit=200
        ).curves
        for row in rows[rows["site_name"] == name]:
            counted = repeats["accuracy"][repeats["sigma"] == row["sigma"]]
            error = np.hypot(counted.std(ddof=1) / np.sqrt(len(counted)), row["error"] / 2)
            z = (counted.mean() - row["accuracy"]) / max(error, 1e-9)
            print(f"{name} σ {row['sigma']:.3g}: z = {z:.2f}, n = {len(counted)} × 200, seed 0")
            assert abs(z) < Z_LIMIT


def test_crossings_of_predictions_lie_near_measured_ones(both):
    rows = both[0].midpoints
    there = np.isfinite(rows["predicted_crossing"]) & rows["reached"]
    assert there.sum() >= 6
    ratio = rows["predicted_crossing"][there] / rows["measured_crossing"][there]
    assert (abs(np.log(ratio)) < 0.25).all(), ratio  # 200 images, drawn once: some 10 %
    assert (rows["predicted_low"][there] <= rows["predicted_crossing"][there]).all()
    assert (rows["predicted_high"][there] >= rows["predicted_crossing"][there]).all()


def test_a_prediction_on_its_own_is_that_of_the_walk(both):
    alone = wn.predict(**{key: value for key, value in TINY.items() if key != "phase"})
    np.testing.assert_array_equal(alone.curves, both[0].predicted)
    names = ["predicted_crossing", "predicted_low", "predicted_high", "predicted_by"]
    np.testing.assert_array_equal(alone.crossings[names], both[0].midpoints[names])


def test_files_of_predictions_go_with_a_walk_that_has_none(both, tmp_path):
    predicted, ordinary = both
    written = predicted.save(tmp_path)
    assert {path.name for path in written} == set(FILES)
    ordinary.save(tmp_path, overwrite=True)
    assert {path.name for path in tmp_path.iterdir()} == set(FILES) - set(PREDICTED)


def test_the_report_has_predictions_beside_measurements(both, tmp_path):
    pages = [one.save(tmp_path / str(i))[-1].parent / "report.html" for i, one in enumerate(both)]
    with_them, without = (page.read_text(encoding="utf-8") for page in pages)
    assert "Crossings, measured and predicted" in with_them
    assert "predicted" not in without


def test_where_theory_cannot_go_the_site_says_why():
    found = wn.walk(**TINY, predict=True, distribution="uniform")
    assert np.isnan(found.midpoints["predicted_crossing"]).all()
    assert all("uniform" in reason for reason in found.midpoints["not_predicted"].tolist())
    assert np.isnan(found.predicted["accuracy"]).all()


def test_networks_trained_under_noise_are_predicted_each_under_its_own():
    settings = TINY | {"phase": "training", "sigma": "0.3,3", "where": "logits"}
    found = wn.walk(**settings, predict=True)
    for row, point in zip(found.predicted, found.curves, strict=True):
        assert (row["sigma"], row["repeat"]) == (point["sigma"], point["repeat"])
        error = np.sqrt(row["accuracy"] * (1 - row["accuracy"]) / point["total"])
        assert abs(row["accuracy"] - point["accuracy"]) < Z_LIMIT * error


def test_images_without_predictions_are_refused():
    with pytest.raises(WnError, match="predict_images goes with predict"):
        wn.walk(**TINY, predict_images=100)
    with pytest.raises(WnError, match="noise is none"):
        wn.predict(noise="none")


def test_the_command_writes_tables_and_a_picture_and_keeps_those_of_another_run(tmp_path):
    flags = ["--train-limit", "300", "--test-limit", "100", "--epochs", "1", "--model", "mlp-8"]
    command = ["predict", *flags, "--sigma", "0.3:30:5", "--out", str(tmp_path / "p")]
    code, out, err = run(*command)
    assert code == 0, err
    assert "exact" in out
    assert {path.name for path in (tmp_path / "p").iterdir()} == {
        "predicted.csv",
        "crossings.csv",
        "predicted.png",
        "predict.json",
    }
    code, _, err = run(*command, "--seed", "5")
    assert code == 2
    assert "another run" in err


def test_a_curve_that_never_falls_or_is_below_already_has_no_crossing():
    sigma = np.array([1.0, 10.0, 100.0])

    def curve(*accuracy):
        found = PredictedCurve(np.array(accuracy), np.full(3, 0.01), 0.9)
        found.methods["exact"] = None
        return found

    assert crossing(sigma, [curve(0.9, 0.8, 0.7)], 0.5).reason == "never falls half-way"
    assert crossing(sigma, [curve(0.4, 0.3, 0.2)], 0.5).reason == "already below half-way"
    found = crossing(sigma, [curve(0.9, 0.5, 0.1), curve(0.9, 0.5, 0.1)], 0.5)
    assert found.sigma == pytest.approx(10)
    assert found.low < 10 < found.high
    assert found.method == "exact"


def test_a_sigma_out_of_range_has_no_number_and_the_others_do():
    """Variances are σ², which float32 holds up to 1e19: NaN beyond, not a crash or a wrong number."""
    found = wn.predict(**TINY | {"sigma": [1.0, 2.0, 1e25, 1e38], "where": "0,relu3"} | {"phase": None})
    there = np.isfinite(found.curves["accuracy"])
    np.testing.assert_array_equal(there, np.tile([True, True, False, False], 2))


def test_pictures_of_places_without_a_prediction_say_why(tmp_path):
    found = wn.predict(**TINY | {"phase": None, "distribution": "laplace", "where": "0"})
    assert found.crossings["not_predicted"].tolist() == [
        "draws are laplace: predictions are for normal draws"
    ]
    assert len(found.save(tmp_path)) == 4
