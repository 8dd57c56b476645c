"""Speech Commands v2: one-second recordings as MFCC features in 12 classes, with the official split lists."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wn import random
from wn.basics.errors import DataError
from wn.data.dataset import Dataset, Split
from wn.data.feature_cache import cached
from wn.data.formats import archive, wav
from wn.data.formats import mfcc as transform
from wn.data.formats.archive import Member, is_litter, members
from wn.data.formats.mfcc import LENGTH, mfcc
from wn.data.formats.wav import Wave, read_wav
from wn.data.sets.entry import Entry
from wn.random import Purpose, sample_words, uniform_below

WORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
CLASSES = (*WORDS, "silence", "unknown")
SILENCE, UNKNOWN = CLASSES.index("silence"), CLASSES.index("unknown")
ARCHIVE = "speech_commands_v0.02.tar.gz"
TESTING, VALIDATION = "testing_list.txt", "validation_list.txt"
NOISE = "_background_noise_"

_SEED = 20180409  # of the stretches of background noise that make the class silence
_TRAIN_PART = 0.8  # of each noise recording, from its start; the rest is for the test split
_UNKNOWN_DIVISOR = 3.6  # by which the weight of "unknown" is reduced
_LARGEST = 1 << 26  # bytes of one file; the longest real recording has 3 MB
_CHUNK = 64  # recordings transformed together

_CODE = (transform, wav, archive, random)  # besides this module, what features are made by
_NAMED = 3  # bad recordings that an error names

# Words of version 2 that version 1 lacks. Source: Warden, arXiv 1804.03209.
_NEW_WORDS = frozenset({"backward", "follow", "forward", "learn", "visual"})
_OLD_WORDS = frozenset(
    {*WORDS, "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"}
    | {"bed", "bird", "cat", "dog", "happy", "house", "marvin", "sheila", "tree", "wow"}
)
VERSION_1 = f"version 1 of Speech Commands: get version 2, {ARCHIVE}"
TEST_SET = f"the archive of the test set only: get the whole data set, {ARCHIVE}"

Features = NDArray[np.float32]


def read(entry: Entry, paths: tuple[Path, ...]) -> tuple[Split, Split]:
    """Training and test split: features (N, 1, 10, 49) float32, from the archive or the folder of its lists.

    Test samples are those of testing_list.txt; those of validation_list.txt are left out; the others are for
    training. Ten words are classes of their own, all other words are "unknown". "Silence" is cut from the
    background noise, as many samples as a word has on average. Samples are sorted by name, silence is last.
    Raises DataError where files are missing, damaged, not 16-bit mono at 16 kHz (all of them in one line),
    or listed but absent, and for version 1 and for the archive of the test set.
    """
    source = paths[0] if len(paths) == 1 else paths[0].parent
    files = [source] if source.is_file() else _folder_files(source)
    code = [Path(__file__), *(Path(str(module.__file__)) for module in _CODE)]
    return cached(files, code, lambda: _read(source, files))


def _read(source: Path, files: list[Path]) -> tuple[Split, Split]:
    corpus = _Corpus(str(source))
    corpus.add_all(members(source, _LARGEST) if source.is_file() else _folder_members(source, files))
    testing, validation = corpus.listed(TESTING), corpus.listed(VALIDATION)
    names = sorted(corpus.features)
    train = _split(corpus, [name for name in names if name not in testing | validation], part=0)
    return train, _split(corpus, [name for name in names if name in testing], part=1)


def class_weights(dataset: Dataset) -> NDArray[np.float64]:
    """Weights (classes,) of the loss: w_c ∝ 1 − (share of class c in training), "unknown" ÷ 3.6, sum 1."""
    counts = np.bincount(dataset.train.labels, minlength=len(dataset.classes))
    weights: NDArray[np.float64] = 1 - counts / counts.sum()
    if "unknown" in dataset.classes:
        weights[dataset.classes.index("unknown")] /= _UNKNOWN_DIVISOR
    weights /= weights.sum()
    return weights


def one_second(samples: Wave) -> Wave:
    """Exactly 16000 samples: longer recordings lose their end, shorter ones get zeros at the end."""
    cut = samples[:LENGTH]
    return np.pad(cut, (0, LENGTH - len(cut)))


@dataclass
class _Corpus:
    """The collection as the files pass by: features by name, noise recordings, and the two lists."""

    source: str
    features: dict[str, Features] = field(default_factory=dict)
    noise: dict[str, Wave] = field(default_factory=dict)
    lists: dict[str, list[str]] = field(default_factory=dict)
    waiting: dict[str, Wave] = field(default_factory=dict)
    bad: list[str] = field(default_factory=list)

    def add_all(self, files: Iterable[Member]) -> None:
        for name, content in files:
            self._add(name, content)
        self._transform()
        self._check_version()
        if self.bad:
            raise DataError(f"{self.source}: {_in_one_line(self.bad, len(self.features) + len(self.noise))}")
        if not self.noise:
            raise DataError(f"{self.source}: the folder {NOISE} with the background noise is missing")

    def listed(self, name: str) -> frozenset[str]:
        """The names in one of the lists, all of which must be there."""
        if name not in self.lists:
            raise DataError(f"{self.source}: {name} is missing")
        lines = self.lists[name]
        absent = [line for line in lines if line not in self.features]
        if absent:
            raise DataError(
                f"{self.source}: {name} lists {len(absent)} files that are absent, first {absent[0]}"
            )
        return frozenset(lines)

    def _check_version(self) -> None:
        words = {name.split("/")[0] for name in self.features}
        if words & {"_silence_", "_unknown_"}:
            raise DataError(f"{self.source}: it holds {TEST_SET}")
        if words == _OLD_WORDS:
            raise DataError(f"{self.source}: it lacks {', '.join(sorted(_NEW_WORDS))}: {VERSION_1}")

    def _add(self, name: str, content: bytes) -> None:
        parts = name.split("/")
        if len(parts) == 1 and name in (TESTING, VALIDATION):
            self.lists[name] = content.decode("utf-8", errors="replace").split()
        elif len(parts) == 2 and name.lower().endswith(".wav"):
            try:
                samples = read_wav(content, name)
            except DataError as error:
                self.bad.append(str(error))
                return
            if parts[0] == NOISE:
                self.noise[name] = samples
            else:
                self.waiting[name] = one_second(samples)
                if len(self.waiting) == _CHUNK:
                    self._transform()

    def _transform(self) -> None:
        if self.waiting:
            features = mfcc(np.stack(list(self.waiting.values())).astype(np.float64))
            self.features.update(zip(self.waiting, features, strict=True))
            self.waiting.clear()


def _in_one_line(bad: list[str], good: int) -> str:
    """The errors `bad` of recordings, each with the recording's name, in one line."""
    if len(bad) == 1:
        return bad[0]
    more = f"; and {len(bad) - _NAMED} more" if len(bad) > _NAMED else ""
    return f"{len(bad)} of {len(bad) + good} recordings can't be used: {'; '.join(bad[:_NAMED])}{more}"


