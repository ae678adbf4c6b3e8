"""Run a model server and have it serve what the registry says: `python -m serving.keeper torchserve`.

The server and its keeper end together. Starting them again is for who started the keeper: the platform's supervisor, or the engine of
a container.
"""

import argparse
import os
import signal
import subprocess
import sys
from functools import partial

from windtunnel.process import die_with_parent

STOP_SECONDS = 10


def main(server: str) -> None:
    """Run the server until it ends or is told to stop."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    ends_with_this = partial(die_with_parent, os.getpid())  # asked of itself, a program that still imports would outlive a SIGKILL
    serving, reconciling = (
        subprocess.Popen([sys.executable, "-m", *program], preexec_fn=ends_with_this)
        for program in ([f"serving.{server}.serve"], ["serving.reconcile", server])
    )
    try:
        status = serving.wait()
    finally:
        for process in (reconciling, serving):
            _stop(process)
    sys.exit(f"{server} ended with status {status}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(timeout=STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=main.__doc__)  # typer would keep 11 MB in each of three processes that only wait
    parser.add_argument("server", help="torchserve, tfserving or speech")
    main(parser.parse_args().server)
