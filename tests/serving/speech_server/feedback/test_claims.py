"""What becomes of suggestions in a run: the programs of its tasks, on a real journal and with a real version."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file

from serving.speech_server.feedback.journal import open_journal
from serving.speech_server.ini_file import Config
from serving.speech_server.models import MODELS
from tests.serving.speech_server.speech_models import noise, tone, write_version
from tests.waiting import PATIENCE
from windtunnel.data.clips import WORDS, as_clip, as_pcm
from windtunnel.data.recordings import DIGITS
from windtunnel.files import write_json
from windtunnel.run import SKIPPED, Run
from windtunnel.settings import ROOT, Settings, run_directory


@pytest.fixture
def settings(tmp_path):
    return Settings(home=tmp_path)


@pytest.fixture
def journal(settings):
    return open_journal(Config.of(settings))


@pytest.fixture
def champion(settings):
    """A version that is sure of every tone, and was trained before there were operating points: its probabilities have the sum 1."""
    publish(settings, calibrated=False)


@pytest.fixture
def calibrated(settings):
    """A version to which what is no tone is no command."""
    publish(settings, calibrated=True)


def publish(settings, calibrated):
    models = Config.of(settings).models
    write_version(models / "3", calibrated=calibrated)
    write_json(models / MODELS, {"versions": [3], "champion": 3})


def run_of(settings, name="a"):
    return Run(run_directory(settings.home, "speech_commands", name))


def program(settings, verb, run, *flags, status=0):
    command = [sys.executable, "-m", "serving.speech_server.feedback.claims", verb, "--run", str(run.directory), *flags]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | settings.variables, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def accepted(settings, name):
    """Claim for a run: what it trains with, by id."""
    program(settings, "claim", run_of(settings, name))
    return [each["id"] for each in json.loads(run_of(settings, name).suggestions.read_text())["accepted"]]


def reasons(settings, name):
    return {each["id"]: each["reason"] for each in json.loads(run_of(settings, name).suggestions.read_text())["rejected"]}


def states(journal):
    return {each.id: (each.state, each.reason) for each in journal.list()}


def test_what_passes_the_checks_is_trained_with_and_the_rest_is_rejected_with_its_reason(settings, journal, champion):
    good = [journal.add(WORDS[word], as_pcm(tone(word)), "ann") for word in (2, 5)]
    unsure = journal.add("down", as_pcm(tone(0, 0.1) + noise()), "ann")  # the champion is not sure here: there is something to learn
    nothing = journal.add("down", as_pcm(noise()), "bob")
    wrong = journal.add("up", as_pcm(tone(1)), "bob")
    short = journal.add("go", as_pcm(tone(1)[:1600]), "bob")
    silent = journal.add("go", np.full(16_000, 3, np.int16), "bob")
    twice = [journal.add(WORDS[word], as_pcm(tone(4, 0.2)), "bob") for word in (3, 4)]
    run = run_of(settings)

    said = program(settings, "claim", run)
    assert "9 suggestions claimed: 3 to train with, 6 rejected; 0 from earlier runs" in said
    taken = json.loads(run.suggestions.read_text())
    assert [each["id"] for each in taken["accepted"]] == [good[0].id, good[1].id, unsure.id]
    assert [each["word"] for each in taken["accepted"]] == ["left", "stop", "down"]
    reasons = {each["id"]: each["reason"] for each in taken["rejected"]}
    assert reasons[wrong.id] == "version 3 hears go with probability 1.00"
    assert reasons[nothing.id].startswith("version 3 hears no command (probability 0.1")
    assert reasons[short.id] == "too short: found 0.10 s, expected at least 0.2 s"
    assert reasons[silent.id] == "silence"
    assert {reasons[each.id] for each in twice} == {"the same clip was suggested as no and right"}
    clips = load_file(run.clips)
    assert clips["labels"].tolist() == [2, 5, 0]
    assert np.array_equal(as_clip(clips["clips"][0]), as_clip(as_pcm(tone(2))))

    write_json(run.released("pytorch"), {})
    program(settings, "settle", run)
    assert {number: state for number, (state, _) in states(journal).items()} == {
        **dict.fromkeys((good[0].id, good[1].id, unsure.id), "trained"),
        **dict.fromkeys(reasons, "rejected"),
    }
    assert states(journal)[wrong.id][1] == reasons[wrong.id]

    new = journal.add("yes", as_pcm(tone(7)), "ann")  # the next run trains with the old ones too
    journal.undo([good[1].id])  # but not with what was taken back
    program(settings, "claim", run_of(settings, "b"))
    taken = json.loads(run_of(settings, "b").suggestions.read_text())
    assert ([each["id"] for each in taken["accepted"]], taken["new"]) == ([good[0].id, unsure.id, new.id], 1)


def test_who_calls_words_others_is_refused_and_what_the_champion_hears_too_is_taken(settings, journal, champion):
    poisoned = [journal.add(WORDS[(word + 1) % 8], as_pcm(tone(word, 0.1)), "bob") for word in range(8)]
    plain = [journal.add(WORDS[word], as_pcm(tone(word, 0.2)), "bob") for word in range(8)]
    slip = journal.add("no", as_pcm(tone(7)), "ann")
    nobody = journal.add("right", as_pcm(tone(5)), "")

    assert accepted(settings, "a") == [each.id for each in plain]
    for each, word in ((slip, "yes"), (nobody, "stop"), *((each, WORDS[word]) for word, each in enumerate(poisoned))):
        assert reasons(settings, "a")[each.id] == f"version 3 hears {word} with probability 1.00"


def test_what_the_champion_rejects_is_taken_of_who_has_been_right_and_of_no_other(settings, journal, calibrated):
    right = [journal.add(WORDS[number % 8], as_pcm(tone(number % 8, 0.1 + 0.01 * number)), "ann") for number in range(16)]
    wrong = [journal.add(WORDS[word], as_pcm(noise(0.1 + 0.01 * word)), "bob") for word in range(8)]
    assert accepted(settings, "a") == [each.id for each in right]
    assert reasons(settings, "a")[wrong[0].id] == 'version 3 hears no command (probability 0.02 of "down")'
    write_json(run_of(settings, "a").released("pytorch"), {})
    program(settings, "settle", run_of(settings, "a"))

    hard, fair = as_pcm(tone(2, 0.118) + noise()), as_pcm(tone(5, 0.16) + noise())
    of_ann, of_bob = (journal.add("left", np.roll(hard, shift), peer) for shift, peer in enumerate(("ann", "bob")))
    of_strangers = [journal.add("left", np.roll(hard, shift), f"peer {shift}") for shift in range(2, 50)]
    fair_of_bob, fair_of_a_stranger = (journal.add("stop", np.roll(fair, shift), peer) for shift, peer in enumerate(("bob", "cat")))
    assert accepted(settings, "b")[len(right) :] == [of_ann.id, fair_of_a_stranger.id], "by what they suggested in the run before"
    found = reasons(settings, "b")
    assert {found[each.id] for each in (of_bob, *of_strangers)} == {'version 3 hears no command (probability 0.10 of "left")'}
    assert re.fullmatch(
        r'version 3 hears no command \(probability 0.2\d of "stop"\), and \d+% of the suggestions of bob are right', found[fair_of_bob.id]
    )


def test_noise_of_one_sender_is_refused_however_much_there_is(settings, journal, calibrated):
    for number in range(100):
        journal.add(WORDS[number % 8], as_pcm(noise(0.1 + 0.001 * number)), "bob")
    silent = journal.add("go", np.full(16_000, 3, np.int16), "ann")
    assert accepted(settings, "a") == []
    assert len(reasons(settings, "a")) == 101
    assert reasons(settings, "a")[silent.id] == "silence"


def test_a_version_that_is_worse_takes_its_suggestions_with_it(settings, journal):
    kept = journal.add("go", as_pcm(tone(1)), "ann")
    run = run_of(settings)
    program(settings, "claim", run)
    write_json(run.gate("pytorch"), {"promote": False, "reason": "worse by far", "worse": True})
    program(settings, "settle", run)
    assert states(journal) == {kept.id: ("rejected", "the version trained with it was rejected: worse by far")}


def test_a_version_that_cannot_be_compared_gives_its_suggestions_back_and_somebody_is_called(settings, journal):
    kept = journal.add("go", as_pcm(tone(1)), "ann")
    run = run_of(settings)
    program(settings, "claim", run)
    write_json(run.gate("pytorch"), {"promote": False, "reason": "tested on different data", "worse": False})
    for _ in range(2):  # Airflow tries the task again
        assert "1 new suggestions was rejected: tested on different data" in program(settings, "settle", run, status=1)
        assert states(journal) == {kept.id: ("received", None)}
    empty = run_of(settings, "by-hand")
    journal.undo([kept.id])
    program(settings, "claim", empty)
    write_json(empty.gate("pytorch"), {"promote": False, "reason": "tested on different data", "worse": False})
    program(settings, "settle", empty)  # nobody's suggestions wait for a decision


def test_a_run_that_fails_gives_its_suggestions_back(settings, journal):
    kept = journal.add("go", as_pcm(tone(1)), "ann")
    program(settings, "claim", run_of(settings))
    assert states(journal)[kept.id][0] == "claimed"
    program(settings, "settle", run_of(settings))
    assert states(journal)[kept.id][0] == "received"
    program(settings, "claim", run_of(settings, "killed"))  # and one that is killed loses them to the next
    assert "1 suggestions claimed" in program(settings, "claim", run_of(settings, "next"))


def test_a_run_that_needs_suggestions_is_skipped_where_none_is_left(settings, journal, champion):
    wrong = journal.add("up", as_pcm(tone(1)), "bob")
    said = program(settings, "claim", run_of(settings), "--needed", status=SKIPPED)
    assert said.splitlines()[-1] == "no suggestion passed the checks: the model stays unchanged"
    assert states(journal)[wrong.id][0] == "rejected"
    program(settings, "claim", run_of(settings, "b"))  # one that needs none trains without


def test_words_that_the_vocabulary_lacks_are_rejected_and_say_nothing_of_who_sent_them(settings, journal):
    seven, foreign = journal.add("seven", as_pcm(tone(7)), "ann"), journal.add("up", as_pcm(tone(6)), "ann")
    first = run_of(settings, "first")
    program(settings, "claim", first, "--dataset", "free_spoken_digits")  # there is no champion: its words are those of the recordings
    taken = json.loads(first.suggestions.read_text())
    assert [each["word"] for each in taken["accepted"]] == ["seven"]
    reason = f'"up" is not a word of this server: expected one of {", ".join(DIGITS)}'
    assert [(each["id"], each["reason"]) for each in taken["rejected"]] == [(foreign.id, reason)]
    assert load_file(first.clips)["labels"].tolist() == [7]
    write_json(first.released("pytorch"), {})
    program(settings, "settle", first)

    models = Config.of(settings).models
    write_version(models / "1", words=DIGITS)
    write_json(models / MODELS, {"versions": [1], "champion": 1})
    others = [journal.add(WORDS[number], as_pcm(tone(number, 0.2)), "ann") for number in range(8)]
    right = journal.add("nine", as_pcm(tone(9)), "ann")
    second = run_of(settings, "second")
    program(settings, "claim", second)
    taken = json.loads(second.suggestions.read_text())
    assert [each["id"] for each in taken["accepted"]] == [seven.id, right.id]
    assert {each["id"] for each in taken["rejected"]} == {each.id for each in others}
    assert load_file(second.clips)["labels"].tolist() == [7, 9]
