"""The server as a program: how it starts, what it takes, how it ends."""

import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import httpx
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from serving.speech_server.protos.dlserver_pb2 import InferenceRequest, InferenceResponse, TrainingRequest
from serving.speech_server.protos.speech_pb2 import RecognizeLongRequest
from tests.serving.speech_server.running_speech import DIRECT, SpeechServer, ini, running
from tests.serving.speech_server.speech_models import tone
from tests.waiting import PATIENCE, wait_for
from windtunnel.data.clips import as_pcm
from windtunnel.platform.ports import free_ports
from windtunnel.settings import ROOT

HEAVY = ("torch", "tensorflow", "mlflow", "scipy", "pandas", "onnx", "matplotlib", "airflow")


def fails(arguments: list[str], words: str, **environment: str) -> None:
    command = [sys.executable, "-m", "serving.speech_server.serve", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 1
    assert done.stderr.count("error: ") == 1
    assert words in done.stderr


def test_it_imports_nothing_heavy() -> None:
    program = "import sys, serving.speech_server.serve; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not set(HEAVY) & set(done.stdout.split())


def test_memory(version: Path, tmp_path: Path) -> None:
    with running(tmp_path, ModelPath=str(version)) as server:
        assert server.old.Infer(InferenceRequest(audio_samples=tone(1).tolist())).label == 1
        calls = [server.old.Infer.future(InferenceRequest(audio_samples=tone(number % 8).tolist())) for number in range(200)]
        assert [call.result().label for call in calls] == [number % 8 for number in range(200)]
        memory = psutil.Process(server.process.pid).memory_info().rss / 2**20
    assert memory < 250


def test_what_was_asked_is_answered_before_it_ends(version: Path, tmp_path: Path) -> None:
    with running(tmp_path, ModelPath=str(version)) as server:
        pcm = as_pcm(tone(2)).tobytes() * 20
        segments = server.new.RecognizeLong(RecognizeLongRequest(pcm=pcm, hop_milliseconds=50))
        first = next(segments)
        server.process.send_signal(signal.SIGINT)
        assert {each.word for each in [first, *segments]} == {"left"}
        assert server.process.wait(timeout=PATIENCE) == 0, server.log()


def test_no_call_on_its_way_is_lost_when_it_ends(version: Path, tmp_path: Path) -> None:
    """They have arrived at the machine before the signal, and the server reads them after it."""
    request = InferenceRequest(audio_samples=tone(2)[:64].tolist())
    with running(tmp_path, ModelPath=str(version)) as server:
        assert server.old.Infer(request).label == 2
        server.process.send_signal(signal.SIGSTOP)
        calls = [server.old.Infer.future(request, timeout=PATIENCE) for _ in range(50)]
        wait_for(lambda: unread(server.port) > 50 * request.ByteSize())
        server.process.send_signal(signal.SIGTERM)
        server.process.send_signal(signal.SIGCONT)
        assert [call.exception() for call in calls] == [None] * 50
        assert [call.result().label for call in calls] == [2] * 50
        assert server.process.wait(timeout=PATIENCE) == 0, server.log()


def unread(port: int) -> int:
    """The bytes that a server's connections hold for it."""
    tables = (Path("/proc/net") / name for name in ("tcp", "tcp6"))  # gRPC has IPv4 in sockets of IPv6
    connections = [line.split() for table in tables for line in table.read_text().splitlines()[1:]]
    return sum(int(each[4].partition(":")[2], 16) for each in connections if each[1].endswith(f":{port:04X}"))


def test_who_asks_all_along_is_told_that_it_ends(version: Path, tmp_path: Path) -> None:
    request = InferenceRequest(audio_samples=tone(2)[:64].tolist())
    asked = [0] * 50

    with running(tmp_path, ModelPath=str(version)) as server, ThreadPoolExecutor(50) as clients:

        def ask(client: int) -> grpc.StatusCode:
            """The status of the first call that is not answered."""
            try:
                while True:
                    assert server.old.Infer(request, timeout=PATIENCE).label == 2
                    asked[client] += 1
            except grpc.RpcError as error:
                return error.code()

        health = health_pb2_grpc.HealthStub(server.channel).Watch(health_pb2.HealthCheckRequest())
        assert next(health).status == health_pb2.HealthCheckResponse.SERVING
        asking = [clients.submit(ask, client) for client in range(50)]
        wait_for(lambda: all(asked))
        before = sum(asked)
        server.process.send_signal(signal.SIGTERM)
        assert next(health).status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert {each.result() for each in asking} == {grpc.StatusCode.UNAVAILABLE}
        assert sum(asked) > before, "for a moment it is as before"
        assert server.process.wait(timeout=PATIENCE) == 0, server.log()


def test_a_suggestion_is_there_after_kill(tmp_path: Path) -> None:
    with running(tmp_path) as server:
        server.old.Train(TrainingRequest(label=2, audio_samples=tone(2).tolist()))
        server.process.kill()
        server.process.wait()
    assert [file.name[:5] for file in (tmp_path / "suggestions").glob("*.wav")] == ["left-"]


def test_metrics(version: Path, tmp_path: Path) -> None:
    port = free_ports(1)[0]
    with running(tmp_path, ModelPath=str(version), MetricsEndpoint=f"127.0.0.1:{port}") as server:
        for number in range(3):
            server.old.Infer(InferenceRequest(audio_samples=tone(number).tolist()))
        with pytest.raises(grpc.RpcError):
            server.old.Infer(InferenceRequest())
        server.old.Train(TrainingRequest(label=2, audio_samples=tone(2).tolist()))
        page = httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False, timeout=PATIENCE).text
    for line in (
        'speech_requests_total{code="OK",method="Infer"} 3.0',
        'speech_requests_total{code="INVALID_ARGUMENT",method="Infer"} 1.0',
        'speech_request_seconds_count{method="Infer"} 4.0',
        "speech_requests_running 0.0",
        "speech_queue_clips 0.0",
        "speech_model_version 0.0",
        'speech_suggestions_total{word="left"} 1.0',
    ):
        assert line in page.splitlines()
    assert re.search(r"^speech_batch_clips_sum 3.0$", page, re.MULTILINE)
    assert "process_resident_memory_bytes" in page


