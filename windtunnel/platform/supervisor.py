"""Configure, start and query supervisord, which runs the processes of the Procfile and restarts those that end.

supervisord runs in a folder of its own, and all its paths are relative to it: an absolute path may contain characters that its
configuration does not allow, and the path of a Unix socket is limited to 108 bytes.
"""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Any
from xmlrpc.client import Error, ServerProxy

from supervisor.xmlrpc import SupervisorTransport

from windtunnel.errors import WindtunnelError
from windtunnel.files import write_atomically
from windtunnel.platform.environment import platform_environment
from windtunnel.platform.processes import NAME, PLATFORM
from windtunnel.platform.supervised import forget_starts, process_names, supervisor_directory
from windtunnel.settings import Settings

SUPERVISOR = "supervisor"
STOP_SECONDS = 4  # Airflow's scheduler would wait until its tasks have ended
QUICK_ENDS = 5  # a process that ends so many times in a row, each time within QUICK_SECONDS of its start, is not restarted
QUICK_SECONDS = 60

CONFIGURATION = f"""\
[supervisord]
nodaemon = true
silent = true
nocleanup = true
logfile = ../logs/{SUPERVISOR}.log
logfile_maxbytes = 1MB
logfile_backups = 1
pidfile = pid

[unix_http_server]
file = /proc/self/cwd/socket
chmod = 0600

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface

[group:platform]
programs = {{programs}}
"""

PROGRAM = f"""
[program:{{name}}]
command = python -m windtunnel.platform.supervised
environment = {NAME}="{{name}}"
autorestart = true
startsecs = {QUICK_SECONDS}
startretries = {QUICK_ENDS - 1}
stopwaitsecs = {STOP_SECONDS}
stopasgroup = true
killasgroup = true
redirect_stderr = true
stdout_logfile = ../logs/{{name}}.log
stdout_logfile_maxbytes = 10MB
stdout_logfile_backups = 1
"""


def log_of(settings: Settings, name: str) -> Path:
    """Return the file with the output of a process of the platform."""
    return settings.logs / f"{name}.log"


def start(settings: Settings) -> subprocess.Popen[bytes]:
    """Start the supervisor in a session of its own. It starts all other processes."""
    directory = supervisor_directory(settings.home)
    names = process_names(settings.root, settings.servers)
    text = CONFIGURATION.format(programs=",".join(names)) + "".join(PROGRAM.format(name=name) for name in names)
    write_atomically(directory / "supervisord.conf", text.encode())
    forget_starts(settings.home)
    settings.logs.mkdir(parents=True, exist_ok=True)
    with log_of(settings, SUPERVISOR).open("a") as output:
        return subprocess.Popen(
            ["python", "-m", "windtunnel.platform.supervisord", "-c", "supervisord.conf"],
            env=platform_environment(settings) | {PLATFORM: str(settings.home), NAME: SUPERVISOR},
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def states(settings: Settings) -> dict[str, str]:
    """Return the supervisor's state of each process by name: STARTING, RUNNING, BACKOFF, FATAL, …; empty if it does not answer.

    See http://supervisord.org/subprocess.html#process-states. A process is RUNNING after `QUICK_SECONDS`.
    """
    try:
        with _supervisor(settings) as supervisor:
            return {process["name"]: process["statename"] for process in supervisor.getAllProcessInfo()}
    except (OSError, HTTPException, Error):
        return {}


def start_again(settings: Settings, name: str) -> None:
    """Start a process that the supervisor has stopped restarting.

    Raises:
        WindtunnelError: the supervisor does not answer or refuses.
    """
    try:
        with _supervisor(settings) as supervisor:
            supervisor.startProcess(f"platform:{name}", False)
    except (OSError, HTTPException, Error) as error:
        raise WindtunnelError(f"the supervisor did not start {name} ({error}): see {log_of(settings, SUPERVISOR)}") from error


@contextmanager
def _supervisor(settings: Settings) -> Iterator[Any]:
    """Connect to the supervisor's XML-RPC interface. Only the owner of the platform can open its socket."""
    directory = os.open(supervisor_directory(settings.home), os.O_RDONLY | os.O_DIRECTORY)
    try:
        with ServerProxy("http://supervisor", SupervisorTransport(serverurl=f"unix:///proc/self/fd/{directory}/socket")) as proxy:
            yield proxy.supervisor
    finally:
        os.close(directory)
