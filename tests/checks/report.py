"""Check in a real browser that a report stands alone, and fits a desk and a phone.

    python -m tests.checks.report FILE... [--widths 1200 400]

Needs Chromium (on Debian: apt-get install chromium). A page is laid out in a frame of each width, and a line
is printed for everything that is wider than the screen and can't be scrolled to, for each picture that is not
there, for each address that is asked for, and for scripts.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.checks.book import answer, browser

WIDTHS = (1200, 400)  # a desk, a phone
SCRIPT = Path(__file__).with_name("report.js")


def problems(page: Path, chromium: str, widths: Sequence[int] = WIDTHS) -> list[str]:
    """One line for each thing that is wrong with a page; RuntimeError if the browser does not answer."""
    tasks = [{"page": page.name, "width": width} for width in widths]
    return answer(page.parent, tasks, SCRIPT, chromium)


def main() -> int:
    """Print the problems of reports; exit code 1 if there are any, 2 without a browser."""
    parser = argparse.ArgumentParser(prog="python -m tests.checks.report", description=__doc__.split("\n")[0])
    parser.add_argument("files", type=Path, nargs="+", help="reports")
    parser.add_argument("--widths", type=int, nargs="+", default=WIDTHS, help="widths of the page in pixels")
    chosen = parser.parse_args()
    chromium = browser()
    if chromium is None:
        print("this check needs Chromium: it is not on this machine", file=sys.stderr)
        return 2
    found = [line for file in chosen.files for line in problems(file, chromium, chosen.widths)]
    print(
        "\n".join(
            [*found, f"{len(chosen.files)} pages at {list(chosen.widths)} pixels: {len(found)} problems"]
        )
    )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
