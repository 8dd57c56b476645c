"""The kind of a file, told from its first bytes: for errors that name it and the remedy."""

from pathlib import Path
from typing import NamedTuple

HEAD = 512  # bytes that are enough to tell


class Kind(NamedTuple):
    """A kind of file: its key, its name in a sentence, and the advice that goes with it."""

    key: str
    name: str
    advice: str


_UNPACK = "unpack it and name the file that is inside"
_PICKLES = "it holds pickles, which are never loaded"
_LFS = Kind("lfs", "a pointer of Git LFS, not the file", "get the file with: git lfs pull")
_PAGE = Kind("html", "a web page", "download the file itself, not the page that shows it")
_ZIP = Kind("zip", "a zip archive", _UNPACK)
_NPZ = Kind("npz", "a NumPy archive (.npz)", "write its arrays in the format that is read here")
_TORCH = Kind("torch", "a PyTorch file (.pt, .pth)", _PICKLES)
_PICKLE = Kind("pickle", "a Python pickle", "pickles are never loaded")
_ZEROS = Kind("zeros", "nothing but zero bytes", "its copy or download was cut off: get it again")
_JSON = Kind("json", "a JSON text", "a server's answer may have been saved: name the file with the data")

# Offset, first bytes, kind; the sources are the formats' own descriptions.
_SIGNATURES = (
    (0, b"version https://git-lfs", _LFS),
    (0, b"\x1f\x8b", Kind("gzip", "a gzip file", "undo it with gunzip")),
    (0, b"BZh", Kind("bzip2", "a bzip2 file", "undo it with bunzip2")),
    (0, b"\xfd7zXZ\x00", Kind("xz", "an xz file", "undo it with unxz")),
    (0, b"\x28\xb5\x2f\xfd", Kind("zstd", "a Zstandard file", "undo it with unzstd")),
    (0, b"7z\xbc\xaf\x27\x1c", Kind("7z", "a 7-Zip archive", _UNPACK)),
    (0, b"Rar!\x1a\x07", Kind("rar", "a RAR archive", _UNPACK)),
    (257, b"ustar", Kind("tar", "a tar archive", _UNPACK)),
    (0, b"\x93NUMPY", Kind("npy", "a NumPy array (.npy)", "write it in the format that is read here")),
    (0, b"MATLAB 5.0", Kind("mat", "a MATLAB 5 file", "name the file that is asked for")),
    (0, b"MATLAB 7.3", Kind("mat73", "a MATLAB 7.3 file", "save it anew in MATLAB with save(…, '-v7')")),
    (0, b"\x89HDF\r\n\x1a\n", Kind("hdf5", "an HDF5 file (.h5)", "write its arrays in the format read here")),
    (0, b"PAR1", Kind("parquet", "a Parquet table", "get the data set in the format that is read here")),
    (0, b"SQLite format 3\x00", Kind("sqlite", "an SQLite file", "name the file that is asked for")),
    (0, b"%PDF-", Kind("pdf", "a PDF document", "name the file that is asked for")),
    (0, b"\x89PNG\r\n\x1a\n", Kind("png", "a PNG picture", "name the file that is asked for")),
    (0, b"\xff\xd8\xff", Kind("jpeg", "a JPEG picture", "name the file that is asked for")),
    (0, b"RIFF", Kind("riff", "a recording (WAV)", "name the file that is asked for")),
    (0, b"RIFX", Kind("rifx", "a recording (WAV with the large byte first)", "convert it to plain WAV")),
    (0, b"RF64", Kind("rf64", "a recording (WAV of 64 bits)", "convert it to plain WAV")),
    (0, b"FORM", Kind("aiff", "an AIFF recording", "convert it to WAV")),
    (0, b".snd", Kind("au", "an AU recording", "convert it to WAV")),
    (4, b"ftyp", Kind("mp4", "an MP4 or M4A recording", "convert it to WAV")),
    (0, b"GGUF", Kind("gguf", "a GGUF file", "write its arrays in the format that is read here")),
    (0, b"OggS", Kind("ogg", "an Ogg recording", "convert it to WAV")),
    (0, b"fLaC", Kind("flac", "a FLAC recording", "convert it to WAV")),
    (0, b"ID3", Kind("mp3", "an MP3 recording", "convert it to WAV")),
    (0, b"\x00\x00\x08", Kind("idx", "an IDX file, the format of MNIST", "name the file that is asked for")),
    (8, b'{"', Kind("safetensors", "a safetensors file", "name the file that is asked for")),
)


def kind_of(head: bytes) -> Kind | None:
    """The kind of a file with these first bytes (HEAD of them are enough); None if it is not recognised."""
    if head.startswith(b"PK\x03\x04"):
        return _zip_of(head)
    if head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05" and len(head) > 1:
        return _TORCH if b"l\xfc\x9cF\xf9 j\xa8P\x19" in head[:32] else _PICKLE  # the number of torch.save
    for offset, magic, kind in _SIGNATURES:
        if head[offset:].startswith(magic):
            return kind
    if head and not head.strip(b"\x00"):
        return _ZEROS
    return _text_of(head.removeprefix(b"\xef\xbb\xbf").lstrip().lower())


def described(head: bytes, **advice: str) -> str:
    """The sentence "it is ‹kind›: ‹what to do›", "" if the kind is not recognised.

    `advice` is what to do by the key of a kind, where that is not the usual.
    """
    kind = kind_of(head)
    return "" if kind is None else f"it is {kind.name}: {advice.get(kind.key, kind.advice)}"


def head_of(path: Path) -> bytes:
    """The first bytes of a file as it is; none where it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(HEAD)
    except OSError:
        return b""


def _zip_of(head: bytes) -> Kind:
    """PyTorch and NumPy write zip archives: the name of the first file inside tells them from others."""
    length = int.from_bytes(head[26:28], "little")
    name = head[30 : 30 + length]
    if name.endswith(b".npy"):
        return _NPZ
    return _TORCH if name.endswith((b"/data.pkl", b"/.format_version", b"/byteorder")) else _ZIP


def _text_of(text: bytes) -> Kind | None:
    if text.startswith(b"<!doctype html") or b"<html" in text:
        return _PAGE
    if text.startswith(b"<?xml"):
        return Kind("xml", "an XML text, such as a server's error", "download the file again")
    return _JSON if text.startswith((b"{", b"[")) else None
