"""Start TorchServe in the foreground: `python -m serving.backends.torchserve.serve`. It ends with its parent process."""

import fcntl
import os
import shutil
import sys
from pathlib import Path

from serving.backends.torchserve.configuration import TUNED, Config, command, folders, properties
from windtunnel.errors import WindtunnelError
from windtunnel.files import write_atomically
from windtunnel.platform.child_processes import die_with_parent
from windtunnel.settings import Settings, load_settings


def serve(settings: Settings, config: Config = TUNED) -> None:
    """Replace this process with TorchServe's frontend. Its workers end whenever it ends, because they lose their socket.

    Does not return.

    Raises:
        WindtunnelError: another TorchServe runs in this folder, or there is no Java.
    """
    die_with_parent()  # stays in effect after exec, like the lock
    os.umask(0o077)  # TorchServe restricts its tokens to their owner only after it has written them
    here = folders(settings)
    here.root.mkdir(parents=True, exist_ok=True)
    lock(here.root / "lock")
    for directory in (here.models, here.temporary):  # remove what the previous run registered: this one starts empty
        shutil.rmtree(directory, ignore_errors=True)
    here.keys.unlink(missing_ok=True)
    for directory in (here.models, here.logs, here.temporary):
        directory.mkdir(parents=True, exist_ok=True)
    os.chdir(here.root)  # TorchServe writes key_file.json here
    # A Unix socket's path may have 108 bytes, and the home may be longer. The path through /proc is short and unique to this run.
    temporary = Path("/proc", str(os.getpid()), "cwd", here.temporary.name)
    lines = "".join(f"{name}={value}\n" for name, value in properties(settings, config, temporary).items())
    write_atomically(here.properties, lines.encode())
    arguments = command(settings, config, temporary)
    os.execve(arguments[0], arguments, environment(here.logs))


def lock(file: Path) -> None:
    """Hold the lock in `file` until this process ends, even after exec."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT)
    os.set_inheritable(descriptor, True)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise WindtunnelError(f"another TorchServe runs in {file.parent}. Stop it, or set another WINDTUNNEL_HOME") from None


def environment(logs: Path) -> dict[str, str]:
    """Return this process' environment, without variables that override the configuration, and with a locale for paths in UTF-8."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TS_")}
    return kept | {"LC_ALL": "C.UTF-8", "LOG_LOCATION": str(logs), "METRICS_LOCATION": str(logs)}


if __name__ == "__main__":
    try:
        serve(load_settings())
    except WindtunnelError as error:
        sys.exit(f"error: {error}")
