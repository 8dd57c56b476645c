"""Run every install line of README, docs and messages in a fresh environment, with a wheel of this checkout.

    python -m tests.checks.installs [--list]

The wheel is built first and offered to pip as if the index had it. Each line is then run by a shell as it
stands; after a line that installs the package, `pip check` and `wn models` have to work. Lines that bring the
libraries of a GPU or PyTorch, gigabytes, are only resolved (pip's --dry-run). Not run are the README's two
commands, which CI runs itself. Prints a line each; exit code 1 if one does not work.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import venv
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[2]
NAME = "walking-noise"
HEAVY = re.compile(r"cupy|\[gpu\]|torch")
COMMANDS = re.compile(r"<!-- commands -->.*?<!-- end -->", re.DOTALL)
# A word of a command: a flag, something in quotes, or a requirement or path.
WORD = r"""(?: +(?:'[^'\n]+'|"[^"\n]+"|-{1,2}[A-Za-z][\w-]*|[\w.][\w.\[\],=<>~!/-]*))"""
IN_CODE = re.compile(rf"pip3? install{WORD}+")
IN_MESSAGE = re.compile(r"pip3? install(?: +(?:-{1,2}[a-z][\w-]*|[a-z][a-z-]+(?= ')))*(?: +'[^'\n]+')+")
SHOWN = re.compile(r"^```.*?^```|^ {4,}\S[^\n]*$|`[^`\n]+`", re.DOTALL | re.MULTILINE)


def lines_of(text: str, page: bool) -> list[str]:
    """The install lines of a page, where they stand in code, or of a source file."""
    if not page:
        return IN_MESSAGE.findall(text)
    shown = SHOWN.findall(COMMANDS.sub("", text))
    return [line for part in shown for line in IN_CODE.findall(part)]


def install_lines(root: Path) -> dict[str, list[str]]:
    """Every install line under a folder, and the files that it stands in."""
    found: dict[str, list[str]] = {}
    files = [
        *root.glob("*.md"),
        *root.glob("docs/**/*.md"),
        *root.glob("docs/*.py"),
        *root.glob("wn/**/*.py"),
    ]
    for path in sorted(files):
        if "_build" in path.parts:
            continue
        page = path.suffix == ".md" or path.name == "conf.py"
        for line in lines_of(path.read_text(encoding="utf-8"), page):
            found.setdefault(line, []).append(str(path.relative_to(root)))
    return found


def build_wheel(root: Path, folder: Path) -> None:
    """Build the wheel of a checkout into a folder."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--wheel-dir",
        str(folder),
        str(root),
    ]
    subprocess.run(command, check=True)


def problem_of(line: str, wheels: Path) -> str | None:
    """Run a line in a fresh environment: what went wrong, or None. wheels: a folder that pip looks into."""
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        return problem_in(folder, line, wheels, ROOT)


def problem_in(environment: str, line: str, wheels: Path, root: Path) -> str | None:
    """The same in the folder of an environment that is there already; root: where the shell starts."""
    heavy = HEAVY.search(line) is not None
    ours = NAME in line or re.search(r"install.* '?\.", line) is not None
    commands = [line] + (["pip check", "cd / && wn models"] if ours and not heavy else [])
    for command in commands:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            cwd=root,
            env=variables(environment, wheels, dry=heavy),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            last = (done.stderr or done.stdout).strip().splitlines()[-1:]
            return f"{command!r} ends with {done.returncode}: {''.join(last)}"
        if unknown := re.search(r"does not provide the extra '?([\w-]+)", done.stderr):  # pip only warns
            return f"{command!r} names an extra that does not exist: {unknown[1]}"
        if heavy and ours and not re.search(rf"Would install .*{NAME}", done.stdout):
            return f"{command!r} would not install {NAME}"
    return None


def variables(environment: str, wheels: Path, dry: bool) -> dict[str, str]:
    """Variables of a shell in which an environment is active and pip looks into a folder of wheels too."""
    found = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return found | {
        "PATH": f"{environment}/bin:{os.environ['PATH']}",
        "VIRTUAL_ENV": environment,
        "PIP_FIND_LINKS": f"{wheels} {os.environ.get('PIP_FIND_LINKS', '')}".strip(),
        "PIP_NO_COMPILE": "1",  # saves a quarter of the time
        **({"PIP_DRY_RUN": "1"} if dry else {}),
    }


def main() -> int:
    """Run all lines, two at a time, and say how each went."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.checks.installs", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--list", action="store_true", help="only print the lines and where they stand")
    chosen, found = parser.parse_args(), install_lines(ROOT)
    if chosen.list:
        print("\n".join(f"{line}    ({', '.join(files)})" for line, files in found.items()))
        return 0
    with tempfile.TemporaryDirectory() as wheels, ThreadPoolExecutor(2) as pool:
        build_wheel(ROOT, Path(wheels))
        problems = list(pool.map(lambda line: problem_of(line, Path(wheels)), found))
    for line, problem in zip(found, problems, strict=True):
        print(
            f"{'works' if problem is None else 'FAILS'}: {line}"
            + (f" ({found[line][0]}): {problem}" if problem else "")
        )
    return 1 if any(problems) else 0


if __name__ == "__main__":
    sys.exit(main())
