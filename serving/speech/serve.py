"""The speech server as a program: `dlserver CONFIG.ini`, or, without a file, the platform's own."""

import asyncio
import ctypes
import logging
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Annotated

import grpc
import typer
import uvloop
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from prometheus_client import start_http_server

from serving.speech.access import read_tokens
from serving.speech.batching import Batcher
from serving.speech.calls import Calls
from serving.speech.config import CONCURRENT, Config, read_config
from serving.speech.journal import JournalError, open_journal
from serving.speech.metrics import Metrics
from serving.speech.models import Models
from serving.speech.retraining import retraining
from serving.speech.service import DLServer, Ear, Speech, add_services
from serving.speech.suggestions import Suggestions
from serving.speech.upgrade import upgrade
from serving.speech.uploads import Uploads
from windtunnel.errors import WindtunnelError
from windtunnel.process import die_with_parent
from windtunnel.program import run_program
from windtunnel.recordings import vocabulary_at
from windtunnel.settings import load_settings

_log = logging.getLogger(__name__)

PURGE_SECONDS = 3600.0
SWITCH_SECONDS = 0.0002
"""After which the loop lets a recognizer that has computed go on: Python's own 5 ms are ten times what a clip takes."""

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h
KEPT_BYTES, OWN_PAGES_BYTES = 64 << 20, 32 << 20
"""What the process keeps of the memory it has freed, and from which size on memory is returned at once."""

MESSAGE_BYTES = 2 * 1024 * 1024
"""The longest request: a minute of 16-bit samples has 1.9 million bytes."""

Status = health_pb2.HealthCheckResponse.ServingStatus


async def serve(config: Config) -> None:
    """Serve until a SIGTERM or SIGINT; then answer what has been asked.

    Raises:
        WindtunnelError: a file, a folder or an address of the configuration cannot be used.
    """
    stop = asyncio.Event()
    for end in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(end, stop.set)
    metrics = Metrics()
    async with AsyncExitStack() as stack:
        journal = await asyncio.to_thread(open_journal, config)
        suggestions = Suggestions(journal)
        stack.callback(suggestions.close)
        config = await asyncio.to_thread(upgrade, config, journal)
        batcher = Batcher(config.workers, max(config.max_concurrent_rpcs, CONCURRENT), metrics)  # a call may have several clips
        stack.callback(batcher.close)
        models = Models(config.models, config.model, await asyncio.to_thread(vocabulary_at, config.base_samples))
        await models.start()
        uploads = None
        if config.infer_uploads is not None:
            uploads = Uploads(config.infer_uploads, config.upload_bytes, config.keep_days, metrics, lambda: models.words)
            stack.callback(uploads.close)

        calls = Calls(config.max_concurrent_rpcs, read_tokens(config.tokens) if config.tokens is not None else None, metrics)
        ear = Ear(models, batcher, uploads, config.reject_below)
        server = grpc.aio.server(options=[("grpc.max_receive_message_length", MESSAGE_BYTES), ("grpc.so_reuseport", 0)])
        names = add_services(server, DLServer(calls, ear, suggestions), Speech(calls, ear, suggestions))
        status = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(status, server)

        async def show() -> None:
            serving = models.champion is not None
            metrics.version.set(models.champion.number if models.champion is not None else -1)
            metrics.refused.set(len(models.refused))
            for name in ("", *names):
                await status.set(name, Status.SERVING if serving else Status.NOT_SERVING)

        await show()
        reflection.enable_server_reflection((*names, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
        _listen(config, server)
        _show_metrics(config, metrics, stack)
        await stack.enter_async_context(_running(server, status, calls))
        for task in (models.follow(show), _purge(suggestions), retraining(config, suggestions).follow()):
            stack.callback(asyncio.ensure_future(task).cancel)
        model = "no model yet" if models.champion is None else f"version {models.champion.number}"
        print(f"dlserver listens on {config.endpoint} with {model}", flush=True)
        await stop.wait()


def keep_memory() -> None:
    """Keep the memory of answered requests for the next ones: a clip would be returned to the kernel and asked of it again, page by page.

    See mallopt(3).
    """
    mallopt = ctypes.CDLL(None).mallopt
    mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
    mallopt(M_MMAP_THRESHOLD, OWN_PAGES_BYTES)


def _listen(config: Config, server: grpc.aio.Server) -> None:
    try:
        if config.certificate is not None and config.key is not None:
            pair = (_read(config.key, "KeyFile"), _read(config.certificate, "CertificateFile"))
            server.add_secure_port(config.endpoint, grpc.ssl_server_credentials([pair]))
        else:
            if config.tokens is not None:
                _log.warning("tokens cross the network in clear: name CertificateFile and KeyFile too")
            server.add_insecure_port(config.endpoint)
    except RuntimeError as error:
        raise WindtunnelError(f"cannot listen on {config.endpoint} ({error}): end who does, or change Endpoint") from error


def _show_metrics(config: Config, metrics: Metrics, stack: AsyncExitStack) -> None:
    if config.metrics is None:
        return
    host, _, port = config.metrics.rpartition(":")
    try:
        page, _ = start_http_server(int(port), host.strip("[]"), metrics.registry)
    except OSError as error:
        raise WindtunnelError(f"cannot listen on {config.metrics} ({error.strerror}): end who does, or change MetricsEndpoint") from error
    stack.callback(page.server_close)
    stack.callback(page.shutdown)


@asynccontextmanager
async def _running(server: grpc.aio.Server, status: health.aio.HealthServicer, calls: Calls) -> AsyncIterator[None]:
    """Serve; in the end say so to who checks the health, and answer what has been asked."""
    await server.start()
    try:
        yield
    finally:
        await status.enter_graceful_shutdown()
        await calls.drain(server)


async def _purge(suggestions: Suggestions) -> None:
    while True:
        with suppress(JournalError):  # which is in the log
            await suggestions.purge()
        await asyncio.sleep(PURGE_SECONDS)


def _read(file: Path, key: str) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise WindtunnelError(f"{key} {file} cannot be read ({error.strerror}): name a PEM file") from error


def main(config: Annotated[Path | None, typer.Argument(help="INI file such as server.ini.", metavar="[CONFIG.ini]")] = None) -> None:
    """Recognise spoken commands over gRPC, and take suggestions to train with.

    Without a file it is the platform's own server, with the platform's settings, and ends with whoever started it.
    """
    sys.setswitchinterval(SWITCH_SECONDS)
    keep_memory()
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    if config is None:
        die_with_parent()
    uvloop.run(serve(Config.of(load_settings()) if config is None else read_config(config)))


def program() -> None:
    """The command `dlserver`."""
    run_program(main)


if __name__ == "__main__":
    program()
