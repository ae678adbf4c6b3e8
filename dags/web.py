"""Where Airflow's pages are, and how this project's own are served beside them."""

from typing import Any
from urllib.parse import urlsplit

from airflow.sdk.configuration import conf


def root_path() -> str:
    """Return the path below which Airflow is served, without a trailing slash.

    Links have no host name, because people may reach Airflow by another name than its own.
    """
    return urlsplit(conf.get("api", "base_url", fallback="")).path.rstrip("/")


def path_of(scope: Any) -> str:
    """Return the path of an ASGI request, without the path below which Airflow is served."""
    return scope["path"].removeprefix(scope.get("root_path", ""))


def headers(policy: str) -> dict[str, str]:
    """Return the headers of a page with this Content-Security-Policy. Only the browser of a user who is logged in may keep it."""
    return {"Content-Security-Policy": policy, "Cache-Control": "private, no-cache", "X-Content-Type-Options": "nosniff"}
