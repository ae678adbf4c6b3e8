"""The speech server as a program: `dlserver CONFIG.ini` or, without a file, the platform's own server."""

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

from serving.speech_server.access import Access, read_tokens
from serving.speech_server.batching import Batcher
from serving.speech_server.feedback.journal import JournalError, open_journal
from serving.speech_server.feedback.retraining import retraining
from serving.speech_server.feedback.suggestions import Suggestions
from serving.speech_server.feedback.uploads import Uploads
from serving.speech_server.ini_file import CONCURRENT, Config, read_config
from serving.speech_server.interceptor import CallInterceptor
from serving.speech_server.metrics import Metrics
from serving.speech_server.models import Models
from serving.speech_server.protos import dlserver_pb2_grpc, speech_pb2_grpc
from serving.speech_server.service import NAMES, DLServer, Ear, Speech
from serving.speech_server.upgrade import upgrade
from windtunnel.data.recordings import vocabulary_at
from windtunnel.errors import WindtunnelError
from windtunnel.platform.child_processes import die_with_parent
from windtunnel.platform.program import run_program
from windtunnel.settings import load_settings

_log = logging.getLogger(__name__)

PURGE_SECONDS = 3600.0
SWITCH_SECONDS = 0.0002
"""Thread switch interval in seconds: Python's default of 5 ms is ten times the computation of a clip."""

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # from malloc.h
KEPT_BYTES, OWN_PAGES_BYTES = 64 << 20, 32 << 20
"""How much freed memory the process keeps, and from which size on memory is returned at once."""

MESSAGE_BYTES = 2 * 1024 * 1024
"""The longest request: a minute of 16-bit samples has 1.9 million bytes."""

HANDSHAKE_MILLISECONDS = 10_000
"""How long a new connection may take to greet. gRPC's own limit is two minutes."""

Status = health_pb2.HealthCheckResponse.ServingStatus


async def serve(config: Config) -> None:
    """Serve until SIGTERM or SIGINT, then answer the pending calls.

    Raises:
        WindtunnelError: a file, a folder or an address of the configuration cannot be used.
    """
    stop = asyncio.Event()
    for end in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(end, stop.set)
    metrics = Metrics()
    async with AsyncExitStack() as stack:
        journal = await asyncio.to_thread(open_journal, config)
        suggestions = Suggestions(journal, metrics)
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

        access = Access(read_tokens(config.tokens) if config.tokens is not None else None)
        interceptor = CallInterceptor(config.max_concurrent_rpcs, access, metrics)
        options = [
            ("grpc.max_receive_message_length", MESSAGE_BYTES),
            ("grpc.so_reuseport", 0),
            ("grpc.server_handshake_timeout_ms", HANDSHAKE_MILLISECONDS),
        ]
        server = grpc.aio.server(interceptors=[interceptor], options=options)
        ear = Ear(models, batcher, uploads, config.reject_below)
        dlserver_pb2_grpc.add_DLServerServicer_to_server(DLServer(ear, suggestions, access), server)
        speech_pb2_grpc.add_SpeechServicer_to_server(Speech(ear, suggestions, access), server)
        status = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(status, server)

        async def show() -> None:
            serving = models.champion is not None
            metrics.version.set(models.champion.number if models.champion is not None else -1)
            metrics.refused.set(len(models.refused))
            for name in ("", *NAMES):
                await status.set(name, Status.SERVING if serving else Status.NOT_SERVING)

        await show()
        reflection.enable_server_reflection((*NAMES, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
        _listen(config, server)
        _show_metrics(config, metrics, stack)
        await stack.enter_async_context(_running(server, status, interceptor))
        for task in (models.follow(show), _purge(suggestions), retraining(config, suggestions).follow()):
            stack.callback(asyncio.ensure_future(task).cancel)
        model = "no model yet" if models.champion is None else f"version {models.champion.number}"
        print(f"dlserver listens on {config.endpoint} with {model}", flush=True)
        await stop.wait()


def keep_memory() -> None:
    """Keep the memory of answered requests for later ones. Otherwise a clip's memory is returned to the kernel and requested again by page.

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
                _log.warning("tokens are sent unencrypted. Set CertificateFile and KeyFile to use TLS")
            server.add_insecure_port(config.endpoint)
    except RuntimeError as error:
        raise WindtunnelError(f"cannot listen on {config.endpoint} ({error}). End the process that does, or change Endpoint") from error


def _show_metrics(config: Config, metrics: Metrics, stack: AsyncExitStack) -> None:
    if config.metrics is None:
        return
    host, _, port = config.metrics.rpartition(":")
    try:
        page, _ = start_http_server(int(port), host.strip("[]"), metrics.registry)
    except OSError as error:
        what = f"cannot listen on {config.metrics} ({error.strerror})"
        raise WindtunnelError(f"{what}. End the process that does, or change MetricsEndpoint") from error
    stack.callback(page.server_close)
    stack.callback(page.shutdown)


@asynccontextmanager
async def _running(server: grpc.aio.Server, status: health.aio.HealthServicer, interceptor: CallInterceptor) -> AsyncIterator[None]:
    """Serve while the body runs; then report it to health checks and answer the pending calls."""
    await server.start()
    try:
        yield
    finally:
        await status.enter_graceful_shutdown()
        await interceptor.drain(server)


async def _purge(suggestions: Suggestions) -> None:
    while True:
        with suppress(JournalError):  # it has been logged
            await suggestions.purge()
        await asyncio.sleep(PURGE_SECONDS)


def _read(file: Path, key: str) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise WindtunnelError(f"{key} {file} cannot be read ({error.strerror}). Set it to a PEM file") from error


def main(config: Annotated[Path | None, typer.Argument(help="An INI file such as server.ini.", metavar="[CONFIG.ini]")] = None) -> None:
    """Serve speech commands recognition over gRPC, and accept suggestions for training.

    Without a file, this is the platform's own server: it uses the platform's settings and ends with its parent process.
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
