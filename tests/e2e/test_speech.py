"""The closed loop on a real platform: a model is released, users suggest, and the server has it retrained and replaced while it answers.

The tests are one story: each begins where the one before has ended.
"""

import ast
import io
import re
import shlex
import sys
import threading
import wave
from contextlib import contextmanager
from datetime import datetime, timedelta

import grpc
import numpy as np
import psutil
import pytest
from playwright.sync_api import expect

from serving.speech_server.declaration import SpeechSettings
from serving.speech_server.protos.dlserver_pb2 import InferenceRequest, TrainingRequest
from serving.speech_server.protos.dlserver_pb2_grpc import DLServerStub
from serving.speech_server.protos.speech_pb2 import GetModelRequest, ListSuggestionsRequest
from serving.speech_server.protos.speech_pb2_grpc import SpeechStub
from tests.documents import blocks, section
from tests.e2e.browser import chromium, logged_in
from tests.e2e.conftest import new_platform, up
from tests.e2e.shared.models_page import answer, drop, show
from tests.tones import tone, tones_archive
from tests.waiting import PATIENCE, RUN_PATIENCE, wait_for
from windtunnel.data.clips import WORDS
from windtunnel.data.wav import wav_bytes
from windtunnel.platform.airflow import Airflow
from windtunnel.settings import ROOT, run_directory

pytestmark = pytest.mark.minutes(5)

ENOUGH = 100  # suggestions
TRAINER = "train_server.speech_commands.pytorch"


(_, TYPED), (_, EXAMPLE) = blocks(section("docs/spoken-commands.md", "## Train and ask"), "sh|python")
RUN, ASK, SUGGEST, LIST, UNDO, ROLL_BACK = [line.split(" # ")[0].strip() for line in TYPED.splitlines()]


@pytest.fixture(scope="module")
def platform(tmp_path_factory):
    """A platform of its own, whose recordings are tones, quick to learn."""
    place = tmp_path_factory.mktemp("speech")
    (place / "data" / "speech").mkdir(parents=True)
    (place / "data" / "speech" / "mini_speech_commands.zip").write_bytes(tones_archive())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WINDTUNNEL_DATA", str(place / "data"))
        with up(new_platform(place)) as made:
            yield made


@pytest.fixture(scope="module")
def run(platform):
    return platform.json(*shlex.split(RUN)[1:], "--param", "epochs=15", "--param", "batch_size=16", "--param", "fire_drill=true")


@pytest.fixture(scope="module")
def channel(platform):
    with grpc.insecure_channel(platform.settings.server(SpeechSettings).address, [("grpc.enable_http_proxy", 0)]) as channel:
        yield channel


def champion(channel):
    return SpeechStub(channel).GetModel(GetModelRequest()).champion


def test_a_run_trains_compares_and_releases(platform, run, channel):
    states = {task["name"]: task["state"] for task in run["tasks"]}
    assert set(states.values()) == {"success"}, states
    result = run["result"]
    assert result["version"]["release"] == "champion on speech"
    assert result["version"]["accuracy"] > 0.9
    assert [each["name"] for each in result["evaluation"]["versions"]] == ["tutorial's network", "after (challenger)"]
    assert champion(channel) == result["version"]["version"] == 1
    page = (run_directory(platform.settings.home, "speech_commands", run["run_id"]) / "report.html").read_text()
    assert "Before and after" in page
    assert page.count("<svg ") == 4
    (known,) = platform.json("models")
    assert (known["name"], known["served"], known["aliases"]) == ("speech-commands", "to users", ["champion"])


@pytest.mark.parametrize("word", ["down", "yes"])
def test_the_clients_are_answered(platform, run, tmp_path, word):
    (tmp_path / "clip.wav").write_bytes(wav_bytes(tone(WORDS.index(word), 2000)))
    printed = platform.typed([sys.executable, "-c", platform.here(EXAMPLE)], tmp_path)
    heard, scores = re.fullmatch(r"(.+) (\{.+\}) by version 1\n", printed).groups()
    scores = ast.literal_eval(scores)
    assert max(scores, key=scores.get) == word
    assert heard in (word, "unknown word")  # a few of the known ones are too uncertain
    assert platform.typed(platform.here(ASK), tmp_path) == f"{heard}\n"


