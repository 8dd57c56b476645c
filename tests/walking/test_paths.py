"""Whatever takes a path takes text and any object of a path: the kind is all of the public Python API."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.engine.populations import check_error, example
from tests.walking.test_results import result
from wn.data import catalogue
from wn.data.formats import idx
from wn.engine.files import checkpoint, exchange
from wn.study.declare.presets import find_study
from wn.study.declare.spec import read_study, to_toml
from wn.walking import api
from wn.walking.pictures import plots
from wn.walking.results import to_draw
from wn.walking.settings import read_walk


class Fspath:
    """An object of a path that is neither text nor pathlib's."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __fspath__(self) -> str:
        return str(self.path)


@pytest.mark.parametrize("kind", [str, Path, Fspath])
def test_paths_may_be_text_or_what_stands_for_a_path(kind: Any, tmp_path: Path) -> None:
    network, population = example("mlp-8", "none")
    shape = ",".join(map(str, network.input_shape))
    net, member = kind(tmp_path / "net"), kind(tmp_path / "member")
    assert len(result().save(kind(tmp_path / "out"))) == 8
    plots.plot_curves(to_draw(result()), kind(tmp_path / "new" / "curves.svg"))
    plots.plot_midpoints(to_draw(result()), kind(tmp_path / "new" / "midpoints.pdf"))
    api.Trained(network, population, {}, 1, {}).save(net)
    assert checkpoint.load(net).network == network
    exchange.export_member(net, 0, member)
    assert len(exchange.export_members(net, kind(tmp_path / "members"))) == len(population.seeds)
    exchange.import_files([member], kind(tmp_path / "again"), model="mlp-8", input_shape=shape, classes=3)
    exchange.import_members([member], "mlp-8", network.input_shape, 3)
    idx.write_idx(kind(tmp_path / "x.gz"), np.zeros((2, 2), np.uint8))
    assert idx.read_idx(kind(tmp_path / "x.gz"), 2).shape == (2, 2)
    assert catalogue.load("fashion-mini", kind(tmp_path)).name == "fashion-mini"
    (tmp_path / "study.toml").write_text(to_toml(find_study("walking-quick")))
    assert read_study(kind(tmp_path / "study.toml")) == find_study(kind(tmp_path / "study.toml"))
    chosen = read_walk({"data_dir": kind(tmp_path)})
    api.check_out_folder(kind(tmp_path / "other"), chosen, overwrite=False)


@pytest.mark.parametrize("path", [None, 3, b"out", ["out"], "a\0b"])
def test_other_things_are_no_paths(path: Any) -> None:
    for act in (result().save, checkpoint.load, lambda path: plots.plot_curves(to_draw(result()), path)):
        check_error(lambda act=act: act(path), "it must be a path, as text or as pathlib.Path")
