"""Studies: declared once in a file, cut into units of work that are never done twice."""

from wn.study.declare.presets import find_study
from wn.study.declare.spec import StudySpec, narrowed, parse_study, read_study, to_toml
from wn.study.unit import Unit
from wn.study.units import Facts, count, facts_of, planned_facts, units

__all__ = [
    "Facts",
    "StudySpec",
    "Unit",
    "count",
    "facts_of",
    "find_study",
    "narrowed",
    "parse_study",
    "planned_facts",
    "read_study",
    "to_toml",
    "units",
]
