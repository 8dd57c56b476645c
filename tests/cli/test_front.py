"""`wn.walk` and `wn.train`: the names, forms and defaults of the flags, in a signature that help shows."""

import inspect
import pydoc
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

import wn
from tests.cli.command_line import one_line, run
from wn.basics.errors import WnError
from wn.cli import main as cli
from wn.walking import api, settings
from wn.walking.asked import GainsSettings, PredictionSettings
from wn.walking.settings import EvaluationSettings, SingleSettings, WalkSettings

TINY: dict[str, Any] = {
    "train_limit": 64,
    "test_limit": 32,
    "epochs": 1,
    "model": "mlp-8",
    "backend": "numpy",
}


@pytest.mark.parametrize(
    ("function", "command", "kind"),
    [
        (wn.walk, cli.walk, WalkSettings),
        (wn.train, cli.train, SingleSettings),
        (wn.evaluate, cli.evaluate, EvaluationSettings),
        (wn.gains, cli.gains, GainsSettings),
        (wn.predict, cli.predict, PredictionSettings),
    ],
)
def test_keywords_are_the_flags_in_name_order_and_default(function: Any, command: Any, kind: Any) -> None:
    """The kind: a setting that one way in has and the other has not, or has under another name."""
    keywords = {
        name: parameter.default
        for name, parameter in inspect.signature(function).parameters.items()
        if name not in ("progress", "recorded") and (function, name) != (wn.train, "network")  # a value
    }
    flags = {
        name: parameter.default
        for name, parameter in inspect.signature(command).parameters.items()
        if name not in ("context", "out", "overwrite")
    }
    assert list(keywords.items()) == list(flags.items())
    fields = {settings.FLAGS.get(name, name) for name in keywords}
    of_the_file = {"model", "batch_norm", "dtype"} if kind is EvaluationSettings else set()
    assert (
        fields
        == set(kind.__struct_fields__)
        - {"factors", "network_sha256", "data_sha256", "architecture"}
        - of_the_file
    )
    typed = inspect.signature(function, eval_str=True).parameters.values()
    assert all(parameter.annotation is not parameter.empty for parameter in typed)


@pytest.mark.parametrize("function", [wn.walk, wn.train])
def test_help_shows_every_keyword(function: Any) -> None:
    shown = pydoc.plain(pydoc.render_doc(function))
    for name in ("where", "lr: float | None = None", "clamp: bool = False", "sigma", "seed: int = 0"):
        assert name in shown
    assert "**settings" not in shown


@pytest.mark.parametrize("name", wn.__all__)
def test_no_public_name_hides_its_parameters(name: str) -> None:
    found = getattr(wn, name)
    if inspect.isfunction(found):
        kinds = {parameter.kind for parameter in inspect.signature(found).parameters.values()}
        assert inspect.signature(found).parameters
        assert inspect.Parameter.VAR_KEYWORD not in kinds or len(inspect.signature(found).parameters) > 3
        assert inspect.Parameter.VAR_POSITIONAL not in kinds


# ---- forms ----------------------------------------------------------------------------------------------


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The checked settings of walks and trainings, which then are not run: WnError ends them."""
    found: list[Any] = []

    def run(chosen: Any, progress: Any) -> None:
        found.append(chosen)
        raise WnError("not run")

    monkeypatch.setattr(api, "walk", run)
    monkeypatch.setattr(api, "train", run)
    return found


def ask(function: Any, **given: Any) -> None:
    with pytest.raises(WnError, match=r"^not run$"):
        function(**given)


@pytest.mark.parametrize(
    ("where", "sites", "factors"),
    [
        ("each", "each", None),
        ("global", "global", None),
        ("0,3,7", [0, 3, 7], None),
        ("fc1", [1], None),
        ("fc1, 3,logits", [1, 3, 7], None),
        ("0:0.5,3:2", "mapped", {0: 0.5, 3: 2.0}),
        ("input:.5,relu2:1e1", "mapped", {0: 0.5, 4: 10.0}),
        ([0, "relu1"], [0, 2], None),
        (np.array([0, 3]), [0, 3], None),
        ({0: 0.5, "fc2": 2}, "mapped", {0: 0.5, 3: 2.0}),
        ({"0": 0.5}, "mapped", {0: 0.5}),
    ],
)
def test_places_have_the_forms_of_the_flag_and_of_python(
    asked: list[Any],
    where: Any,
    sites: Any,
    factors: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The kind: a form that one way in takes and the other refuses; names stand for numbers everywhere."""
    monkeypatch.chdir(tmp_path)  # results of another walk may lie here
    ask(wn.walk, where=where)
    assert (asked[0].where, asked[0].factors) == (sites, factors)
    if isinstance(where, str):
        assert one_line(run("walk", "--where", where)) == "wn: not run\n"
        assert asked[1] == asked[0]
    if sites != "each":
        ask(wn.train, where=where, noise="additive", sigma=1)
        assert (asked[-1].where, asked[-1].factors) == (sites, factors)


