"""Start, check and stop the platform's processes."""

import errno
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version

import httpx
import psutil

from windtunnel.errors import WindtunnelError
from windtunnel.files import write_atomically
from windtunnel.locks import held
from windtunnel.platform import supervisor
from windtunnel.platform.environment import mlflow_store, platform_environment
from windtunnel.platform.home import check_room
from windtunnel.platform.processes import GONE, PLATFORM, kill, listening, memory, running
from windtunnel.platform.secrets import make_signing_key
from windtunnel.platform.supervised import last_start, process_names
from windtunnel.platform.supervisor import SUPERVISOR, log_of
from windtunnel.settings import Settings, variable

START_SECONDS = 600  # 20 on an idle machine; a busy one takes longer
TURN_SECONDS = 2 * START_SECONDS
LOG_LINES = 15
ANSWER_SECONDS = 15  # the timeout of a health check
BEATING = ("scheduler", "dag-processor", "triggerer")


@dataclass(frozen=True)
class Endpoint:
    """Where a process listens.

    Attributes:
        address: its address.
        health: the path of its HTTP health check; None for a process that listens only when it can answer.
        ports: its ports, by the environment variable of the setting.
    """

    address: str
    health: str | None
    ports: dict[str, int]


@dataclass(frozen=True)
class ProcessStatus:
    """The state of a process of the platform. `memory` is the proportional set size of it and its children, in bytes.

    `state` is one of: `up`; `starting`, in the first minute; `not answering`; `restarting`, after it has ended; `failed`, after it has
    repeatedly ended right after its start, and is not restarted any more; `down`. `restarts` counts since `windtunnel up`; `restarted`
    is the time of the last restart.
    """

    name: str
    up: bool
    state: str
    pid: int | None
    memory: int
    address: str | None
    restarts: int
    restarted: str | None
    log: str


def status(settings: Settings) -> list[ProcessStatus]:
    """Return the state of each process of the platform. A process is up if it runs and answers itself: no other program has its port."""
    groups = running(settings.home)
    leaders = _leaders(settings, groups)
    answering = _answering(settings, groups, leaders)
    states = supervisor.states(settings)
    return [_status(settings, name, groups.get(name, []), leaders.get(name), name in answering, states) for name in _names(settings)]


def _status(
    settings: Settings, name: str, group: list[psutil.Process], leader: psutil.Process | None, up: bool, states: dict[str, str]
) -> ProcessStatus:
    endpoint = _endpoints(settings).get(name)
    start = last_start(settings.home, name)
    restarts = start.number - 1 if start and states else 0
    return ProcessStatus(
        name=name,
        up=up,
        state="up" if up else _state(leader, states.get(name)),
        pid=leader.pid if leader else None,
        memory=sum(memory(process) for process in group),
        address=endpoint.address if endpoint else None,
        restarts=restarts,
        restarted=datetime.fromtimestamp(start.time).astimezone().isoformat(timespec="seconds") if start and restarts else None,
        log=str(log_of(settings, name)),
    )


def _state(leader: psutil.Process | None, state: str | None) -> str:
    """Return the state of a process that is not up. `state` is the supervisor's state."""
    if state == "FATAL":
        return "failed"
    if leader:
        return "starting" if state == "STARTING" else "not answering"
    return "restarting" if state in ("STARTING", "RUNNING", "BACKOFF", "EXITED") else "down"


def up(settings: Settings, report: Callable[[str], None] = lambda message: None) -> bool:
    """Start the platform, or those of its processes that are down, and wait until every process answers.

    Args:
        settings: the platform's settings.
        report: called with progress messages.

    Returns:
        False if the platform was already up.

    Raises:
        WindtunnelError: a port is in use, or a process ends repeatedly or does not answer. Processes that ran before the call go on
            running; if the whole platform was down, no process is left running.
    """
    with _lock(settings, report):
        if not (missing := _waiting(settings)):
            return False
        if (states := supervisor.states(settings)).keys() == set(process_names(settings.root, settings.servers)):
            _repair(settings, [name for name in missing if states.get(name) == "FATAL"], report)
            return True
        _stop(settings)
        check_room(settings.home)
        _check_ports(settings, _endpoints(settings))
        try:
            _prepare(settings, report)
            started = supervisor.start(settings)
            _wait(settings, report, lambda: started.poll() is not None)
        except BaseException:
            _stop(settings)
            check_room(settings.home)  # a full disk also leaves the log empty, so report it as the cause
            raise
        return True


