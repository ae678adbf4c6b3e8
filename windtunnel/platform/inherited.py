"""Select the environment variables that the platform's processes inherit from the shell that starts them."""

from collections.abc import Mapping

from windtunnel.platform.network import unusable

# Prefixes of variables that configure the tools which the platform runs. The platform sets these variables itself.
CONFIGURATION = (
    *("AIRFLOW_", "_AIRFLOW_", "MLFLOW_", "_MLFLOW_", "OTEL_", "SENTRY_"),
    *("GUNICORN_", "UVICORN_", "FLASK_", "WERKZEUG_", "WEB_CONCURRENCY", "FORWARDED_ALLOW_IPS"),
    *("PYTHON", "__PYVENV", "FORKED_BY", "_MP_FORK"),
    *("PYTORCH_", "TORCH", "TF_", "TF2_", "KERAS_", "XLA_", "GRPC_", "grpc_"),
    *("TS_", "JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS", "JDK_JAVA_OPTIONS", "CLASSPATH", "LOG4J_"),
    *("JUPYTER_", "IPYTHON", "MPLBACKEND", "MATPLOTLIBRC"),
    "SUPERVISOR_",
    *("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_CEILING_DIRECTORIES"),  # set in git hooks
    *("COLUMNS", "LINES", "FORCE_COLOR", "TTY_"),  # about terminals; the platform writes tables and logs to files
)
# Exceptions: variables that only say how to reach something or where to write something.
KEPT = (
    *("AIRFLOW_CONN_", "AIRFLOW_VAR_"),  # for the users' own DAGs
    *("PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX", "PYTHONUNBUFFERED"),
    *("TORCH_HOME", "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"),
)


def inherited(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the part of `environment` that the platform's processes inherit.

    It leaves out the variables that configure the tools, and those that would crash every Python process that creates an HTTP client:
    a proxy that httpx cannot use, certificates that do not exist. It keeps the variables of the machine: paths, locale, certificates,
    proxies for downloads, threads and the linker's variables.
    """
    broken = unusable(environment)
    return {
        name: value
        for name, value in environment.items()
        if (not name.startswith(CONFIGURATION) or name.startswith(KEPT)) and name not in broken
    }
