"""What share of suggestions is believed, measured with a real version and on tones."""

import os
import subprocess
import sys

import numpy as np
import pytest

from benchmarks.speech.suggestion_acceptance import SENDERS, measure, noises, tabulate
from serving.speech_server.model import Recognizer
from tests.serving.speech_server.speech_models import noise, tone, write_version
from tests.tones import tones_archive
from tests.waiting import PATIENCE
from windtunnel.data.clips import as_pcm
from windtunnel.settings import ROOT, Settings


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    recognizer = Recognizer(write_version(tmp_path_factory.mktemp("acceptance") / "version", calibrated=True), 3)
    labels = np.arange(120, dtype=np.uint8) % 8
    plain = np.stack([as_pcm(tone(number % 8, 0.1 + 0.001 * number)) for number in range(60)])
    hidden = np.stack([as_pcm(np.roll(tone(number % 8, 0.118) + noise(), number)) for number in range(60, 120)])
    others = {"noise": noises()[::10], "silence": np.full((8, 16_000), 2, np.int16)}
    found = measure(recognizer, np.concatenate([plain, hidden]), labels, others)
    return {row["kind"]: row for row in found}


def test_every_kind_is_told_for_every_sender(rows):
    expected = ["right label", "any wrong label", "the likeliest wrong label"]
    expected += [f"{kind}, {label} label" for kind in ("noise", "silence") for label in ("any", "the likeliest")]
    assert list(rows) == expected
    assert [rows[kind]["count"] for kind in expected] == [70, 840, 120, 160, 20, 64, 8]
    for row in rows.values():
        assert all(0 <= row[sender] <= 1 for sender in SENDERS)
    table = tabulate(list(rows.values()), "version 3")
    assert all(kind in table for kind in expected)


def test_a_good_record_teaches_what_the_champion_does_not_know_and_a_bad_one_does_not(rows):
    assert rows["right label"]["stranger"] == pytest.approx(10 / 70), "of those after the record, ten are plain"
    assert rows["right label"]["good"] == 1
    assert rows["right label"]["bad"] == pytest.approx(10 / 70), "what is plain needs no trust"


@pytest.mark.parametrize("kind", ["any wrong label", "noise, any label", "silence, any label", "silence, the likeliest label"])
def test_what_is_wrong_is_believed_of_nobody_who_sends_much_of_it(rows, kind):
    assert [rows[kind][sender] for sender in ("stranger", "bad", "together")] == [0, 0, 0]


def test_noise_is_no_silence_and_of_several_colours():
    levels = np.abs(noises().astype(float)).max(axis=1) / 32768
    assert (levels > 0.03).all()
    assert levels.max() > 0.9
    halves = np.abs(np.fft.rfft(noises()[:3].astype(float))) ** 2
    low = halves[:, :4000].sum(axis=1) / halves.sum(axis=1)
    assert low[0] == pytest.approx(0.5, abs=0.05)
    assert low[2] > low[1] > low[0] + 0.2


def test_the_program_measures_a_version_on_test_speakers_and_keeps_the_table(version, tmp_path):
    (tmp_path / "speech").mkdir()
    (tmp_path / "speech" / "mini_speech_commands.zip").write_bytes(tones_archive())
    command = [sys.executable, "-m", "benchmarks.speech.suggestion_acceptance", "--version", str(version)]
    environment = os.environ | Settings(home=tmp_path / "home").variables | {"WINDTUNNEL_DATA": str(tmp_path)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    kept = (tmp_path / "home" / "benchmarks" / "acceptance.txt").read_text()
    assert kept in done.stdout
    assert "words backwards, any label" in kept
