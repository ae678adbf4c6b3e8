"""Start the platform's processes, see how they are, stop them.

honcho runs the `Procfile` in a session of its own. Every process below it carries `WINDTUNNEL_PLATFORM`, the home of its
platform, in its environment, and honcho adds the process' name: so they are known, and can be stopped, whatever became of their parents.
"""

import fcntl
import os
import socket
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

import httpx
import psutil
from honcho.environ import parse_procfile

from windtunnel.environment import mlflow_store, platform_environment
from windtunnel.errors import WindtunnelError
from windtunnel.files import write_atomically
from windtunnel.settings import Settings

MARKER = "WINDTUNNEL_PLATFORM"
SUPERVISOR = "honcho"
START_SECONDS = 180
STOP_SECONDS = 4  # Airflow's scheduler would wait for its tasks to the end, and honcho kills after 5 s
KILL_SECONDS = 10
LOG_LINES = 15
HEALTH = {
    "api-server": "/api/v2/monitor/health",
    "mlflow": "/health",
    "tensorboard": "/",
    "torchserve": "/ping",
    "tfserving": "/monitoring/prometheus/metrics",
}


@dataclass(frozen=True)
class ProcessStatus:
    """One process of the platform, with all it has started. `memory` is its proportional set size, in bytes."""

    name: str
    up: bool
    pid: int | None
    memory: int
    address: str | None


def platform_log(settings: Settings) -> Path:
    """What the platform's processes print, each line with the name of its process."""
    return settings.logs / "platform.log"


def status(settings: Settings) -> list[ProcessStatus]:
    """How each process of the platform is: up if it runs and, itself and not another in its place, answers."""
    running = _running(settings)
    answering = _answering(settings, running)
    addresses = _addresses(settings)
    return [
        ProcessStatus(
            name=name,
            up=name in answering,
            pid=running[name][0].pid if name in running else None,
            memory=sum(_memory(process) for process in running.get(name, [])),
            address=addresses[name][0] if name in addresses else None,
        )
        for name in _names(settings)
    ]


def up(settings: Settings, report: Callable[[str], None] = lambda message: None) -> bool:
    """Start the platform and wait until every process answers; `report` is told what is being done.

    Returns:
        False if it was up already.

    Raises:
        WindtunnelError: a port is taken, or a process has ended or does not answer; then nothing is left running.
    """
    with _lock(settings):
        if not _waiting(settings):
            return False
        _stop(settings)
        _check_ports(settings)
        try:
            _prepare(settings, report)
            _start(settings, report)
        except BaseException:
            _stop(settings)
            raise
        return True


def down(settings: Settings) -> int:
    """Stop every process of the platform, running tasks included, and return how many there were."""
    with _lock(settings):
        return _stop(settings)