def down(settings: Settings) -> int:
    """Stop every process of the platform, including running tasks, and return their number."""
    with _lock(settings):
        return _stop(settings)


def _lock(settings: Settings, report: Callable[[str], None] = lambda message: None) -> AbstractContextManager[None]:
    """Let only one process start or stop the platform at a time."""
    return held(settings.home / "lock", f"the platform in {settings.home} (another command starts or stops it)", TURN_SECONDS, report)


def _names(settings: Settings) -> list[str]:
    return [SUPERVISOR, *process_names(settings.root, settings.servers)]


def _endpoints(settings: Settings) -> dict[str, Endpoint]:
    """Return the endpoint of each process that listens."""
    return {
        "api-server": Endpoint(settings.airflow_url, "/api/v2/monitor/health", {variable("airflow_port"): settings.airflow_port}),
        "mlflow": Endpoint(settings.mlflow_url, "/health", {variable("mlflow_port"): settings.mlflow_port}),
        "tensorboard": Endpoint(settings.tensorboard_url, "/", {variable("tensorboard_port"): settings.tensorboard_port}),
        "models_api": Endpoint(settings.models_api_url, "/health", {variable("models_api_port"): settings.models_api_port}),
        **{
            name: Endpoint(server.address, server.health, {variable(name, port): number for port, number in server.ports.items()})
            for name, server in settings.servers.items()
        },
    }


def _leaders(settings: Settings, groups: dict[str, list[psutil.Process]]) -> dict[str, psutil.Process]:
    """Return, for each name, the process that the supervisor started last, if it still runs. Orphans of a killed process do not count."""
    starts = {name: last_start(settings.home, name) for name in groups}
    pids = {name: start.pid for name, start in starts.items() if start}
    leaders = {name: process for name, group in groups.items() for process in group if process.pid == pids.get(name)}
    return leaders | ({SUPERVISOR: groups[SUPERVISOR][0]} if SUPERVISOR in groups else {})


def _waiting(settings: Settings) -> list[str]:
    """Return the names of the processes that do not answer."""
    groups = running(settings.home)
    answering = _answering(settings, groups, _leaders(settings, groups))
    return [name for name in _names(settings) if name not in answering]


def _answering(settings: Settings, groups: dict[str, list[psutil.Process]], leaders: dict[str, psutil.Process]) -> set[str]:
    """Return the names of the processes that answer.

    A server answers if its own process listens on its ports and, if it has a health check, replies over HTTP. Airflow's other processes
    answer if their heartbeat is recent. The remaining processes only have to run.
    """
    endpoints = _endpoints(settings)
    answering = leaders.keys() - endpoints.keys() - set(BEATING)
    for name, endpoint in endpoints.items():
        if name not in leaders or not set(endpoint.ports.values()) <= set().union(*map(listening, groups[name])):
            continue
        if endpoint.health is None:
            answering.add(name)
            continue
        try:
            reply = httpx.get(endpoint.address + endpoint.health, timeout=ANSWER_SECONDS, trust_env=False)
        except httpx.HTTPError:
            continue
        if not reply.is_server_error:  # a server that rejects a request without a token has answered
            answering.add(name)
            if name == "api-server":
                answering.update(_beating(reply.json(), leaders))
    return answering


def _beating(health: dict[str, dict[str, str]], leaders: dict[str, psutil.Process]) -> Iterator[str]:
    """Yield Airflow's processes with a heartbeat since their start. Airflow counts a heartbeat for 30 s, even after a restart."""
    for name in BEATING:
        component = name.replace("-", "_")
        heartbeat = health[component][f"latest_{component}_heartbeat"]
        fresh = health[component]["status"] == "healthy" and name in leaders
        if fresh and datetime.fromisoformat(heartbeat).timestamp() > leaders[name].create_time():
            yield name


