"""The notebook that trains, run from top to bottom as a person would, but on a few tones and for a few epochs."""

import re

import pytest

from tests.notebooks import assert_fit_to_be_read, execute, outputs, recordings
from windtunnel.data.clips import WORDS
from windtunnel.manifest import verify_version
from windtunnel.settings import ROOT

pytestmark = pytest.mark.minutes(1)

NOTEBOOK = ROOT / "notebooks/speech_commands_training.ipynb"
PLOTS = 1 + 4 + 1 + 1  # clips, what it has learned, how sure it is, mistakes
SHORT = {"epochs": 4, "batch_size": 16, "out": "trained"}


@pytest.fixture(scope="module")
def executed(tones, tmp_path_factory):
    folder = tmp_path_factory.mktemp("notebook")
    (folder / "speech").symlink_to(tones.directory)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WINDTUNNEL_DATA", str(folder))
        patch.setenv("PYTHONPATH", str(ROOT))
        execute(NOTEBOOK, folder / "executed.ipynb", SHORT, cwd=folder)
    return folder / "executed.ipynb"


def test_it_says_what_it_trains_with(executed, tones):
    text, _ = outputs(executed)
    assert f"Mini Speech Commands: {len(tones.clips)} clips, fingerprint {tones.fingerprint[:12]}" in text
    split = re.findall(r"│ (train|validation|test) +│ (\d+) +│ (\d+) ", text)
    assert {part: int(clips) for part, _, clips in split} == tones.counts()
    assert sum(int(speakers) for _, speakers, _ in split) == len(set(tones.speakers))


def test_it_trains_shows_and_lets_one_listen(executed, tones):
    text, pictures = outputs(executed)
    assert "epoch 4/4 " in text
    clips = tones.counts()["test"]
    accuracy = float(re.search(r"│ trained here │ +([\d.]+)% │", text)[1])
    mistakes = int(re.search(rf"(\d+) of {clips} clips are taken for another word", text)[1])
    assert mistakes == round(clips * (1 - accuracy / 100))
    assert recordings(executed) == 1 + min(3, mistakes)
    assert len(pictures) == PLOTS - (mistakes == 0)


def test_the_server_starts_from_what_it_saves(executed):
    text, _ = outputs(executed)
    (version,) = executed.parent.glob("trained/*/pytorch")
    verify_version(version)
    assert "\nModelPath = pytorch\n" in version.with_name("server.ini").read_text(), "of another folder it could not start there again"
    answers = re.findall(r"│ (\w+) +│ (\w+) +│ (\w+) +│ (\w+) +│", text)[-len(WORDS) :]
    assert tuple(answer[0] for answer in answers) == WORDS
    assert all(here == integers == floats for _, here, integers, floats in answers)
    assert len({here for _, here, _, _ in answers}) > 1
    assert re.search(rf"dlserver listens on 127\.0\.0\.1:\d+ with version 0\s+{answers[0][1]}\s", text), "what the command answers"
    assert "dlserver ended with status 0" in text


def test_what_is_in_the_repository_is_fit_to_be_read():
    assert_fit_to_be_read(NOTEBOOK, 450_000)
    text, pictures = outputs(NOTEBOOK)
    assert "Mini Speech Commands: " in text
    assert float(re.search(r"│ trained here │ +([\d.]+)% │", text)[1]) > 93
    assert len(pictures) == PLOTS
    assert recordings(NOTEBOOK) == 1 + 3
