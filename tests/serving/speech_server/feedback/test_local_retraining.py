"""Retraining without Airflow: a real server, a real trainer, recordings that are quick to learn."""

import subprocess
import sys
from zipfile import ZipFile

import pytest

from serving.speech_server.feedback.journal import open_journal
from serving.speech_server.feedback.local_retraining import MARK, new_run
from serving.speech_server.ini_file import read_config
from serving.speech_server.models import MODELS
from serving.speech_server.protos.dlserver_pb2 import InferenceRequest, TrainingRequest
from serving.speech_server.protos.speech_pb2 import ListSuggestionsRequest
from tests.serving.speech_server.running_speech import running
from tests.tones import FEW, tone, tones_archive
from tests.waiting import RUN_PATIENCE, wait_for
from windtunnel.data.clips import WORDS
from windtunnel.data.recordings import RECORDINGS
from windtunnel.errors import WindtunnelError
from windtunnel.manifest import MANIFEST, read_manifest
from windtunnel.settings import ROOT

pytestmark = pytest.mark.minutes(1)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server that began without a model, and answers with what suggestions alone had it train."""
    folder = tmp_path_factory.mktemp("retrained")
    recordings = folder / "recordings"
    recordings.mkdir()
    (recordings / "mini_speech_commands.zip").write_bytes(tones_archive(FEW))
    with running(folder, SamplesBeforeTrain="8", BaseSamplesPath=str(recordings)) as server:
        suggest(server)
        server.wait_until_retrained()
        wait_for(lambda: set(states(server)) == {"trained"}, RUN_PATIENCE, explain=server.log)
        yield server


def suggest(server):
    for word in range(len(WORDS)):
        server.old.Train(TrainingRequest(label=word, audio_samples=tone(word, 1000 + word).tolist()))


def states(server):
    return [each.state for each in server.new.ListSuggestions(ListSuggestionsRequest()).suggestions]


def test_suggestions_alone_make_a_server_without_a_model_answer(server):
    heard = [server.old.Infer(InferenceRequest(audio_samples=tone(word, 2000).tolist())).label for word in range(len(WORDS))]
    assert sum(label == word for word, label in enumerate(heard)) >= 7
    assert {file.name for file in (server.models / "retraining").iterdir()} <= {MARK}
    assert {file.name for file in server.models.iterdir()} >= {"1", MODELS}


def test_a_version_that_is_worse_is_rejected_with_its_suggestions(server):
    """The words of the recordings have been exchanged since, and the champion is said to have known them as they are now."""
    server.stop()  # so that it does not retrain itself meanwhile
    config = read_config(server.folder / "server.ini")
    champion, wanted = config.models / "1", (config.models / MODELS).read_bytes()
    exchange_words(config.base_samples / "mini_speech_commands.zip")
    manifest = read_manifest(champion)
    now = RECORDINGS["mini_speech_commands"].read("mini_speech_commands", config.base_samples)
    dataset = manifest.dataset.model_copy(update={"fingerprint": now.fingerprint})
    (champion / MANIFEST).write_text(manifest.model_copy(update={"dataset": dataset}).model_dump_json())
    journal = open_journal(config)
    for word in range(len(WORDS)):
        journal.add(WORDS[word], tone(word, 3000 + word), f"sender {word}")

    command = [sys.executable, "-m", "serving.speech_server.feedback.local_retraining"]
    done = subprocess.run(command, cwd=ROOT, input=config.model_dump_json(), capture_output=True, text=True, timeout=RUN_PATIENCE)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "8 suggestions claimed: 8 to train with, 0 rejected; 8 from earlier runs" in done.stdout
    assert "all 8 suggestions are rejected: accuracy " in done.stdout
    rejected = journal.list(state="rejected")
    assert len(rejected) == len(WORDS)
    assert all("was rejected: accuracy" in each.reason for each in rejected)
    assert (config.models / MODELS).read_bytes() == wanted


def exchange_words(file):
    """Call each recording in an archive another word, by its speaker: what is said tells nothing of it."""
    with ZipFile(file) as archive:
        found = {name: archive.read(name) for name in archive.namelist()}
    with ZipFile(file, "w") as archive:
        for name, content in found.items():
            folder, word, recording = name.split("/")
            other = WORDS[(WORDS.index(word) + int(recording[:8], 16)) % len(WORDS)]
            archive.writestr(f"{folder}/{other}/{recording}", content)


def test_a_retraining_that_fails_gives_its_suggestions_back_and_leaves_the_server_alone(tmp_path):
    with running(tmp_path, SamplesBeforeTrain="8", BaseSamplesPath=str(tmp_path / "nowhere")) as server:
        suggest(server)
        wait_for(lambda: "the model was not retrained" in server.log(), RUN_PATIENCE, explain=server.log)
        assert "nowhere/mini_speech_commands.zip cannot be read" in server.log()
        assert set(states(server)) == {"received"}
        assert server.process.poll() is None


def test_suggestions_of_a_run_that_was_cut_off_are_trained_with_all_the_same(tmp_path):
    with running(tmp_path, SamplesBeforeTrain="100") as server:
        suggest(server)
    config = read_config(tmp_path / "server.ini")
    assert len(open_journal(config).claim("cut-off")) == len(WORDS)
    with running(tmp_path, SamplesBeforeTrain="8", BaseSamplesPath=str(tmp_path / "nowhere")) as server:
        wait_for(lambda: "the model was not retrained" in server.log(), RUN_PATIENCE, explain=server.log)
        assert set(states(server)) == {"received"}


def test_only_what_a_retraining_made_is_removed(tmp_path):
    """A folder beside that of the models is of another server, or of a person; so is what lies in its own under another name."""
    models = tmp_path / "models"
    with new_run(models) as run:
        run.directory.mkdir()
    assert not run.directory.exists()
    cut_off, *others = (models / "retraining" / "2026-01-31T10-20-30", models / "retraining" / "notes", tmp_path / "retraining")
    for directory in (cut_off, *others):
        directory.mkdir()
        (directory / "file").write_text("")
    (models / "retraining" / MARK).touch()
    with new_run(models):
        assert not cut_off.exists()
    assert all((directory / "file").exists() for directory in others)


def test_a_folder_that_is_only_called_so_is_left_alone(tmp_path):
    notes = tmp_path / "retraining" / "2026-01-31T10-20-30"
    notes.mkdir(parents=True)
    with (
        pytest.raises(WindtunnelError, match="retraining is not a folder of this server: it has files but no made-by-dlserver"),
        new_run(tmp_path),
    ):
        pass
    assert notes.exists()
