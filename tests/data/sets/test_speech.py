"""Speech Commands: recordings, split lists, silence, the archive and the cache of features."""

import io
import os
import tarfile
from pathlib import Path

import numpy as np
import pooch
import pytest
from hypothesis import given
from hypothesis import strategies as st

import wn.data
from tests.data.formats.wav_files import Wave, recording, wav
from wn.basics.errors import DataError
from wn.data import feature_cache
from wn.data.dataset import Dataset, Split
from wn.data.formats.idx import compressed
from wn.data.formats.mfcc import mfcc
from wn.data.formats.wav import read_wav
from wn.data.recipes import SPEECH_COMMANDS
from wn.data.sets import speech
from wn.data.sets.speech import CLASSES, WORDS, class_weights, one_second


def noise(length: int) -> Wave:
    """Loud where training may look, silent where the test may."""
    samples = recording(99, length)
    samples[int(0.8 * length) :] = 0
    return samples


def corpus() -> dict[str, bytes]:
    """All ten words and two others, each three times (training, validation, test), one of them short."""
    files = {"README.md": b"words", "_background_noise_/README.md": b"noise"}
    for number, word in enumerate([*WORDS, "bed", "zero"]):
        for part in range(3):
            length = 9000 if (word, part) == ("yes", 0) else 16000
            files[f"{word}/{part}_nohash_0.wav"] = wav(recording(3 * number + part, length))
    files["validation_list.txt"] = "".join(
        f"{word}/1_nohash_0.wav\n" for word in [*WORDS, "bed", "zero"]
    ).encode()
    files["testing_list.txt"] = "".join(
        f"{word}/2_nohash_0.wav\n" for word in [*WORDS, "bed", "zero"]
    ).encode()
    files["_background_noise_/a.wav"] = wav(noise(100_000))
    files["_background_noise_/b.wav"] = wav(noise(90_000))
    return files


FILES = corpus()


