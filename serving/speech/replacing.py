"""What a thousand clients notice while the speech server is retrained and its model replaced.

    make bench-speech-swap

The server retrains itself, by a process beside it on the same machine, as it does without Airflow. Every request must be answered.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import grpc
import typer
from safetensors.numpy import load_file

from serving.load import Figures
from serving.speech.benchmark import champion, measure
from serving.speech.protos.dlserver_pb2 import InferenceRequest, TrainingRequest
from serving.speech.protos.dlserver_pb2_grpc import DLServerStub
from serving.speech.protos.speech_pb2 import GetModelRequest
from serving.speech.protos.speech_pb2_grpc import SpeechStub
from windtunnel.clips import FULL_SCALE
from windtunnel.errors import WindtunnelError
from windtunnel.measure import keep, load_before
from windtunnel.ports import free_ports
from windtunnel.program import run_program
from windtunnel.run import git_commit
from windtunnel.settings import ROOT, load_settings

CLIENTS = 1000
SUGGESTIONS = 8
TIMES = 3.0  # the p99 meanwhile may be this many times the steady one
LONGEST = 900  # seconds for the retraining

INI = """
[RPCServer]
Endpoint = {endpoint}
MaxConcurrentRPCs = 1200
[DLServer]
IWorkers = 1
StateFile = {folder}/suggestions.db
InferUploadPath =
TrainingUploadPath = {folder}/suggestions
BaseSamplesPath =
NewModelsPath = {folder}/models
ModelPath = {version}
SamplesBeforeTrain = {enough}
"""


def describe(what: str, figures: Figures) -> str:
    """A line of figures."""
    return f"{what}: {figures.requests_per_second:,.0f} requests/s, p50 {1000 * figures.p50:.0f} ms, p99 {1000 * figures.p99:.0f} ms"


def main(
    version: Annotated[Path | None, typer.Option(help="The version's directory; by default the platform's champion.")] = None,
    seconds: Annotated[float, typer.Option(min=1, help="Of each measurement.")] = 5.0,
) -> None:
    """Measure a steady server, have it retrained, measure until it has replaced its model, and say what clients noticed."""
    directory = version or champion()
    golden = load_file(directory / "golden.safetensors")
    clips = [clip.tolist() for clip in golden["audio"] * FULL_SCALE]
    messages = [InferenceRequest(audio_samples=clip).SerializeToString() for clip in clips]
    load = load_before()
    meanwhile: list[Figures] = []

    with tempfile.TemporaryDirectory() as place:
        endpoint = f"127.0.0.1:{free_ports(1)[0]}"
        file = Path(place) / "server.ini"
        file.write_text(INI.format(endpoint=endpoint, folder=place, version=directory, enough=SUGGESTIONS))
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        with (
            subprocess.Popen([sys.executable, "-m", "serving.speech.serve", str(file)], env=environment) as process,
            grpc.insecure_channel(endpoint, [("grpc.enable_http_proxy", 0)]) as channel,
        ):
            try:
                grpc.channel_ready_future(channel).result(30)
                steady = measure(endpoint, messages, None, CLIENTS, 2 * seconds)
                print(describe("steady", steady), flush=True)
                for clip, label in zip(clips[:SUGGESTIONS], golden["label"].tolist(), strict=False):
                    DLServerStub(channel).Train(TrainingRequest(label=label, audio_samples=clip))
                deadline = time.monotonic() + LONGEST
                while SpeechStub(channel).GetModel(GetModelRequest()).champion == 0:
                    if time.monotonic() > deadline:
                        raise WindtunnelError(f"the model was not replaced within {LONGEST} s: see the server's lines above")
                    meanwhile.append(measure(endpoint, messages, None, CLIENTS, seconds))
                    print(describe("while it is retrained", meanwhile[-1]), flush=True)
            finally:
                process.terminate()
    worst = max(figures.p99 for figures in meanwhile)
    times = worst / steady.p99
    text = (
        f"{CLIENTS} clients, every request answered. p99 steady {1000 * steady.p99:.0f} ms; from the first suggestion to the new model, "
        f"the worst of {len(meanwhile)} measurements of {seconds:g} s, {1000 * worst:.0f} ms: {times:.1f} times, may be {TIMES:g}\n"
    )
    result: dict[str, Any] = {"steady": steady.__dict__, "meanwhile": [each.__dict__ for each in meanwhile], "load": load}
    keep(load_settings().home, "speech_swap", result | {"git_commit": git_commit(ROOT)}, text)
    print(text, end="")
    if times > TIMES:
        sys.exit(1)


if __name__ == "__main__":
    run_program(main)
