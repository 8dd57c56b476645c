"""Reading the files of a .tar.gz one after the other, without extracting anything to disk."""

import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple, cast

from wn.data.idx import reading
from wn.errors import DataError

_CHUNK = 1 << 20


class Member(NamedTuple):
    """One file of an archive or folder: its path inside (with /) and its content."""

    name: str
    content: bytes


def members(path: Path, largest: int) -> Iterator[Member]:
    """The regular files of a tar archive (plain or gzip) in archive order; links and devices are left out.

    Names are only compared, never used as paths, so that an archive cannot reach anything outside itself.
    Files above `largest` bytes are left out before they are read.
    Raises DataError, naming the archive, where it is missing, damaged or cut; for damage that only the
    checksum of the whole shows, after the last file.
    """
    with reading(path) as (stream, _):
        try:
            with tarfile.open(fileobj=cast(IO[bytes], stream), mode="r|") as archive:
                for info in archive:
                    if info.isreg() and info.size <= largest:
                        file = archive.extractfile(info)
                        yield Member(str(PurePosixPath(info.name)), file.read() if file else b"")
        except (tarfile.TarError, ValueError, OverflowError) as error:  # all that damaged headers lead to
            raise DataError(f"{path}: not a sound tar archive: {error}") from None
        while stream.read(_CHUNK):  # to the end, where gzip keeps its checksum
            pass
