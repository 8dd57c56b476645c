"""Reading the files of a .tar.gz one after the other, without extracting anything to disk."""

import tarfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePath, PurePosixPath
from typing import IO, NamedTuple, cast

from wn.basics.errors import DataError
from wn.data.formats.idx import reading
from wn.data.formats.kinds import HEAD, described, kind_of

_CHUNK = 1 << 20


class Member(NamedTuple):
    """One file of an archive or folder: its path inside (with /) and its content."""

    name: str
    content: bytes


def members(path: Path, largest: int) -> Iterator[Member]:
    """The regular files of a tar archive (plain or gzip) in archive order; links and devices are left out.

    So is what systems add on their own: see `is_litter`.

    Names are only compared, never used as paths, so that an archive cannot reach anything outside itself.
    Files above `largest` bytes are left out before they are read.
    Raises DataError, naming the archive, where it is missing, damaged or cut; for damage that only the
    checksum of the whole shows, after the last file.
    """
    head = _head(path)
    with reading(path) as (stream, _):
        try:
            with tarfile.open(fileobj=cast(IO[bytes], stream), mode="r|") as archive:
                for info in archive:
                    name = PurePosixPath(info.name)
                    if info.isreg() and info.size <= largest and not is_litter(name):
                        file = archive.extractfile(info)
                        yield Member(str(name), file.read() if file else b"")
        except (tarfile.TarError, ValueError, OverflowError) as error:  # all that damaged headers lead to
            what = described(head, gzip="packed twice: undo gzip once") or error
            raise DataError(f"{path}: not a sound tar archive: {what}") from None
        while stream.read(_CHUNK):  # to the end, where gzip keeps its checksum
            pass


def is_litter(path: PurePath) -> bool:
    """Whether a file is one that macOS adds to archives and folders, or a hidden one: no data are in it.

    Those are __MACOSX/… and ._name (AppleDouble, a file's attributes under the file's own ending) and
    .DS_Store; on file systems of others they become visible.
    """
    return any(part == "__MACOSX" or (part.startswith(".") and part != "..") for part in path.parts)


def _head(path: Path) -> bytes:
    """The first bytes of an archive, gzip undone, unless it is a tar archive, or cut before they end."""
    with suppress(DataError), reading(path) as (stream, _):
        head = stream.read(HEAD)
        return b"" if (kind := kind_of(head)) and kind.key == "tar" else head
    return b""
