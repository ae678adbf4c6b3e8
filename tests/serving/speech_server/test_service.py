"""Both protocols, spoken to a real server."""

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from serving.speech_server.feedback.journal import Journal, Limits
from serving.speech_server.protos import __main__ as protos
from serving.speech_server.protos.dlserver_pb2 import InferenceRequest, TrainingRequest
from serving.speech_server.protos.speech_pb2 import (
    GetModelRequest,
    ListLabelsRequest,
    ListSuggestionsRequest,
    RecognizeLongRequest,
    RecognizeRequest,
    UndoSuggestionsRequest,
)
from tests.serving.speech_server.running_speech import DIRECT, SpeechServer, running, tls
from tests.serving.speech_server.speech_models import noise, tone, write_version
from tests.waiting import PATIENCE, wait_for
from windtunnel.data.clips import WORDS, as_pcm
from windtunnel.data.wav import read_wav
from windtunnel.settings import ROOT

Code = grpc.StatusCode


def pcm(samples: np.ndarray) -> bytes:
    return as_pcm(samples).tobytes()


def refused(code: grpc.StatusCode, words: str, call: Callable[[], object]) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    assert caught.value.code() == code, caught.value.details()
    assert words in caught.value.details()


def suggestions(server: SpeechServer, state: str = "received") -> list[int]:
    return [each.id for each in server.new.ListSuggestions(ListSuggestionsRequest(state=state)).suggestions]


@pytest.mark.parametrize("scale", [1, 0.1, 3, 32767 / 0.3])
def test_infer_hears_every_word_on_both_scales(speech_server: SpeechServer, scale: float) -> None:
    answers = [speech_server.old.Infer(InferenceRequest(audio_samples=(scale * tone(word)).tolist())).label for word in range(8)]
    assert answers == list(range(8))


def test_infer_answers_a_label_to_silence_too(speech_server: SpeechServer) -> None:
    assert speech_server.old.Infer(InferenceRequest(audio_samples=[0.0])).label in range(8)


BAD = [
    ([], "found 0: cut it first"),
    ([0.1] * 16_001, "found 16001: cut it first"),
    ([0.1, float("nan")], "sample 1 is nan: send finite numbers"),
    ([float("-inf")], "sample 0 is -inf: send finite numbers"),
]


@pytest.mark.parametrize(("samples", "words"), BAD)
def test_what_is_no_clip_is_refused_and_not_stored(speech_server: SpeechServer, samples: list[float], words: str) -> None:
    before = suggestions(speech_server)
    refused(Code.INVALID_ARGUMENT, words, lambda: speech_server.old.Infer(InferenceRequest(audio_samples=samples)))
    refused(Code.INVALID_ARGUMENT, words, lambda: speech_server.old.Train(TrainingRequest(label=1, audio_samples=samples)))
    refused(Code.INVALID_ARGUMENT, words, lambda: speech_server.new.Recognize(RecognizeRequest(samples=samples)))
    assert suggestions(speech_server) == before


def test_suggestions_without_a_word_or_a_sound_are_refused(speech_server: SpeechServer) -> None:
    before = suggestions(speech_server)
    for label in (99, -1, 8):
        request = TrainingRequest(label=label, audio_samples=tone(1).tolist())
        refused(
            Code.INVALID_ARGUMENT,
            f"unknown label: found {label}, expected 0 (down) to 7 (yes)",
            lambda request=request: speech_server.old.Train(request),
        )
    refused(
        Code.INVALID_ARGUMENT,
        "the clip is silent: it is nowhere louder than -70 dBFS",
        lambda: speech_server.old.Train(TrainingRequest(label=1, audio_samples=[0.00001] * 16_000)),
    )
    assert suggestions(speech_server) == before