def _check_ports(settings: Settings, names: Iterable[str]) -> None:
    endpoints = _endpoints(settings)
    for name in names:
        for setting, number in endpoints[name].ports.items() if name in endpoints else ():
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((settings.host, number))
                except OSError as error:
                    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
                        host = f"WINDTUNNEL_HOST: found {settings.host}, expected an address of this machine ({error.strerror})"
                        raise WindtunnelError(f"{host}. Set it to 127.0.0.1, or to an address that `ip address` shows") from None
                    found = _holder(number) or error.strerror
                    problem = f"port {number} of {name} cannot be used: {found}"
                    raise WindtunnelError(f"{problem}. Free it, or choose another port with {setting}") from None


def _holder(port: int) -> str | None:
    for process in psutil.process_iter():
        if port in listening(process):
            return f"in use by {process.name()}, pid {process.pid}"
    return None


def _prepare(settings: Settings, report: Callable[[str], None]) -> None:
    """Create the key that signs versions, and migrate both databases, in parallel, to the installed versions, unless that has been done."""
    settings.logs.mkdir(parents=True, exist_ok=True)
    settings.tensorboard_logs.mkdir(exist_ok=True)
    make_signing_key(settings)
    stamp = settings.home / "schema"
    installed = "".join(f"{package} {version(package)}\n" for package in ("apache-airflow", "mlflow"))
    if stamp.exists() and stamp.read_text() == installed:
        return
    report("preparing the databases")
    environment = platform_environment(settings) | {PLATFORM: str(settings.home)}
    started = {}
    for command in (["airflow", "db", "migrate"], ["mlflow", "db", "upgrade", mlflow_store(settings)]):
        log = settings.logs / f"prepare-{command[0]}.log"
        with log.open("w") as output:
            started[log] = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
    for log, process in started.items():
        if process.wait():
            end = _tail(log.read_text().splitlines())
            raise WindtunnelError(f"{log.stem} failed with exit status {process.returncode}: see {log}\n{end}")
    write_atomically(stamp, installed.encode())


def _repair(settings: Settings, failed: list[str], report: Callable[[str], None]) -> None:
    """Start the processes that the supervisor does not restart any more, and wait for those that it is restarting."""
    kill(lambda: [process for name, group in running(settings.home).items() if name in failed for process in group])
    _check_ports(settings, failed)
    for name in failed:
        supervisor.start_again(settings, name)
    _wait(settings, report, lambda: SUPERVISOR not in running(settings.home))


def _wait(settings: Settings, report: Callable[[str], None], ended: Callable[[], bool]) -> None:
    """Wait until every process answers. `ended` returns whether the supervisor has ended.

    `ended` does not look for the supervisor's environment, because Linux shows the environment of a new program only after it is loaded.
    """
    before = _starts(settings)
    deadline = time.monotonic() + START_SECONDS
    while waiting := _waiting(settings):
        if ended():
            raise _failure(settings, SUPERVISOR, "ended while the platform was starting")
        states = supervisor.states(settings)
        for name, starts in _starts(settings).items():
            if name in waiting and (starts - before[name] > 2 or states.get(name) == "FATAL"):
                raise _failure(settings, name, "ended repeatedly while the platform was starting")
        if time.monotonic() > deadline:
            raise _failure(settings, waiting[0], f"did not answer within {START_SECONDS} s")
        report(f"waiting for {', '.join(waiting)}")
        time.sleep(1)


def _starts(settings: Settings) -> dict[str, int]:
    """Return how many times each process has been started since the supervisor was started."""
    starts = {name: last_start(settings.home, name) for name in process_names(settings.root, settings.servers)}
    return {name: start.number if start else 0 for name, start in starts.items()}


def _failure(settings: Settings, name: str, problem: str) -> WindtunnelError:
    log = log_of(settings, name)
    return WindtunnelError(f"{name} {problem}: see {log}\n{_tail(log.read_text(errors='replace').splitlines())}")


def _tail(lines: list[str]) -> str:
    return "\n".join(lines[-LOG_LINES:])


def _stop(settings: Settings) -> int:
    """Terminate the platform's processes, through the supervisor if it runs, then kill those that still run. Return their number."""
    groups = running(settings.home)
    processes = [process for group in groups.values() for process in group]
    for process in groups.get(SUPERVISOR, processes):
        with suppress(*GONE):
            process.terminate()
    psutil.wait_procs(processes, timeout=supervisor.STOP_SECONDS)
    kill(lambda: [process for group in running(settings.home).values() for process in group])
    return len(processes)
