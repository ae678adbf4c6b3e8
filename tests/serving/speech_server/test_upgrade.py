"""The first speech server's own configuration and folders, found by this one."""

import re
from io import BytesIO
from pathlib import Path
from zipfile import ZipFile

import grpc
import pytest

from serving.speech_server.feedback.journal import Journal, open_journal
from serving.speech_server.ini_file import Config, read_config
from serving.speech_server.protos.dlserver_pb2 import InferenceRequest, TrainingRequest
from serving.speech_server.protos.speech_pb2 import ListSuggestionsRequest
from serving.speech_server.upgrade import upgrade
from tests.serving.speech_server.running_speech import ini, running
from tests.serving.speech_server.speech_models import tone as pure_tone
from tests.tones import FEW, tone, tones_archive
from tests.waiting import wait_for
from windtunnel.data.clips import WORDS
from windtunnel.data.wav import wav_bytes

pytestmark = pytest.mark.minutes(2)
OLD = {f"{word}/UUID-{number}.wav" for number in range(2) for word in WORDS}


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """What the first server left in the folder that it was started in."""
    for label, word in enumerate(WORDS):
        (tmp_path / "uploaded" / "training" / word).mkdir(parents=True)
        for number in range(2):
            (tmp_path / "uploaded" / "training" / word / f"UUID-{number}.wav").write_bytes(wav_bytes(tone(label, 3000 + number)))
    for model in (tmp_path / "train" / "saved" / "audiorecog", tmp_path / "models" / "5f0c9d1e-0f5b-4c7e-9d0b-2f1d8f3a7c11"):
        model.mkdir(parents=True)
        (model / "saved_model.pb").write_bytes(b"\x08\x01")
    return tmp_path


def keys(old: Path) -> dict[str, str]:
    """The first server's configuration, where it names something else than the tests' servers."""
    return {
        "MaxConcurrentRPCs": "10",
        "StateFile": f"{old}/state.sqlite",
        "InferUploadPath": f"{old}/uploaded/infer",
        "TrainingUploadPath": f"{old}/uploaded/training",
        "ModelPath": f"{old}/train/saved/audiorecog",
    }


@pytest.fixture
def config(old: Path) -> Config:
    (old / "server.ini").write_text(ini(old, "127.0.0.1:55221", **keys(old)))
    return read_config(old / "server.ini")


@pytest.fixture
def journal(config: Config) -> Journal:
    return open_journal(config)


def test_old_suggestions_are_taken_in_once_and_their_files_stay(config: Config, journal: Journal) -> None:
    files = {str(file.relative_to(config.suggestions)) for file in config.suggestions.glob("*/*.wav")}
    upgrade(config, journal)
    taken = journal.list()
    assert [(each.word, each.peer, each.state) for each in taken] == [(word, "", "received") for word in WORDS for _ in range(2)]
    assert {str(file.relative_to(config.suggestions)) for file in config.suggestions.glob("*/*.wav")} == files == OLD
    journal.undo([taken[0].id])
    upgrade(config, journal)
    assert len(journal.list()) == 16, "not what was taken back, either"


def test_what_is_no_clip_is_left_out_and_named(config: Config, journal: Journal, caplog: pytest.LogCaptureFixture) -> None:
    (config.suggestions / "up" / "UUID-0.wav").write_bytes(b"RIFF")
    upgrade(config, journal)
    assert len(journal.list()) == 15
    assert any(line.startswith(f"TrainingUploadPath: {config.suggestions}/up/UUID-0.wav is skipped: ") for line in caplog.messages)


def test_the_quota_of_space_holds_and_that_of_senders_does_not(config: Config, caplog: pytest.LogCaptureFixture) -> None:
    journal = open_journal(config.model_copy(update={"suggestions_per_hour": 1, "upload_megabytes": 1}))
    for number in range(40):
        (config.suggestions / "down" / f"more-{number}.wav").write_bytes(wav_bytes(tone(0, number)))
    upgrade(config, journal)
    assert len(journal.list()) == 2**20 // 32_044
    assert "are left for a later start: no space for suggestions" in caplog.text