def test_the_command_line_asks_and_lists(platform, run, tmp_path):
    (tmp_path / "clip.wav").write_bytes(wav_bytes(tone(0, 2000)))
    (answer,) = platform.json("predict", "speech-commands", str(tmp_path / "clip.wav"))
    assert answer["label"] == "down"
    assert platform.json("suggestions") == {"suggestions": [], "retraining": None}


def test_a_model_that_has_no_champion_is_not_asked(platform, run):
    for framework, server in (("pytorch", "torchserve"), ("tensorflow", "tfserving")):
        said = platform.windtunnel("predict", f"lenet5-{framework}", str(ROOT / "img" / "digit.png"), status=1).stderr
        assert f"lenet5-{framework} has no champion on {server} yet. Train one: `windtunnel run lenet5`" in said


def recording(content):
    """A file as Playwright takes it."""
    return {"name": "clip.wav", "mimeType": "audio/wav", "buffer": content}


def as_phones_record(clip):
    """A clip after a second of silence, in stereo and with 48 kHz."""
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(48_000)
        file.writeframes(np.repeat(np.concatenate([np.zeros_like(clip), clip]), 6).tobytes())
    return stream.getvalue()


def test_the_page_answers_the_last_of_the_recordings_that_are_dropped_on_it(platform, run, tmp_path):
    first, second = (tone(WORDS.index(word), 2000) for word in ("down", "up"))
    with chromium(tmp_path) as browser, browser.new_context(base_url=platform.settings.airflow_url) as context:
        page = logged_in(context, platform)
        show(page, "try/speech_commands")
        label = answer(page, "speech-commands").locator(".label strong")
        drop(page, recording(wav_bytes(first)))
        expect(label).to_have_text("down")
        asked = []
        page.on("request", lambda request: asked.append(request.url) if "/api/try" in request.url else None)
        drop(page, recording(as_phones_record(first)), recording(as_phones_record(second)))
        expect(label).to_have_text("up")
        assert len(asked) == 1
        drop(page, recording(b"\x89PNG\r\n\x1a\n"))
        expect(page.get_by_role("alert")).to_contain_text("expected a WAV file. Send another file")


@contextmanager
def users(channel):
    """Two of them, who ask all along; every answer must be right."""
    stop, wrong = threading.Event(), []
    clips = [tone(word, 3000 + word).tolist() for word in range(8)]

    def ask():
        while not stop.is_set():
            for word, clip in enumerate(clips):
                try:
                    found = DLServerStub(channel).Infer(InferenceRequest(audio_samples=clip), timeout=PATIENCE).label
                except grpc.RpcError as error:
                    found = error
                if found != word:
                    wrong.append((word, found))
                stop.wait(0.02)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for each in threads:
        each.start()
    try:
        yield
    finally:
        stop.set()
        for each in threads:
            each.join()
    assert wrong == []


def suggest(channel, seed, shift=0):
    """As many clips as have the model retrained; each is said to be the word that comes so many places after its own."""
    for number in range(ENOUGH):
        clip = tone(number % 8, seed + number).tolist()
        DLServerStub(channel).Train(TrainingRequest(label=(number + shift) % 8, audio_samples=clip), timeout=PATIENCE)


def suggestions(channel, state):
    return SpeechStub(channel).ListSuggestions(ListSuggestionsRequest(state=state)).suggestions


def asked(platform):
    """The runs that the server has asked for, the earliest first."""
    log = (platform.settings.logs / "speech.log").read_text()
    return re.findall(r"Airflow trains with the suggestions: run (\S+) of speech_commands", log)


def kill_trainer(platform):
    """Kill the process that trains, once it has trained for an epoch."""
    wait_for(lambda: list(platform.settings.runs.glob("speech_commands/*/pytorch.partial/metrics.jsonl")), RUN_PATIENCE)
    trainer = wait_for(lambda: platform.processes(TRAINER))[0]
    trainer.kill()
    psutil.wait_procs([trainer], timeout=PATIENCE)


