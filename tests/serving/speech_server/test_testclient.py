"""The command `dlserver_testclient` against a real gRPC server of the old protocol, which keeps what it is sent, and against `dlserver`."""

import os
import sqlite3
import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import numpy as np
import pytest
from google.protobuf.empty_pb2 import Empty

from serving.speech_server.protos.dlserver_pb2 import InferenceRequest, InferenceResponse, Label, TrainingRequest
from serving.speech_server.protos.dlserver_pb2_grpc import DLServerServicer, add_DLServerServicer_to_server
from serving.speech_server.protos.speech_pb2 import ListSuggestionsRequest
from tests.serving.speech_server.running_speech import SpeechServer, running, tls
from tests.serving.speech_server.speech_models import noise, tone
from tests.waiting import PATIENCE
from windtunnel.data.clips import as_pcm
from windtunnel.data.wav import wav_bytes
from windtunnel.platform.ports import free_ports
from windtunnel.settings import ROOT

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
    command = [sys.executable, "-m", "serving.speech_server.testclient", *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "http_proxy": "http://127.0.0.1:1"}
    done = subprocess.run(command, input=recording, env=environment, capture_output=True, timeout=PATIENCE)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def test_a_server_of_the_old_protocol_is_asked_for_the_word(recorder: Recorder) -> None:
    assert run_client(recorder.address) == (0, "left\n", "")
    assert recorder.requests == [InferenceRequest(audio_samples=SAMPLES)]


@pytest.mark.parametrize("label", ["STOP", "5"])
def test_with_a_label_it_suggests(recorder: Recorder, label: str) -> None:
    assert run_client(recorder.address, label) == (0, "suggested as stop\n", "")
    assert recorder.requests == [TrainingRequest(label=Label.STOP, audio_samples=SAMPLES)]


@pytest.mark.parametrize("label", ["8", "stopp"])
def test_an_unknown_label_names_those_that_are_known(recorder: Recorder, label: str) -> None:
    error = f"error: {label} cannot be suggested: expected down, go, left, no, right, stop, up, yes, or 0 to 7\n"
    assert run_client(recorder.address, label) == (1, "", error)
    assert recorder.requests == []


def test_what_is_no_recording_is_not_sent(recorder: Recorder) -> None:
    status, out, error = run_client(recorder.address, recording=os.urandom(100_000))
    assert (status, out, error.count("\n")) == (1, "", 1)
    assert error.startswith("error: the recording is not a WAV file")
    assert recorder.requests == []


def test_another_rate_is_converted_and_said(recorder: Recorder) -> None:
    fmt = struct.pack("<HHIIHH", 3, 2, 48_000, 384_000, 8, 32)  # floats of two channels, written into a pipe
    recording = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0" + fmt + b"data\0\0\0\0" + np.full((4800, 2), 0.5, "<f4").tobytes()
    status, out, said = run_client(recorder.address, recording=recording)
    assert (status, out) == (0, "left\n")
    assert said == "the recording has 48000 Hz and 2 channels: converting it to 16000 Hz and one channel\n"
    (request,) = recorder.requests
    assert len(request.audio_samples) == 1600
    assert request.audio_samples[800] == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(("closed", "says"), [("<&-", "is a terminal or closed"), ("0>/dev/null", "cannot be read (Bad file descriptor)")])