def write_files(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def archive_of(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(f"./{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return compressed(buffer.getvalue())


def same(first: Split, second: Split) -> bool:
    return np.array_equal(first.images, second.images) and np.array_equal(first.labels, second.labels)


def test_recordings_become_features_in_twelve_classes(tmp_path: Path) -> None:
    write_files(tmp_path, FILES)
    data = wn.data.load("speech-commands", tmp_path)
    assert data.classes == CLASSES == (*WORDS, "silence", "unknown")
    assert data.image_shape == (1, 10, 49)
    assert data.train.images.dtype == np.float32
    names = sorted([*WORDS, "bed", "zero"])
    expected = [CLASSES.index(name) if name in WORDS else 11 for name in names] + [10]
    assert (
        data.train.labels.tolist() == expected
    )  # sorted by name; one recording of each word, so one silence
    assert data.test.labels.tolist() == expected
    for split, part in ((data.train, 0), (data.test, 2)):
        for place, name in enumerate(names):
            samples = read_wav(FILES[f"{name}/{part}_nohash_0.wav"], name)
            features = mfcc(one_second(samples)[None].astype(np.float64))[0]
            assert np.array_equal(split.images[place], features)


def test_silence_of_training_and_test_comes_from_different_parts(tmp_path: Path) -> None:
    write_files(tmp_path, FILES)
    data = wn.data.load("speech-commands", tmp_path)
    quiet = mfcc(np.zeros((1, 16000)))[0]
    assert np.array_equal(data.test.images[-1], quiet)
    assert not np.allclose(data.train.images[-1], quiet, atol=10)


def test_the_archive_gives_the_same_whatever_its_order(tmp_path: Path) -> None:
    write_files(tmp_path / "files", FILES)
    for number, files in enumerate((FILES, dict(reversed(FILES.items())))):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / speech.ARCHIVE).write_bytes(archive_of(files))
        archive, folder_data = (
            wn.data.load("speech-commands", path) for path in (folder, tmp_path / "files")
        )
        assert same(archive.train, folder_data.train)
        assert same(archive.test, folder_data.test)


def test_features_are_kept_until_a_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_files(tmp_path / "files", FILES)
    first = wn.data.load("speech-commands", tmp_path / "files")
    kept = list((tmp_path / "cache/wn/features").iterdir())
    assert [path.suffix for path in kept] == [".npz"]
    monkeypatch.setattr(speech, "mfcc", lambda waves: pytest.fail("features are computed again"))
    assert same(wn.data.load("speech-commands", tmp_path / "files").train, first.train)
    monkeypatch.undo()
    monkeypatch.setattr(pooch, "os_cache", lambda name: tmp_path / "cache" / name)
    changed = tmp_path / "files/yes/0_nohash_0.wav"
    content = changed.read_bytes()
    changed.write_bytes(content[:44] + content[:43:-1])  # the samples backwards: the size stays
    os.utime(changed, ns=(1, 1))
    assert not same(wn.data.load("speech-commands", tmp_path / "files").train, first.train)
    assert len(list((tmp_path / "cache/wn/features").iterdir())) == 2


def test_damaged_and_unwritable_caches_do_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    split = Split(np.ones((2, 1, 2, 2), np.float32), np.zeros(2, np.int64))
    for content in (b"", b"rubbish", b"PK\x03\x04" + bytes(40)):
        feature_cache.cached([], [], lambda: (split, split))
        (kept,) = (tmp_path / "cache/wn/features").iterdir()
        kept.write_bytes(content)
        assert same(feature_cache.cached([], [], lambda: (split, split))[0], split)
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where a folder is needed")
    monkeypatch.setattr(pooch, "os_cache", lambda name: blocked / name)
    assert same(feature_cache.cached([], [], lambda: (split, split))[1], split)
    with pytest.raises(DataError, match="absent: cannot be read"):
        feature_cache.cached([tmp_path / "absent"], [], lambda: (split, split))


def test_class_weights() -> None:
    labels = np.array([0] * 10 + [10] * 10 + [11] * 80)
    split = Split(np.zeros((100, 1, 10, 49), np.float32), labels)
    weights = class_weights(Dataset("toy", CLASSES, split, split, SPEECH_COMMANDS))
    raw = np.array([0.9, *[1.0] * 9, 0.9, 0.2 / 3.6])
    assert np.allclose(weights, raw / raw.sum())
    two = Split(split.images[:4], np.array([0, 0, 0, 1]))
    digits = class_weights(Dataset("toy", ("a", "b"), two, two, SPEECH_COMMANDS))
    assert np.allclose(digits, [0.25, 0.75])


@given(length=st.integers(1, 40000))
def test_one_second_is_cut_or_filled_at_the_end(length: int) -> None:
    samples = np.arange(1, length + 1, dtype=np.int64).astype(np.int16)
    second = one_second(samples)
    kept = min(length, 16000)
    assert second.shape == (16000,)
    assert np.array_equal(second[:kept], samples[:kept])
    assert not second[kept:].any()


GOOD = wav(recording(5, 300))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not a sound WAV file"),
        (b"RIFF", "not a sound WAV file"),
        (b"OggS" + bytes(100), "not a sound WAV file"),
        (GOOD[:30], "not a sound WAV file"),
        (GOOD[:-1], "truncated: 599 of 600 bytes"),
        (GOOD[:60], "truncated: 16 of 600 bytes"),
        (wav(recording(1, 10), rate=8000), "1 channels of 16 bits at 8000 Hz; 1 of 16 at 16000 Hz is due"),
        (wav(recording(1, 10), channels=2), "2 channels of 16 bits"),
        (wav(recording(1, 10), width=1), "1 channels of 8 bits"),
        (wav(recording(1, 0)), "holds no samples"),
    ],
)
def test_wrong_recordings_are_named(tmp_path: Path, content: bytes, words: str) -> None:
    write_files(tmp_path, {**FILES, "no/0_nohash_0.wav": content})
    with pytest.raises(DataError, match=words) as caught:
        wn.data.load("speech-commands", tmp_path)
    assert str(caught.value).startswith(f"{tmp_path}: no/0_nohash_0.wav: ")
    assert "\n" not in str(caught.value)


LITTER = {
    "yes/._0_nohash_0.wav": b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X",
    "__MACOSX/yes/._0_nohash_0.wav": b"\x00\x05\x16\x07",
    "__MACOSX/0_nohash_0.wav": b"\x00\x05\x16\x07",
    ".hidden/0_nohash_0.wav": b"x",
    "yes/.DS_Store": b"Bud1",
    "._testing_list.txt": b"nothing",
}


@pytest.mark.parametrize("packed", [False, True])
def test_litter_of_macos_is_passed_over(tmp_path: Path, packed: bool) -> None:
    """The kind: what a system adds to folders and archives, under the endings of the data."""
    write_files(tmp_path / "clean", FILES)
    if packed:
        (tmp_path / "littered").mkdir()
        (tmp_path / "littered" / speech.ARCHIVE).write_bytes(archive_of({**LITTER, **FILES}))
    else:
        write_files(tmp_path / "littered", {**FILES, **LITTER})
    clean = wn.data.load("speech-commands", tmp_path / "clean")
    littered = wn.data.load("speech-commands", tmp_path / "littered")
    assert same(clean.train, littered.train)
    assert same(clean.test, littered.test)


