"""Sites as pictures name and order them, and the title of a picture."""

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from wn.basics.errors import WnError
from wn.walking.pictures.drawing import TITLE, literal

Rows = NDArray[Any]  # of a structured array
Sites = dict[str, int]  # the number of each site by its label


def labels_of(rows: Rows) -> NDArray[np.str_]:
    """The label of each row's site: its number and name, or just its name for global and mapped noise."""
    pairs = zip(rows["site"].tolist(), rows["site_name"].tolist(), strict=True)
    return np.array([literal(f"{site} {name}" if site >= 0 else name) for site, name in pairs], np.str_)


def sites_in(labels: NDArray[np.str_], numbers: NDArray[np.int64]) -> Sites:
    """Sites by label in the order of the network; global, then mapped noise at the end."""
    if not labels.size:
        raise WnError("nothing to draw: the result has no rows")
    sites = dict(zip(labels.tolist(), numbers.tolist(), strict=True))
    return dict(sorted(sites.items(), key=lambda item: (item[1] < 0, abs(item[1]))))


def head(figure: Figure, title: str, words: Sequence[str], repeats: int) -> None:
    """Write the title, and below it the run in words, broken to the width of the figure."""
    words = [*words, "1 repeat" if repeats == 1 else f"{repeats} repeats"]
    text = " · ".join(word.replace(" ", "\u00a0") for word in words)  # no line breaks within
    lines = [title, *textwrap.wrap(text, int(figure.get_figwidth() * 12), break_on_hyphens=False)]
    figure.suptitle(literal("\n".join(line.strip(" ·") for line in lines)), fontsize=TITLE)


def sites_of(*parts: Rows) -> Sites:
    """The sites of the rows of several tables."""
    labels, numbers = map(labels_of, parts), (part["site"] for part in parts)
    return sites_in(np.concatenate([*labels]), np.concatenate([*numbers]))
