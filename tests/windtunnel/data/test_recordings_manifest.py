"""Data sets that name their own words, rate, layout and split."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.windtunnel.data.spoken import Entries, noise, wav, zipped
from windtunnel.data import datasets
from windtunnel.data.clips import CLIP_SAMPLES, SAMPLE_RATE
from windtunnel.data.datasets import find
from windtunnel.data.recordings import DIGITS, RECORDINGS, locate_recordings, place_of, source_of, sources_with
from windtunnel.data.recordings_manifest import parse
from windtunnel.data.wav import one_second
from windtunnel.errors import WindtunnelError

MANIFEST: dict[str, Any] = {
    "title": "Three digits",
    "words": {"0": "zero", "1": "one", "2": "two"},
    "sample_rate": 8000,
    "recording": "{word}_{speaker}_{n}.wav",
    "test": ["ann"],
    "validation": ["bob"],
}
SPEAKERS = ("ann", "bob", "cy_d", "eve")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder `speech` of the only place on the data search path."""
    monkeypatch.setattr(datasets, "ROOT", tmp_path / "project")
    monkeypatch.setenv("WINDTUNNEL_DATA", str(tmp_path))
    (tmp_path / "speech").mkdir()
    return tmp_path / "speech"


def digits(words: str = "012", rate: int = 8000) -> Entries:
    """A recording of each word by each speaker, half a second each."""
    return {
        f"{word}_{speaker}_{number}.wav": wav(noise(10 * int(word) + number, rate // 2), rate=rate)
        for word in words
        for number, speaker in enumerate(SPEAKERS)
    }


def manifest(**changes: Any) -> bytes:
    return json.dumps({name: value for name, value in (MANIFEST | changes).items() if value is not None}).encode()


def put(folder: Path, entries: Entries) -> None:
    for name, content in entries.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def test_words_rate_and_split_are_those_of_the_manifest(place: Path) -> None:
    (place / "mine.zip").write_bytes(zipped({f"any/folder/{name}": content for name, content in digits("7012").items()}))
    (place / "mine.json").write_bytes(manifest())
    said: list[str] = []
    found = locate_recordings("mine", said.append)
    uncertain = "an accuracy measured with them is uncertain by up to 57 points (95% confidence). Record more speakers"
    assert said == [f"Three digits in {place}", f"warning: mine has only 3 test clips: {uncertain}"]
    assert (found.name, found.title, found.words) == ("mine", "Three digits", ("zero", "one", "two"))
    assert found.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4  # nothing of the word 7, which the manifest does not name
    assert found.speakers.tolist() == [*SPEAKERS] * 3
    assert found.counts() == {"train": 6, "validation": 3, "test": 3}
    assert [found.speakers_of(part) for part in ("train", "validation", "test")] == [2, 1, 1]
    assert found.clips.shape == (12, CLIP_SAMPLES)
    assert np.abs(found.clips[:, :8000]).max(axis=1).min() > 1000  # half a second of 8 kHz is half a second of 16
    assert not found.clips[:, 8000:].any()


def test_a_tone_is_the_same_tone_at_another_rate() -> None:
    for rate in (8000, 11_025, 44_100, 48_000):
        low = np.rint(9000 * np.sin(2 * np.pi * 440 * np.arange(rate) / rate)).astype(np.int16)
        heard = one_second(low, rate)[2000:14_000].astype(float)
        assert np.abs(heard - 9000 * np.sin(2 * np.pi * 440 * np.arange(2000, 14_000) / SAMPLE_RATE)).max() < 90


def test_of_what_is_longer_the_loudest_second_is_taken(place: Path) -> None:
    long = np.concatenate([noise(1, 6000) // 100, noise(2, 4000), noise(3, 9000) // 100])
    put(place / "mine", digits() | {"0_eve_9.wav": wav(long, rate=8000), "recordings.json": manifest()})
    found = locate_recordings("mine")
    clip = found.clips[found.labels == 0][-1]
    assert np.allclose(clip, one_second(long, 8000))
    whole = one_second(noise(2, 4000), 8000)
    assert np.square(clip.astype(float)).sum() == pytest.approx(np.square(whole.astype(float)).sum(), rel=0.02)
    put(place / "mine", {"0_eve_9.wav": wav(noise(1, 80_001), rate=8000)})
    with pytest.raises(WindtunnelError, match=r"0_eve_9.wav .*: found 10.0001 s, .* at most 10 s. Record one word, or cut it out"):
        locate_recordings("mine")


def test_a_zip_with_its_manifest_in_it_and_a_folder_are_the_same(place: Path, tmp_path: Path) -> None:
    entries = digits() | {"recordings.json": manifest()}
    (place / "packed.zip").write_bytes(zipped({f"packed/{name}": content for name, content in entries.items()}))
    put(place / "unpacked", entries | {"notes.txt": b"", ".hidden/0_ann_1.wav": b"", "._0_ann_0.wav": b""})
    packed, unpacked = (locate_recordings(name) for name in ("packed", "unpacked"))
    assert np.array_equal(packed.clips, unpacked.clips)
    assert [*packed.files.values()] == [*unpacked.files.values()]
    for path, name in ((place / "packed.zip", "packed"), (place / "unpacked", "unpacked")):
        assert place_of(path) == (name, place)
        assert source_of(name).read(name, place).fingerprint == locate_recordings(name).fingerprint
    assert place_of(tmp_path) == ("mini_speech_commands", tmp_path)


def test_another_split_or_other_words_are_another_data_set(place: Path) -> None:
    put(place / "mine", digits() | {"recordings.json": manifest()})
    fingerprints = [locate_recordings("mine").fingerprint]
    for change in ({"test": ["eve"]}, {"words": {"0": "oh", "1": "one", "2": "two"}}, {"title": "Another title"}):
        (place / "mine" / "recordings.json").write_bytes(manifest(**change))
        fingerprints.append(locate_recordings("mine").fingerprint)
    assert len(set(fingerprints)) == 3
    assert fingerprints[3] == fingerprints[0]


def test_a_list_of_words_is_of_folders_too(place: Path) -> None:
    entries = {name.replace("_", "/", 1): content for name, content in digits().items()}
    changes = {"words": ["2", "0", "1"], "recording": "{word}/{speaker}_{n}.wav"}
    put(place / "mine", entries | {"recordings.json": manifest(**changes)})
    assert locate_recordings("mine").words == ("2", "0", "1")


def test_without_names_the_speakers_are_split_by_rule_and_files_without_a_speaker_are_of_one_each(place: Path) -> None:
    entries = {f"{word}-{number}.wav": wav(noise(100 * word + number, 2000), rate=8000) for word in range(3) for number in range(20)}
    changes = {"test": None, "validation": None, "recording": "{word}-*.wav"}
    put(place / "mine", entries | {"recordings.json": manifest(**changes)})
    found = locate_recordings("mine")
    assert len(set(found.speakers.tolist())) == 60
    assert min(found.counts().values()) > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"words": ["up", "up"]}, "words: 'up' is repeated: name each word once"),
        ({"words": ["up"]}, "words: found 1 words, expected 2 to 200"),
        ({"words": ["Up", "down"]}, "words: 'Up' is not a valid word: use at most 40 letters and digits, in lower case"),
        ({"words": ["../up", "down"]}, "words: '../up' is not a valid word"),
        ({"words": {"a/b": "up", "c": "down"}}, "words: has the name 'a/b', which a file name cannot contain"),
        ({"words": 3}, "words: Input should be an object"),
        ({"sample_rate": "8000"}, "sample_rate: Input should be a valid integer"),
        ({"sample_rate": 100}, "sample_rate: Input should be greater than or equal to 1000"),
        ({"recording": "{wird}.wav"}, "recording: has the unknown placeholder {wird}: use {word}, {speaker}, {n} and *"),
        ({"recording": "{speaker}.wav"}, "recording: must have {word} once"),
        ({"recording": "{word}.mp3"}, "recording: must be the end of a relative path, and end with .wav"),
        ({"test": None}, "names only one of test and validation"),
        ({"test": ["bob"]}, "names bob in both test and validation"),
        ({"recording": "{word}/*.wav"}, "names speakers to test with, but recording has no {speaker}"),
        ({"spelling": 1}, "spelling: unknown name, correct or remove it"),
    ],
)
def test_what_is_wrong_in_a_manifest_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(WindtunnelError) as error:
        parse(manifest(**change), "mine.json")
    assert str(error.value).startswith(f"mine.json is not a valid manifest of recordings: {message}")