def test_a_click_does_not_make_a_clip_another(speech_server: SpeechServer) -> None:
    clip = tone(3)
    clip[500] = 2.5
    assert speech_server.new.Recognize(RecognizeRequest(samples=clip.tolist())).word == WORDS[3]
    speech_server.old.Train(TrainingRequest(label=3, audio_samples=clip.tolist()))
    kept = max((speech_server.folder / "suggestions").glob("no-*.wav"), key=lambda file: file.stat().st_mtime_ns)
    assert np.abs(read_wav(kept.read_bytes()) - clip / 2.5 * 32768).max() <= 1, "scaled, and nowhere cut off"


@pytest.mark.parametrize("steps", [1, 2])
def test_a_muted_microphone_is_silence(speech_server: SpeechServer, steps: int) -> None:
    before = suggestions(speech_server)
    dither = np.random.default_rng(steps).integers(-steps, steps + 1, 16_000)
    for request in (RecognizeRequest(samples=dither.tolist()), RecognizeRequest(pcm=dither.astype("<i2").tobytes())):
        assert speech_server.new.Recognize(request).reason == "silence"
    assert speech_server.old.Infer(InferenceRequest(audio_samples=dither.tolist())).label in range(8)
    words = "the clip is silent" if steps > 1 else "the scale of the clip is ambiguous"
    request = TrainingRequest(label=1, audio_samples=dither.tolist())
    refused(Code.INVALID_ARGUMENT, words, lambda: speech_server.old.Train(request))
    assert suggestions(speech_server) == before


def test_what_may_be_on_either_scale_is_heard_and_not_trained_with(speech_server: SpeechServer) -> None:
    before = suggestions(speech_server)
    samples = (20 * tone(2)).tolist()
    assert speech_server.old.Infer(InferenceRequest(audio_samples=samples)).label == 2
    words = "the scale of the clip is ambiguous: its samples reach 6, expected -1..1 or 16-bit integers"
    refused(Code.INVALID_ARGUMENT, words, lambda: speech_server.old.Train(TrainingRequest(label=2, audio_samples=samples)))
    assert suggestions(speech_server) == before


@pytest.mark.parametrize("samples", [1, 3199])
def test_a_suggestion_that_is_too_short_for_any_word_is_refused(speech_server: SpeechServer, samples: int) -> None:
    before = suggestions(speech_server)
    request = TrainingRequest(label=1, audio_samples=tone(1)[1 : 1 + samples].tolist())
    words = f"the clip is too short: found {samples} samples, expected at least 3200. Record the whole word"
    refused(Code.INVALID_ARGUMENT, words, lambda: speech_server.old.Train(request))
    assert suggestions(speech_server) == before


def test_a_message_of_100_megabytes_is_refused(speech_server: SpeechServer) -> None:
    huge = speech_server.channel.unary_unary("/info.shenghaoyang.ntu.ntu_iot.dlserver.DLServer/Infer")
    refused(Code.RESOURCE_EXHAUSTED, "eceived message larger than max", lambda: huge(bytes(100_000_000)))
    assert speech_server.old.Infer(InferenceRequest(audio_samples=tone(4).tolist())).label == 4


def test_recognize_tells_scores_and_rejects(speech_server: SpeechServer) -> None:
    for request in (RecognizeRequest(pcm=pcm(tone(6))), RecognizeRequest(samples=tone(6).tolist())):
        answer = speech_server.new.Recognize(request)
        assert (answer.rejected, answer.word, answer.label, answer.model_version) == (False, "up", 6, 0)
        assert [score.word for score in answer.scores] == list(WORDS)
        assert max(answer.scores, key=lambda score: score.probability).word == "up"
    silence = speech_server.new.Recognize(RecognizeRequest(pcm=bytes(2000)))
    assert (silence.rejected, silence.reason, silence.HasField("label"), len(silence.scores)) == (True, "silence", False, 0)
    unknown = speech_server.new.Recognize(RecognizeRequest(pcm=pcm(noise())))
    assert (unknown.rejected, unknown.reason, unknown.HasField("label"), len(unknown.scores)) == (True, "unknown word", False, 8)


