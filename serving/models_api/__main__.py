"""Run the service: `python -m serving.models_api`."""

from typing import Annotated

import typer
import uvicorn

from serving.models_api.app import application
from serving.models_api.sources import connect
from windtunnel.platform.program import run_program
from windtunnel.settings import load_settings


def main(host: Annotated[str, typer.Option(help="Where it listens. Default: WINDTUNNEL_HOST.")] = "") -> None:
    """Serve the JSON of the page Models until the process is stopped."""
    settings = load_settings()
    uvicorn.run(
        application(connect(settings)),
        host=host or settings.host,
        port=settings.models_api_port,
        access_log=False,
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=5,
    )


if __name__ == "__main__":
    run_program(main)