def reports(platform):
    return [file.read_text() for file in platform.settings.runs.glob("speech_commands/*/report.txt")]


def test_a_retraining_that_is_killed_costs_users_nothing_and_is_tried_again_later(platform, run, channel):
    airflow = Airflow(platform.settings)
    with users(channel):
        suggest(channel, 1000)
        for _ in range(2):  # Airflow tries the task once more by itself
            kill_trainer(platform)
        (first,) = asked(platform)
        wait_for(lambda: airflow.run("speech_commands", first).state == "failed", RUN_PATIENCE)
        assert len(suggestions(channel, "received")) == ENOUGH
        assert champion(channel) == 1
        second = wait_for(lambda: asked(platform)[1:], RUN_PATIENCE)[0]
    began, again = (datetime.fromisoformat(each.removeprefix("manual__")) for each in (first, second))
    assert again - began >= timedelta(minutes=2)


def test_suggestions_alone_have_the_model_retrained_and_replaced_while_it_answers(platform, channel):
    with users(channel):
        wait_for(lambda: champion(channel) == 2, RUN_PATIENCE)
        trained = wait_for(lambda: suggestions(channel, "trained"))
    assert len(trained) == ENOUGH
    wanted = f"suggestions: {ENOUGH} new, 0 from earlier runs, 0 rejected"
    wait_for(lambda: any(wanted in text for text in reports(platform)))


def test_suggestions_that_call_every_word_another_are_rejected_and_the_champion_stays(platform, channel):
    with users(channel):
        suggest(channel, 5000, shift=3)
        poisoned = wait_for(lambda: suggestions(channel, "rejected"), RUN_PATIENCE)
        wanted = "There were no new suggestions, so no version was trained. The champion is unchanged."
        wait_for(lambda: any(wanted in text for text in reports(platform)))
    assert len(poisoned) == ENOUGH
    assert all(each.reason.startswith("version 2 hears ") for each in poisoned)
    assert champion(channel) == 2
    assert len(asked(platform)) == 3  # one try, and none again


def test_suggestions_are_taken_back_and_the_model_is_trained_without_them(platform, channel):
    trained = platform.json("suggestions", "--state", "trained")["suggestions"]
    taken = shlex.split(UNDO.replace("speech_commands/manual__…", trained[0]["run"]))[1:]
    assert taken.pop() == "--undo"
    done = platform.json(*taken, "--undo")
    assert [each["id"] for each in done["suggestions"]] == [each["id"] for each in trained]
    assert {each["state"] for each in platform.json(*taken)["suggestions"]} == {"undone"}
    stored = {run_directory(platform.settings.home, "speech_commands", run_id).name: run_id for run_id in asked(platform)}
    of_airflow = f"speech_commands/{stored[trained[0]['run'].partition('/')[2]]}"  # with `:` and `+`
    assert platform.json("suggestions", "--run", of_airflow) == platform.json(*taken)
    assert "there is no suggestion 99999999" in platform.windtunnel("suggestions", "99999999", status=1).stderr
    airflow = Airflow(platform.settings)
    assert airflow.run("speech_commands", done["retraining"]).state in ("queued", "running")
    # It claims what waits; what the next test suggests is to wait after that.
    wait_for(lambda: ("claim", "success") in [(task.name, task.state) for task in airflow.run("speech_commands", done["retraining"]).tasks])


def test_users_get_the_version_before_and_a_suggestion_is_listed(platform, channel, tmp_path):
    platform.typed(ROLL_BACK, tmp_path)
    assert champion(channel) == 1
    (tmp_path / "clip.wav").write_bytes(wav_bytes(tone(WORDS.index("left"), 9000)))
    platform.typed(platform.here(SUGGEST), tmp_path)
    assert re.search(r"\bleft\b.*\breceived\b", platform.typed(LIST, tmp_path))
