"""Data sets: file formats, catalogue and download, preprocessing and augmentation."""

from wn.data.catalogue import FileStatus, check, fetch, listing, load
from wn.data.dataset import Dataset, Draw, Split, batch, checksum
from wn.data.recipes import Preprocessing, Recipe

__all__ = [
    "Dataset",
    "Draw",
    "FileStatus",
    "Preprocessing",
    "Recipe",
    "Split",
    "batch",
    "check",
    "checksum",
    "fetch",
    "listing",
    "load",
]
