"""A small study, and its units without data files."""

from wn.study import Unit, parse_study, planned_facts, units

BASE = """
seed = 5
repeats = 2
[data]
names = "mnist"
train_limit = 1000
[[models]]
name = "mlp"
[recipe]
epochs = 3
[[noise]]
kind = "additive"
sigma = [0.5, 1.0]
where = [0, 7]
"""
ENTRY = "where = [0, 7]"


def study(text: str = BASE) -> list[Unit]:
    spec = parse_study(text)
    return list(units(spec, planned_facts(spec)))


def keys(text: str = BASE) -> list[str]:
    return [unit.key for unit in study(text)]
