"""Start the embedded server as the platform's settings say: `python -m serving.tfserving.serve`."""

import os
import sys

from serving.tfserving.config import to_message, write_config
from serving.tfserving.server import config_file, models_directory
from windtunnel.settings import Settings, load_settings


def command(settings: Settings) -> list[str]:
    """The embedded server's command line. All of its flags are TensorFlow Serving's own."""
    return [
        *(sys.executable, "-m", "serving.tfserving.embedded"),
        f"--port={settings.tfserving_grpc_port}",
        f"--rest_api_port={settings.tfserving_rest_port}",
        f"--model_config_file={config_file(settings)}",
        # A label stands in the file beside the version that it is for, which is not loaded yet when the server starts.
        "--allow_version_labels_for_unavailable_models=true",
        "--max_num_load_retries=0",  # a version that cannot be loaded now cannot be loaded in a minute
        "--prefer_tflite_model=true",
        "--enable_batching=true",
    ]


def main() -> None:
    """Write the model config file where there is none, and become the server."""
    settings = load_settings()
    if not config_file(settings).exists():
        write_config(config_file(settings), to_message({}, models_directory(settings)))
    os.execv(sys.executable, command(settings))


if __name__ == "__main__":
    main()
