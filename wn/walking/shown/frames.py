"""Tables of results as data frames of pandas and data sets of xarray, where these are installed."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wn.basics.errors import WnError

Rows = NDArray[Any]  # of a structured array
_POINT = ("repeat", "sigma")


def to_pandas(table: NDArray[Any]) -> Any:
    """A structured array as a pandas.DataFrame, a column for each field; WnError without pandas."""
    pandas = _library("pandas", "to_pandas")
    return pandas.DataFrame({name: table[name] for name in table.dtype.names or ()})


def to_xarray(curves: Rows, midpoints: Rows, failures: Rows, attributes: Mapping[str, Any]) -> Any:
    """The tables of a walk as an xarray.Dataset over phase, site, repeat and sigma; WnError without xarray.

    `accuracy` and `correct` (phase, site, repeat, sigma), NaN where a point has no result; `midpoint` with
    the other columns of the midpoints (phase, site). `site` is the name, `site_number` its number.
    """
    xarray = _library("xarray", "to_xarray")
    points = np.concatenate([curves[list(_POINT)], failures[list(_POINT)]])
    axes: dict[str, list[Any]] = {
        "phase": list(dict.fromkeys(midpoints["phase"].tolist())),
        "site": list(dict.fromkeys(midpoints["site_name"].tolist())),
        "repeat": sorted(set(points["repeat"].tolist())),
        "sigma": sorted(set(points["sigma"].tolist())),
    }
    columns = [name for name in midpoints.dtype.names or () if midpoints[name].dtype.kind in "fb"]
    data = {name: _spread(curves, name, axes, tuple(axes)) for name in ("accuracy", "correct")}
    data |= {name: _spread(midpoints, name, axes, ("phase", "site")) for name in columns}
    numbers = dict(zip(midpoints["site_name"].tolist(), midpoints["site"].tolist(), strict=True))
    coordinates = axes | {"site_number": ("site", [numbers[name] for name in axes["site"]])}
    return xarray.Dataset(data, coordinates, dict(attributes))


def _spread(
    rows: Rows, column: str, axes: Mapping[str, list[Any]], dims: tuple[str, ...]
) -> tuple[tuple[str, ...], NDArray[Any]]:
    """A column over its axes; where there is no row: NaN, or False."""
    values, shape = rows[column], [len(axes[dim]) for dim in dims]
    filled = np.zeros(shape, bool) if values.dtype == bool else np.full(shape, np.nan)
    places = []
    for dim in dims:
        number = {value: place for place, value in enumerate(axes[dim])}
        places.append([number[value] for value in rows["site_name" if dim == "site" else dim].tolist()])
    filled[tuple(places)] = values
    return dims, filled


def _library(name: str, method: str) -> Any:
    try:
        return import_module(name)
    except ImportError:
        raise WnError(f"{method} needs {name}, which is not installed: pip install {name}") from None
