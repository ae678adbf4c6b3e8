"""supervisord, which runs the Procfile and starts again what ends: its configuration, its start, what it says of each process.

It runs in a folder of its own, to which every path is relative: an absolute one may hold what its configuration cannot, and a Unix
socket's may have 108 bytes.
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

from windtunnel.environment import platform_environment
from windtunnel.errors import WindtunnelError
from windtunnel.files import write_atomically
from windtunnel.processes import NAME, PLATFORM
from windtunnel.settings import Settings
from windtunnel.supervised import commands, forget_starts, supervisor_directory

SUPERVISOR = "supervisor"
STOP_SECONDS = 4  # Airflow's scheduler would wait for its tasks to the end
QUICK_ENDS = 5  # after which it is not started again, each within QUICK_SECONDS of its start
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
command = python -m windtunnel.supervised
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
    """What a process of the platform has printed."""
    return settings.logs / f"{name}.log"


def start(settings: Settings) -> subprocess.Popen[bytes]:
    """Start the supervisor, which starts everything else, in a session of its own."""
    directory = supervisor_directory(settings.home)
    names = list(commands(settings.root))
    text = CONFIGURATION.format(programs=",".join(names)) + "".join(PROGRAM.format(name=name) for name in names)
    write_atomically(directory / "supervisord.conf", text.encode())
    forget_starts(settings.home)
    settings.logs.mkdir(parents=True, exist_ok=True)
    with log_of(settings, SUPERVISOR).open("a") as output:
        return subprocess.Popen(
            ["supervisord", "-c", "supervisord.conf"],
            env=platform_environment(settings) | {PLATFORM: str(settings.home), NAME: SUPERVISOR},
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def states(settings: Settings) -> dict[str, str]:
    """What the supervisor says of each process, by name: STARTING, RUNNING, BACKOFF, FATAL, …; nothing if it does not answer.

    See http://supervisord.org/subprocess.html#process-states. RUNNING has run for `QUICK_SECONDS`.
    """
    try:
        with _supervisor(settings) as supervisor:
            return {process["name"]: process["statename"] for process in supervisor.getAllProcessInfo()}
    except (OSError, HTTPException, Error):
        return {}


def start_again(settings: Settings, name: str) -> None:
    """Have a process started that was given up.

    Raises:
        WindtunnelError: the supervisor does not do it.
    """
    try:
        with _supervisor(settings) as supervisor:
            supervisor.startProcess(f"platform:{name}", False)
    except (OSError, HTTPException, Error) as error:
        raise WindtunnelError(f"the supervisor does not start {name} ({error}): see {log_of(settings, SUPERVISOR)}") from error


@contextmanager
def _supervisor(settings: Settings) -> Iterator[Any]:
    """The supervisor's interface; only the owner of the platform can open its socket."""
    directory = os.open(supervisor_directory(settings.home), os.O_RDONLY | os.O_DIRECTORY)
    try:
        with ServerProxy("http://supervisor", SupervisorTransport(serverurl=f"unix:///proc/self/fd/{directory}/socket")) as proxy:
            yield proxy.supervisor
    finally:
        os.close(directory)
