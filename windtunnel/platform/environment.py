"""Make the environment of the platform's processes: the configuration of Airflow and MLflow, and their secrets."""

import os
import sys
from pathlib import Path

from windtunnel.errors import WindtunnelError
from windtunnel.platform.inherited import inherited
from windtunnel.platform.network import without_proxy
from windtunnel.platform.secrets import airflow_secrets, password_file
from windtunnel.settings import Settings

UNFIT = "$[]\\"
"""Characters that a folder's path must not contain: Airflow expands `$NAME`, and TensorFlow reads the others as a pattern."""


def platform_environment(settings: Settings) -> dict[str, str]:
    """Return the environment of the platform's processes and of the tasks that they start.

    All servers listen on `settings.host` only, and telemetry is off. The secrets are created once and kept in `settings.home`.
    `inherited` selects the variables of the shell that are kept; `ignored` returns the others.

    Raises:
        WindtunnelError: the path of a folder contains a character in `UNFIT`.
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
        "PYTHONUNBUFFERED": "1",  # logs are written line by line
        "PYTHONUTF8": "1",  # whatever the locale
        "SPT_NOENV": "1",  # setproctitle would overwrite /proc/PID/environ, by which the platform finds its processes
        **without_proxy(os.environ, settings.host),  # the processes connect to each other directly
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
        "AIRFLOW__CORE__EXECUTOR": "dags.plugins.executor.QuietExecutor",
        # str() is "": Airflow reads task logs from their files, not from a log server on a host whose name would have to resolve
        "AIRFLOW__CORE__HOSTNAME_CALLABLE": "builtins.str",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "false",
        "AIRFLOW__CORE__PARALLELISM": "4",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(password_file(settings)),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": settings.users,
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "300",  # s; new and changed files are read sooner
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "10",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": _sqlite(home / "airflow.db"),
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(settings.logs / "tasks"),
        "AIRFLOW__LOGGING__DAG_PROCESSOR_CHILD_PROCESS_LOG_DIRECTORY": str(settings.logs / "dag-processor"),
        "AIRFLOW__LOGGING__NAMESPACE_LEVELS": "airflow.dag_processing.dagbag=WARNING",  # INFO would add 600 bytes per DAG file and minute
        # Tasks of a killed scheduler are retried once its last heartbeat is 30 s old, instead of after 5 minutes.
        "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "10",
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.1",  # while tasks run, see dags/plugins/executor.py
        # A task waits while the API server restarts: 100 s on average, and without long pauses between the last retries.
        "AIRFLOW__WORKERS__EXECUTION_API_RETRIES": "40",
        "AIRFLOW__WORKERS__EXECUTION_API_RETRY_WAIT_MAX": "5",
        "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "60",  # s; on busy cores the first answer takes more than the default of 5 s
        "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",  # s; a task that is skipped or fails takes that long to end
    }


def ignored(settings: Settings) -> list[str]:
    """Return the names of this process's variables that the platform's processes do not get, or get with another value."""
    given, kept = platform_environment(settings), inherited(os.environ)
    dropped = {name for name, value in os.environ.items() if name not in kept and given.get(name) != value}
    return sorted(dropped)


def mlflow_store(settings: Settings) -> str:
    """Return the URL of the database of MLflow's server."""
    return _sqlite(settings.home / "mlflow.db")


def _check(setting: str, folder: Path) -> None:
    if any(character in UNFIT or not character.isprintable() for character in str(folder)):
        expected = f"a path of printable characters without {UNFIT}"
        raise WindtunnelError(f"{setting}: found {str(folder)!r}, expected {expected}. Choose another folder")


def _sqlite(file: Path) -> str:
    """Return the URL of an SQLite database.

    Only characters that are special to SQLAlchemy are escaped, because MLflow creates the folder in the URL without decoding it. SQLite
    lets one process write at a time; on busy cores the others may wait longer than the default timeout of 5 s.
    """
    escaped = str(file).replace("%", "%25").replace("?", "%3F")
    return f"sqlite:///{escaped}?timeout=60"
