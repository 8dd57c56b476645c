"""The tables and pictures of docs/theory/identities.md: measured by the engine, committed as csv.

    python -m tests.checks.identities measure [TABLE …]   # → docs/theory/tables/identities.*.csv, minutes
    python -m tests.checks.identities                     # csv → blocks and pictures of the page
    python -m tests.checks.identities --check             # exit code 1 if the page is not up to date

A block of the page stands between `<!-- made: TABLE NAME -->` and `<!-- end -->`: TABLE is a function below.
"""

import argparse
import csv
import sys
from collections.abc import Sequence

from tests.checks.identities import measured, page


def measure(names: Sequence[str]) -> None:
    """Measure, and write the tables."""
    page.TABLES.mkdir(parents=True, exist_ok=True)
    for name in names or measured.MEASURED:
        rows = []
        for row in measured.MEASURED[name]():
            rows.append({key: f"{v:.5g}" if isinstance(v, float) else v for key, v in row.items()})
            print(*rows[-1].values(), flush=True)
        with (page.TABLES / f"identities.{name}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, or make the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("measure", nargs="*", help="measure [TABLE …]: " + ", ".join(measured.MEASURED))
    parser.add_argument("--check", action="store_true", help="only say whether the page is up to date")
    chosen = parser.parse_args(arguments)
    if chosen.measure:
        measure(chosen.measure[1:])
        return 0
    text, pictures = page.made()
    if chosen.check:
        whole = text == page.PAGE.read_text(encoding="utf-8") and all(
            (page.PAGE.parent / p).is_file() for p in pictures
        )
        print("up to date" if whole else f"{page.PAGE.name} is not up to date")
        return 0 if whole else 1
    page.PAGE.write_text(text, encoding="utf-8")
    for name, data in pictures.items():
        (page.PAGE.parent / name).write_bytes(data)
    return 0


if __name__ == "__main__":
    sys.exit(main())
