"""The server as a program: load models, open ports, serve until told to end."""

import argparse
import asyncio
import logging
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import uvloop
from tensorflow.core.protobuf import config_pb2, rewriter_config_pb2
from tensorflow_serving.config import model_server_config_pb2

from serving.tfserving_embedded import metrics
from serving.tfserving_embedded.batching import Batcher
from serving.tfserving_embedded.batching_parameters import BatchingParameters
from serving.tfserving_embedded.config_files import (
    read_batching_parameters,
    read_model_config,
    read_prometheus_path,
    read_ssl_config,
    read_text_proto,
    single_model_config,
)
from serving.tfserving_embedded.core import Core
from serving.tfserving_embedded.flags import meaningless, refused
from serving.tfserving_embedded.grpc_services import GrpcOptions, make_server
from serving.tfserving_embedded.rest.api import Application, RestOptions
from serving.tfserving_embedded.rest.http_server import RestServer
from serving.tfserving_embedded.runtime.library import Library
from serving.tfserving_embedded.runtime.model import ModelOptions
from serving.tfserving_embedded.serving_error import ServingError, invalid_argument
from serving.tfserving_embedded.versions import LoadOptions, Versions

logger = logging.getLogger(__name__)

DRAIN_SECONDS = 8.0  # less than the timeout of `serving.run_server`


