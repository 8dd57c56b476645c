"""Settings of a study in words that tell them apart: for titles, captions and names of files."""

import re
from collections.abc import Iterable, Sequence
from math import isnan

import msgspec

from wn.study.tables.fit import StudyCurve
from wn.walking.pictures.plots import BATCH_NORM
from wn.walking.report.numbers import apart

LONGEST_NAME = 150  # letters of a file's name before its kind
LONGEST_MAP = 40  # letters of a map of repetitions that is written out in it

_ORDERS = {"add_mul": "add→mul"}


class Words:
    """The words for the curves of one study: numbers have as many digits as tell those of the study apart."""

    def __init__(self, curves: Sequence[StudyCurve]) -> None:
        self._ratio = apart((_number(curve.ratio) for curve in curves), besides=(0.0, 1.0))
        self._sigma_mul = apart((_number(curve.sigma_mul) for curve in curves), besides=(0.0,))
        means = [mean for curve in curves for mean in (curve.mean_mul, curve.mean_add)]
        self._mean = apart(map(_number, means), besides=(0.0, 1.0))

    def network(self, curve: StudyCurve) -> str:
        """Data, network and kind of batch norm: "mnist, mlp-64, with batch norm, weights clamped"."""
        return network_words(curve.dataset, curve.model, curve.batch_norm, bool(curve.clamp_weights))

    def noise(self, curve: StudyCurve) -> str:
        """The operator and its label: "mixed noise, ratio 0.1, executions 3"."""
        return ", ".join([f"{curve.noise} noise", *self.options(curve), *self.executions(curve)])

    def options(self, curve: StudyCurve) -> list[str]:
        """What is not by default in the operator, but for its executions; the ratio is always said."""
        words = [] if curve.ratio is None else [f"ratio {self._ratio[curve.ratio]}"]
        words += [_ORDERS[curve.order]] if curve.order in _ORDERS else []
        words += [] if curve.sigma_mul is None else [f"σ_mul {self._sigma_mul[curve.sigma_mul]}"]
        words += _unless(1.0, curve.mean_mul, f"mean factor {self._mean.get(curve.mean_mul or 0.0)}")
        words += _unless(0.0, curve.mean_add, f"mean summand {self._mean.get(curve.mean_add or 0.0)}")
        words += [] if curve.distribution in ("", "normal") else [f"{curve.distribution} draws"]
        return words + (["σ per element"] if is_normalized(curve) else [])

    def executions(self, curve: StudyCurve, longest: int | None = None) -> list[str]:
        """The label, and how often sites are executed: a map of more letters than `longest` as its sum."""
        label = [curve.label] if curve.label else []
        if curve.repetitions == "1":
            return label
        numbers = [int(word) for word in curve.repetitions.split()]
        if longest is not None and len(numbers) > 1 and len(curve.repetitions) > longest:
            return [*label, f"{sum(numbers)} executions"]
        each = " as single draws" if are_single_draws(curve) else ""
        return [*label, f"executions {curve.repetitions}{each}"]

    def file(self, curves: Sequence[StudyCurve]) -> str:
        """The name of a file about curves of one setting, in letters that every system takes."""
        curve = curves[0]
        executions = self.executions(with_labels_of(curves), LONGEST_MAP)
        clamped = ["weights clamped"] if curve.clamp_weights else []
        kind = "" if curve.noise == "none" else curve.noise
        words = [curve.dataset, curve.model, f"bn-{curve.batch_norm}", kind, *clamped]
        words += [*self.options(curve), *executions]
        signed = [re.sub(r" -(?=\d)", " minus ", word) for word in words]
        return re.sub(r"[^\w.]+", "-", "-".join(signed))[:LONGEST_NAME].strip("-")


def network_words(dataset: str, model: str, batch_norm: str, clamp_weights: bool) -> str:
    """A network in words: "mnist, mlp-64, with batch norm, weights clamped"."""
    clamped = ["weights clamped"] if clamp_weights else []
    return ", ".join([dataset, model, BATCH_NORM[batch_norm], *clamped])


def with_labels_of(curves: Sequence[StudyCurve]) -> StudyCurve:
    """The first of some curves with the labels of all of them."""
    labels = dict.fromkeys(label for curve in curves for label in curve.label.split(", ") if label)
    return curves[0]._replace(label=", ".join(labels))


def is_normalized(curve: StudyCurve) -> bool:
    """Whether σ is divided by the number of elements at a site."""
    return bool(_noise(curve).get("normalize_to_input_size"))


def are_single_draws(curve: StudyCurve) -> bool:
    """Whether each of several executions is drawn, instead of one draw with their joint σ."""
    return _noise(curve).get("execution") == "each"


def _noise(curve: StudyCurve) -> dict[str, object]:
    return msgspec.json.decode(curve.settings_spec).get("noise") or {}


def _unless(usual: float, value: float | None, words: str) -> Iterable[str]:
    return [] if value is None or value == usual else [words]


def _number(value: float | None) -> float:
    return float("nan") if value is None or isnan(value) else value
