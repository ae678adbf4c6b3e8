import re
import shutil
import struct
import tracemalloc
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.windtunnel.data.spoken import Entries, noise, recordings, wav, zipped
from windtunnel.data import wav_archive
from windtunnel.data.clips import CLIP_SAMPLES, WORDS
from windtunnel.data.wav import read_wav
from windtunnel.data.wav_archive import MAX_BYTES, read_archive, read_folder
from windtunnel.errors import WindtunnelError

NAME = "mini_speech_commands/go/00b01445_nohash_0.wav"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "mini_speech_commands.zip"


def written(file: Path, entries: Entries, compression: int = zipfile.ZIP_DEFLATED) -> Path:
    file.write_bytes(zipped(entries, compression))
    return file


def test_recordings_come_in_the_order_of_words_and_names_and_end_in_silence(file: Path) -> None:
    recorded = read_archive(written(file, dict(reversed(recordings().items()))))
    assert recorded.clips.shape == (16, CLIP_SAMPLES)
    assert (recorded.clips.dtype, recorded.labels.dtype) == (np.int16, np.uint8)
    assert recorded.labels.tolist() == [label for label in range(8) for _ in range(2)]
    assert recorded.speakers.tolist() == ["00b01445", "fe1916ba"] * 8
    for clip, seed in zip(recorded.clips, [seed for label in range(8) for seed in (label, 100 + label)], strict=True):
        assert np.array_equal(clip[:8000], noise(seed))
        assert not clip[8000:].any()


def test_the_digest_is_that_of_words_names_and_samples(file: Path) -> None:
    entries = recordings()
    digest = read_archive(written(file, entries)).digest
    junk = {"mini_speech_commands/README.md": b"", "__MACOSX/mini_speech_commands/go/._00b01445_nohash_0.wav": b"", "other/": b""}
    assert read_archive(written(file, junk | dict(reversed(entries.items())), zipfile.ZIP_STORED)).digest == digest
    twice = {f"mini_speech_commands/{word}/fe1916ba_nohash_7.wav": entries[NAME] for word in ("go", "up")}
    assert read_archive(written(file, entries | twice)).digest == digest
    assert read_archive(written(file, entries | {NAME: wav(noise(1) + np.int16(1))})).digest != digest
    assert (
        read_archive(written(file, {name.replace("fe1916ba", "fe1916bb"): content for name, content in entries.items()})).digest != digest
    )


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("mini_speech_commands/cat/00b01445_nohash_0.wav", wav(noise(1)), "found 'mini_speech_commands/cat/00b01445_nohash_0.wav', exp"),
        ("../go/00b01445_nohash_0.wav", wav(noise(1)), "found '../go/00b01445_nohash_0.wav', expected FOLDER/WORD/SPEAKER"),
        ("/etc/go/00b01445_nohash_0.wav", wav(noise(1)), "has a recording with a wrong name"),
        ("mini_speech_commands/go/somebody.WAV", wav(noise(1)), "has a recording with a wrong name"),
        (NAME, wav(noise(1), rate=8000), f"{NAME}: found 8000 Hz, expected 16000"),
        (NAME, wav(noise(1), channels=2), "found 2 channels, expected 1"),
        (NAME, wav(noise(1).astype(np.uint8)), "found 8 bits per sample, expected 16"),
        (NAME, wav(noise(1, 16001)), "found 1.00006 s, expected more than 0 and at most 1 s"),
        (NAME, wav(noise(1, 0)), "found 0 s"),
        (NAME, wav(noise(1))[:30], "is not a WAV"),
        (NAME, b"", "is empty"),
        (NAME, b"<html>Please log in</html>", "is not a WAV"),
        (NAME, wav(noise(1, 10**6)), "is too large: found 2000044 bytes, expected less for one second"),
    ],
)
def test_a_wav_that_is_no_recording_is_named(name: str, content: bytes, message: str, file: Path) -> None:
    with pytest.raises(WindtunnelError, match=message) as error:
        read_archive(written(file, recordings() | {name: content}))
    assert str(error.value).startswith(str(file))
    assert "\n" not in str(error.value)


@pytest.fixture
def unpacked(tmp_path: Path) -> Path:
    """The folder that an archive unpacks to, with what else people have in such folders."""
    others = {"README.md": b"", "_background_noise_/hum.wav": b"no word", "go/._00b01445_nohash_0.wav": b"", "go/notes.txt": b""}
    for name, content in ({f"mini_speech_commands/{name}": content for name, content in others.items()} | recordings()).items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return tmp_path / "mini_speech_commands"


def test_an_unpacked_archive_is_the_same(unpacked: Path, file: Path) -> None:
    packed, read = read_archive(written(file, recordings())), read_folder(unpacked)
    assert np.array_equal(read.clips, packed.clips)
    assert (read.labels.tolist(), read.speakers.tolist(), read.digest) == (packed.labels.tolist(), packed.speakers.tolist(), packed.digest)


