"""A server whose model has other words than the old protocol: ten digits, or only some of the eight."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest

from serving.speech_server.protos.dlserver_pb2 import InferenceRequest, TrainingRequest
from serving.speech_server.protos.speech_pb2 import (
    ListLabelsRequest,
    ListSuggestionsRequest,
    RecognizeLongRequest,
    RecognizeRequest,
    SuggestRequest,
    UndoSuggestionsRequest,
)
from tests.serving.speech_server.running_speech import SpeechServer, running
from tests.serving.speech_server.speech_models import noise, tone, write_version
from tests.serving.speech_server.test_service import pcm, refused
from tests.waiting import PATIENCE
from windtunnel.data.clips import WORDS, as_pcm
from windtunnel.data.recordings import DIGITS
from windtunnel.data.wav import read_wav, wav_bytes
from windtunnel.settings import ROOT, Settings

Code = grpc.StatusCode


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SpeechServer]:
    """A server whose model knows ten digits: the tone of digit k is its word."""
    folder = tmp_path_factory.mktemp("digits")
    version = write_version(folder / "version", words=DIGITS)
    with running(folder, ModelPath=str(version), InferUploadPath=str(folder / "heard")) as server:
        yield server


def test_the_richer_service_speaks_of_labels_as_strings(digits: SpeechServer) -> None:
    labels = digits.new.ListLabels(ListLabelsRequest()).labels
    assert [(each.word, each.HasField("label")) for each in labels] == [(word, False) for word in DIGITS]
    for number, word in enumerate(DIGITS):
        heard = digits.new.Recognize(RecognizeRequest(pcm=pcm(tone(number))))
        assert (heard.word, heard.rejected, heard.HasField("label")) == (word, False, False)
        assert [score.word for score in heard.scores] == list(DIGITS)
    assert digits.new.Recognize(RecognizeRequest(pcm=pcm(noise()))).reason == "unknown word"
    spoken = np.concatenate([tone(number) for number in (9, 0, 4)])
    segments = digits.new.RecognizeLong(RecognizeLongRequest(pcm=pcm(spoken), hop_milliseconds=1000))
    assert [segment.word for segment in segments] == ["nine", "zero", "four"]


def test_the_old_service_says_what_the_model_knows_and_who_to_ask(digits: SpeechServer) -> None:
    clip = tone(3).tolist()
    known = ", ".join(DIGITS)
    refused(
        Code.FAILED_PRECONDITION,
        f"the model knows {known}, none of which is a word of this protocol. Use windtunnel.speech.v1.Speech/Recognize",
        lambda: digits.old.Infer(InferenceRequest(audio_samples=clip)),
    )
    refused(
        Code.FAILED_PRECONDITION,
        f"no is not a word of this server: expected one of {known}. Suggest those with windtunnel.speech.v1.Speech/Suggest",
        lambda: digits.old.Train(TrainingRequest(label=3, audio_samples=clip)),
    )


def test_any_word_is_suggested_by_its_name(digits: SpeechServer) -> None:
    made = [
        digits.new.Suggest(SuggestRequest(word="seven", pcm=pcm(tone(7, 0.2)))).suggestion,
        digits.new.Suggest(SuggestRequest(word="one", samples=tone(1, 0.2).tolist())).suggestion,
    ]
    again = digits.new.Suggest(SuggestRequest(word="seven", samples=as_pcm(tone(7, 0.2)).tolist())).suggestion
    assert again == made[0]
    listed = digits.new.ListSuggestions(ListSuggestionsRequest()).suggestions
    assert [(each.id, each.word, each.state, each.HasField("label")) for each in listed] == [
        (made[0].id, "seven", "received", False),
        (made[1].id, "one", "received", False),
    ]
    (file,) = (digits.folder / "suggestions").glob("seven-*.wav")
    assert np.array_equal(read_wav(file.read_bytes()), as_pcm(tone(7, 0.2)))
    undone = digits.new.UndoSuggestions(UndoSuggestionsRequest(ids=[each.id for each in made])).suggestions
    assert [(each.word, each.state) for each in undone] == [("seven", "undone"), ("one", "undone")]


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (SuggestRequest(word="ten", pcm=pcm(tone(1))), f"unknown word: found 'ten', expected {', '.join(DIGITS)}"),
        (SuggestRequest(word="yes", pcm=pcm(tone(1))), "unknown word: found 'yes', expected zero"),
        (SuggestRequest(pcm=pcm(tone(1))), "unknown word: found '', expected zero"),
        (SuggestRequest(word="one"), "found 0"),
        (SuggestRequest(word="one", pcm=pcm(tone(1)), samples=[1]), "both pcm and samples"),
        (SuggestRequest(word="one", pcm=pcm(tone(1))[:99]), "pcm has an odd length: found 99 bytes"),
        (SuggestRequest(word="one", pcm=pcm(tone(1))[:2000]), "is too short: found 1000 samples"),
        (SuggestRequest(word="one", pcm=bytes(32_000)), "is silent: it is nowhere louder than"),
        (SuggestRequest(word="one", samples=(5.5 * tone(1, 1)).tolist()), "the scale of the clip is ambiguous"),
    ],
)
def test_what_cannot_be_suggested_is_refused_and_not_stored(digits: SpeechServer, request_: SuggestRequest, words: str) -> None:
    before = digits.new.ListSuggestions(ListSuggestionsRequest())
    refused(Code.INVALID_ARGUMENT, words, lambda: digits.new.Suggest(request_))
    assert digits.new.ListSuggestions(ListSuggestionsRequest()) == before


def test_the_client_for_the_command_line_speaks_words(digits: SpeechServer) -> None:
    def client(*arguments: str) -> tuple[int, str, str]:
        command = [sys.executable, "-m", "serving.speech_server.testclient", digits.address, *arguments]
        recording = wav_bytes(as_pcm(tone(8, 0.25)))
        done = subprocess.run(command, input=recording, cwd=ROOT, capture_output=True, timeout=PATIENCE)
        return done.returncode, done.stdout.decode(), done.stderr.decode()

    assert client() == (0, "eight\n", "")
    assert client("Eight") == (0, "suggested as eight\n", "")
    status, out, error = client("eleven")
    assert (status, out) == (1, "")
    assert error == f"error: {digits.address} answered INVALID_ARGUMENT: unknown word: found 'eleven', expected {', '.join(DIGITS)}\n"
    assert "answered FAILED_PRECONDITION: up is not a word of this server" in client("up")[2]


def test_predict_speaks_words(digits: SpeechServer, tmp_path: Path) -> None:
    (tmp_path / "clip.wav").write_bytes(wav_bytes(as_pcm(tone(6))))
    command = [
        sys.executable,
        "-c",
        "from windtunnel.cli.app import main; main()",
        "predict",
        "speech-commands",
        str(tmp_path / "clip.wav"),
        "--json",
    ]
    environment = os.environ | Settings(home=tmp_path, servers={"speech": {"port": digits.port}}).variables
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    (answer,) = json.loads(done.stdout)
    assert (answer["label"], len(answer["probabilities"])) == ("six", 10)


def test_of_a_model_that_has_some_of_the_eight_the_old_service_answers_those(tmp_path: Path) -> None:
    words = ("zero", "yes", "maybe", "no")
    version = write_version(tmp_path / "version", words=words)
    with running(tmp_path, ModelPath=str(version)) as server:
        for number, word in ((1, "yes"), (3, "no")):
            assert server.old.Infer(InferenceRequest(audio_samples=tone(number).tolist())).label == WORDS.index(word)
            heard = server.new.Recognize(RecognizeRequest(pcm=pcm(tone(number))))
            assert (heard.word, heard.label) == (word, WORDS.index(word))
        assert WORDS[server.old.Infer(InferenceRequest(audio_samples=tone(0).tolist())).label] in ("yes", "no")
        server.old.Train(TrainingRequest(label=WORDS.index("yes"), audio_samples=tone(1).tolist()))
        refused(
            Code.FAILED_PRECONDITION,
            "up is not a word of this server: expected one of zero, yes, maybe, no",
            lambda: server.old.Train(TrainingRequest(label=WORDS.index("up"), audio_samples=tone(1).tolist())),
        )
        (stored,) = server.new.ListSuggestions(ListSuggestionsRequest()).suggestions
        assert (stored.word, stored.label) == ("yes", WORDS.index("yes"))
