"""Inference audio that is kept, and what is removed of it: nobody's files but the server's own, and those only where a key says so."""

import logging
import os
import time
from pathlib import Path

import pytest

from serving.speech_server.feedback.uploads import Uploads
from serving.speech_server.metrics import Metrics
from tests.serving.speech_server.speech_models import tone
from windtunnel.data.clips import WORDS, as_pcm
from windtunnel.data.wav import read_wav

OWN = "5f0c9d1e-0f5b-4c7e-9d0b-2f1d8f3a7c11-left.wav"
OTHERS = ("holiday.wav", "left.wav", "5f0c9d1e-left.wav", f"copy of {OWN}", OWN.upper(), OWN.replace("left", "sheila"), f"{OWN}.bak")
CLIP_BYTES = 32_044


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with recordings of a year ago."""
    for name in (OWN, *OTHERS):
        (tmp_path / name).write_bytes(bytes(1000))
        os.utime(tmp_path / name, (time.time() - 365 * 86_400,) * 2)
    return tmp_path


def keep(folder: Path, keep_days: int | None, disk_bytes: int = 10**6) -> set[str]:
    """Keep a clip; returns the files that are there then."""
    uploads = Uploads(folder, disk_bytes, keep_days, Metrics(), lambda: WORDS)
    uploads.keep(tone(6), "up")
    uploads.close()
    return {file.name for file in folder.iterdir()}


def test_a_clip_is_kept_with_the_word_that_was_heard(tmp_path: Path) -> None:
    (name,) = keep(tmp_path, 1)
    assert name.endswith("-up.wav")
    assert read_wav((tmp_path / name).read_bytes()).tolist() == as_pcm(tone(6)).tolist()
    assert keep(tmp_path, 1) > {name}, "and is not removed before its time"


def test_without_the_key_nothing_is_removed(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert keep(folder, None) > {OWN, *OTHERS}
    assert caplog.messages == []


def test_only_what_the_server_wrote_is_removed_and_the_log_names_it(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    left = keep(folder, 90)
    assert left > {*OTHERS}
    assert OWN not in left
    assert caplog.messages == [f"{folder / OWN} is removed: it is older than 90 days (KeepDays)"]


def test_files_of_others_take_nothing_of_the_quota(folder: Path) -> None:
    assert len(keep(folder, 90, CLIP_BYTES)) == len(OTHERS) + 1
    assert len(keep(folder, 90, CLIP_BYTES)) == len(OTHERS) + 1, "a second clip does not fit"


def test_whose_a_file_is_the_words_of_the_server_tell(folder: Path) -> None:
    uploads = Uploads(folder, 10**6, 90, Metrics(), lambda: ("sheila", "seven"))
    uploads.close()
    left = {file.name for file in folder.iterdir()}
    assert OWN in left, "left is no word of this server"
    assert [name for name in OTHERS if name not in left] == [name for name in OTHERS if name.endswith("-sheila.wav")]


def test_what_cannot_be_kept_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    metrics = Metrics()
    uploads = Uploads(tmp_path, CLIP_BYTES, None, metrics, lambda: WORDS)
    for _ in range(4):
        uploads.keep(tone(6), "up")
    uploads.close()
    assert metrics.registry.get_sample_value("speech_inference_audio_unkept_total") == 3
    (message,) = caplog.messages
    assert message.startswith(
        f"inference audio is not kept in {tmp_path}: the quota of {CLIP_BYTES} bytes is used up: found {CLIP_BYTES}. Raise Upload"
    )
