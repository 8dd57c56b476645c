"""The distribution is called walking-noise; another one called wn, which would share its folder, is named.

The kind: what pip installs under a name need not be what is imported under it. Every line of ours that names
the distribution must name this one, and an environment that holds both must say so instead of mixing files.
"""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import wn
from tests.cli.command_line import run
from wn.basics.installed import DISTRIBUTION, clash
from wn.cli import main as cli

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_the_name_is_that_of_pyproject() -> None:
    assert PROJECT["name"] == DISTRIBUTION


def test_alone_there_is_no_clash(tmp_path: Path) -> None:
    assert clash() is None
    for name in ("walking_noise-0.1.0.dist-info", "wntools-2.0.dist-info", "wn_extra-1.dist-info", "wn"):
        (tmp_path / name).mkdir()
    assert clash(tmp_path) is None


@pytest.mark.parametrize("record", ["wn-1.1.1.dist-info", "wn-0.9.egg-info"])
def test_another_wn_in_the_same_folder_is_named(record: str, tmp_path: Path) -> None:
    """The WordNet interface's record, or that of an old installation, lies beside the package."""
    (tmp_path / record).mkdir()
    problem = clash(tmp_path)
    assert problem is not None
    assert problem.startswith(f"wn {record.rsplit('.', 1)[0].removeprefix('wn-')} is installed in the folder")
    assert "pip uninstall wn walking-noise" in problem


def test_a_package_whose_start_was_replaced_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once both were installed and the other one is removed, wn/__init__.py is gone: the package is empty."""
    monkeypatch.delattr(wn, "__all__")
    problem = clash()
    assert problem is not None
    assert problem.startswith("wn/__init__.py is not that of walking-noise")


def test_the_command_says_it_in_one_line_and_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "clash", lambda: "two packages")
    assert run("models") == (1, "", "wn: two packages\n")


def test_python_says_it_where_a_public_name_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wn.basics.installed.clash", lambda: "two packages")
    with pytest.raises(ImportError, match=r"^two packages$"):
        _ = wn.fit_midpoint


# A folder without __init__.py, as Python imports it; one that is installed elsewhere would come first.
NAMESPACE = (
    "import sys; from importlib import machinery, util; "
    "spec = machinery.ModuleSpec('wn', None, is_package=True); "
    "spec.submodule_search_locations = ['wn']; sys.modules['wn'] = util.module_from_spec(spec)"
)


@pytest.mark.parametrize("last", ["walking-noise", "wn", "removed"])
def test_both_really_in_one_folder(last: str, tmp_path: Path) -> None:
    """Files of both packages, whichever was installed last, and after the other one was removed again."""
    package = tmp_path / "wn"
    package.mkdir()
    for path in (ROOT / "wn").iterdir():
        if path.name != "__init__.py" or last == "walking-noise":
            (package / path.name).symlink_to(path)
    if last == "wn":
        (package / "__init__.py").write_text('__version__ = "1.1.1"\n')
    if last != "removed":
        (tmp_path / "wn-1.1.1.dist-info").mkdir()
    code = "from wn.cli.main import main; main(['models'])"
    if last == "removed":
        code = f"{NAMESPACE}; {code}"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    said = "wn/__init__.py is not that of" if last == "removed" else "wn 1.1.1 is installed in the folder of"
    assert done.stderr.startswith(f"wn: {said} walking-noise")


def test_importing_asks_nothing_of_metadata() -> None:
    """The look at the folder must not cost what reading metadata does."""
    code = (
        "import sys; from wn.basics import installed; installed.clash(); "
        "print('importlib.metadata' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout == "False\n"


def test_nothing_tells_anyone_to_install_another_wn() -> None:
    """No file names wn as what pip should install, with or without extras."""
    told = re.compile(r"""pip3? install (-\S+ )*['"]?wn\b|\bwn\[[a-z]+[\],]""")
    assert told.search("pip install 'wn[gpu]'")
    assert told.search("pip install wn")
    assert told.search("or take `wn[seml]`")
    assert not told.search("pip install 'walking-noise[gpu]' and wn[0]")
    files = [*ROOT.glob("*.md"), *ROOT.glob("*.toml")]
    files += [path for folder in ("wn", "docs", "reference", ".ci") for path in (ROOT / folder).rglob("*")]
    ours = (
        path for path in files if path.suffix in (".md", ".toml", ".py", "") and "_build" not in path.parts
    )
    texts = {path: path.read_text(encoding="utf-8") for path in ours if path.is_file()}
    assert [f"{path.name}: {found[0]}" for path, text in texts.items() if (found := told.search(text))] == []