@pytest.mark.parametrize(
    ("request_", "code", "words"),
    [
        (RecognizeRequest(), Code.INVALID_ARGUMENT, "found 0"),
        (RecognizeRequest(pcm=b"abc"), Code.INVALID_ARGUMENT, "pcm has an odd length: found 3 bytes, expected two per sample"),
        (RecognizeRequest(pcm=b"ab", samples=[1]), Code.INVALID_ARGUMENT, "both pcm and samples"),
        (RecognizeRequest(pcm=b"ab", model_version=7), Code.NOT_FOUND, "version 7 is not loaded: choose 0, or 0 for the champion"),
    ],
)
def test_what_recognize_refuses(speech_server: SpeechServer, request_: RecognizeRequest, code: grpc.StatusCode, words: str) -> None:
    refused(code, words, lambda: speech_server.new.Recognize(request_))


def test_a_longer_recording(speech_server: SpeechServer) -> None:
    recording = np.concatenate([tone(2), np.zeros(16_000, np.float32), tone(5), noise(), tone(0)[:8_000]])
    found = list(speech_server.new.RecognizeLong(RecognizeLongRequest(pcm=pcm(recording), hop_milliseconds=1000)))
    assert [(each.start_seconds, each.end_seconds, each.word) for each in found] == [(0, 1, "left"), (2, 3, "stop"), (4, 4.5, "down")]
    closer = list(speech_server.new.RecognizeLong(RecognizeLongRequest(pcm=pcm(recording), hop_milliseconds=100)))
    assert {each.word for each in closer} == {"left", "stop", "down"}
    assert len(closer) > len(found)
    minute = np.concatenate([tone(second % 8) for second in range(60)])
    words = [each.word for each in speech_server.new.RecognizeLong(RecognizeLongRequest(pcm=pcm(minute), hop_milliseconds=1000))]
    assert words == [WORDS[second % 8] for second in range(60)]


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (RecognizeLongRequest(), "found 0 samples, expected 1 to 960000. Cut it first"),
        (RecognizeLongRequest(pcm=bytes(1_920_002)), "found 960001 samples, expected 1 to 960000. Cut it first"),
        (RecognizeLongRequest(pcm=b"ab", hop_milliseconds=10), "hop_milliseconds is 10, expected 50 to 1000, or 0 for 500"),
    ],
)
def test_what_recognize_long_refuses(speech_server: SpeechServer, request_: RecognizeLongRequest, words: str) -> None:
    refused(Code.INVALID_ARGUMENT, words, lambda: list(speech_server.new.RecognizeLong(request_)))


def test_suggestions_are_listed_and_taken_back(speech_server: SpeechServer) -> None:
    before = suggestions(speech_server)
    for word in (3, 3, 4):
        speech_server.old.Train(TrainingRequest(label=word, audio_samples=tone(word, 0.123).tolist()))
    added = [number for number in suggestions(speech_server) if number not in before]
    assert len(added) == 2, "the same clip twice is one suggestion"
    undone = speech_server.new.UndoSuggestions(UndoSuggestionsRequest(ids=[*added, 10**9])).suggestions
    assert sorted((each.id, each.label, each.state) for each in undone) == [(added[0], 3, "undone"), (added[1], 4, "undone")]
    assert suggestions(speech_server) == before
    refused(Code.INVALID_ARGUMENT, "ids is empty", lambda: speech_server.new.UndoSuggestions(UndoSuggestionsRequest()))
    refused(Code.INVALID_ARGUMENT, "unknown state: found 'x'", lambda: suggestions(speech_server, "x"))


def test_as_many_as_a_message_holds_are_taken_back_at_once(speech_server: SpeechServer) -> None:
    speech_server.old.Train(TrainingRequest(label=5, audio_samples=tone(5, 0.321).tolist()))
    everything = UndoSuggestionsRequest(ids=range(600_000))
    assert everything.ByteSize() > 1_700_000
    assert 5 in {each.label for each in speech_server.new.UndoSuggestions(everything, timeout=PATIENCE).suggestions}