def test_a_slow_client_holds_nobody_up(speech_server: SpeechServer) -> None:
    """One that takes its time to send, and one that never reads its stream."""
    with socket.create_connection(("127.0.0.1", speech_server.port)) as silent:
        silent.sendall(b"PRI * HTTP/2.0\r\n")
        stream = speech_server.new.RecognizeLong(RecognizeLongRequest(pcm=as_pcm(tone(2)).tobytes() * 60, hop_milliseconds=50))
        answers = [
            speech_server.old.Infer(InferenceRequest(audio_samples=tone(word).tolist()), timeout=PATIENCE).label for word in range(8)
        ]
        assert answers == list(range(8))
        stream.cancel()


def test_who_gives_up_leaves_nothing_behind(version: Path, tmp_path: Path) -> None:
    port = free_ports(1)[0]
    with running(tmp_path, ModelPath=str(version), MetricsEndpoint=f"127.0.0.1:{port}") as server:
        request = InferenceRequest(audio_samples=tone(1).tolist())
        calls = [server.old.Infer.future(request, timeout=0.0001 if number % 2 else PATIENCE) for number in range(100)]
        for call in calls[::4]:
            call.cancel()
        answers = [call.result().label for call in calls[2::4]]
        assert answers == [1] * 25

        def idle() -> bool:
            page = httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False, timeout=PATIENCE).text.splitlines()
            return "speech_requests_running 0.0" in page and "speech_queue_clips 0.0" in page

        wait_for(idle, explain=server.log)


def test_the_platforms_own_server(version: Path, tmp_path: Path) -> None:
    port = free_ports(1)[0]
    variables = {"WINDTUNNEL_HOME": str(tmp_path), "WINDTUNNEL_SPEECH_PORT": str(port)}
    command = [sys.executable, "-m", "serving.speech_server.serve"]
    process = subprocess.Popen(command, cwd=ROOT, env=os.environ | variables, stdout=subprocess.PIPE, text=True)
    watchdog = threading.Timer(PATIENCE, process.kill)
    watchdog.start()
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == f"dlserver listens on 127.0.0.1:{port} with no model yet\n"
        with grpc.insecure_channel(f"127.0.0.1:{port}", DIRECT) as channel:
            infer = channel.unary_unary(
                "/info.shenghaoyang.ntu.ntu_iot.dlserver.DLServer/Infer", response_deserializer=InferenceResponse.FromString
            )
            with pytest.raises(grpc.RpcError, match="there is no model yet"):
                infer(InferenceRequest(audio_samples=[1.0]).SerializeToString(), timeout=PATIENCE)
        assert (tmp_path / "serving" / "speech" / "suggestions.db").exists()
    finally:
        process.terminate()
        assert process.wait(timeout=PATIENCE) == 0
        watchdog.cancel()


def test_what_cannot_start_says_why(speech_server: SpeechServer, tmp_path: Path) -> None:
    def file(**changes: str) -> list[str]:
        (tmp_path / "server.ini").write_text(ini(tmp_path, changes.pop("endpoint", speech_server.address), **changes))
        return [str(tmp_path / "server.ini")]

    free = f"127.0.0.1:{free_ports(1)[0]}"
    (tmp_path / "file").write_text("one two three")
    fails([str(tmp_path / "none.ini")], "none.ini cannot be read (No such file or directory)")
    fails(file(), f"cannot listen on {speech_server.address} (")
    fails(file(endpoint=free, MetricsEndpoint=speech_server.address), f"cannot listen on {speech_server.address} (Address already in use)")
    fails(file(endpoint=free, TokensFile=f"{tmp_path}/file"), "found 3 words in entry 1, expected NAME TOKEN")
    fails(file(endpoint=free, KeyFile=f"{tmp_path}/none", CertificateFile=f"{tmp_path}/file"), "KeyFile")
    fails(file(endpoint=free, KeyFile=f"{tmp_path}/file", CertificateFile=f"{tmp_path}/file"), "cannot listen on")
    fails(file(endpoint=free, StateFile=f"{tmp_path}/file/state"), "cannot be used")
    with sqlite3.connect(tmp_path / "newer.db") as database:
        database.execute("PRAGMA user_version = 99")
    fails(file(endpoint=free, StateFile=f"{tmp_path}/newer.db"), "newer.db was written by a newer release: found schema version 99")
