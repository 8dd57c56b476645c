"""Values of layers in networks trained under noise: a picture and a table by place of the noise."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from wn.study.report.found import Setting, Trained, mean_line
from wn.walking.pictures.panels import Line, lines
from wn.walking.report.page import Picture, Table

Levels = dict[float, list[float]]  # by σ of training: a value for each repeat; at 0 of networks trained clean
Values = dict[str, dict[str, Levels]]  # by place of the noise, by layer

# Networks of the phases "training" and "matrix" that have one σ of training and repeat are the same
TRAINED_SIGMA = "coalesce(curves.sigma_train, units.sigma)"


def several_levels(levels: Levels) -> bool:
    """Whether there are several σ > 0, which are worth a picture over σ."""
    return sum(sigma > 0 for sigma in levels) > 1


def layer_parts(
    values: Values, setting: Setting, what: str, level: float | None
) -> Iterator[Picture | Table]:
    """A picture over σ if there are several, and a table of the values at the largest σ up to the midpoint.

    With a `level`, a horizontal rule, y is logarithmic.
    """
    if any(several_levels(levels) for layers in values.values() for levels in layers.values()):
        panels: dict[str, dict[str, Line]] = {
            place: {layer: mean_line(levels) for layer, levels in layers.items()}
            for place, layers in values.items()
        }
        figure = lines(panels, "noise level σ in training", what, log_y=level is not None, level=level)
        yield Picture(figure, f"{setting.title}: {what}, after the last epoch.")
    layers = list(dict.fromkeys(layer for of_place in values.values() for layer in of_place))
    rows = [
        row for one in setting.trained if one.place in values for row in _rows(one, values[one.place], layers)
    ]
    caption = f"{setting.title}: {what}, at the largest σ up to the midpoint in training"
    yield Table(caption, ("place of the noise", "σ", "accuracy", *layers), rows)


def _rows(trained: Trained, values: dict[str, Levels], layers: list[str]) -> Iterator[list[Any]]:
    """σ, accuracy, and the mean of each layer, at σ = 0 if it is there, and at the largest σ.

    Beyond the midpoint networks no longer learn; without one all σ count.
    """
    levels = sorted({sigma for of_layer in values.values() for sigma in of_layer})
    noisy = [sigma for sigma in levels if sigma > 0]
    below = [sigma for sigma in noisy if not sigma > trained.midpoint]
    for sigma in (*(sigma for sigma in levels if sigma == 0), *(below or noisy[:1])[-1:]):
        accuracy = trained.accuracy.get(sigma)
        means = [float(np.mean(values[x][sigma])) if sigma in values.get(x, {}) else None for x in layers]
        yield [trained.place, sigma, float(np.mean(accuracy)) if accuracy else None, *means]
