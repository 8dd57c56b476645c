"""The rows of the table, in order."""

from fnmatch import fnmatchcase

from tests.bench.rows import gemm, normals, population, training, walk
from tests.bench.settings import Row

ALL: tuple[Row, ...] = (*training.ROWS, normals.ROW, walk.ROW, population.ROW, gemm.ROW)


def chosen(patterns: list[str] | None) -> list[Row]:
    """Return the rows whose name fits a pattern, in the order of the table; all without patterns.

    Raises ValueError for a pattern that fits none.
    """
    for pattern in patterns or ():
        if not any(fnmatchcase(row.name, pattern) for row in ALL):
            raise ValueError(f"no row {pattern!r}: there are {', '.join(row.name for row in ALL)}")
    return [
        row for row in ALL if patterns is None or any(fnmatchcase(row.name, pattern) for pattern in patterns)
    ]