@pytest.mark.parametrize("packed", [False, True])
def test_recordings_are_found_whatever_the_case_of_their_ending(tmp_path: Path, packed: bool) -> None:
    """What is there is read or counted as bad, never left out silently."""
    added = {"yes/5_nohash_0.WAV": wav(recording(77))}
    if packed:
        (tmp_path / speech.ARCHIVE).write_bytes(archive_of({**FILES, **added}))
    else:
        write_files(tmp_path, {**FILES, **added})
    labels = wn.data.load("speech-commands", tmp_path).train.labels
    assert np.count_nonzero(labels == WORDS.index("yes")) == 2


@pytest.mark.parametrize("packed", [False, True])
def test_bad_recordings_are_counted_and_named_together(tmp_path: Path, packed: bool) -> None:
    bad = {f"{word}/0_nohash_0.wav": wav(recording(1, 10), rate=8000) for word in WORDS[:4]}
    bad["_background_noise_/a.wav"] = b""
    files = {**FILES, **bad}
    if packed:
        (tmp_path / speech.ARCHIVE).write_bytes(archive_of(dict(sorted(files.items()))))
    else:
        write_files(tmp_path, files)
    with pytest.raises(DataError) as caught:
        wn.data.load("speech-commands", tmp_path)
    message = str(caught.value)
    assert "5 of 38 recordings can't be used: _background_noise_/a.wav: not a sound WAV file: " in message
    assert message.count("at 8000 Hz") == 2
    assert message.endswith("; and 2 more")
    assert "\n" not in message


def test_version_1_and_the_test_set_are_recognised(tmp_path: Path) -> None:
    """Under the names of version 2: the 30 words of version 1 alone; the folders of the test set."""
    write_files(tmp_path / "old", {f"{word}/0.wav": GOOD for word in speech._OLD_WORDS} | FILES)
    with pytest.raises(DataError, match=r"it lacks backward, .*, visual: version 1 of Speech Commands"):
        wn.data.load("speech-commands", tmp_path / "old")
    files = {f"{word}/0.wav": GOOD for word in ("yes", "_silence_", "_unknown_")}
    (tmp_path / speech.ARCHIVE).write_bytes(archive_of(files))
    with pytest.raises(DataError, match="it holds the archive of the test set only"):
        wn.data.load("speech-commands", tmp_path)
    (tmp_path / "given" / "speech_commands_v0.01").mkdir(parents=True)
    with pytest.raises(DataError, match=r"speech_commands_v0\.01: version 1 of Speech Commands"):
        wn.data.load("speech-commands", tmp_path / "given")


def test_features_are_computed_anew_for_a_copy_of_equal_size_and_date(tmp_path: Path) -> None:
    """The kind: kept results that outlive what they were made from."""
    write_files(tmp_path / "files", FILES)
    first = wn.data.load("speech-commands", tmp_path / "files")
    changed = tmp_path / "files/yes/0_nohash_0.wav"
    content, times = changed.read_bytes(), changed.stat()
    changed.write_bytes(content[:44] + content[:43:-1])
    os.utime(changed, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert not same(wn.data.load("speech-commands", tmp_path / "files").train, first.train)


@pytest.mark.parametrize(
    ("absent", "words"),
    [
        ("_background_noise_/", "the folder _background_noise_ with the background noise is missing"),
        ("stop/2", r"testing_list\.txt lists 1 files that are absent, first stop/2_nohash_0\.wav"),
        ("bed/1", r"validation_list\.txt lists 1 files that are absent"),
        ("up/0", "no training recordings of up"),
        ("testing_list", r"part of speech-commands: missing testing_list\.txt"),
    ],
)
def test_missing_files_are_named(tmp_path: Path, absent: str, words: str) -> None:
    write_files(tmp_path, {name: content for name, content in FILES.items() if not name.startswith(absent)})
    with pytest.raises(DataError, match=words) as caught:
        wn.data.load("speech-commands", tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_an_archive_without_its_lists_or_cut(tmp_path: Path) -> None:
    files = {name: content for name, content in FILES.items() if "list" not in name}
    (tmp_path / speech.ARCHIVE).write_bytes(archive_of(files))
    with pytest.raises(DataError, match=r"testing_list\.txt is missing"):
        wn.data.load("speech-commands", tmp_path)
    (tmp_path / speech.ARCHIVE).write_bytes(archive_of(FILES)[:-5000])
    with pytest.raises(DataError, match="truncated"):
        wn.data.load("speech-commands", tmp_path)