def run(flags: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT.

    Returns:
        The exit code: 1 if the server could not start; stderr says why.
    """
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    if ignored := meaningless(flags):
        logger.info("Flags without effect here: %s", ", ".join(ignored))
    try:
        uvloop.run(_serve(flags))
    except ServingError as error:
        print(f"Failed to start server. Error: {error.code.name}: {error.message}", file=sys.stderr)
        return 1
    return 0


async def _serve(flags: argparse.Namespace) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    if reason := refused(flags):
        raise ServingError(grpc.StatusCode.UNIMPLEMENTED, reason)
    config = _model_config(flags)
    credentials = _credentials(flags)
    library = Library(model_options(flags), max(1, flags.num_load_threads))
    versions = Versions(library, _load_options(flags))
    batcher = Batcher(_batching_parameters(flags), flags.enable_per_model_batching_parameters)
    core = Core(versions, batcher, flags.allow_version_labels_for_unavailable_models, flags.wait_for_models)
    background = [asyncio.ensure_future(versions.keep_polling())]
    if await _begin(core, config, flags.wait_for_models, stop):
        background.append(asyncio.ensure_future(_keep_reading(flags, core, config)))
        async with _grpc(core, flags, credentials), _rest(core, flags):
            await stop.wait()
    for task in background:
        task.cancel()
    batcher.close()
    library.close()


@asynccontextmanager
async def _grpc(core: Core, flags: argparse.Namespace, credentials: grpc.ServerCredentials | None) -> AsyncIterator[None]:
    """Serve gRPC, with TLS if there are credentials; at the end, answer the pending requests."""
    server = make_server(core, _grpc_options(flags))
    try:
        for address in _addresses(flags):
            try:
                if credentials is None:
                    server.add_insecure_port(address)
                else:
                    server.add_secure_port(address, credentials)
            except RuntimeError as error:
                listen = "listen on" if credentials is None else "serve TLS with the key and certificates of --ssl_config_file on"
                raise ServingError(grpc.StatusCode.UNAVAILABLE, f"Cannot {listen} {address}: {error}") from error
        await server.start()
        logger.info("Running gRPC ModelServer at %s ...", ", ".join(_addresses(flags)))
        yield
    finally:
        await server.stop(DRAIN_SECONDS)


@asynccontextmanager
async def _rest(core: Core, flags: argparse.Namespace) -> AsyncIterator[None]:
    """Serve REST if it has a port; at the end, answer the pending requests."""
    if not flags.rest_api_port:
        yield
        return
    server = RestServer(Application(core, _rest_options(flags)), flags.host, flags.rest_api_port)
    try:
        listener = socket.create_server((flags.host, flags.rest_api_port), backlog=server.config.backlog)
    except OSError as error:
        raise ServingError(grpc.StatusCode.UNAVAILABLE, f"Cannot listen on {flags.host}:{flags.rest_api_port}: {error}") from error
    task = asyncio.ensure_future(server.serve(sockets=[listener]))
    logger.info("Exporting HTTP/REST API at:%s:%d ...", flags.host, flags.rest_api_port)
    yield
    server.should_exit = True
    await asyncio.wait([task], timeout=DRAIN_SECONDS)


async def _begin(core: Core, config: model_server_config_pb2.ModelServerConfig, wait_for_models: bool, stop: asyncio.Event) -> bool:
    """Load the models. Without `wait_for_models`, models that cannot be loaded are missing, and the rest is served.

    Returns:
        Whether to serve: false if the server was told to stop in the meantime.

    Raises:
        ServingError: the configuration itself is invalid, or a model that is waited for cannot be loaded.
    """
    loading, stopping = asyncio.ensure_future(core.reload(config)), asyncio.ensure_future(stop.wait())
    await asyncio.wait((loading, stopping), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not loading.done():
        loading.cancel()
        return False
    try:
        loading.result()
    except ServingError as error:
        if wait_for_models or error.code != grpc.StatusCode.UNKNOWN:
            raise
        logger.error("%s", error.message)
    return True


async def _keep_reading(flags: argparse.Namespace, core: Core, config: model_server_config_pb2.ModelServerConfig) -> None:
    """Apply the model config file whenever it changes. It does not wait for models, so that a corrected file is read too."""
    while flags.model_config_file and flags.model_config_file_poll_wait_seconds > 0:
        await asyncio.sleep(flags.model_config_file_poll_wait_seconds)
        try:
            found = read_model_config(Path(flags.model_config_file))
            if found != config:
                await core.configure(found)
                config = found
        except ServingError as error:
            logger.error("%s stays as it was: %s", flags.model_config_file, error.message)


def _model_config(flags: argparse.Namespace) -> model_server_config_pb2.ModelServerConfig:
    if flags.model_config_file:
        return read_model_config(Path(flags.model_config_file))
    if flags.model_base_path:
        return single_model_config(flags.model_name, flags.model_base_path)
    raise invalid_argument("Both server_options.model_base_path and server_options.model_config_file are empty!")


def _credentials(flags: argparse.Namespace) -> grpc.ServerCredentials | None:
    """Return the gRPC credentials; None for plain text."""
    return read_ssl_config(Path(flags.ssl_config_file)) if flags.ssl_config_file else None


def _batching_parameters(flags: argparse.Namespace) -> BatchingParameters | None:
    if not flags.enable_batching:
        if flags.batching_parameters_file:
            raise invalid_argument("server_options.batching_parameters_file is set without setting server_options.enable_batching to true.")
        return None
    return read_batching_parameters(Path(flags.batching_parameters_file)) if flags.batching_parameters_file else BatchingParameters()


def model_options(flags: argparse.Namespace) -> ModelOptions:
    """Return how models are loaded.

    Raises:
        ServingError: INVALID_ARGUMENT: a file or a value is wrong.
    """
    config = config_pb2.ConfigProto()
    if flags.tensorflow_session_config_file:
        read_text_proto(Path(flags.tensorflow_session_config_file), config)
    config.intra_op_parallelism_threads = (
        flags.tensorflow_intra_op_parallelism or flags.tensorflow_session_parallelism or config.intra_op_parallelism_threads
    )
    config.inter_op_parallelism_threads = (
        flags.tensorflow_inter_op_parallelism or flags.tensorflow_session_parallelism or config.inter_op_parallelism_threads
    )
    config.gpu_options.per_process_gpu_memory_fraction = (
        flags.per_process_gpu_memory_fraction or config.gpu_options.per_process_gpu_memory_fraction
    )
    if flags.mixed_precision == "bfloat16":
        config.graph_options.rewrite_options.auto_mixed_precision_onednn_bfloat16 = rewriter_config_pb2.RewriterConfig.ON
    elif flags.mixed_precision:
        raise invalid_argument(f"--mixed_precision is wrong: found {flags.mixed_precision}, expected bfloat16")
    # A single operation at a time needs no pool: it is computed on the calling thread. The pool would cost a third of the time of a digit.
    run_options = config_pb2.RunOptions(inter_op_thread_pool=-1 if config.inter_op_parallelism_threads == 1 else 0)
    return ModelOptions(
        session_config=config,
        run_options=run_options,
        saved_model_tags=flags.saved_model_tags.split(","),
        prefer_tflite_model=flags.prefer_tflite_model,
        num_tflite_interpreters=max(1, flags.num_tflite_pools) * max(1, flags.num_tflite_interpreters_per_pool),
        enable_model_warmup=flags.enable_model_warmup,
        num_request_iterations_for_warmup=max(1, flags.num_request_iterations_for_warmup),
        enable_per_model_batching_parameters=flags.enable_batching and flags.enable_per_model_batching_parameters,
    )


def _load_options(flags: argparse.Namespace) -> LoadOptions:
    return LoadOptions(flags.file_system_poll_wait_seconds, flags.max_num_load_retries, flags.load_retry_interval_micros)


def _rest_options(flags: argparse.Namespace) -> RestOptions:
    path: str | None = metrics.PATH
    if flags.monitoring_config_file:
        path = read_prometheus_path(Path(flags.monitoring_config_file), metrics.PATH)
    return RestOptions(flags.rest_api_timeout_in_ms, flags.rest_api_enable_cors_support, path)


def _grpc_options(flags: argparse.Namespace) -> GrpcOptions:
    return GrpcOptions(_channel_arguments(flags), flags.enable_grpc_healthcheck_service, flags.enable_serialization_as_tensor_content)


def _channel_arguments(flags: argparse.Namespace) -> list[tuple[str, Any]]:
    """Parse `name=value,name=value`; numbers become integers, as in the real server."""
    pairs = (text.partition("=") for text in flags.grpc_channel_arguments.split(",") if text)
    return [(name, int(value) if value.lstrip("-").isdigit() else value) for name, _, value in pairs]


def _addresses(flags: argparse.Namespace) -> list[str]:
    """Return the addresses on which gRPC is served."""
    addresses = [f"{flags.host}:{flags.port}"] if flags.port else []
    return [*addresses, f"unix:{flags.grpc_socket_path}"] if flags.grpc_socket_path else addresses