@pytest.mark.parametrize(
    ("entries", "change", "message"),
    [
        ({"song.wav": b""}, {}, "'song.wav' does not match {word}_{speaker}_{n}.wav: rename or remove it, or correct `recording`"),
        ({"0_ann_7.wav": wav(noise(7))}, {}, "0_ann_7.wav: found 16000 Hz, expected 8000. Convert it, or correct its manifest"),
        ({}, {"words": ["0", "3"]}, "has no recording of 3: get a complete one"),
        ({}, {"test": ["zoe"]}, "has no recording of zoe, but its manifest names them; found ann, bob, cy_d, eve. Correct"),
        (
            {},
            {"test": ["ann", "cy_d", "eve"]},
            "has no speaker for train: found 4 (ann, bob, cy_d, eve), expected one at least for each of train, validation and test. ",
        ),
        (
            {"3_ann_0.wav": wav(noise(3), rate=8000)},
            {"words": ["0", "3"]},
            "has too few training clips: found 0 of 3, expected 1 of each word",
        ),
        ({"3_eve_0.wav": wav(noise(3), rate=8000)}, {"words": ["0", "3"]}, "has too few test clips: found 0 of 3, expected 1 of each word"),
    ],
)
def test_what_does_not_fit_its_manifest_is_named(entries: Entries, change: dict[str, Any], message: str, place: Path) -> None:
    put(place / "mine", digits() | entries | {"recordings.json": manifest(**change)})
    with pytest.raises(WindtunnelError) as error:
        locate_recordings("mine")
    assert message in str(error.value)
    assert str(place) in str(error.value)


