"""Try the gradient checkers on other libraries: python -m tests.wild [library …] [--only NAME] [--all].

Libraries that are not installed are left out, and said so. Exit code 1 where a verdict is another one than
examination by hand has confirmed (see docs/bugs-in-the-wild.md).
"""

import argparse
import sys
from collections.abc import Sequence

from tests.wild.cases import VERDICTS, Library
from tests.wild.libraries import LIBRARIES
from tests.wild.trial import Outcome, counts, installed, trial


def report(library: Library, version: str, outcomes: list[Outcome], every: bool = False) -> bool:
    """Print the counts of a library and what is of note; whether nothing is surprising."""
    surprising = [outcome for outcome in outcomes if outcome.surprising]
    shown = ", ".join(f"{verdict} {number}" for verdict, number in counts(outcomes).items())
    print(f"{library.package} {version}: {len(outcomes)} checks: {shown}; surprising {len(surprising)}")
    for outcome in outcomes:
        if outcome.surprising:
            expected = outcome.case.expected
            print(f"  ! {outcome.case.name}: {outcome.verdict}, expected {expected}: {outcome.message}")
        elif outcome.verdict != "passed":
            print(f"  {outcome.case.name}: {outcome.verdict}: {outcome.case.why}")
            if every:
                print(f"    {outcome.message}")
        elif every:
            print(f"  {outcome.case.name}: passed")
    return not surprising


def main(arguments: Sequence[str], libraries: Sequence[Library] = LIBRARIES) -> int:
    """Try the libraries that are named, all by default; return the exit code."""
    names = [library.package for library in libraries]
    parser = argparse.ArgumentParser(prog="python -m tests.wild", description=__doc__)
    parser.add_argument("library", nargs="*", help=f"of {', '.join(names)}; all by default")
    parser.add_argument("--only", default="", help="cases with this in their name")
    parser.add_argument("--all", action="store_true", help="list what passed, and the checkers' messages")
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.library) - set(names))
    if unknown:
        parser.error(f"{unknown[0]} is none of {', '.join(names)}")
    expected, total = True, dict.fromkeys(VERDICTS, 0)
    for library in libraries:
        if options.library and library.package not in options.library:
            continue
        version = installed(library)
        if version is None:
            print(f"{library.package} is not installed: left out (pip install {library.package})")
            continue
        outcomes = trial(library, options.only)
        expected &= report(library, version, outcomes, options.all)
        total = {verdict: total[verdict] + number for verdict, number in counts(outcomes).items()}
    shown = ", ".join(f"{verdict} {number}" for verdict, number in total.items())
    print(f"all: {sum(total.values())} checks: {shown}")
    return 0 if expected else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
