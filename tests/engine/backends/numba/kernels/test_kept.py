"""Compiled kernels on disk: their stamp names every file that they are made from.

The kind: code or numbers of another file that are compiled into a kernel, whose own file stays the same when
they change – constants of `wn.random`, functions of `rectifier`, the flags of `compile`.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import wn
from wn.engine.backends.numba.kernels import kept

PACKAGE = Path(wn.__file__).parent
KERNELS = sorted(kept.FOLDER.glob("*.py"))
# What files of kernels import besides, and no kernel is made from: types, errors, where things are kept, and
# functions that are called before a kernel.
NOT_COMPILED = {"Array", "DrawKey", "Draws", "Purpose", "WnError", "ids_for", "kept", "members"}


def imported(path: Path) -> Iterator[tuple[str, str]]:
    """Yield module and name of all that a file imports from the package."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "wn":
            yield from ((node.module or "", alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names if alias.name.split(".")[0] == "wn")


def file_of(module: str, name: str) -> Path:
    """Return the file that a name comes from: a module of its own, or one in it."""
    folder = PACKAGE.parent.joinpath(*module.split("."))
    own = folder / f"{name}.py"
    return own if own.exists() else folder.with_suffix(".py")


@pytest.mark.parametrize("path", [*KERNELS, *kept.SHARED], ids=lambda path: path.name)
def test_kernels_are_made_from_files_that_the_stamp_names(path: Path) -> None:
    foreign = {
        file_of(module, name)
        for module, name in imported(path)
        if name not in NOT_COMPILED and path != kept.FOLDER / "kept.py"
    }
    assert foreign <= set(kept.SHARED)


def test_something_is_imported_from_each_of_them() -> None:
    found = {file_of(module, name) for path in KERNELS for module, name in imported(path)}
    assert set(kept.SHARED) <= found


@pytest.mark.parametrize("changed", ["own", *(path.name for path in kept.SHARED)])
def test_a_stamp_changes_with_each_file(
    changed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {name: tmp_path / name for name in ("own", *(path.name for path in kept.SHARED))}
    for file in files.values():
        file.write_bytes(b"1 + 1")
    monkeypatch.setattr(kept, "SHARED", tuple(list(files.values())[1:]))
    before = kept.stamp.__wrapped__(files["own"])
    assert kept.stamp.__wrapped__(files["own"]) == before
    files[changed].write_bytes(b"1 + 2")
    assert kept.stamp.__wrapped__(files["own"]) != before


@pytest.mark.parametrize("setting", kept.SETTINGS)
def test_a_stamp_changes_with_the_settings_of_the_compiler(
    setting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = kept.stamp.__wrapped__(KERNELS[-1])
    monkeypatch.setattr(kept.numba.config, setting, "another")
    assert kept.stamp.__wrapped__(KERNELS[-1]) != before


def test_a_damaged_file_is_no_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file cut short by a full disk is compiled anew, and a disk that is full ends nothing."""
    from wn.engine.backends.numba.kernels import small

    cache = kept._Cache(small.take.py_func)
    monkeypatch.setattr(cache._cache_file, "load", lambda key: b"no kernel")
    context = small.take.targetctx
    assert cache.load_overload((), context) is None

    def full(key: object, data: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache._cache_file, "save", full)
    monkeypatch.setattr(cache._impl, "check_cachable", lambda data: True)
    monkeypatch.setattr(cache._impl, "reduce", lambda data: data)
    monkeypatch.setattr(cache, "_index_key", lambda sig, codegen: ())
    kept._tell.cache_clear()

    class Compiled:
        codegen = None

    cache.save_overload((), Compiled())
