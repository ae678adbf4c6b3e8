"""Start the embedded server as the platform's settings say: `python -m serving.tfserving.serve`. It ends with whoever started it."""

import os
import sys

from serving.tfserving.config import to_message, write_config
from serving.tfserving.server import config_file, models_directory
from windtunnel.process import die_with_parent
from windtunnel.settings import Settings, load_settings

SMALL = ("--tensorflow_intra_op_parallelism=1", "--tensorflow_inter_op_parallelism=1")
"""A model as small as LeNet-5 is computed faster on the thread that asks than shared among several."""

TUNED = ("--prefer_tflite_model=true", "--enable_batching=true", *SMALL)
"""What is measured fastest: `make bench-serve`."""


def command(settings: Settings, flags: tuple[str, ...] = TUNED) -> list[str]:
    """The embedded server's command line. Its flags are TensorFlow Serving's own, but for two."""
    return [
        *(sys.executable, "-m", "serving.tfserving.embedded"),
        f"--host={settings.host}",  # this flag and the next are not TensorFlow Serving's
        "--wait_for_models=false",  # one model that cannot be loaded does not keep the champions of the others from their users
        f"--port={settings.tfserving_grpc_port}",
        f"--rest_api_port={settings.tfserving_rest_port}",
        f"--model_config_file={config_file(settings)}",
        # A label is in the file beside the version that it stands for, which is not loaded yet when the server starts.
        "--allow_version_labels_for_unavailable_models=true",
        "--max_num_load_retries=0",  # a version that cannot be loaded now cannot be loaded in a minute
        *flags,
    ]


def serve(settings: Settings, flags: tuple[str, ...] = TUNED) -> None:
    """Write the model config file where there is none, and become the server.

    Does not return.
    """
    die_with_parent()  # holds through exec
    if not config_file(settings).exists():
        write_config(config_file(settings), to_message({}, models_directory(settings)))
    arguments = command(settings, flags)
    os.execv(arguments[0], arguments)


if __name__ == "__main__":
    serve(load_settings())
