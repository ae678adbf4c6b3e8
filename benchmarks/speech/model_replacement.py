"""Measure what a thousand clients notice while the speech server is retrained and its model is replaced.

    make bench-speech-swap

The server retrains itself, in another process on the same machine, as it does without Airflow. Each client sends its next request as soon
as it has an answer. The steady state is measured before the first suggestion and after the new version has settled.
"""

import asyncio
import itertools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import grpc
import typer
from safetensors.numpy import load_file

from benchmarks.speech.speech_throughput import METHOD, START_SECONDS, champion
from serving.load.generators import SECONDS, Figures, Sample, percentile
from serving.speech_server.ini_file import CONCURRENT
from serving.speech_server.model import Recognizer
from serving.speech_server.protos.dlserver_pb2 import InferenceRequest, InferenceResponse, TrainingRequest
from serving.speech_server.protos.dlserver_pb2_grpc import DLServerStub
from serving.speech_server.protos.speech_pb2 import GetModelRequest, ListSuggestionsRequest
from serving.speech_server.protos.speech_pb2_grpc import SpeechStub
from windtunnel.data.clips import FULL_SCALE, WORDS
from windtunnel.errors import WindtunnelError
from windtunnel.measure import keep, load_before
from windtunnel.platform.ports import free_ports
from windtunnel.platform.program import run_program
from windtunnel.run import git_commit
from windtunnel.settings import ROOT, load_settings

CLIENTS = 1000
SUGGESTIONS = 8
TIMES = 3.0  # maximum p99 during retraining and replacement, as a multiple of the steady p99
POLL_SECONDS = 0.2
LONGEST = 3600  # timeout of the retraining in seconds; it gets only the CPU time that the clients leave

INI = """
[RPCServer]
Endpoint = {endpoint}
MaxConcurrentRPCs = {concurrent}
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


@dataclass(frozen=True)
class Watched:
    """All requests of the clients. The answer of each sample is its message's number and the label, or the error.

    The times: `steady`, the steady state began; `asked`, the replacement was requested; `replaced`, the new model was seen; `ended`.
    `around` is the number of seconds before and after the replacement that are reported separately, because the first requests to a new
    version are not in a steady state.
    """

    clients: int
    samples: Sequence[Sample]
    steady: float
    asked: float
    replaced: float
    ended: float
    around: float

    def phases(self) -> dict[str, Figures]:
        """Return the figures of each phase: `steady` (before and after together), `retraining` and `swap`."""
        before, after = self.replaced - self.around, self.replaced + self.around
        return {
            "steady": self._figures((self.steady, self.asked), (after, self.ended)),
            "retraining": self._figures((self.asked, self.replaced)),
            "swap": self._figures((before, after)),
        }

    def errors(self) -> list[grpc.aio.AioRpcError]:
        """Return the errors of the requests that failed."""
        return [sample.answer for sample in self.samples if isinstance(sample.answer, grpc.aio.AioRpcError)]

    def answers(self) -> set[tuple[int, int]]:
        """Return each pair of a message's number and a label that was given to it."""
        return {sample.answer for sample in self.samples if not isinstance(sample.answer, grpc.aio.AioRpcError)}

    def _figures(self, *spans: tuple[float, float]) -> Figures:
        latencies = [sample.latency for sample in self.samples if any(start <= sample.answered < end for start, end in spans)]
        rate = len(latencies) / sum(end - start for start, end in spans)
        return Figures(rate, percentile(latencies, 50), percentile(latencies, 99))


async def watch(
    channel: grpc.aio.Channel, messages: Sequence[bytes], clients: int, seconds: float, replace: Callable[[], Awaitable[None]]
) -> Watched:
    """Send requests from this many clients while the model is replaced.

    Args:
        channel: the channel to the server.
        messages: InferenceRequests, sent in turn.
        clients: number of concurrent requests.
        seconds: length of the warm-up, of the steady state before and after, and of the time around the replacement.
        replace: replaces the model and returns when the new version answers.
    """
    infer, numbers, stop = channel.unary_unary(METHOD), itertools.count(), asyncio.Event()
    samples: list[Sample] = []

    async def client() -> None:
        while not stop.is_set():
            number, sent = next(numbers) % len(messages), time.perf_counter()
            answer: tuple[int, int] | grpc.aio.AioRpcError
            try:
                answer = (number, InferenceResponse.FromString(await infer(messages[number], timeout=SECONDS)).label)
            except grpc.aio.AioRpcError as error:
                answer = error
            samples.append(Sample(sent, sent, time.perf_counter(), answer))

    tasks = [asyncio.create_task(client()) for _ in range(clients)]
    try:
        await asyncio.sleep(seconds)
        steady = time.perf_counter()
        await asyncio.sleep(seconds)
        asked = time.perf_counter()
        await replace()
        replaced = time.perf_counter()
        await asyncio.sleep(2 * seconds)
        ended = time.perf_counter()
    finally:
        stop.set()
        await asyncio.gather(*tasks)
    return Watched(clients, samples, steady, asked, replaced, ended, seconds)


