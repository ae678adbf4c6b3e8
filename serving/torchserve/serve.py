"""Start TorchServe in the foreground: `python -m serving.torchserve.serve`. It ends with whoever started it."""

import fcntl
import os
import shutil
import sys
from pathlib import Path

from serving.torchserve.config import TUNED, Config, command, folders, properties
from windtunnel.errors import WindtunnelError
from windtunnel.files import write_atomically
from windtunnel.process import die_with_parent
from windtunnel.settings import Settings, load_settings


def serve(settings: Settings, config: Config = TUNED) -> None:
    """Become TorchServe's frontend. Its workers end when it does, however it ends: they lose their socket.

    Does not return.

    Raises:
        WindtunnelError: a TorchServe runs in this folder, or there is no Java.
    """
    die_with_parent()  # holds through exec, as the lock does
    os.umask(0o077)  # TorchServe writes its tokens first, and only then makes them its owner's alone
    here = folders(settings)
    here.root.mkdir(parents=True, exist_ok=True)
    lock(here.root / "lock")
    for directory in (here.models, here.temporary):  # what the run before had registered; this one starts with nothing
        shutil.rmtree(directory, ignore_errors=True)
    here.keys.unlink(missing_ok=True)
    for directory in (here.models, here.logs, here.temporary):
        directory.mkdir(parents=True, exist_ok=True)
    os.chdir(here.root)  # where TorchServe writes key_file.json
    # A Unix socket's path may have 108 bytes and the home any number: through /proc it is short, and no other run's.
    temporary = Path("/proc", str(os.getpid()), "cwd", here.temporary.name)
    lines = "".join(f"{name}={value}\n" for name, value in properties(settings, config, temporary).items())
    write_atomically(here.properties, lines.encode())
    arguments = command(settings, config, temporary)
    os.execve(arguments[0], arguments, environment(here.logs))


def lock(file: Path) -> None:
    """Hold the lock in `file` until this process ends, whatever program it has become."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT)
    os.set_inheritable(descriptor, True)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise WindtunnelError(f"another TorchServe runs in {file.parent}: stop it, or set another WINDTUNNEL_HOME") from None


def environment(logs: Path) -> dict[str, str]:
    """This process' environment, without what would override the configuration, and with a locale in which Java can write any path."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TS_")}
    return kept | {"LC_ALL": "C.UTF-8", "LOG_LOCATION": str(logs), "METRICS_LOCATION": str(logs)}


if __name__ == "__main__":
    try:
        serve(load_settings())
    except WindtunnelError as error:
        sys.exit(f"error: {error}")
