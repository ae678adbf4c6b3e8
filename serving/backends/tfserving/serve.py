"""Start the embedded server with the platform's settings: `python -m serving.backends.tfserving.serve`. It ends with its parent process."""

import os
import sys

from serving.backends.tfserving.backend import config_file, models_directory
from serving.backends.tfserving.declaration import TFServingSettings
from serving.backends.tfserving.model_config import to_message, write_config
from windtunnel.platform.child_processes import die_with_parent
from windtunnel.settings import Settings, load_settings

SMALL = ("--tensorflow_intra_op_parallelism=1", "--tensorflow_inter_op_parallelism=1")
"""A model as small as LeNet-5 is computed faster on the request's own thread than on several."""

TUNED = ("--prefer_tflite_model=true", "--enable_batching=true", *SMALL)
"""The fastest flags in measurements with `make bench-serve`."""


def command(settings: Settings, flags: tuple[str, ...] = TUNED) -> list[str]:
    """Return the embedded server's command line. All flags but two are TensorFlow Serving's own."""
    server = settings.server(TFServingSettings)
    return [
        *(sys.executable, "-m", "serving.tfserving_embedded"),
        f"--host={settings.host}",  # this flag and the next are not TensorFlow Serving's
        "--wait_for_models=false",  # a model that cannot be loaded must not delay the champions of the other models
        f"--port={server.grpc_port}",
        f"--rest_api_port={server.rest_port}",
        f"--model_config_file={config_file(settings)}",
        # The file assigns a label together with its version, which is not loaded yet when the server starts.
        "--allow_version_labels_for_unavailable_models=true",
        "--max_num_load_retries=0",  # retrying a minute later would not help
        *flags,
    ]


def serve(settings: Settings, flags: tuple[str, ...] = TUNED) -> None:
    """Write the model config file if it is missing, and replace this process with the server.

    Does not return.
    """
    die_with_parent()  # stays in effect after exec
    if not config_file(settings).exists():
        write_config(config_file(settings), to_message({}, models_directory(settings)))
    arguments = command(settings, flags)
    os.execv(arguments[0], arguments)


if __name__ == "__main__":
    serve(load_settings())
