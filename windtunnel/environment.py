"""The environment of the platform's processes: Airflow's and MLflow's own configuration, and the secrets they share."""

import os
import sys
from pathlib import Path

from windtunnel.errors import WindtunnelError
from windtunnel.inherited import inherited
from windtunnel.network import without_proxy
from windtunnel.secrets import USER, airflow_secrets, password_file
from windtunnel.settings import Settings

UNFIT = "$[]\\"
"""What a folder's name cannot hold: Airflow expands `$NAME`, and TensorFlow reads the others as a pattern."""


def platform_environment(settings: Settings) -> dict[str, str]:
    """What the processes of the platform, and the tasks they start, find in their environment.

    Everything listens on `settings.host` alone and reports to nobody outside. Secrets are made once and kept in `settings.home`.
    Of what the shell has set, `inherited` says what stays; `ignored` names the rest.

    Raises:
        WindtunnelError: a folder has a name that Airflow would read as another.
    """
    for name in ("root", "home", "dags"):
        _check(f"WINDTUNNEL_{name.upper()}", getattr(settings, name))
    home = settings.home
    return {
        **inherited(os.environ),
        **settings.variables,
        **airflow_secrets(settings),
        "WINDTUNNEL_MLFLOW_STORE": mlflow_store(settings),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "PYTHONPATH": str(settings.root),
        "PYTHONUNBUFFERED": "1",  # a line of a log is there when it is written
        "PYTHONUTF8": "1",  # whatever the locale
        "SPT_NOENV": "1",  # setproctitle would overwrite /proc/PID/environ, by which the platform knows its processes
        **without_proxy(os.environ, settings.host),  # the processes speak to each other directly
        "DO_NOT_TRACK": "true",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_TRACKING_URI": settings.mlflow_url,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "AIRFLOW_HOME": str(home / "airflow"),
        "AIRFLOW__API__BASE_URL": settings.airflow_url,
        "AIRFLOW__API__HOST": settings.host,
        "AIRFLOW__API__PORT": str(settings.airflow_port),
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "false",
        "AIRFLOW__CORE__DAGS_FOLDER": str(settings.dags),
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{settings.airflow_url}/execution/",
        "AIRFLOW__CORE__EXECUTOR": "dags.executor.QuietExecutor",
        # str() is "": the log of a task is read from its file, and from no server of logs on a host that a name server must know
        "AIRFLOW__CORE__HOSTNAME_CALLABLE": "builtins.str",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "false",
        "AIRFLOW__CORE__PARALLELISM": "4",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(password_file(settings)),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin",
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "300",  # s; a file that is new or has changed is read sooner
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "10",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": _sqlite(home / "airflow.db"),
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(settings.logs / "tasks"),
        "AIRFLOW__LOGGING__DAG_PROCESSOR_CHILD_PROCESS_LOG_DIRECTORY": str(settings.logs / "dag-processor"),
        "AIRFLOW__LOGGING__NAMESPACE_LEVELS": "airflow.dag_processing.dagbag=WARNING",  # else 600 bytes a DAG file a minute, for ever
        # What ran in a scheduler that was killed is tried again once its last heartbeat is 30 s old, and not after 5 minutes.
        "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "10",
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.1",  # while tasks run, see dags/executor.py
        # A task waits for an API server that is being started again: 100 s on average, and without long pauses at the end.
        "AIRFLOW__WORKERS__EXECUTION_API_RETRIES": "40",
        "AIRFLOW__WORKERS__EXECUTION_API_RETRY_WAIT_MAX": "5",
        "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "60",  # s; the first answer takes more than its own 5 s on busy cores
        "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",  # a task that is skipped or fails takes that long to end
    }


def ignored(settings: Settings) -> list[str]:
    """The variables of this process that the platform's processes do not get, or not as they are here, by name."""
    given, kept = platform_environment(settings), inherited(os.environ)
    dropped = {name for name, value in os.environ.items() if name not in kept and given.get(name) != value}
    return sorted(dropped)


def mlflow_store(settings: Settings) -> str:
    """The database of MLflow's server."""
    return _sqlite(settings.home / "mlflow.db")


def _check(setting: str, folder: Path) -> None:
    if any(character in UNFIT or not character.isprintable() for character in str(folder)):
        expected = f"a path of printable characters without {UNFIT}"
        raise WindtunnelError(f"{setting}: found {str(folder)!r}, expected {expected}. Choose another folder")


def _sqlite(file: Path) -> str:
    """The URL of a database.

    Only what SQLAlchemy gives a meaning is escaped, since MLflow makes the folder that the URL names before it is read as one. SQLite
    lets one process write at a time; on busy cores the others wait longer than its own patience of 5 s.
    """
    escaped = str(file).replace("%", "%25").replace("?", "%3F")
    return f"sqlite:///{escaped}?timeout=60"
