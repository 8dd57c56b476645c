"""Check in a real browser that no page of the built book cuts off a formula, at a desk or on a phone.

    python -m tests.checks.book docs/_build [--widths 1280 390]

Needs Chromium (on Debian: apt-get install chromium); CI runs it where there is one. Every page is laid out in
a frame of each width, and a line is printed for each formula, block of code or page that is wider than there
is room for, for each formula that MathJax could not set, and for each that it has left as it was written.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Empty, Queue
from typing import Any

WIDTHS = (1280, 390)  # a desk, a phone
PATIENCE = 300.0  # seconds for all pages together
SCRIPT = Path(__file__).with_name("book.js")
PAGE = "<!doctype html><meta charset='utf-8'><body><script>const tasks = {tasks};\n{script}</script>"


def browser() -> str | None:
    """Path of a Chromium on this machine."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def pages(book: Path) -> list[str]:
    """Pages of a built book that were written by someone: not the index of words, nor the search."""
    names = (str(path.relative_to(book)) for path in book.rglob("*.html") if "_static" not in path.parts)
    return sorted(name for name in names if name not in ("genindex.html", "search.html"))


class Handler(SimpleHTTPRequestHandler):
    """Serves the book, the page that measures it, and takes what that page has found."""

    def __init__(self, *words: Any, measure: str, found: Queue[Any], **names: Any) -> None:
        self.measure, self.found = measure.encode(), found
        super().__init__(*words, **names)

    def do_GET(self) -> None:
        if self.path != "/measure":
            super().do_GET()
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(self.measure)

    def do_POST(self) -> None:
        self.found.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Print no line per file."""


@contextmanager
def served(book: Path, measure: str, found: Queue[Any]) -> Iterator[str]:
    """Serve the book on this machine; yields the address of the page that measures."""
    handler = partial(Handler, directory=str(book), measure=measure, found=found)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/measure"
        finally:
            server.shutdown()


def problems(book: Path, chromium: str, widths: tuple[int, ...] = WIDTHS) -> list[str]:
    """One line for each thing that is cut off, of all pages at all widths.

    Raises RuntimeError if the browser does not answer.
    """
    tasks = [{"page": page, "width": width} for page in pages(book) for width in widths]
    return answer(book, tasks, SCRIPT, chromium)


def answer(folder: Path, tasks: list[dict[str, Any]], script: Path, chromium: str) -> list[str]:
    """What a script says of pages in a folder that is served to the browser, one line for each thing.

    Raises RuntimeError if the browser does not answer.
    """
    measure = PAGE.format(tasks=json.dumps(tasks), script=script.read_text(encoding="utf-8"))
    found: Queue[Any] = Queue()
    profiles = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)  # helpers write to the last
    with served(folder, measure, found) as address, profiles as profile:
        command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        command += [
            f"--user-data-dir={profile}",
            "--window-size=1600,1200",
            "--remote-debugging-port=0",
            address,
        ]
        silent = subprocess.DEVNULL
        process = subprocess.Popen(command, stdout=silent, stderr=silent, start_new_session=True)
        try:
            lines: list[str] = found.get(timeout=PATIENCE)
        except Empty:
            raise RuntimeError(f"{chromium} has not measured the pages within {PATIENCE:.0f} s") from None
        finally:
            os.killpg(process.pid, signal.SIGKILL)  # with its helpers: nothing of theirs is kept
            process.wait()
    return lines


def main() -> int:
    """Print the problems of a book; exit code 1 if there are any, 2 without a browser or a book."""
    parser = argparse.ArgumentParser(prog="python -m tests.checks.book", description=__doc__.split("\n")[0])
    parser.add_argument("book", type=Path, help="folder of the built pages")
    parser.add_argument("--widths", type=int, nargs="+", default=WIDTHS, help="widths of the page in pixels")
    chosen = parser.parse_args()
    chromium = browser()
    if chromium is None:
        print("this check needs Chromium: it is not on this machine", file=sys.stderr)
        return 2
    names = pages(chosen.book)
    if not names:
        print(f"{chosen.book}: holds no pages", file=sys.stderr)
        return 2
    found = problems(chosen.book, chromium, tuple(chosen.widths))
    print("\n".join([*found, f"{len(names)} pages at {chosen.widths} pixels: {len(found)} problems"]))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