def test_each_file_without_a_speaker_in_its_name_is_of_one_of_its_own(unpacked: Path) -> None:
    for number in range(3):
        (unpacked / "up" / f"take {number}.WAV").write_bytes(wav(noise(1000 + number)))
    read = read_folder(unpacked)
    assert len(read.clips) == 19
    own = set(read.speakers.tolist()) - {"00b01445", "fe1916ba"}
    assert len(own) == 3
    assert all(re.fullmatch("[0-9a-f]{8}", speaker) for speaker in own)


def test_what_is_wrong_in_a_folder_is_named(unpacked: Path) -> None:
    (unpacked / "up" / "song.wav").write_bytes(wav(noise(1), rate=44_100))
    with pytest.raises(WindtunnelError, match=r"mini_speech_commands: up/song.wav: found 44100 Hz, expected 16000"):
        read_folder(unpacked)
    shutil.rmtree(unpacked / "up")
    with pytest.raises(WindtunnelError, match=r"mini_speech_commands has no recording of up: get a complete one"):
        read_folder(unpacked)


def test_a_word_that_nobody_says_is_named(file: Path) -> None:
    entries = {name: content for name, content in recordings().items() if "/left/" not in name and "/yes/" not in name}
    with pytest.raises(WindtunnelError, match="has no recording of left, yes"):
        read_archive(written(file, entries))
    with pytest.raises(WindtunnelError, match=f"has no recording of {', '.join(WORDS)}"):
        read_archive(written(file, {}))


# What is damaged or means harm


def test_a_truncated_archive_is_said_to_be_one(file: Path) -> None:
    content = zipped(recordings())
    for length in (0, 1, 1000, len(content) // 2, len(content) - 1000, len(content) - 1):
        file.write_bytes(content[:length])
        with pytest.raises(WindtunnelError, match="is truncated or is not a zip"):
            read_archive(file)


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    for file, problem in [(tmp_path / "nowhere.zip", "No such file"), (tmp_path, "Is a directory")]:
        with pytest.raises(WindtunnelError, match=f"{file} cannot be read: {problem}"):
            read_archive(file)


def test_other_packings_are_refused(file: Path) -> None:
    with pytest.raises(WindtunnelError, match="is encrypted, or not compressed with deflate"):
        read_archive(written(file, recordings(), zipfile.ZIP_LZMA))
    content = bytearray(zipped(recordings()))
    content[content.index(b"PK\x01\x02") + 8] |= 1  # the flag "encrypted" of the first entry
    file.write_bytes(content)
    with pytest.raises(WindtunnelError, match="is encrypted"):
        read_archive(file)


def test_an_archive_with_too_much_in_it_is_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(file, recordings())
    monkeypatch.setattr(wav_archive, "MAX_RECORDINGS", 15)
    with pytest.raises(WindtunnelError, match="has too many recordings: found 16, expected at most 15"):
        read_archive(file)
    with file.open("r+b") as stream:
        stream.truncate(MAX_BYTES + 1)
    with pytest.raises(WindtunnelError, match=f"found {MAX_BYTES + 1} bytes, expected at most {MAX_BYTES}"):
        read_archive(file)


def test_a_bomb_that_lies_about_its_size_does_not_go_off(file: Path) -> None:
    size = 100 * 2**20
    content = bytearray(zipped({**recordings(), NAME: bytes(size)}))
    start = content.index(struct.pack("<I", size), content.index(b"PK\x01\x02"))  # in the directory, where sizes are looked up
    content[start : start + 4] = struct.pack("<I", 32_044)
    file.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(WindtunnelError, match="is truncated or is not a zip"):
            read_archive(file)
        assert tracemalloc.get_traced_memory()[1] < 16 * 2**20
    finally:
        tracemalloc.stop()


SMALL = zipped({name: wav(noise(seed, 8)) for seed, name in enumerate(recordings(("00b01445",)))})


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(changes=st.dictionaries(st.integers(0, len(SMALL) - 1), st.integers(0, 255), min_size=1, max_size=8))
@example(changes={SMALL.index(b"PK\x01\x02") + 6: 255})  # a version of zip that nobody knows
def test_a_damaged_archive_is_an_error_or_harmless(changes: dict[int, int], file: Path) -> None:
    content = bytearray(SMALL)
    for place, byte in changes.items():
        content[place] = byte
    file.write_bytes(content)
    with suppress(WindtunnelError):
        assert len(read_archive(file).clips) == 8


@settings(max_examples=150)
@given(changes=st.dictionaries(st.integers(0, 60), st.integers(0, 255), max_size=4), length=st.integers(0, 60))
def test_a_damaged_wav_is_an_error_or_harmless(changes: dict[int, int], length: int) -> None:
    content = bytearray(wav(noise(1, 8)))
    for place, byte in changes.items():
        content[place : place + 1] = bytes([byte])
    with suppress(WindtunnelError):
        assert 1 <= len(read_wav(bytes(content[:length]), "it")) <= 8


def test_other_chunks_of_a_wav_are_passed_over() -> None:
    content = wav(noise(1))
    longer = b"RIFF" + struct.pack("<I", len(content) + 4) + content[8:36] + b"LIST" + struct.pack("<I", 4) + b"INFO" + content[36:]
    assert np.array_equal(read_wav(longer, "it"), noise(1))