def test_a_model_of_this_server_stays_the_model(config: Config, journal: Journal, version: Path) -> None:
    own = config.model_copy(update={"model": version})
    assert upgrade(own, journal) == own
    assert upgrade(config, journal).model is None
    assert upgrade(config.model_copy(update={"model": version / "nowhere"}), journal).model is None


@pytest.mark.parametrize("place", ["nowhere", "nowhere.zip", "empty"])
def test_recordings_that_are_missing_are_said_at_the_start(version: Path, tmp_path: Path, place: str) -> None:
    """They are needed at the first training, many suggestions later; until then the server answers."""
    (tmp_path / "empty").mkdir()
    with running(tmp_path, ModelPath=str(version), BaseSamplesPath=str(tmp_path / place)) as server:
        (line,) = [line for line in server.log().splitlines() if "BaseSamplesPath" in line]
        assert (
            f"WARNING BaseSamplesPath: {tmp_path / place} has no recordings. The server answers, but cannot train a model itself." in line
        )
        assert line.endswith("Put a zip or folders of recordings there, or correct BaseSamplesPath, and start the server again")
        assert server.old.Infer(InferenceRequest(audio_samples=pure_tone(1).tolist())).label == 1


@pytest.mark.parametrize("file", ["down/a.wav", "mini_speech_commands.zip", "recordings.json", "../mine.zip"])
def test_recordings_in_any_layout_are_found(
    config: Config, journal: Journal, tmp_path: Path, file: str, caplog: pytest.LogCaptureFixture
) -> None:
    base = tmp_path / "mine"
    there = (base / file).resolve()
    there.parent.mkdir(parents=True, exist_ok=True)
    there.touch()
    base = there if there.name == "mine.zip" else base
    with caplog.at_level("INFO"):
        upgrade(config.model_copy(update={"base_samples": base}), journal)
    assert f"BaseSamplesPath: models are trained with the recordings in {base}" in caplog.messages


def test_an_unchanged_configuration_ends_in_a_server_that_answers(old: Path) -> None:
    """Sixteen suggestions wait, and more come; the model is trained from nothing with them and an unpacked data set."""
    base = old / "train" / "data" / "mini_speech_commands"
    with ZipFile(BytesIO(tones_archive(FEW))) as archive:
        archive.extractall(base.parent)
    with running(old, **keys(old), BaseSamplesPath=str(base), SamplesBeforeTrain="17") as server:
        for line in (
            "MaxConcurrentRPCs: 10 calls run at a time",
            f"InferUploadPath: inference audio is kept in {old}/uploaded/infer and never removed",
            f"TrainingUploadPath: 16 suggestions in {old}/uploaded/training are imported; the files stay",
            f"BaseSamplesPath: models are trained with the recordings in {base}",
            f"NewModelsPath: the TensorFlow models in {old}/models are ignored",
            f"ModelPath: {old}/train/saved/audiorecog is not a version of this server's model: found no manifest.json in it.",
        ):
            assert len(re.findall(re.escape(line), server.log())) == 1, server.log()
        with pytest.raises(grpc.RpcError, match="there is no model yet"):
            server.old.Infer(InferenceRequest(audio_samples=pure_tone(1).tolist()))
        server.old.Train(TrainingRequest(label=3, audio_samples=tone(3, 9).tolist()))
        server.wait_until_retrained()
        answers = [server.old.Infer(InferenceRequest(audio_samples=tone(word, 2000).tolist())).label for word in range(len(WORDS))]
        assert sum(label == word for word, label in enumerate(answers)) >= 7
        wait_for(lambda: {each.state for each in server.new.ListSuggestions(ListSuggestionsRequest(state="trained")).suggestions})
    assert {str(file.relative_to(old / "uploaded" / "training")) for file in old.glob("uploaded/training/*/UUID*.wav")} == OLD
