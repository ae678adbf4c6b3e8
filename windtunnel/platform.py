"""Start the platform's processes, see how they are, stop them."""

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

from windtunnel import supervisor
from windtunnel.environment import mlflow_store, platform_environment
from windtunnel.errors import WindtunnelError
from windtunnel.files import write_atomically
from windtunnel.home import check_room
from windtunnel.locks import held
from windtunnel.processes import GONE, PLATFORM, kill, listening, memory, running
from windtunnel.settings import Settings
from windtunnel.supervised import commands, last_start
from windtunnel.supervisor import SUPERVISOR, log_of

START_SECONDS = 600  # 20 on a quiet machine; one that has other work is no reason to give up
TURN_SECONDS = 2 * START_SECONDS
LOG_LINES = 15
ANSWER_SECONDS = 15  # a server that takes longer is not answering
BEATING = ("scheduler", "dag-processor", "triggerer")
HEALTH = {
    "api-server": "/api/v2/monitor/health",
    "mlflow": "/health",
    "tensorboard": "/",
    "torchserve": "/ping",
    "tfserving": "/monitoring/prometheus/metrics",
}


@dataclass(frozen=True)
class ProcessStatus:
    """One process of the platform, with all it has started. `memory` is its proportional set size, in bytes.

    `state` is `up`; `starting`, for its first minute at most, or `not answering`; `restarting`, when it has ended; `failed`, when it
    ended at once again and again and is not started any more; or `down`. `restarts` counts since `windtunnel up`, the last at `restarted`.
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
    """How each process of the platform is: up if it runs and, itself and not another in its place, answers."""
    groups = running(settings.home)
    leaders = _leaders(settings, groups)
    answering = _answering(settings, groups, leaders)
    states = supervisor.states(settings)
    return [_status(settings, name, groups.get(name, []), leaders.get(name), name in answering, states) for name in _names(settings)]


def _status(
    settings: Settings, name: str, group: list[psutil.Process], leader: psutil.Process | None, up: bool, states: dict[str, str]
) -> ProcessStatus:
    addresses = _addresses(settings)
    start = last_start(settings.home, name)
    restarts = start.number - 1 if start and states else 0
    return ProcessStatus(
        name=name,
        up=up,
        state="up" if up else _state(leader, states.get(name)),
        pid=leader.pid if leader else None,
        memory=sum(memory(process) for process in group),
        address=addresses[name][0] if name in addresses else None,
        restarts=restarts,
        restarted=datetime.fromtimestamp(start.time).astimezone().isoformat(timespec="seconds") if start and restarts else None,
        log=str(log_of(settings, name)),
    )


def _state(leader: psutil.Process | None, state: str | None) -> str:
    """The state of a process that is not up: `state` is what the supervisor says of it."""
    if state == "FATAL":
        return "failed"
    if leader:
        return "starting" if state == "STARTING" else "not answering"
    return "restarting" if state in ("STARTING", "RUNNING", "BACKOFF", "EXITED") else "down"


def up(settings: Settings, report: Callable[[str], None] = lambda message: None) -> bool:
    """Start the platform, or what is missing of it, and wait until every process answers; `report` is told what is being done.

    Returns:
        False if it was up already.

    Raises:
        WindtunnelError: a port is taken, or a process ends again and again or does not answer. What was running before goes on
            running; else nothing is left.
    """
    with _lock(settings, report):
        if not (missing := _waiting(settings)):
            return False
        if (states := supervisor.states(settings)).keys() == commands(settings.root).keys():
            _repair(settings, [name for name in missing if states.get(name) == "FATAL"], report)
            return True
        _stop(settings)
        check_room(settings.home)
        _check_ports(settings, _addresses(settings))
        try:
            _prepare(settings, report)
            started = supervisor.start(settings)
            _wait(settings, report, lambda: started.poll() is not None)
        except BaseException:
            _stop(settings)
            check_room(settings.home)  # on a full disk, the log that would say so is empty
            raise
        return True


def down(settings: Settings) -> int:
    """Stop every process of the platform, running tasks included, and return how many there were."""
    with _lock(settings):
        return _stop(settings)


def _lock(settings: Settings, report: Callable[[str], None] = lambda message: None) -> AbstractContextManager[None]:
    """One start or stop of a platform at a time: another waits for it."""
    return held(settings.home / "lock", f"the platform in {settings.home}, which is being started or stopped", TURN_SECONDS, report)


def _names(settings: Settings) -> list[str]:
    return [SUPERVISOR, *commands(settings.root)]


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


def _leaders(settings: Settings, groups: dict[str, list[psutil.Process]]) -> dict[str, psutil.Process]:
    """Of each name the process that the supervisor started last, if it runs: what a killed one has left is none."""
    starts = {name: last_start(settings.home, name) for name in groups}
    pids = {name: start.pid for name, start in starts.items() if start}
    leaders = {name: process for name, group in groups.items() for process in group if process.pid == pids.get(name)}
    return leaders | ({SUPERVISOR: groups[SUPERVISOR][0]} if SUPERVISOR in groups else {})


def _waiting(settings: Settings) -> list[str]:
    """The names that do not answer."""
    groups = running(settings.home)
    answering = _answering(settings, groups, _leaders(settings, groups))
    return [name for name in _names(settings) if name not in answering]


def _answering(settings: Settings, groups: dict[str, list[psutil.Process]], leaders: dict[str, psutil.Process]) -> set[str]:
    """The names whose own processes answer: a server on its port, over HTTP, Airflow's others by a fresh heartbeat of their own.

    The speech server listens only when it can answer, over gRPC. Of others there is nothing to know but that they run.
    """
    addresses = _addresses(settings)
    answering = leaders.keys() - addresses.keys() - set(BEATING)
    for name, (url, ports) in addresses.items():
        if name not in leaders or not {getattr(settings, port) for port in ports} <= set().union(*map(listening, groups[name])):
            continue
        if name not in HEALTH:
            answering.add(name)
            continue
        try:
            reply = httpx.get(url + HEALTH[name], timeout=ANSWER_SECONDS, trust_env=False)
        except httpx.HTTPError:
            continue
        if not reply.is_server_error:  # TorchServe's refusal of a request without a token is an answer
            answering.add(name)
            if name == "api-server":
                answering.update(_beating(reply.json(), leaders))
    return answering


def _beating(health: dict[str, dict[str, str]], leaders: dict[str, psutil.Process]) -> Iterator[str]:
    """Airflow calls a heartbeat healthy for 30 s, that of a process that has been killed and started again since too."""
    for name in BEATING:
        component = name.replace("-", "_")
        heartbeat = health[component][f"latest_{component}_heartbeat"]
        fresh = health[component]["status"] == "healthy" and name in leaders
        if fresh and datetime.fromisoformat(heartbeat).timestamp() > leaders[name].create_time():
            yield name


def _check_ports(settings: Settings, names: Iterable[str]) -> None:
    addresses = _addresses(settings)
    for name in names:
        for port in addresses[name][1] if name in addresses else ():
            number = getattr(settings, port)
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((settings.host, number))
                except OSError as error:
                    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
                        host = f"WINDTUNNEL_HOST is {settings.host}, which is no address of this machine ({error.strerror})"
                        raise WindtunnelError(f"{host}: set it to 127.0.0.1, or to an address that `ip address` shows") from None
                    found = _holder(number) or error.strerror
                    setting = f"WINDTUNNEL_{port.upper()}"
                    raise WindtunnelError(f"port {number}, wanted by {name}: {found}; free it, or choose another with {setting}") from None


def _holder(port: int) -> str | None:
    for process in psutil.process_iter():
        if port in listening(process):
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
    environment = platform_environment(settings) | {PLATFORM: str(settings.home)}
    started = {}
    for command in (["airflow", "db", "migrate"], ["mlflow", "db", "upgrade", mlflow_store(settings)]):
        log = settings.logs / f"prepare-{command[0]}.log"
        with log.open("w") as output:
            started[log] = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
    for log, process in started.items():
        if process.wait():
            raise WindtunnelError(f"{log.stem} failed, exit status {process.returncode}: see {log}\n" + _tail(log.read_text().splitlines()))
    write_atomically(stamp, installed.encode())


def _repair(settings: Settings, failed: list[str], report: Callable[[str], None]) -> None:
    """Start what the supervisor has given up, and wait for what it starts again by itself."""
    kill(lambda: [process for name, group in running(settings.home).items() if name in failed for process in group])
    _check_ports(settings, failed)
    for name in failed:
        supervisor.start_again(settings, name)
    _wait(settings, report, lambda: SUPERVISOR not in running(settings.home))


def _wait(settings: Settings, report: Callable[[str], None], ended: Callable[[], bool]) -> None:
    """Wait until every process answers; `ended` tells whether the supervisor has.

    One that was started a moment ago is not known by its environment yet: Linux shows that of a new program only when it is loaded.
    """
    before = _starts(settings)
    deadline = time.monotonic() + START_SECONDS
    while waiting := _waiting(settings):
        if ended():
            raise _failure(settings, SUPERVISOR, "ended while the platform was starting")
        states = supervisor.states(settings)
        for name, starts in _starts(settings).items():
            if name in waiting and (starts - before[name] > 2 or states.get(name) == "FATAL"):
                raise _failure(settings, name, "ended again and again while the platform was starting")
        if time.monotonic() > deadline:
            raise _failure(settings, waiting[0], f"did not answer in {START_SECONDS} s")
        report(f"waiting for {', '.join(waiting)}")
        time.sleep(1)


def _starts(settings: Settings) -> dict[str, int]:
    """How often each process has been started since the supervisor was."""
    starts = {name: last_start(settings.home, name) for name in commands(settings.root)}
    return {name: start.number if start else 0 for name, start in starts.items()}


def _failure(settings: Settings, name: str, problem: str) -> WindtunnelError:
    log = log_of(settings, name)
    return WindtunnelError(f"{name} {problem}: see {log}\n{_tail(log.read_text(errors='replace').splitlines())}")


def _tail(lines: list[str]) -> str:
    return "\n".join(lines[-LOG_LINES:])


def _stop(settings: Settings) -> int:
    """Ask the platform's processes to end, through the supervisor if it is there; then kill whatever still runs."""
    groups = running(settings.home)
    processes = [process for group in groups.values() for process in group]
    for process in groups.get(SUPERVISOR, processes):
        with suppress(*GONE):
            process.terminate()
    psutil.wait_procs(processes, timeout=supervisor.STOP_SECONDS)
    kill(lambda: [process for group in running(settings.home).values() for process in group])
    return len(processes)