def test_names_that_are_no_data_set_are_unknown(place: Path) -> None:
    put(place / "mine", digits())  # and no manifest
    for name in ("mine", "../mine", "auto/x", ""):
        assert sources_with(name) == RECORDINGS
        with pytest.raises(WindtunnelError, match="is unknown: choose"):
            locate_recordings(name)


# Ten digits, as people say them where they are at hand, and as a synthesiser does


@pytest.mark.skipif(find(RECORDINGS["free_spoken_digits"]) is None, reason="free_spoken_digits.zip is not at hand")
def test_real_digits() -> None:
    found = locate_recordings("free_spoken_digits")
    assert found.words == DIGITS
    assert set(found.speakers[found.parts == "test"].tolist()) == {"theo", "yweweler"}
    assert (np.bincount(found.labels) > 200).all()
    assert np.square(found.clips.astype(float)).mean(axis=1).min() > 0


def test_where_no_real_digits_are_a_synthesiser_speaks_them(place: Path) -> None:
    said: list[str] = []
    found = locate_recordings("free_spoken_digits", said.append)
    assert (found.name, found.words) == ("demonstration_digits", DIGITS)
    assert np.bincount(found.labels).tolist() == [len(found.labels) // 10] * 10
    assert any("put free_spoken_digits.zip, a zip of https://github.com/" in line for line in said)
    assert {file.name for file in place.iterdir()} - {".lock"} == {"demonstration_digits.zip"}