@contextmanager
def _lock(settings: Settings) -> Iterator[None]:
    """One start or stop of a platform at a time."""
    settings.home.mkdir(parents=True, exist_ok=True)
    with (settings.home / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise WindtunnelError(f"the platform in {settings.home} is being started or stopped by another command: wait for it") from None
        yield


def _names(settings: Settings) -> list[str]:
    return [SUPERVISOR, *parse_procfile((settings.root / "Procfile").read_text()).processes]


def _addresses(settings: Settings) -> dict[str, tuple[str, list[str]]]:
    """Of each process that listens: its address, and the settings that hold its ports, that of the address first."""
    return {
        "api-server": (settings.airflow_url, ["airflow_port"]),
        "mlflow": (settings.mlflow_url, ["mlflow_port"]),
        "tensorboard": (settings.tensorboard_url, ["tensorboard_port"]),
        "torchserve": (
            settings.torchserve_url,
            [f"torchserve_{each}_port" for each in ("inference", "management", "grpc_inference", "grpc_management")],
        ),
        "tfserving": (settings.tfserving_url, ["tfserving_rest_port", "tfserving_grpc_port"]),
        "speech": (settings.speech_grpc, ["speech_port"]),
    }


def _running(settings: Settings) -> dict[str, list[psutil.Process]]:
    """The running processes of this platform by the name in the Procfile, the topmost of each name first; "" are honcho's helpers."""
    groups = defaultdict(list)
    for process in psutil.process_iter():
        try:
            environment = process.environ()
            if environment.get(MARKER) != str(settings.home):
                continue
            helper = "" if os.getsid(process.pid) != process.pid else SUPERVISOR  # honcho leads its session, its helpers do not
            name = environment.get("HONCHO_PROCESS_NAME", helper).partition(".")[0]
            groups[name].append((process.create_time(), process.pid, process))
        except (psutil.Error, ProcessLookupError):  # it has ended, or is another user's
            continue
    return {name: [process for _, _, process in sorted(group)] for name, group in groups.items()}


def _waiting(settings: Settings) -> list[str]:
    """The names that do not answer."""
    answering = _answering(settings, _running(settings))
    return [name for name in _names(settings) if name not in answering]


def _memory(process: psutil.Process) -> int:
    try:
        return process.memory_full_info().pss
    except psutil.Error:
        return 0


def _answering(settings: Settings, running: dict[str, list[psutil.Process]]) -> set[str]:
    """The names whose own processes answer: a server on its port, over HTTP, Airflow's others by a heartbeat since they were started.

    The speech server listens only when it can answer, over gRPC.
    """
    answering = {SUPERVISOR} & set(running)
    for name, (url, ports) in _addresses(settings).items():
        if not all(any(_listens(process, getattr(settings, port)) for process in running.get(name, [])) for port in ports):
            continue
        if name not in HEALTH:
            answering.add(name)
            continue
        try:
            reply = httpx.get(url + HEALTH[name], timeout=5, trust_env=False)
        except httpx.HTTPError:
            continue
        if not reply.is_server_error:  # TorchServe's refusal of a request without a token is an answer
            answering.add(name)
            if name == "api-server":
                answering.update(_beating(reply.json(), running))
    return answering


def _beating(health: dict[str, dict[str, str]], running: dict[str, list[psutil.Process]]) -> Iterator[str]:
    for name in ("scheduler", "dag-processor", "triggerer"):
        component = name.replace("-", "_")
        heartbeat = health[component][f"latest_{component}_heartbeat"]
        if heartbeat and name in running and datetime.fromisoformat(heartbeat).timestamp() > running[name][0].create_time():
            yield name


def _listens(process: psutil.Process, port: int) -> bool:
    try:
        connections = process.net_connections("tcp")
    except psutil.Error:
        return False
    return any(connection.status == psutil.CONN_LISTEN and connection.laddr.port == port for connection in connections)


def _check_ports(settings: Settings) -> None:
    for name, (_, ports) in _addresses(settings).items():
        for port in ports:
            number = getattr(settings, port)
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((settings.host, number))
                except OSError as error:
                    found = _holder(number) or error.strerror
                    setting = f"WINDTUNNEL_{port.upper()}"
                    raise WindtunnelError(f"port {number}, wanted by {name}: {found}; free it, or choose another with {setting}") from None


def _holder(port: int) -> str | None:
    for process in psutil.process_iter():
        if _listens(process, port):
            return f"taken by {process.name()}, pid {process.pid}"
    return None


def _prepare(settings: Settings, report: Callable[[str], None]) -> None:
    """Bring both databases to the schema of the installed versions, side by side; nothing to do when they have it."""
    settings.logs.mkdir(parents=True, exist_ok=True)
    settings.tensorboard_logs.mkdir(exist_ok=True)
    stamp = settings.home / "schema"
    installed = "".join(f"{package} {version(package)}\n" for package in ("apache-airflow", "mlflow"))
    if stamp.exists() and stamp.read_text() == installed:
        return
    report("preparing the databases")
    environment = platform_environment(settings) | {MARKER: str(settings.home)}
    started = {}
    for command in (["airflow", "db", "migrate"], ["mlflow", "db", "upgrade", mlflow_store(settings)]):
        log = settings.logs / f"prepare-{command[0]}.log"
        with log.open("w") as output:
            started[log] = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
    for log, process in started.items():
        if process.wait():
            raise WindtunnelError(f"{log.stem} failed, exit status {process.returncode}: see {log}\n" + _tail(log.read_text().splitlines()))
    write_atomically(stamp, installed.encode())


def _start(settings: Settings, report: Callable[[str], None]) -> None:
    log = platform_log(settings)
    with log.open("w") as output:
        honcho = subprocess.Popen(
            ["honcho", "-f", str(settings.root / "Procfile"), "start"],
            env=platform_environment(settings) | {MARKER: str(settings.home)},
            cwd=settings.root,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    deadline = time.monotonic() + START_SECONDS
    while waiting := _waiting(settings):
        if honcho.poll() is not None:
            name = _first_ended(log)
            raise WindtunnelError(f"{name} ended while the platform was starting: see {log}\n" + _tail(_lines_of(log, name)))
        if time.monotonic() > deadline:
            name = waiting[0]
            raise WindtunnelError(f"{name} did not answer in {START_SECONDS} s: see {log}\n" + _tail(_lines_of(log, name)))
        report(f"waiting for {', '.join(waiting)}")
        time.sleep(0.5)


def _first_ended(log: Path) -> str:
    """The process that honcho saw end first; it then stops the others."""
    for line in log.read_text().splitlines():
        words = line.split()
        if words[1:2] == ["system"] and "stopped" in words:
            return words[3].partition(".")[0]
    return SUPERVISOR


def _lines_of(log: Path, name: str) -> list[str]:
    lines = log.read_text().splitlines()
    return [line for line in lines if line.split()[1:2] == [f"{name}.1"]] or lines


def _tail(lines: list[str]) -> str:
    return "\n".join(lines[-LOG_LINES:])


def _stop(settings: Settings) -> int:
    """Ask the platform's processes to end, through honcho if it is there; then kill whatever still runs."""
    groups = _running(settings)
    running = [process for group in groups.values() for process in group]
    for process in groups.get(SUPERVISOR, running):
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    psutil.wait_procs(running, timeout=STOP_SECONDS)
    deadline = time.monotonic() + KILL_SECONDS
    while left := [process for group in _running(settings).values() for process in group]:
        if time.monotonic() > deadline:
            raise WindtunnelError(f"processes {', '.join(str(process.pid) for process in left)} do not end: look at them with ps")
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, timeout=1)
    return len(running)
