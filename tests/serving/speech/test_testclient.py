"""The command `dlserver_testclient` against a real gRPC server of the old protocol, which keeps what it is sent."""

import os
import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import grpc
import numpy as np
import pytest
from google.protobuf.empty_pb2 import Empty

from serving.speech.protos.dlserver_pb2 import InferenceRequest, InferenceResponse, Label, TrainingRequest
from serving.speech.protos.dlserver_pb2_grpc import DLServerServicer, add_DLServerServicer_to_server
from serving.speech.protos.speech_pb2 import ListSuggestionsRequest
from tests.serving.speech.running_speech import SpeechServer
from tests.serving.speech.speech_models import tone
from tests.waiting import PATIENCE
from windtunnel.clips import as_pcm
from windtunnel.ports import free_ports
from windtunnel.settings import ROOT
from windtunnel.wav import wav_bytes

SAMPLES = [0, 1, -1, 12_345, -32_768, 32_767]
CLIP = wav_bytes(np.array(SAMPLES, np.int16))


@dataclass
class Recorder(DLServerServicer):
    """Answers LEFT, or with `refusal`, if there is one."""

    port: int
    requests: list[InferenceRequest | TrainingRequest] = field(default_factory=list)
    refusal: tuple[grpc.StatusCode, str] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def Infer(self, request: InferenceRequest, context: grpc.ServicerContext) -> InferenceResponse:
        self._take(request, context)
        return InferenceResponse(label=Label.LEFT)

    def Train(self, request: TrainingRequest, context: grpc.ServicerContext) -> Empty:
        self._take(request, context)
        return Empty()

    def _take(self, request: InferenceRequest | TrainingRequest, context: grpc.ServicerContext) -> None:
        if self.refusal:
            context.abort(*self.refusal)
        assert 0 < context.time_remaining() < 60
        self.requests.append(request)


@pytest.fixture
def recorder():
    server = grpc.server(ThreadPoolExecutor(1))
    made = Recorder(server.add_insecure_port("127.0.0.1:0"))
    add_DLServerServicer_to_server(made, server)
    server.start()
    yield made
    server.stop(None).wait()


def run_client(*arguments: str, recording: bytes = CLIP) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of the command."""
    command = [sys.executable, "-m", "serving.speech.testclient", *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "http_proxy": "http://127.0.0.1:1"}
    done = subprocess.run(command, input=recording, env=environment, capture_output=True, timeout=PATIENCE)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def test_without_a_label_it_asks_for_the_word(recorder: Recorder) -> None:
    assert run_client(recorder.address) == (0, "left\n", "")
    assert recorder.requests == [InferenceRequest(audio_samples=SAMPLES)]


@pytest.mark.parametrize("label", ["STOP", "5"])
def test_with_a_label_it_suggests(recorder: Recorder, label: str) -> None:
    assert run_client(recorder.address, label) == (0, "suggested as stop\n", "")
    assert recorder.requests == [TrainingRequest(label=Label.STOP, audio_samples=SAMPLES)]


@pytest.mark.parametrize("label", ["8", "stopp"])
def test_an_unknown_label_names_those_that_are_known(recorder: Recorder, label: str) -> None:
    error = f"error: {label} is no word that can be suggested: choose down, go, left, no, right, stop, up, yes, or 0 to 7\n"
    assert run_client(recorder.address, label) == (1, "", error)
    assert recorder.requests == []


def test_what_is_no_recording_is_not_sent(recorder: Recorder) -> None:
    status, out, error = run_client(recorder.address, recording=os.urandom(100_000))
    assert (status, out, error.count("\n")) == (1, "", 1)
    assert error.startswith("error: the recording is no WAV file")
    assert recorder.requests == []


def test_another_rate_is_converted_and_said(recorder: Recorder) -> None:
    fmt = struct.pack("<HHIIHH", 3, 2, 48_000, 384_000, 8, 32)  # floats of two channels, written into a pipe
    recording = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0" + fmt + b"data\0\0\0\0" + np.full((4800, 2), 0.5, "<f4").tobytes()
    status, out, said = run_client(recorder.address, recording=recording)
    assert (status, out) == (0, "left\n")
    assert said == "the recording has 48000 Hz and 2 channels: it is converted to 16000 Hz and one\n"
    (request,) = recorder.requests
    assert len(request.audio_samples) == 1600
    assert request.audio_samples[800] == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(("closed", "says"), [("<&-", "is a terminal, or closed"), ("0>/dev/null", "cannot be read (Bad file descriptor)")])
def test_standard_input_that_is_none_is_said(recorder: Recorder, closed: str, says: str) -> None:
    command = f"{sys.executable} -m serving.speech.testclient {recorder.address} {closed}"
    done = subprocess.run(["sh", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"error: standard input {says}: give it a recording, with < clip.wav\n"


def test_what_never_ends_is_not_read_for_ever(recorder: Recorder) -> None:
    with open("/dev/zero", "rb") as zeros:
        command = [sys.executable, "-m", "serving.speech.testclient", recorder.address]
        done = subprocess.run(command, stdin=zeros, cwd=ROOT, capture_output=True, timeout=PATIENCE)
    assert done.returncode == 1
    assert done.stderr.startswith(b"error: the recording is no WAV file")


@pytest.mark.parametrize("arguments", [(), ("yes",)], ids=["inference", "suggestion"])
def test_what_the_server_refuses_is_said(recorder: Recorder, arguments: tuple[str, ...]) -> None:
    recorder.refusal = grpc.StatusCode.RESOURCE_EXHAUSTED, "50 requests wait\nalready"
    error = f"error: {recorder.address} answered RESOURCE_EXHAUSTED: 50 requests wait already\n"
    assert run_client(recorder.address, *arguments) == (1, "", error)


def test_a_server_that_is_down_is_said() -> None:
    (port,) = free_ports(1)
    status, out, error = run_client(f"127.0.0.1:{port}")
    assert (status, out, error.count("\n")) == (1, "", 1)
    assert f"error: 127.0.0.1:{port} cannot answer now (" in error
    assert "refused" in error
    assert error.endswith("): see that dlserver runs there, and try again\n")


def test_an_address_without_a_port_is_said() -> None:
    assert run_client("localhost") == (1, "", "error: localhost names no port: write HOST:PORT, such as localhost:55221\n")


def test_it_starts_fast() -> None:
    """Nothing heavy is imported."""
    program = "import sys, serving.speech.testclient; print({'torch', 'tensorflow', 'scipy', 'mlflow', 'onnxruntime'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_the_server_understands_it(speech_server: SpeechServer) -> None:
    recording = wav_bytes(as_pcm(tone(Label.RIGHT, 0.21)))
    assert run_client(speech_server.address, recording=recording) == (0, "right\n", "")
    assert run_client(speech_server.address, "up", recording=recording) == (0, "suggested as up\n", "")
    newest = speech_server.new.ListSuggestions(ListSuggestionsRequest()).suggestions[-1]
    assert newest.label == Label.UP
