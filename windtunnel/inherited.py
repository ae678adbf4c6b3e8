"""What the platform's processes inherit from the shell that starts them: what users need, and nothing that changes what the tools do."""

from collections.abc import Mapping

from windtunnel.network import unusable

# Variables that configure the tools the platform consists of, by how their names begin. The platform configures them itself.
CONFIGURATION = (
    *("AIRFLOW_", "_AIRFLOW_", "MLFLOW_", "_MLFLOW_", "OTEL_", "SENTRY_"),
    *("GUNICORN_", "UVICORN_", "FLASK_", "WERKZEUG_", "WEB_CONCURRENCY", "FORWARDED_ALLOW_IPS"),
    *("PYTHON", "__PYVENV", "FORKED_BY", "_MP_FORK"),
    *("PYTORCH_", "TORCH", "TF_", "TF2_", "KERAS_", "XLA_", "GRPC_", "grpc_"),
    *("TS_", "JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS", "JDK_JAVA_OPTIONS", "CLASSPATH", "LOG4J_"),
    *("JUPYTER_", "IPYTHON", "MPLBACKEND", "MATPLOTLIBRC"),
    "SUPERVISOR_",
    *("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_CEILING_DIRECTORIES"),  # a git hook's: another checkout
    *("COLUMNS", "LINES", "FORCE_COLOR", "TTY_"),  # tables and logs are files here
)
# Of those, what only says how to reach something, or what is written where.
KEPT = (
    *("AIRFLOW_CONN_", "AIRFLOW_VAR_"),  # for DAGs that users add
    *("PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX", "PYTHONUNBUFFERED"),
    *("TORCH_HOME", "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"),
)


def inherited(environment: Mapping[str, str]) -> dict[str, str]:
    """What of an environment the platform's processes get.

    Dropped are variables of the tools, by their kinds, and those that would end every Python process that makes an HTTP client: a proxy
    that it cannot use, certificates that are not there. Paths, locale, certificates, proxies for downloads, threads and
    the linker's variables are the machine's own and stay.
    """
    broken = unusable(environment)
    return {
        name: value
        for name, value in environment.items()
        if (not name.startswith(CONFIGURATION) or name.startswith(KEPT)) and name not in broken
    }
