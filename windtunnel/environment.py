"""The environment of the platform's processes: Airflow's and MLflow's own configuration, and the secrets they share."""

import os
import sys
from pathlib import Path

from windtunnel.secrets import USER, airflow_secrets, password_file
from windtunnel.settings import Settings


def platform_environment(settings: Settings) -> dict[str, str]:
    """What the processes of the platform, and the tasks they start, find in their environment.

    Everything listens on `settings.host` alone and reports to nobody outside. Secrets are made once and kept in `settings.home`.
    """
    home = settings.home
    return {
        **os.environ,
        **settings.variables,
        **airflow_secrets(settings),
        "WINDTUNNEL_MLFLOW_STORE": mlflow_store(settings),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "PYTHONPATH": str(settings.root),
        "PYTHONUNBUFFERED": "1",  # a line of a log is there when it is written
        "SPT_NOENV": "1",  # setproctitle would overwrite /proc/PID/environ, by which the platform knows its processes
        **dict.fromkeys(("NO_PROXY", "no_proxy"), _without_proxy(settings.host)),  # the processes speak to each other directly
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
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        # str() is "": the log of a task is read from its file, and from no server of logs on a host that a name server must know
        "AIRFLOW__CORE__HOSTNAME_CALLABLE": "builtins.str",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "false",
        "AIRFLOW__CORE__PARALLELISM": "4",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(password_file(settings)),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin",
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "10",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": _sqlite(home / "airflow.db"),
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(settings.logs / "tasks"),
        "AIRFLOW__LOGGING__DAG_PROCESSOR_CHILD_PROCESS_LOG_DIRECTORY": str(settings.logs / "dag-processor"),
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.1",
    }


def mlflow_store(settings: Settings) -> str:
    """The database of MLflow's server."""
    return _sqlite(settings.home / "mlflow.db")


def _sqlite(file: Path) -> str:
    """SQLite lets one process write at a time; on busy cores the others wait longer than its own patience of 5 s."""
    return f"sqlite:///{file}?timeout=60"


def _without_proxy(host: str) -> str:
    return ",".join(filter(None, [os.environ.get("no_proxy") or os.environ.get("NO_PROXY"), host, "localhost"]))
