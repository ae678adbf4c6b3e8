"""What a thousand clients notice while the speech server is retrained and its model replaced.

    make bench-speech-swap

The server retrains itself, by a process beside it on the same machine, as it does without Airflow. The clients ask all along, each again
when it is answered; what they get before the first suggestion and after the new version has settled is the steady state.
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

from serving.load import SECONDS, Figures, Sample, percentile
from serving.speech.benchmark import METHOD, START_SECONDS, champion
from serving.speech.config import CONCURRENT
from serving.speech.model import Recognizer
from serving.speech.protos.dlserver_pb2 import InferenceRequest, InferenceResponse, TrainingRequest
from serving.speech.protos.dlserver_pb2_grpc import DLServerStub
from serving.speech.protos.speech_pb2 import GetModelRequest, ListSuggestionsRequest
from serving.speech.protos.speech_pb2_grpc import SpeechStub
from windtunnel.clips import FULL_SCALE, WORDS
from windtunnel.errors import WindtunnelError
from windtunnel.measure import keep, load_before
from windtunnel.ports import free_ports
from windtunnel.program import run_program
from windtunnel.run import git_commit
from windtunnel.settings import ROOT, load_settings

CLIENTS = 1000
SUGGESTIONS = 8
TIMES = 3.0  # the p99 meanwhile may be this many times the steady one
POLL_SECONDS = 0.2
LONGEST = 3600  # seconds for the retraining, which gets what the clients leave of the machine

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
    """All that clients asked, and when: the answer of each sample is the number of its message and the label, or the error.

    `steady` began it; the model was `asked` to be replaced; that it was `replaced` was seen; it `ended`. `around` are the seconds before
    and after the replacement that are told apart, for the first requests on a new version are no steady state.
    """

    clients: int
    samples: Sequence[Sample]
    steady: float
    asked: float
    replaced: float
    ended: float
    around: float

    def phases(self) -> dict[str, Figures]:
        """What clients got in each phase: `steady`, before and after together, `retraining` and `swap`."""
        before, after = self.replaced - self.around, self.replaced + self.around
        return {
            "steady": self._figures((self.steady, self.asked), (after, self.ended)),
            "retraining": self._figures((self.asked, self.replaced)),
            "swap": self._figures((before, after)),
        }

    def errors(self) -> list[grpc.aio.AioRpcError]:
        """Of the requests that failed."""
        return [sample.answer for sample in self.samples if isinstance(sample.answer, grpc.aio.AioRpcError)]

    def answers(self) -> set[tuple[int, int]]:
        """The numbers of the messages, and the labels that were the answers to them."""
        return {sample.answer for sample in self.samples if not isinstance(sample.answer, grpc.aio.AioRpcError)}

    def _figures(self, *spans: tuple[float, float]) -> Figures:
        latencies = [sample.latency for sample in self.samples if any(start <= sample.answered < end for start, end in spans)]
        rate = len(latencies) / sum(end - start for start, end in spans)
        return Figures(rate, percentile(latencies, 50), percentile(latencies, 99))


async def watch(
    channel: grpc.aio.Channel, messages: Sequence[bytes], clients: int, seconds: float, replace: Callable[[], Awaitable[None]]
) -> Watched:
    """Have so many clients ask all along, while the model is replaced.

    Args:
        channel: to the server.
        messages: InferenceRequests, sent in turn.
        clients: requests on their way at once.
        seconds: of warming up, of the steady state before and after, and around the replacement.
        replace: has the model replaced, and returns when the new version answers.
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
    """Suggest so many clips that the server retrains itself, and wait until what comes of it answers.

    Raises:
        WindtunnelError: the new version was turned away, or takes too long.
    """
    speech, deadline = SpeechStub(channel), time.monotonic() + LONGEST
    for clip, label in zip(clips, labels, strict=True):
        await DLServerStub(channel).Train(TrainingRequest(label=WORDS[label].upper(), audio_samples=clip))
    while (await speech.GetModel(GetModelRequest())).champion == 0:
        if rejected := (await speech.ListSuggestions(ListSuggestionsRequest(state="rejected"))).suggestions:
            raise WindtunnelError(f"the model was not replaced: {rejected[0].reason}")
        if time.monotonic() > deadline:
            raise WindtunnelError(f"the model was not replaced within {LONGEST} s: see the server's lines above")
        await asyncio.sleep(POLL_SECONDS)


def describe(noticed: Watched) -> tuple[str, bool]:
    """The figures for people, and whether they are what they may be."""
    phases, failures = noticed.phases(), noticed.errors()
    first = f", the first as {failures[0].code().name}: {failures[0].details()}" if failures else ""
    lines = [
        f"{name}: {figures.requests_per_second:,.0f} requests/s, p50 {1000 * figures.p50:,.0f} ms, p99 {1000 * figures.p99:,.0f} ms, "
        f"{figures.p99 / phases['steady'].p99:.2f} times steady"
        for name, figures in phases.items()
    ]
    lines.append(
        f"{noticed.clients} clients, {len(noticed.samples):,} requests, {len(failures)} failed{first}; retrained "
        f"and replaced in {noticed.replaced - noticed.asked:,.0f} s; the p99 may be {TIMES:g} times steady"
    )
    return "\n".join(lines) + "\n", not failures and all(each.p99 <= TIMES * phases["steady"].p99 for each in phases.values())


def main(
    version: Annotated[Path | None, typer.Option(help="The version's directory; by default the platform's champion.")] = None,
    seconds: Annotated[float, typer.Option(min=0.5, help="Of warming up, of each steady state, and around the swap.")] = 10.0,
) -> None:
    """Measure a steady server, have it retrained, measure until it has replaced its model, and say what clients noticed."""
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
        with subprocess.Popen([sys.executable, "-m", "serving.speech.serve", str(file)], env=environment) as process:
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
