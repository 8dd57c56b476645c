"""ONNX's own tests of operators: those that pass, on two backends, and why the others do not."""

import csv

import pytest

from tests.engine.files.onnx import nodes

ROWS = list(csv.DictReader(nodes.PAGE.read_text(encoding="utf-8").splitlines()))
PASSING = [f"test_{row['test']}" for row in ROWS if row["passes"] == "yes"]
REFUSED = {f"test_{row['test']}": row["why not"] for row in ROWS if row["passes"] == "no"}


def test_the_table_has_every_test():
    assert sorted([*PASSING, *REFUSED]) == nodes.names()
    assert len(PASSING) >= 85


@pytest.mark.parametrize("backend", ["numpy", "numba"])
@pytest.mark.parametrize("name", PASSING)
def test_operators_give_what_onnx_says(name, backend):
    assert nodes.difference(nodes.case_of(name), backend) <= 1e-5


@pytest.mark.parametrize("name", REFUSED)
def test_others_are_refused_in_one_line_that_names_them(name):
    found = nodes.refusal(name)
    assert found == REFUSED[name]
    assert not found.startswith("differs")
    assert "\n" not in found
