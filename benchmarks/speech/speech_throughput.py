"""Measure the speech server's throughput, compared with the same gRPC stack without a model and with the first speech server's design.

    make bench-speech

The speech server and the no-op baseline are measured alternately. Every answer of the server is compared with its trainer's.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any

import grpc
import psutil
import typer
from rich.table import Table
from safetensors.numpy import load_file

from benchmarks.running_servers import private_settings, running
from serving.backends.base import Version
from serving.backends.speech import SpeechServer
from serving.load.generators import Figures, grpc_closed_loop
from serving.speech_server.declaration import SpeechSettings
from serving.speech_server.ini_file import Config
from serving.speech_server.models import read_wanted
from serving.speech_server.protos.dlserver_pb2 import InferenceRequest, InferenceResponse
from windtunnel.data.clips import FULL_SCALE
from windtunnel.errors import WindtunnelError
from windtunnel.measure import keep, load_before
from windtunnel.platform.ports import free_ports
from windtunnel.platform.program import run_program
from windtunnel.run import git_commit
from windtunnel.settings import ROOT, load_settings
from windtunnel.tables import render
from windtunnel.vocabulary import SPEECH_COMMANDS

METHOD = "/info.shenghaoyang.ntu.ntu_iot.dlserver.DLServer/Infer"
CLIENTS = (1, 10, 50)
ROUNDS = 5
WARM_UP = 0.5  # seconds
START_SECONDS = 120

SERVED, BASELINE, POOL = "speech server", "same stack, no model", "process pool"


def champion() -> Path:
    """Return the directory of the version that the platform's speech server answers with.

    Raises:
        WindtunnelError: there is no champion.
    """
    models = Config.of(load_settings()).models
    number = read_wanted(models).champion
    if number is None:
        raise WindtunnelError(
            "the speech server has no champion. Train one with `windtunnel run speech_commands`, or give --version DIRECTORY"
        )
    return models / str(number)


@contextmanager
def program(module: str) -> Iterator[str]:
    """Start a server without a model as a process, and yield its address once it answers."""
    address = f"127.0.0.1:{free_ports(1)[0]}"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-m", module, address], env=environment)
    try:
        with grpc.insecure_channel(address, [("grpc.enable_http_proxy", 0)]) as channel:
            grpc.channel_ready_future(channel).result(START_SECONDS)
        yield address
    finally:
        children = psutil.Process(process.pid).children(recursive=True)
        process.terminate()
        process.wait(timeout=30)
        for child in psutil.wait_procs(children, timeout=5)[1]:
            child.kill()


def measure(address: str, messages: Sequence[bytes], labels: Sequence[int] | None, clients: int, seconds: float) -> Figures:
    """Measure what this many clients get, each sending its next request when it has an answer.

    If `labels` are given, the answers must match them.
    """

    def check(index: int, answer: bytes) -> None:
        found = InferenceResponse.FromString(answer).label
        if labels is not None and found != labels[index]:
            raise WindtunnelError(f"wrong answer: the speech server gives label {found} to a clip, expected its trainer's {labels[index]}")

    return grpc_closed_loop(address, METHOD, {}, messages, check, clients, (WARM_UP, seconds))


def tabulate(result: dict[str, Any]) -> str:
    """Format the figures: medians, with minimum and maximum."""
    table = Table("server", "clients", title="Infer, one clip of one second per request")
    for heading in ("requests/s", "p50", "p99", "of baseline"):
        table.add_column(heading, justify="right")
    baselines = {row["clients"]: statistics.median(row["rates"]) for row in result["rows"] if row["server"] == BASELINE}
    for row in result["rows"]:
        rate = statistics.median(row["rates"])
        spread = f" ({min(row['rates']):,.0f} to {max(row['rates']):,.0f})" if len(row["rates"]) > 1 else ""
        share = f"{rate / baselines[row['clients']]:.0%}" if row["server"] == SERVED else ""
        times = [f"{1000 * statistics.median(row[name]):.1f} ms" for name in ("p50", "p99")]
        table.add_row(row["server"], str(row["clients"]), f"{rate:,.0f}{spread}", *times, share)
    memory, first = f"{result['memory'] / 2**20:.0f} MiB", f"{result['first_answer']:.2f} s"
    return render(table) + f"memory {memory} after the last round; first answer {first} after the start, including publishing\n"


def main(
    version: Annotated[Path | None, typer.Option(help="The version's directory. Default: the platform's champion.")] = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="Seconds per measurement.")] = 2.0,
) -> None:
    """Measure, then print and save the figures."""
    directory = version or champion()
    golden = load_file(directory / "golden.safetensors")
    messages = [InferenceRequest(audio_samples=clip.tolist()).SerializeToString() for clip in golden["audio"] * FULL_SCALE]
    labels = golden["label"].tolist()
    load = load_before()
    rows: dict[tuple[str, int], dict[str, Any]] = {}

    def note(server: str, clients: int, figures: Figures) -> None:
        row = rows.setdefault((server, clients), {"server": server, "clients": clients, "rates": [], "p50": [], "p99": []})
        row["rates"].append(figures.requests_per_second)
        row["p50"].append(figures.p50)
        row["p99"].append(figures.p99)
        print(f"{server}, {clients} clients: {figures.requests_per_second:,.0f} requests/s", file=sys.stderr, flush=True)

    with ExitStack() as stack:
        settings = private_settings(Path(stack.enter_context(tempfile.TemporaryDirectory())))
        address, port = settings.server(SpeechSettings).address, SpeechServer(settings)
        command = [sys.executable, "-m", "serving.speech_server.serve"]
        began = time.perf_counter()
        stack.enter_context(running(command, settings, port))
        port.load(Version(SPEECH_COMMANDS, 1, directory))
        port.promote(SPEECH_COMMANDS, 1)
        measure(address, messages[:1], labels[:1], 1, 0.1)
        started = time.perf_counter() - began
        baseline = stack.enter_context(program("benchmarks.speech.no_op_server"))
        for _ in range(ROUNDS):
            for clients in CLIENTS:
                note(BASELINE, clients, measure(baseline, messages, None, clients, seconds))
                note(SERVED, clients, measure(address, messages, labels, clients, seconds))
        memory = next(
            process.memory_info().rss
            for process in psutil.Process().children()
            if any("serving.speech_server.serve" in word for word in process.cmdline())
        )
    with program("benchmarks.speech.process_pool") as pool:
        note(POOL, CLIENTS[-1], measure(pool, messages, None, CLIENTS[-1], 5 * seconds))
    result = {
        "rows": list(rows.values()),
        "memory": memory,
        "first_answer": started,
        "version": str(directory),
        "load": load,
        "git_commit": git_commit(ROOT),
    }
    text = tabulate(result)
    keep(load_settings().home, "speech", result, text)
    print(text)


if __name__ == "__main__":
    run_program(main)