def _folder_files(folder: Path) -> list[Path]:
    """The lists in `folder` and the recordings one level below."""
    recordings = [
        path
        for path in folder.glob("*/*")
        if path.suffix.lower() == ".wav" and not is_litter(path.relative_to(folder))
    ]
    return sorted([folder / TESTING, folder / VALIDATION, *recordings])


def _folder_members(folder: Path, files: list[Path]) -> Iterator[Member]:
    """The files of a folder in the form in which an archive delivers them."""
    try:
        for path in files:
            yield Member(path.relative_to(folder).as_posix(), path.read_bytes())
    except OSError as error:
        raise DataError(f"{folder}: cannot be read: {error}") from None


def _split(corpus: _Corpus, names: list[str], part: int) -> Split:
    label_of = {word: label for label, word in enumerate(WORDS)}
    labels = [label_of.get(name.split("/")[0], UNKNOWN) for name in names]
    counts = np.bincount(labels, minlength=len(CLASSES))
    lacking = [word for word, count in zip(WORDS, counts, strict=False) if count == 0]
    if lacking:
        which = ("training", "test")[part]
        raise DataError(f"{corpus.source}: no {which} recordings of {', '.join(lacking)}")
    silent = max(1, round(int(counts[: len(WORDS)].sum()) / len(WORDS)))
    silence = _silence([corpus.noise[name] for name in sorted(corpus.noise)], silent, part)
    features = np.stack([corpus.features[name] for name in names])
    return Split(np.concatenate([features, silence]), np.array(labels + [SILENCE] * silent, dtype=np.int64))


def _silence(recordings: list[Wave], count: int, part: int) -> Features:
    """Features of `count` seconds of noise, recording and start drawn per sample; `part` 1 is the test's."""
    words = sample_words(np, _SEED, np.arange(count), part, Purpose.SUBSET)  # (4, count)
    chosen = uniform_below(np, words[0], len(recordings))
    waves = [_stretch(recordings[index], part, word) for index, word in zip(chosen, words[1], strict=True)]
    chunks = [np.stack(waves[start : start + _CHUNK]) for start in range(0, count, _CHUNK)]
    return np.concatenate([mfcc(chunk.astype(np.float64)) for chunk in chunks])


def _stretch(recording: Wave, part: int, word: np.uint32) -> Wave:
    """One second from the training or the test part of a recording, at a drawn start."""
    border = int(_TRAIN_PART * len(recording))
    region = recording[border:] if part else recording[:border]
    start = uniform_below(np, word, max(1, len(region) - LENGTH + 1))
    return one_second(region[start:])
