"""Retraining without Airflow: a real server, a real trainer, recordings that are quick to learn."""

import pytest

from serving.speech.protos.dlserver_pb2 import InferenceRequest, TrainingRequest
from serving.speech.protos.speech_pb2 import GetModelRequest, ListSuggestionsRequest
from tests.serving.speech.running_speech import running
from tests.tones import tone, tones_archive
from tests.waiting import wait_for
from windtunnel.clips import WORDS


@pytest.fixture
def recordings(tmp_path):
    folder = tmp_path / "recordings"
    folder.mkdir()
    (folder / "mini_speech_commands.zip").write_bytes(tones_archive())
    return folder


def suggest(server):
    for word in range(len(WORDS)):
        server.old.Train(TrainingRequest(label=word, audio_samples=tone(word, 1000 + word).tolist()))


def states(server):
    return [each.state for each in server.new.ListSuggestions(ListSuggestionsRequest()).suggestions]


def test_suggestions_alone_make_a_server_without_a_model_answer(tmp_path, recordings):
    with running(tmp_path, SamplesBeforeTrain="8", BaseSamplesPath=str(recordings)) as server:
        suggest(server)
        wait_for(lambda: server.new.GetModel(GetModelRequest()).champion == 1, 240, server.log)
        wait_for(lambda: set(states(server)) == {"trained"}, 20, server.log)
        heard = [server.old.Infer(InferenceRequest(audio_samples=tone(word, 2000).tolist())).label for word in range(len(WORDS))]
        assert sum(label == word for word, label in enumerate(heard)) >= 7
        assert not (tmp_path / "retraining").exists()
        assert {file.name for file in server.models.iterdir()} >= {"1", "models.json"}


def test_a_retraining_that_fails_gives_its_suggestions_back_and_leaves_the_server_alone(tmp_path):
    with running(tmp_path, SamplesBeforeTrain="8", BaseSamplesPath=str(tmp_path / "nowhere")) as server:
        suggest(server)
        wait_for(lambda: "the model was not retrained" in server.log(), 60, server.log)
        assert "nowhere/mini_speech_commands.zip cannot be read" in server.log()
        assert set(states(server)) == {"received"}
        assert server.process.poll() is None
