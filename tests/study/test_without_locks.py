"""On a system without flock (Windows), studies say so in one line; everything else works.

The kind: what a system lacks is named where it is needed, and nothing is refused that does without it.
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
TINY = "--backend numpy --train-limit 64 --test-limit 32 --epochs 1 --sigma 1.0 --where 0 --phase inference"
WORK = ("models lenet5", "walk --help", "study presets")
REFUSED = ("run walking-quick --out", "status", "fit", "export", "retry", "plot")
CODE = """
import os, sys
sys.modules["fcntl"] = None  # importing it raises ImportError
del os.fork, os.register_at_fork
from wn.cli.main import main
for command in {commands}:
    try:
        main(command)
    except SystemExit as end:
        print("code", end.code, *command[:2], file=sys.stderr)
"""


def test_studies_name_what_is_lacking(tmp_path: Path) -> None:
    """Studies of a folder end with one line; no traceback, and nothing written."""
    folder = tmp_path / "study"
    walk = f"walk {TINY} --out {tmp_path / 'walk'}"
    refused = [f"study {words} {folder}" for words in REFUSED]
    code = CODE.replace("{commands}", repr([words.split() for words in (*WORK, walk, *refused)]))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    codes = [line for line in done.stderr.splitlines() if line.startswith("code ")]
    said = [line for line in done.stderr.splitlines() if not line.startswith("code ")]
    assert codes == [
        *(f"code 0 {words}" for words in WORK),
        "code 0 walk --backend",
        *(f"code 2 study {words.split()[0]}" for words in REFUSED),
    ]
    refusals = [line for line in said if line.startswith("wn: studies need the file locks of Linux or macOS")]
    assert len(refusals) == len(REFUSED)
    assert "Traceback" not in done.stderr
    assert (tmp_path / "walk" / "midpoints.csv").exists()
    assert not folder.exists()
