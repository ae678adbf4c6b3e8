"""Where Airflow keeps its state in SQLite, its API server does one writing request at a time: a plugin, found by its entry point.

SQLite lets one connection write at a time. Airflow writes its audit log in the API server's event loop (`log_action` in
`airflow/api_fastapi/logging/decorators.py`). There it waits for a request that writes already, and that one needs the event loop to
end: nothing is answered until the patience with the database ends, and one of the two fails with "Database error".
"""

import asyncio
from functools import cached_property
from typing import Any

from airflow.sdk.plugins_manager import AirflowPlugin

READING = ("GET", "HEAD", "OPTIONS")


class OneWriteAtATime:
    """ASGI middleware: requests that may write go on one after the other, those that read at once."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._turn = asyncio.Lock()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request."""
        if scope["type"] != "http" or scope["method"] in READING:
            await self._app(scope, receive, send)
            return
        async with self._turn:
            await self._app(scope, receive, send)


class Writes(AirflowPlugin):
    """The middleware, where it is needed."""

    name = "writes"

    @cached_property
    def fastapi_root_middlewares(self) -> list[dict[str, Any]]:
        """Nothing with a database that takes several writers, such as PostgreSQL."""
        from airflow.configuration import conf

        if not conf.get("database", "sql_alchemy_conn").startswith("sqlite"):
            return []
        return [{"name": self.name, "middleware": OneWriteAtATime}]
