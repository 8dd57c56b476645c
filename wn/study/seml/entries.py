"""The study of some cases: their data sets and networks, and a noise entry for each."""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from wn.study.declare.schema import DataKeys, ModelKeys, NoiseKeys, RecipeKeys, StudySpec
from wn.study.seml.names import Case
from wn.walking.places import INFERENCE, TRAINING

Kinds = dict[tuple[str, str], dict[str, None]]  # of batch norm by data set and model, in order


def study_of(
    name: str, cases: Sequence[Case], recipe: RecipeKeys, repeats_of: Callable[[Case], int]
) -> StudySpec:
    """Return the study of some cases; `repeats_of` says how many repeats an entry has."""
    kinds: Kinds = {}
    for case in cases:
        kinds.setdefault((case.dataset, case.model), {}).update(dict.fromkeys(case.batch_norm))
    datasets = list(dict.fromkeys(dataset for dataset, _ in kinds))
    repeats = max(map(repeats_of, cases))
    return StudySpec(
        name=name,
        repeats=repeats,
        data=DataKeys(names=_one_or_list(datasets)),
        models=_models(kinds, datasets),
        recipe=recipe,
        noise=_short([_entry(case, kinds, repeats_of(case), repeats) for case in cases]),
    )


def _models(kinds: Kinds, datasets: list[str]) -> list[ModelKeys]:
    """Return the networks: a table for each model, or several where its batch norm depends on the data."""
    of_data: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for (dataset, model), found in kinds.items():
        of_data.setdefault((model, tuple(sorted(found))), []).append(dataset)
    return [
        ModelKeys(
            name=model,
            batch_norm=_one_or_list(list(kinds[chosen[0], model])),
            data=None if set(chosen) == set(datasets) else _one_or_list(chosen),
        )
        for (model, _), chosen in of_data.items()
    ]


def _entry(case: Case, kinds: Kinds, repeats: int, of_study: int) -> NoiseKeys:
    """Return the entry of a case, for its networks alone."""
    return msgspec.structs.replace(
        case.noise,
        data=None if len({dataset for dataset, _ in kinds}) == 1 else case.dataset,
        models=None if len([1 for dataset, _ in kinds if dataset == case.dataset]) == 1 else case.model,
        batch_norm=None if set(case.batch_norm) == set(kinds[case.dataset, case.model]) else case.batch_norm,
        repeats=None if repeats == of_study else repeats,
        clamp_weights=case.noise.clamp_weights or None,
    )


def _short(entries: list[NoiseKeys]) -> list[NoiseKeys]:
    """The entries, each once: non-default values, lists of one as values."""
    axes = ("ratio", "order", "repetitions", "phases", "batch_norm")
    defaults = {"where": "each", "order": ["mul_add"], "repetitions": 1, "mean_add": 0.0, "mean_mul": 1.0}
    both = {INFERENCE, TRAINING}
    found: dict[str, NoiseKeys] = {}
    for entry in entries:
        defaults["mean"] = 1.0 if entry.kind == "multiplicative" else 0.0
        kept = {
            name: _one_or_list(value) if name in axes else value
            for name, value in msgspec.structs.asdict(entry).items()
            if value != defaults.get(name) and not (name == "phases" and set(value or ()) == both)
        }
        short = NoiseKeys(**kept)
        found.setdefault(repr(short), short)
    return list(found.values())


def _one_or_list(values: Any) -> Any:
    return values[0] if isinstance(values, list) and len(values) == 1 else values
