"""Run a model server in the foreground: `python -m serving.backends.serve torchserve`."""

import os
import sys

from windtunnel.backend import find_backend
from windtunnel.errors import WindtunnelError


def main(server: str) -> None:
    """Replace this process with the program that the server's backend declares. The program starts without the declarations.

    Does not return.
    """
    try:
        program = find_backend(server).program
    except WindtunnelError as error:
        sys.exit(f"error: {error}")
    os.execv(sys.executable, [sys.executable, "-m", program])


if __name__ == "__main__":
    main(sys.argv[1])
