"""Keep a model server running: start it, make it serve what the registry says, start it again when it ends.

python -m serving.keeper torchserve
"""

import signal
import subprocess
import sys
import time
from typing import Annotated

import typer

from serving.release import reconcile
from serving.server import Server
from serving.servers import connect
from windtunnel.errors import WindtunnelError
from windtunnel.process import die_with_parent
from windtunnel.program import run_program
from windtunnel.settings import Settings, load_settings

POLL_SECONDS = 0.2
STEADY_SECONDS = 60  # a server that ran as long as this has not failed at its start
LONGEST_PAUSE = 30


def main(server: Annotated[str, typer.Argument(help="torchserve, tfserving or speech.")]) -> None:
    """Run the server until told to stop."""
    die_with_parent()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    settings = load_settings()
    port = connect(server, settings)
    pause = 1
    while True:
        started = time.monotonic()
        process = subprocess.Popen([sys.executable, "-m", f"serving.{server}.serve"])
        try:
            _reconcile(process, port, settings)
            process.wait()
        finally:
            _stop(process)
        if time.monotonic() - started > STEADY_SECONDS:
            pause = 1
        print(f"{server} ended with status {process.returncode}; starting it again in {pause} s", flush=True)
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)


def _reconcile(process: subprocess.Popen[bytes], port: Server, settings: Settings) -> None:
    """Reconcile as soon as server and registry answer, unless the server ends before."""
    said = ""
    while process.poll() is None:
        try:
            changes = reconcile(settings, port, lambda line: print(line, flush=True))
            print(f"{port.name} serves what the registry says, {len(changes)} changes", flush=True)
            return
        except WindtunnelError as error:
            if str(error) != said:
                said = str(error)
                print(f"not reconciled yet: {said}", flush=True)
            time.sleep(POLL_SECONDS)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


if __name__ == "__main__":
    run_program(main)
