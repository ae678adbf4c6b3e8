import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import get_args
from zipfile import ZipFile

import numpy as np
import pytest

from tests.windtunnel.data.loopback_mirror import Mirror
from tests.windtunnel.data.spoken import Entries, recordings, zipped
from windtunnel.data.clips import CLIP_SAMPLES, WORDS
from windtunnel.data.datasets import find
from windtunnel.data.download import DownloadError
from windtunnel.data.recordings import RECORDINGS, Part, Recordings, locate_recordings, part_of
from windtunnel.errors import WindtunnelError
from windtunnel.manifest import DataLineage

AT_HAND = "009a7ef0023c0fa69ee54ae98f89c90ace200851be52a2bc02f4356e57abe4eb"  # half of what TensorFlow's site has
SPEAKERS = tuple(f"{number:08x}" for number in range(30))


# The real thing, or the demonstration set where there is none


@pytest.fixture(scope="module")
def real() -> Recordings:
    return locate_recordings("mini_speech_commands" if find(RECORDINGS["mini_speech_commands"]) else "demonstration")


def test_real_recordings_are_as_they_were_said(real: Recordings) -> None:
    count = len(real.labels)
    assert real.clips.shape == (count, CLIP_SAMPLES)
    assert (real.clips.dtype, real.labels.dtype, real.speakers.shape) == (np.int16, np.uint8, (count,))
    assert np.bincount(real.labels).tolist() == [count // 8] * 8
    assert real.clips.any(axis=1).all()


def test_real_recordings_are_split_by_speaker(real: Recordings) -> None:
    counts = real.counts()
    if real.files.get("mini_speech_commands.zip") == AT_HAND:
        assert counts == {"train": 2856, "validation": 434, "test": 790}
    assert sum(counts.values()) == len(real.labels)
    assert 0.1 < counts["test"] / len(real.labels) < 0.3
    for part, count in counts.items():
        clips, labels = real.split(part)
        assert clips.shape == (count, CLIP_SAMPLES)
        assert np.unique(labels).tolist() == list(range(len(WORDS)))


# Parts


def test_a_speaker_belongs_to_one_part_for_ever() -> None:
    parts = [part_of(f"{number:08x}") for number in range(20_000)]
    assert parts.count("test") / len(parts) == pytest.approx(0.2, abs=0.01)
    assert parts.count("validation") / len(parts) == pytest.approx(0.1, abs=0.01)
    assert hashlib.sha256("".join(part[0] for part in parts).encode()).hexdigest()[:16] == "624cb4a7b687af3f"


# The search path: the recordings are few, and their mirror is on loopback


@pytest.fixture
def few(project: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> Entries:
    monkeypatch.setitem(RECORDINGS, "mini_speech_commands", replace(RECORDINGS["mini_speech_commands"], mirrors=(mirror.url,)))
    return recordings(SPEAKERS)


def put(entries: Entries, directory: Path, name: str = "mini_speech_commands") -> None:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f"{name}.zip").write_bytes(zipped(entries))


def publish(entries: Entries, mirror: Mirror) -> None:
    mirror.files = {"/mini_speech_commands.zip": zipped(entries)}


@pytest.mark.parametrize("folder", ["speech", "mini_speech_commands"])
def test_they_are_found_on_the_search_path(folder: str, few: Entries, mirror: Mirror, project: Path) -> None:
    put(few, project.parent / "shared" / "data" / folder)
    said: list[str] = []
    found = locate_recordings("mini_speech_commands", said.append)
    assert (found.name, found.directory) == ("mini_speech_commands", project.parent / "shared" / "data" / folder)
    assert said[0] == f"Mini Speech Commands in {found.directory}"
    assert mirror.requests == []


def test_no_speaker_is_in_two_parts(few: Entries, project: Path) -> None:
    put(few, project / "data" / "speech")
    found = locate_recordings("mini_speech_commands")
    assert found.counts() == {part: 8 * sum(part_of(s) == part for s in SPEAKERS) for part in ("train", "validation", "test")}
    of_clip = {clip.tobytes(): speaker for clip, speaker in zip(found.clips, found.speakers.tolist(), strict=True)}
    for part in found.counts():
        clips, labels = found.split(part)
        assert {part_of(of_clip[clip.tobytes()]) for clip in clips} == {part}
        assert len(clips) == len(labels)
    with pytest.raises(WindtunnelError, match="recordings have no part 'tests': choose train, validation, test"):
        found.split("tests")


def test_the_lineage_is_what_a_manifest_says(few: Entries, project: Path) -> None:
    put(few, project / "data" / "speech")
    found = locate_recordings("mini_speech_commands")
    lineage = json.loads(json.dumps(found.lineage()))
    assert DataLineage(**lineage).fingerprint == found.fingerprint
    assert list(lineage["files"]) == ["mini_speech_commands.zip"]
    put(dict(list(few.items())[1:]), project / "data" / "speech")
    assert locate_recordings("mini_speech_commands").fingerprint != found.fingerprint


def test_what_is_nowhere_is_downloaded_once(few: Entries, mirror: Mirror, project: Path) -> None:
    publish(few, mirror)
    mirror.cuts = [100_000]
    said: list[str] = []
    found = locate_recordings("mini_speech_commands", said.append)
    assert found.directory == project / "data" / "speech"
    assert f"downloading it into {found.directory}" in said[0]
    assert [request.range for request in mirror.requests] == [None, "bytes=100000-"]
    assert {file.name for file in found.directory.iterdir()} - {".lock"} == {"mini_speech_commands.zip"}
    assert locate_recordings("mini_speech_commands").fingerprint == found.fingerprint
    assert len(mirror.requests) == 2


def test_what_is_not_right_is_never_published(few: Entries, mirror: Mirror, project: Path) -> None:
    mirror.files = {"/mini_speech_commands.zip": b"<html>Please log in</html>"}
    with pytest.raises(DownloadError) as error:
        locate_recordings("mini_speech_commands")
    message = str(error.value)
    assert f"{mirror.url}mini_speech_commands.zip: returned a wrong file (" in message
    assert "put mini_speech_commands.zip into speech/ in a folder that is listed in WINDTUNNEL_DATA" in message
    assert "\n" not in message
    assert not list(project.rglob("*.zip"))


def test_auto_takes_the_demonstration_set_where_recordings_cannot_be_had(few: Entries, mirror: Mirror, project: Path) -> None:
    put(few, project / "data" / "speech", "demonstration")
    said: list[str] = []
    assert locate_recordings("auto", said.append).name == "demonstration"
    title = "the demonstration set (synthetic voices: for a demonstration, not for real speech)"
    assert said[1].startswith(f"auto uses {title}: Mini Speech Commands cannot be downloaded ({mirror.url}mini_speech_commands.zip: retu")
    assert said[2] == f"{title} in {project / 'data' / 'speech'}"


def test_auto_prefers_real_recordings_and_does_not_hide_broken_ones(few: Entries, project: Path) -> None:
    put(few, project / "data" / "speech", "demonstration")
    put(few, project / "data" / "speech")
    assert locate_recordings("auto").name == "mini_speech_commands"
    (project / "data" / "speech" / "mini_speech_commands.zip").write_bytes(zipped(few)[:-100])
    with pytest.raises(WindtunnelError, match="is truncated"):
        locate_recordings("auto")


def test_an_unpacked_archive_is_read_where_it_is_named(few: Entries, tmp_path: Path) -> None:
    put(few, tmp_path / "packed")
    with ZipFile(tmp_path / "packed" / "mini_speech_commands.zip") as archive:
        archive.extractall(tmp_path)
    packed, unpacked = (RECORDINGS["mini_speech_commands"].read("x", tmp_path / name) for name in ("packed", "mini_speech_commands"))
    assert unpacked.fingerprint == packed.fingerprint


def test_nowhere_to_write_is_said(few: Entries, project: Path) -> None:
    project.touch()
    for name, verb in [("mini_speech_commands", "download"), ("demonstration", "render")]:
        with pytest.raises(DownloadError, match=f"there is no writable folder to {verb} it into"):
            locate_recordings(name)


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(WindtunnelError, match="data set 'mnist' is unknown: choose mini_speech_commands, demonstration, "):
        locate_recordings("mnist")


# Too few


def test_what_recordings_are_too_few_for_is_said(few: Entries, project: Path) -> None:
    """An error if the accuracy could not show what is wrong, otherwise a warning."""
    place, of = project / "data" / "speech", {part: [each for each in SPEAKERS if part_of(each) == part] for part in get_args(Part)}

    def said_of(entries: Entries) -> list[str]:
        said: list[str] = []
        put(entries, place)
        locate_recordings("mini_speech_commands", said.append)
        return said[1:]

    uncertain = "an accuracy measured with them is uncertain by up to"
    assert said_of(few) == [
        f"warning: mini_speech_commands has only 48 test clips: {uncertain} 14 points (95% confidence). Record more speakers"
    ]
    assert said_of(recordings((*of["train"][:1], *of["test"][:1]))) == [
        f"warning: mini_speech_commands has no validation clip of {', '.join(WORDS)}: the probabilities of these words are not calibrated",
        f"warning: mini_speech_commands has only 8 test clips: {uncertain} 35 points (95% confidence). Record more speakers",
    ]
    gone = tuple(f"go/{speaker}_nohash_0.wav" for speaker in of["test"])
    expected = "expected 1 of each word at least. Record more speakers, or name others in `test` and `validation` of a manifest"
    for entries, problem in (
        (recordings(of["train"]), f"test clips: found 0 of {', '.join(WORDS)}"),
        (recordings(of["test"]), f"training clips: found 0 of {', '.join(WORDS)}"),
        ({name: wav for name, wav in few.items() if not name.endswith(gone)}, "test clips: found 0 of go"),
    ):
        with pytest.raises(WindtunnelError) as error:
            said_of(entries)
        assert str(error.value) == f"mini_speech_commands in {place} has too few {problem}, {expected}"