def test_labels_model_health_and_reflection(speech_server: SpeechServer) -> None:
    assert [(each.label, each.word) for each in speech_server.new.ListLabels(ListLabelsRequest()).labels] == list(enumerate(WORDS))
    model = speech_server.new.GetModel(GetModelRequest())
    assert (model.HasField("champion"), model.champion, list(model.loaded), dict(model.refused)) == (True, 0, [0], {})
    health = health_pb2_grpc.HealthStub(speech_server.channel)
    names = ["info.shenghaoyang.ntu.ntu_iot.dlserver.DLServer", "windtunnel.speech.v1.Speech"]
    for name in ("", *names):
        assert health.Check(health_pb2.HealthCheckRequest(service=name)).status == health_pb2.HealthCheckResponse.SERVING
    assert set(names) < set(ProtoReflectionDescriptorDatabase(speech_server.channel).get_services())


def test_a_client_made_afresh_from_the_old_protocol(speech_server: SpeechServer, tmp_path: Path) -> None:
    """In a process of its own, that knows nothing of the project."""
    proto = ROOT / "serving" / "speech_server" / "protos" / "dlserver.proto"
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{proto.parent}", "--python_out=.", "--grpc_python_out=.", proto.name]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=PATIENCE)
    (tmp_path / "client.py").write_text(
        "import sys, grpc, dlserver_pb2 as messages, dlserver_pb2_grpc as stubs\n"
        "stub = stubs.DLServerStub(grpc.insecure_channel(sys.argv[1], [('grpc.enable_http_proxy', 0)]))\n"
        "samples = [float(number) for number in sys.stdin.read().split()]\n"
        "stub.Train(messages.TrainingRequest(label=messages.RIGHT, audio_samples=samples))\n"
        "print(messages.Label.Name(stub.Infer(messages.InferenceRequest(audio_samples=samples)).label))\n"
    )
    client = [sys.executable, "-P", "-c", "import sys; sys.path.insert(0, '.'); exec(open('client.py').read())", speech_server.address]
    samples = " ".join(map(str, as_pcm(tone(4, 0.17)).tolist()))
    done = subprocess.run(client, cwd=tmp_path, input=samples, capture_output=True, text=True, timeout=PATIENCE)
    assert (done.stdout.strip(), done.returncode) == ("RIGHT", 0), done.stderr


def test_the_generated_modules_are_those_of_the_protocols(tmp_path: Path) -> None:
    protos.generate(tmp_path)
    made = sorted(tmp_path.rglob("*_pb2*.py*"))
    assert len(made) == 6
    for file in made:
        assert file.read_text() == (ROOT / file.relative_to(tmp_path)).read_text(), "run `python -m serving.speech_server.protos`"