def test_names_of_flags_and_of_records_are_one_setting(asked: list[Any]) -> None:
    ask(wn.walk, lr=0.01, clamp=True)
    ask(wn.walk, learning_rate=0.01, clamp_weights=True)
    assert asked[0] == asked[1] == WalkSettings(learning_rate=0.01, clamp_weights=True)
    ask(wn.walk, where="mapped", factors={0: 0.5})
    ask(wn.walk, where="0:0.5")
    assert asked[2] == asked[3]
    for site in (3, np.int64(3), "3", [3], np.array([3])):
        ask(wn.walk, where=site)
        assert asked[-1] == WalkSettings(where=[3])


@pytest.mark.parametrize(("function", "kind"), [(wn.walk, WalkSettings), (wn.train, SingleSettings)])
def test_a_record_repeats_its_run(function: Any, kind: Any, asked: list[Any]) -> None:
    settings = {"noise": "additive", "sigma": 1.0, "learning_rate": 0.5, "clamp_weights": True}
    recorded = kind(**settings, where="mapped", factors={1: 2.0})
    ask(function, **msgspec.to_builtins(recorded))
    assert asked == [recorded]


@pytest.mark.parametrize(
    ("given", "part"),
    [
        ({"lr": 0.1, "learning_rate": 0.2}, "lr and learning_rate are one setting"),
        (
            {"clamp": True, "clamp_weights": False},
            "clamp and clamp_weights are one setting: give one of them",
        ),
        ({"lr": "0.1"}, "setting lr: expected"),
        ({"learning_rate": "0.1"}, "setting learning_rate: expected"),
        ({"clamp": "yes"}, "setting clamp: expected"),
        ({"sigma": b"5"}, "setting sigma: expected"),
        ({"progress": True}, "progress is True: it must be 'auto', None or a function of (finished, all)"),
        ({"where": b"0"}, "setting where: expected"),
        ({"where": True}, "setting where: expected"),
        (
            {"out": "x"},
            "unknown setting 'out': allowed are dataset, data_dir, data, model, batch_norm, epochs",
        ),
        ({"where": "0:1", "factors": {1: 2.0}}, "where is a map of factors, and factors is another one"),
        ({"where": "conv1"}, "mlp-64 has no site 'conv1': allowed are 0 input, 1 fc1"),
        ({"where": "fc1,1"}, "site 1 fc1 is listed twice"),
        ({"where": [3, 3]}, "site 3 fc2 is listed twice"),
        ({"where": {1: 1, "fc1": 2}}, "site 1 fc1 is listed twice"),
        ({"where": "0:1,0:2"}, "where '0:1,0:2' names a site twice"),
        ({"where": "0:0,5,3:2"}, "where '0:0,5,3:2' can't be read: write each, global, sites such as 0,3,7"),
        ({"where": "0:x"}, "'x' is no number; write each, global"),
        ({"where": "0,,3"}, "can't be read"),
        ({"where": "1_0"}, "no site '1_0'"),
        ({"where": "\u0663"}, "no site"),
        ({"epoch": 3}, "unknown setting 'epoch': did you mean epochs?"),
        ({"learningrate": 3}, "did you mean learning_rate?"),
        ({"clamped": True}, "did you mean clamp?"),
        ({"sigma": "0,5"}, "write 0.5 or 0.0,5.0"),
        ({"sigma": np.zeros(2_000_000)}, "setting sigma: 2000000 values"),
        ({"repeats": 10**9}, "points (phases × places × σ × repeats): at most 1,000,000"),
        ({"repeats": 1000, "sigma": "1:2:1000"}, "16,000,000 points"),
    ],
)
def test_what_is_said_twice_or_not_known_is_one_line(given: dict[str, Any], part: str) -> None:
    with pytest.raises(WnError) as caught:
        wn.walk(**given)
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_more_points_than_a_walk_has_are_refused_on_the_command_line() -> None:
    assert "points" in one_line(run("walk", "--repeats", "1000000000"))


def test_sites_by_name_are_walked() -> None:
    """Really, once: the same rows as by number."""
    by_name = wn.walk(**TINY, where="fc1,7", sigma=1, phase="inference")
    by_number = wn.walk(**TINY, where=[1, 7], sigma=[1.0], phase="inference")
    assert by_name.curves.tolist() == by_number.curves.tolist()
    assert by_name.run["asked"]["where"] == [1, 7]
    trained = wn.train(**TINY, where="fc1:2", noise="additive", sigma=0.1, lr=0.01)
    assert trained.record["asked"]["factors"] == {1: 2.0}
    assert trained.record["settings"]["learning_rate"] == 0.01
