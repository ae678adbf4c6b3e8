"""Serialize the writing requests of Airflow's API server if its database is SQLite: a plugin, found by its entry point.

SQLite lets one connection write at a time. Airflow writes its audit log in the API server's event loop (`log_action` in
`airflow/api_fastapi/logging/decorators.py`). If another request is writing then, the event loop waits for it, and it needs the event loop
to finish: a deadlock, until the database's timeout ends it and one of the two requests fails with "Database error".
"""

import asyncio
from functools import cached_property
from typing import Any

from airflow.sdk.plugins_manager import AirflowPlugin

from dags.plugins.models_page.plugin import PREFIX
from dags.web import path_of

READING = ("GET", "HEAD", "OPTIONS")
NO_DATABASE = f"{PREFIX}/"
"""Where the page Models is: what it sends goes to the model servers, which may take seconds, and writes nothing."""


class OneWriteAtATime:
    """ASGI middleware that runs requests that may write one after the other, and requests that only read at once."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._turn = asyncio.Lock()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Handle one request."""
        if scope["type"] != "http" or scope["method"] in READING or path_of(scope).startswith(NO_DATABASE):
            await self._app(scope, receive, send)
            return
        async with self._turn:
            await self._app(scope, receive, send)


class Writes(AirflowPlugin):
    """Adds the middleware if the database is SQLite."""

    name = "writes"

    @cached_property
    def fastapi_root_middlewares(self) -> list[dict[str, Any]]:  # type: ignore[override]  # Airflow only reads it
        """The middleware; none if the database allows several writers, like PostgreSQL."""
        from airflow.configuration import conf

        if not conf.get("database", "sql_alchemy_conn").startswith("sqlite"):
            return []
        return [{"name": self.name, "middleware": OneWriteAtATime}]