def test_standard_input_that_is_none_is_said(recorder: Recorder, closed: str, says: str) -> None:
    command = f"{sys.executable} -m serving.speech_server.testclient {recorder.address} {closed}"
    done = subprocess.run(["sh", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"error: standard input {says}. Give it a recording: < clip.wav\n"


def test_what_never_ends_is_not_read_for_ever(recorder: Recorder) -> None:
    with open("/dev/zero", "rb") as zeros:
        command = [sys.executable, "-m", "serving.speech_server.testclient", recorder.address]
        done = subprocess.run(command, stdin=zeros, cwd=ROOT, capture_output=True, timeout=PATIENCE)
    assert done.returncode == 1
    assert done.stderr.startswith(b"error: the recording is not a WAV file")


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
    assert error.endswith("). Check that dlserver runs there, without TLS, and try again\n")


def test_an_address_without_a_port_is_said() -> None:
    assert run_client("localhost") == (1, "", "error: localhost has no port: expected HOST:PORT, such as localhost:55221\n")


def test_it_starts_fast() -> None:
    """Nothing heavy is imported."""
    program = (
        "import sys, serving.speech_server.testclient; print({'torch', 'tensorflow', 'scipy', 'mlflow', 'onnxruntime'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_the_server_understands_it(speech_server: SpeechServer) -> None:
    recording = wav_bytes(as_pcm(tone(Label.RIGHT, 0.21)))
    assert run_client(speech_server.address, recording=recording) == (0, "right\n", "")
    assert run_client(speech_server.address, "up", recording=recording) == (0, "suggested as up\n", "")
    newest = speech_server.new.ListSuggestions(ListSuggestionsRequest()).suggestions[-1]
    assert newest.label == Label.UP


@pytest.mark.parametrize(("recording", "reason"), [(noise(), "unknown word"), (np.zeros(16_000), "silence")], ids=["unknown", "silence"])
def test_a_rejection_is_printed_with_its_reason(speech_server: SpeechServer, recording: np.ndarray, reason: str) -> None:
    assert run_client(speech_server.address, recording=wav_bytes(as_pcm(recording))) == (0, f"{reason}\n", "")


def test_a_refusal_of_the_new_protocol_is_not_asked_again_with_the_old(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        status, out, error = run_client(server.address)
        assert (status, out) == (1, "")
        assert error == (
            f"error: {server.address} cannot answer now (there is no model yet. Publish one, and try again)."
            " Check that dlserver runs there, without TLS, and try again\n"
        )
        server.stop()


def test_a_server_with_tls_and_tokens_is_asked_with_both(version: Path, tmp_path: Path) -> None:
    keys = tls(tmp_path)
    (tmp_path / "tokens").write_text("phone secret-1\nlaptop secret-2\n")
    (tmp_path / "token").write_text("secret-2\n")
    (tmp_path / "other token").write_text("secret-3")
    (tmp_path / "other").mkdir()
    recording = wav_bytes(as_pcm(tone(Label.RIGHT, 0.21)))
    trust, token = ("--certificate-file", keys["CertificateFile"]), ("--token-file", f"{tmp_path}/token")
    with running(tmp_path, ModelPath=str(version), TokensFile=f"{tmp_path}/tokens", **keys) as server:
        address = server.address
        assert run_client(address, *trust, *token, recording=recording) == (0, "right\n", "")
        assert run_client(address, "up", *trust, *token, recording=recording) == (0, "suggested as up\n", "")
        assert run_client(address, "seven", *trust, *token, recording=recording)[2].startswith(
            f"error: {address} answered INVALID_ARGUMENT: "
        )
        missing = "answers only callers with a token, and yours is missing or unknown. Name a file that contains it: --token-file"
        for wrong in ((), ("--token-file", f"{tmp_path}/other token")):
            assert run_client(address, *trust, *wrong, recording=recording) == (1, "", f"error: {address} {missing}\n")
        for with_tls, wrong in (("without", ()), ("with", ("--certificate-file", tls(tmp_path / "other")["CertificateFile"]))):
            status, out, error = run_client(address, *wrong, recording=recording)
            assert (status, out) == (1, "")
            *of_grpc, last = error.splitlines()  # it prints why a handshake failed
            assert len(of_grpc) <= 1
            assert last.startswith(f"error: {address} cannot answer now (")
            assert last.endswith(f"). Check that dlserver runs there, {with_tls} TLS, and try again")
    with sqlite3.connect(tmp_path / "suggestions.db") as journal:
        assert journal.execute("SELECT word, peer FROM suggestion").fetchall() == [("up", "laptop")]


def test_a_token_without_tls_is_sent_with_a_warning(version: Path, tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text("phone secret-1\n")
    (tmp_path / "token").write_text("secret-1")
    with running(tmp_path, ModelPath=str(version), TokensFile=f"{tmp_path}/tokens") as server:
        recording = wav_bytes(as_pcm(tone(Label.RIGHT, 0.21)))
        warning = "warning: the token is sent unencrypted. If the server uses TLS, add --certificate-file\n"
        assert run_client(server.address, "--token-file", f"{tmp_path}/token", recording=recording) == (0, "right\n", warning)


@pytest.mark.parametrize(
    ("option", "content", "says"),
    [
        ("--token-file", None, "cannot be read (No such file or directory). Write the token into it"),
        ("--token-file", b"\xff\xfe", "cannot be read (it is not text). Write the token into it"),
        ("--token-file", b"\n", "found 0 words, expected only the token. A line of the server's TokensFile is NAME TOKEN"),
        ("--token-file", b"phone secret-1\n", "found 2 words, expected only the token."),
        ("--token-file", "s\u00e9cret".encode(), "found characters that are not ASCII, expected only the token."),
        (
            "--certificate-file",
            None,
            "cannot be read (No such file or directory). Give the server's CertificateFile, or the certificate of",
        ),
        ("--certificate-file", b"", "contains no certificate in PEM ("),
        ("--certificate-file", b"-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n", "contains no certificate in PEM ("),
    ],
)
def test_a_file_that_cannot_be_used_is_named_and_nothing_is_sent(
    recorder: Recorder, tmp_path: Path, option: str, content: bytes | None, says: str
) -> None:
    file = tmp_path / "file"
    if content is not None:
        file.write_bytes(content)
    status, out, error = run_client(recorder.address, option, str(file))
    assert (status, out, error.count("\n")) == (1, "", 1), error
    assert f"{file}" in error
    assert says in error
    assert recorder.requests == []