def test_tokens_limits_and_kept_audio(version: Path, tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text("# who may\nphone secret-1\nlaptop secret-2\n")
    keys = {"TokensFile": f"{tmp_path}/tokens", "SuggestionsPerPeerPerHour": "2", "InferUploadPath": f"{tmp_path}/heard"}
    with running(tmp_path, ModelPath=str(version), MaxConcurrentRPCs="4", **keys) as server:
        phone, laptop = ([("authorization", f"Bearer secret-{number}")] for number in (1, 2))
        request = InferenceRequest(audio_samples=tone(2).tolist())
        refused(Code.UNAUTHENTICATED, "the token is missing or unknown", lambda: server.old.Infer(request))
        refused(Code.UNAUTHENTICATED, "the token", lambda: server.old.Infer(request, metadata=[("authorization", "Bearer secret-3")]))
        assert server.old.Infer(request, metadata=phone).label == 2
        wait_for(lambda: [file.name[37:] for file in (tmp_path / "heard").iterdir()] == ["left.wav"])

        for word in (0, 1):
            server.old.Train(TrainingRequest(label=word, audio_samples=tone(word).tolist()), metadata=phone)
        third = TrainingRequest(label=2, audio_samples=tone(2).tolist())
        refused(Code.RESOURCE_EXHAUSTED, "phone has made 2 suggestions", lambda: server.old.Train(third, metadata=phone))
        server.old.Train(third, metadata=laptop)
        assert [each.id for each in server.new.ListSuggestions(ListSuggestionsRequest(), metadata=laptop).suggestions] == [3]
        undone = server.new.UndoSuggestions(UndoSuggestionsRequest(ids=[1, 3]), metadata=laptop).suggestions
        assert [each.id for each in undone] == [3], "one's own"

        calls = [server.old.Infer.future(request, metadata=phone) for _ in range(50)]
        assert [call.result().label for call in calls] == [2] * 50, "they take turns"
        recording = RecognizeLongRequest(pcm=pcm(tone(2)) * 4, hop_milliseconds=100)
        assert len(list(server.new.RecognizeLong(recording, metadata=phone))) == 31, "more clips at a time than calls may be"
    journal = Journal(tmp_path / "suggestions.db", tmp_path / "suggestions", Limits(9, 10**9, 9))
    assert [(each.peer, each.state) for each in journal.list()] == [("phone", "received")] * 2 + [("laptop", "undone")]
    journal.close()


def test_without_a_model_suggestions_are_taken_until_one_is_published(tmp_path: Path) -> None:
    write_version(tmp_path / "models" / "3")
    write_version(tmp_path / "models" / "4", 1)
    (tmp_path / "models" / "4" / "model.onnx").write_bytes(b"")
    with running(tmp_path) as server:
        health = health_pb2_grpc.HealthStub(server.channel)
        request = InferenceRequest(audio_samples=tone(2).tolist())
        refused(Code.UNAVAILABLE, "there is no model yet. Publish one", lambda: server.old.Infer(request))
        assert health.Check(health_pb2.HealthCheckRequest()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        server.old.Train(TrainingRequest(label=2, audio_samples=request.audio_samples))
        server.want(4, 4)
        wait_for(lambda: server.new.GetModel(GetModelRequest()).refused)
        refused(Code.UNAVAILABLE, "version 4 was refused: ", lambda: server.old.Infer(request))
        server.want(3, 3)
        wait_for(lambda: health.Check(health_pb2.HealthCheckRequest()).status == health_pb2.HealthCheckResponse.SERVING)
        assert server.old.Infer(request).label == 2
        assert server.new.Recognize(RecognizeRequest(pcm=pcm(tone(2)), model_version=3)).model_version == 3


def test_versions_are_swapped_without_a_failure(tmp_path: Path) -> None:
    for number in (3, 4):
        write_version(tmp_path / "models" / str(number), number)
    (tmp_path / "models" / "models.json").write_text('{"versions": [3], "champion": 3}')
    with running(tmp_path) as server, ThreadPoolExecutor(8) as pool:
        request = InferenceRequest(audio_samples=tone(2).tolist())

        def ask(_: int) -> int:
            return server.old.Infer(request, timeout=PATIENCE).label

        assert {*pool.map(ask, range(50))} == {5}
        asked = pool.map(ask, range(2000))
        for champion in (4, 3, 4):
            server.want(champion, 3, 4)
            wait_for(lambda champion=champion: server.new.GetModel(GetModelRequest()).champion == champion)
        assert {*asked} == {5, 6}
        assert {*pool.map(ask, range(50))} == {6}


def test_tls(version: Path, tmp_path: Path) -> None:
    with running(tmp_path, ModelPath=str(version), **tls(tmp_path)) as server:
        trusted = grpc.ssl_channel_credentials((tmp_path / "certificate.pem").read_bytes())
        with grpc.secure_channel(server.address, trusted, DIRECT) as channel:
            infer = channel.unary_unary("/info.shenghaoyang.ntu.ntu_iot.dlserver.DLServer/Infer")
            assert infer(InferenceRequest(audio_samples=tone(7).tolist()).SerializeToString(), timeout=PATIENCE) == b"\x08\x07"
        refused(Code.UNAVAILABLE, "", lambda: server.old.Infer(InferenceRequest(audio_samples=[1]), timeout=PATIENCE))
