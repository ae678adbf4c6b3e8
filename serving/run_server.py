"""Run a model server and make it serve what the registry says: `python -m serving.run_server torchserve`.

The server and this program end together. Whoever started this program restarts both: the platform's supervisor, or the container
engine.
"""

import argparse
import signal
import subprocess
import sys

from windtunnel.platform.child_processes import ending_with_parent

STOP_SECONDS = 10


def main(server: str) -> None:
    """Run the server until it ends or this process is told to stop."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    serving, reconciling = (
        subprocess.Popen(ending_with_parent([sys.executable, "-m", program, server]))
        for program in ("serving.backends.serve", "serving.release.reconcile")
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
    # This process only waits: typer would use 11 MB here, and so would the declarations of the backends.
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("server", help="the name of a declared backend, such as torchserve")
    main(parser.parse_args().server)
