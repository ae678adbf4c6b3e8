"""The closed loop on a real platform: a model is released, users suggest, and the server has it retrained and replaced while it answers."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import grpc
import pytest

from serving.speech.protos.dlserver_pb2 import InferenceRequest, TrainingRequest
from serving.speech.protos.dlserver_pb2_grpc import DLServerStub
from serving.speech.protos.speech_pb2 import GetModelRequest, ListSuggestionsRequest
from serving.speech.protos.speech_pb2_grpc import SpeechStub
from tests.e2e.conftest import new_platform
from tests.tones import tone, tones_archive
from tests.waiting import wait_for
from windtunnel.airflow import Airflow
from windtunnel.clips import WORDS
from windtunnel.settings import run_directory
from windtunnel.wav import wav_bytes

CLIENT = str(Path(sys.executable).parent / "dlserver_testclient")
ENOUGH = 100  # suggestions


@pytest.fixture(scope="module")
def platform(tmp_path_factory):
    """A platform of its own, whose recordings are tones, quick to learn."""
    place = tmp_path_factory.mktemp("speech")
    (place / "data" / "speech").mkdir(parents=True)
    (place / "data" / "speech" / "mini_speech_commands.zip").write_bytes(tones_archive())
    before = os.environ.get("WINDTUNNEL_DATA")
    os.environ["WINDTUNNEL_DATA"] = str(place / "data")
    made = new_platform(place)
    try:
        made.windtunnel("up")
        yield made
    finally:
        made.windtunnel("down")
        os.environ.pop("WINDTUNNEL_DATA")
        if before is not None:
            os.environ["WINDTUNNEL_DATA"] = before


@pytest.fixture(scope="module")
def run(platform):
    return platform.json("run", "speech_commands", "--param", "epochs=15", "--param", "batch_size=16", "--param", "fire_drill=true")


@pytest.fixture(scope="module")
def channel(platform):
    with grpc.insecure_channel(platform.settings.speech_grpc, [("grpc.enable_http_proxy", 0)]) as channel:
        yield channel


def champion(channel):
    return SpeechStub(channel).GetModel(GetModelRequest()).champion


def test_a_run_trains_compares_and_releases(platform, run, channel):
    states = {task["name"]: task["state"] for task in run["tasks"]}
    assert set(states.values()) == {"success"}, states
    result = run["result"]
    assert result["version"]["release"] == "champion on speech"
    assert result["version"]["accuracy"] > 0.9
    assert set(result["evaluation"]["versions"]) == {"tutorial's network", "after (challenger)"}
    assert champion(channel) == result["version"]["version"] == 1
    page = (run_directory(platform.settings.home, "speech_commands", run["run_id"]) / "report.html").read_text()
    assert "Before and after" in page
    assert page.count("<svg ") == 3
    (known,) = platform.json("models")
    assert (known["name"], known["served"], known["aliases"]) == ("speech-commands", "to users", ["champion"])


@pytest.mark.parametrize("word", ["down", "yes"])
def test_the_old_client_is_answered(platform, run, word):
    wav = wav_bytes(tone(WORDS.index(word), 2000))
    done = subprocess.run([CLIENT, platform.settings.speech_grpc], input=wav, capture_output=True, timeout=60)
    assert (done.stdout.decode(), done.stderr.decode()) == (f"{word}\n", "")


def test_the_command_line_asks_and_lists(platform, run, tmp_path):
    (tmp_path / "clip.wav").write_bytes(wav_bytes(tone(0, 2000)))
    (answer,) = platform.json("predict", "speech-commands", str(tmp_path / "clip.wav"))
    assert answer["label"] == "down"
    assert platform.json("suggestions") == {"suggestions": [], "retraining": None}


def test_suggestions_alone_have_the_model_retrained_and_replaced_while_it_answers(platform, run, channel):
    old, speech = DLServerStub(channel), SpeechStub(channel)
    stop, wrong = threading.Event(), []

    def ask():
        clips = [tone(word, 3000 + word).tolist() for word in range(8)]
        while not stop.is_set():
            for word, clip in enumerate(clips):
                found = old.Infer(InferenceRequest(audio_samples=clip), timeout=10).label
                if found != word:
                    wrong.append((word, found))
                stop.wait(0.02)

    users = [threading.Thread(target=ask) for _ in range(2)]
    for each in users:
        each.start()
    try:
        for number in range(ENOUGH):
            old.Train(TrainingRequest(label=number % 8, audio_samples=tone(number % 8, 1000 + number).tolist()), timeout=30)
        wait_for(lambda: champion(channel) == 2, 240)
        trained = wait_for(lambda: speech.ListSuggestions(ListSuggestionsRequest(state="trained")).suggestions, 60)
    finally:
        stop.set()
        for each in users:
            each.join()
    assert len(trained) == ENOUGH
    assert wrong == []
    wanted = f"{ENOUGH} new suggestions trained with, 0 of earlier runs, 0 rejected"
    wait_for(lambda: any(wanted in text for text in reports(platform)), 60)


def reports(platform):
    return [file.read_text() for file in platform.settings.runs.glob("speech_commands/*/report.txt")]


def test_suggestions_are_taken_back_and_the_model_is_trained_without_them(platform, channel):
    trained = platform.json("suggestions", "--state", "trained")["suggestions"]
    done = platform.json("suggestions", "--run", trained[0]["run"], "--undo")
    assert [each["id"] for each in done["suggestions"]] == [each["id"] for each in trained]
    assert {each["state"] for each in platform.json("suggestions")["suggestions"]} == {"undone"}
    assert Airflow(platform.settings).run("speech_commands", done["retraining"]).state in ("queued", "running")
