"""The installed distribution: name, version, and whether another one has put files into the same folder."""

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__version__ = "0.1.0"
DISTRIBUTION = "walking-noise"  # what pip installs; `import wn` and the command wn are shorter
CURE = (
    f"uninstall both (pip uninstall wn {DISTRIBUTION}) and install {DISTRIBUTION} again, "
    "or give each an environment of its own"
)


def clash(folder: "Path | None" = None) -> str | None:
    """One line about another distribution in this package's folder, None if there is none.

    A WordNet interface on the package index is called wn and imports as wn: in one environment each
    overwrites files of the other. Its record lies beside the package, so that a listing of the folder shows
    it; to read metadata would take longer than all else that `import wn` does.
    folder: where packages are installed, by default where this one is.
    """
    from pathlib import Path  # not for `import wn`, which need not wait for it

    folder = folder or Path(__file__).parents[2]
    others = sorted(path.name for kind in ("dist-info", "egg-info") for path in folder.glob(f"wn-*.{kind}"))
    if others:
        other = others[0].rsplit(".", 1)[0].replace("-", " ", 1)
        return f"{other} is installed in the folder of {DISTRIBUTION}, and both are imported as wn: {CURE}"
    package = sys.modules.get("wn")
    if package is not None and "fit_midpoint" not in getattr(package, "__all__", ()):
        return (
            f"wn/__init__.py is not that of {DISTRIBUTION}; a package wn has replaced or removed it: {CURE}"
        )
    return None
