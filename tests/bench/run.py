"""Time the engine against its peers: python tests/bench/run.py [--rows PATTERN…] [--json FILE]; --help."""

import runpy
import sys
from pathlib import Path

if __name__ == "__main__":
    # Python looks for modules beside this file first; tests and reference are imported from the root.
    sys.path[0] = str(Path(__file__).resolve().parents[2])
    runpy.run_module("tests.bench.command", run_name="__main__")
