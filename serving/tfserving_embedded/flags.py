"""The command line: TensorFlow Serving's own flags (tensorflow_serving/model_servers/main.cc), `--host` and `--wait_for_models`."""

import argparse
import os
from collections.abc import Sequence
from importlib import metadata

CPUS = len(os.sched_getaffinity(0))


def parse_flags(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the flags, as `--flag=value` or `--flag value`; a Boolean flag may have no value.

    Like the real server, it prints the usage and continues if a flag is unknown, and exits if a value is wrong.

    Args:
        arguments: the arguments without the program's name; by default those of this process.
    """
    parser = argparse.ArgumentParser(
        prog="python -m serving.tfserving_embedded", description=__doc__, allow_abbrev=False, argument_default=argparse.SUPPRESS
    )
    for group in (_add_ports, _add_models, _add_loading, _add_batching, _add_runtime):
        group(parser)
    for name in _MEANINGLESS:
        parser.add_argument(f"--{name}", nargs="?", help=argparse.SUPPRESS)
    flags, unknown = parser.parse_known_args(arguments)
    if unknown:
        print(f"unknown argument: {unknown[0]}\n{parser.format_usage()}", flush=True)
    return flags


def version_text() -> str:
    """Return what `--version` prints, in the real server's format: the release that defines this API, and TensorFlow's."""
    api, library = (metadata.version(name) for name in ("tensorflow-serving-api", "tensorflow"))
    return f"TensorFlow ModelServer: {api} (embedded)\nTensorFlow Library: {library}"


def refused(flags: argparse.Namespace) -> str | None:
    """Return why a given flag is not supported, if it would change what clients get."""
    return next((f"--{name} is not supported: {reason}" for name, reason in _REFUSED.items() if getattr(flags, name)), None)


def meaningless(flags: argparse.Namespace) -> list[str]:
    """Return the given flags that TensorFlow Serving has and that have no effect here."""
    return [name for name in _MEANINGLESS if hasattr(flags, name)]


def truth(text: str) -> bool:
    """Parse a Boolean as TensorFlow's flags spell it.

    Raises:
        argparse.ArgumentTypeError: it is something else.
    """
    values = {"true": True, "1": True, "false": False, "0": False}
    if text.lower() not in values:
        raise argparse.ArgumentTypeError(f"{text} is neither true nor false")
    return values[text.lower()]


def _add_truth(parser: argparse.ArgumentParser, name: str, default: bool, text: str) -> None:
    parser.add_argument(f"--{name}", nargs="?", type=truth, const=True, default=default, help=text)


def _add_ports(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; the real server listens on all")
    parser.add_argument("--port", type=int, default=8500, help="gRPC port; 0 for none")
    parser.add_argument("--grpc_socket_path", default="", help="Unix socket on which to serve gRPC in addition")
    parser.add_argument("--grpc_channel_arguments", default="", help="gRPC channel arguments: name=value,name=value")
    parser.add_argument("--ssl_config_file", default="", help="SSLConfig: serve gRPC over TLS; REST has no TLS, as in the real server")
    _add_truth(parser, "use_alts_credentials", False, "refused")
    _add_truth(parser, "enable_profiler", False, "refused")
    _add_truth(parser, "enable_grpc_healthcheck_service", False, "serve grpc.health.v1.Health too")
    _add_truth(parser, "enable_serialization_as_tensor_content", False, "answer Predict with bytes instead of lists of numbers")
    parser.add_argument("--rest_api_port", type=int, default=0, help="REST port; 0 for none")
    parser.add_argument("--rest_api_timeout_in_ms", type=int, default=30_000, help="timeout of a REST call")
    _add_truth(parser, "rest_api_enable_cors_support", False, "allow requests from pages of other origins")
    parser.add_argument("--monitoring_config_file", default="", help="MonitoringConfig: the path of the metrics")
    _add_truth(parser, "version", False, "print the versions and exit")


def _add_models(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model_config_file", default="", help="ModelServerConfig: the models; without it, a single model is served")
    parser.add_argument("--model_config_file_poll_wait_seconds", type=int, default=0, help="interval for re-reading that file; 0: never")
    parser.add_argument("--model_name", default="default", help="name of the single model")
    parser.add_argument("--model_base_path", default="", help="directory of the single model, with a subdirectory per version")
    text = "open the ports when each model has a version that answers, and exit if one cannot be loaded, as the real server does"
    _add_truth(parser, "wait_for_models", True, f"{text}; false to serve the models that load")
    _add_truth(parser, "allow_version_labels_for_unavailable_models", False, "let new labels point to versions that are not loaded yet")


def _add_loading(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--file_system_poll_wait_seconds", type=int, default=1, help="interval at which to poll base paths; 0 for once, -1 for never"
    )
    parser.add_argument("--max_num_load_retries", type=int, default=5, help="retries after a failed load")
    parser.add_argument("--load_retry_interval_micros", type=int, default=60_000_000, help="pause before each retry")
    parser.add_argument("--num_load_threads", type=int, default=0, help="how many versions load at the same time; 0 means one")
    parser.add_argument("--saved_model_tags", default="serve", help="tags of the SavedModel's graph to load: tag,tag")
    _add_truth(parser, "enable_model_warmup", True, "replay a version's warm-up records before it answers")
    parser.add_argument("--num_request_iterations_for_warmup", type=int, default=1, help="how often each record is replayed")


def _add_batching(parser: argparse.ArgumentParser) -> None:
    _add_truth(parser, "enable_batching", False, "compute requests together that arrive while the runtime is busy")
    parser.add_argument("--batching_parameters_file", default="", help="BatchingParameters")
    _add_truth(parser, "enable_per_model_batching_parameters", False, "read them from batching_params.pbtxt in a SavedModel's directory")


def _add_runtime(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tensorflow_session_config_file", default="", help="ConfigProto of all sessions")
    parser.add_argument("--tensorflow_session_parallelism", type=int, default=0, help="threads of a session, for both kinds below")
    parser.add_argument("--tensorflow_intra_op_parallelism", type=int, default=0, help="threads within an operation; 0 for one per core")
    parser.add_argument("--tensorflow_inter_op_parallelism", type=int, default=0, help="operations at the same time; 0 for one per core")
    parser.add_argument("--mixed_precision", default="", help="bfloat16: use it for operations that tolerate it")
    parser.add_argument("--per_process_gpu_memory_fraction", type=float, default=0, help="share of GPU memory; 0: TensorFlow's default")
    parser.add_argument("--platform_config_file", default="", help="refused")
    parser.add_argument("--thread_pool_factory_config_file", default="", help="refused")
    _add_truth(parser, "prefer_tflite_model", False, "serve model.tflite if a SavedModel's directory has one")
    parser.add_argument("--num_tflite_pools", type=int, default=CPUS, help="pools of LiteRT interpreters per model")
    parser.add_argument("--num_tflite_interpreters_per_pool", type=int, default=1, help="LiteRT interpreters per pool")


_REFUSED = {
    "enable_profiler": "there is no profiler service. Profile the model in a program that imports TensorFlow",
    "use_alts_credentials": "ALTS works only in Google's own network. Use --ssl_config_file",
    "platform_config_file": "use --tensorflow_session_config_file and --batching_parameters_file",
    "thread_pool_factory_config_file": "the factory is C++ code linked into the real server. Omit the flag",
}

_MEANINGLESS = (
    "enable_signature_method_name_check",
    "enforce_session_run_timeout",
    "flush_filesystem_caches",
    "grpc_max_threads",
    "num_unload_threads",
    "remove_unused_fields_from_bundle_metagraph",
    "rest_api_num_threads",
    "skip_initialize_tpu",
    "use_saved_model",
    "xla_cpu_compilation_enabled",
    "xla_gpu_compilation_enabled",
)
"""Flags of the real server that have no effect here: accepted, and named in the log."""