async def retrain(channel: grpc.aio.Channel, clips: Sequence[Sequence[float]], labels: Sequence[int]) -> None:
    """Suggest enough clips to trigger retraining, and wait until the new version answers.

    Raises:
        WindtunnelError: the new version was rejected, or retraining takes too long.
    """
    speech, deadline = SpeechStub(channel), time.monotonic() + LONGEST
    for clip, label in zip(clips, labels, strict=True):
        await DLServerStub(channel).Train(TrainingRequest(label=WORDS[label].upper(), audio_samples=clip))
    while (await speech.GetModel(GetModelRequest())).champion == 0:
        if rejected := (await speech.ListSuggestions(ListSuggestionsRequest(state="rejected"))).suggestions:
            raise WindtunnelError(f"the model was not replaced: {rejected[0].reason}")
        if time.monotonic() > deadline:
            raise WindtunnelError(f"the model was not replaced within {LONGEST} s. See the server's output above")
        await asyncio.sleep(POLL_SECONDS)


def describe(noticed: Watched) -> tuple[str, bool]:
    """Return the figures as text, and whether they are within their limits."""
    phases, failures = noticed.phases(), noticed.errors()
    first = f", the first as {failures[0].code().name}: {failures[0].details()}" if failures else ""
    lines = [
        f"{name}: {figures.requests_per_second:,.0f} requests/s, p50 {1000 * figures.p50:,.0f} ms, p99 {1000 * figures.p99:,.0f} ms, "
        f"{figures.p99 / phases['steady'].p99:.2f} times steady"
        for name, figures in phases.items()
    ]
    lines.append(
        f"{noticed.clients} clients, {len(noticed.samples):,} requests, {len(failures)} failed{first}; retrained "
        f"and replaced in {noticed.replaced - noticed.asked:,.0f} s; the p99 limit is {TIMES:g} times steady"
    )
    return "\n".join(lines) + "\n", not failures and all(each.p99 <= TIMES * phases["steady"].p99 for each in phases.values())


def main(
    version: Annotated[Path | None, typer.Option(help="The version's directory. Default: the platform's champion.")] = None,
    seconds: Annotated[float, typer.Option(min=0.5, help="Length of the warm-up, of each steady state, and around the swap.")] = 10.0,
) -> None:
    """Measure a steady server, retrain it, measure until it has replaced its model, and report what clients noticed."""
    directory = version or champion()
    golden = load_file(directory / "golden.safetensors")
    clips, labels = (golden["audio"] * FULL_SCALE).tolist(), golden["label"].tolist()
    messages = [InferenceRequest(audio_samples=clip).SerializeToString() for clip in clips]
    load = load_before()

    async def run(endpoint: str) -> Watched:
        async with grpc.aio.insecure_channel(endpoint, [("grpc.enable_http_proxy", 0)]) as channel:
            await asyncio.wait_for(channel.channel_ready(), START_SECONDS)
            return await watch(channel, messages, CLIENTS, seconds, lambda: retrain(channel, clips[:SUGGESTIONS], labels[:SUGGESTIONS]))

    with tempfile.TemporaryDirectory() as folder:
        endpoint, file = f"127.0.0.1:{free_ports(1)[0]}", Path(folder) / "server.ini"
        file.write_text(
            INI.format(endpoint=endpoint, concurrent=CONCURRENT, folder=folder, version=directory.absolute(), enough=SUGGESTIONS)
        )
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        with subprocess.Popen([sys.executable, "-m", "serving.speech_server.serve", str(file)], env=environment) as process:
            try:
                noticed = asyncio.run(run(endpoint))
            finally:
                process.terminate()
        new = Recognizer(Path(folder) / "models" / "1", 1)(golden["audio"])[0].argmax(axis=1).tolist()
    if wrong := noticed.answers() - set(enumerate(labels)) - set(enumerate(new)):
        number, label = min(wrong)
        raise WindtunnelError(
            f"the server answers label {label} to clip {number}, the old version {labels[number]}, the new one {new[number]}"
        )
    text, well = describe(noticed)
    result = {"phases": {name: asdict(figures) for name, figures in noticed.phases().items()}, "requests": len(noticed.samples)}
    result |= {"failures": len(noticed.errors()), "clients": CLIENTS, "load": load, "git_commit": git_commit(ROOT)}
    keep(load_settings().home, "speech_swap", result, text)
    print(text, end="")
    if not well:
        sys.exit(1)


if __name__ == "__main__":
    run_program(main)
