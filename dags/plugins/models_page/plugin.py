"""Show the page Models in Airflow's navigation. Airflow finds this plugin by its entry point `airflow.plugins`.

The page is static files, which this application serves. What it shows comes from the service `models_api`, to which requests are
forwarded; what it changes, it changes by triggering the DAG `release` through Airflow's own API. Like `dags.plugins.reports`, this module
imports what serves requests late.
"""

from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from airflow.sdk.plugins_manager import AirflowPlugin

from dags.web import headers, path_of

PREFIX = "/windtunnel/models"
PAGE = Path(__file__).with_name("page")
DAG = "release"
ICON, DARK_ICON = "icon.svg", "icon_dark.svg"  # Airflow shows them as images, which do not inherit its colours
LOGIN = "api/v2/auth/login"  # Airflow's own, for every way to log in. It leads back only to Airflow's pages

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; media-src 'self' data: blob:; "
    "connect-src 'self'; form-action 'none'; frame-ancestors 'self'; base-uri 'none'"
)
HEADERS = headers(POLICY) | {"Referrer-Policy": "same-origin"}
TYPES = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".png": "image/png",
    ".svg": "image/svg+xml",
}
"""The files that are served, by suffix. The media types do not depend on the machine's."""

FORWARDED = {"GET": ("models", "versions", "history", "compare", "samples"), "POST": ("try",)}
"""What is asked of the service, by method."""

SECONDS = 30.0
"""The timeout of the service. It has shorter ones for what it asks itself."""


class WithSlash:
    """ASGI middleware that leads from the page's address without a slash, which would be one of Airflow's own pages, to that with it."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Handle one request."""
        if scope["type"] != "http" or path_of(scope) != PREFIX:
            await self._app(scope, receive, send)
            return
        place = f"{PREFIX.rpartition('/')[2]}/".encode()  # relative: Airflow may be served below a path
        await send({"type": "http.response.start", "status": 307, "headers": [(b"location", place), (b"content-length", b"0")]})
        await send({"type": "http.response.body"})


class ModelsPage(AirflowPlugin):
    """Adds `Models` to the navigation, and the page that it shows."""

    name = "models"
    external_views = [  # noqa: RUF012  as Airflow declares it
        {
            "name": "Models",
            "href": f"{PREFIX.removeprefix('/')}/",  # relative, as the icons: Airflow may be served below a path
            "destination": "nav",
            "url_route": "models",
            "icon": f"{PREFIX.removeprefix('/')}/{ICON}",
            "icon_dark_mode": f"{PREFIX.removeprefix('/')}/{DARK_ICON}",
        }
    ]

    @cached_property
    def fastapi_apps(self) -> list[dict[str, Any]]:  # type: ignore[override]  # Airflow only reads it
        """The FastAPI application that serves the page."""
        return [{"name": self.name, "app": application(), "url_prefix": PREFIX}]

    @property
    def fastapi_root_middlewares(self) -> list[dict[str, Any]]:  # type: ignore[override]  # Airflow only reads it
        """The middleware for the page's address without a slash."""
        return [{"name": self.name, "middleware": WithSlash}]


def application() -> Any:
    """Return an application that serves the page, what the user may do, and the service's JSON below `/api/`.

    The user must be logged in and have permission to read the runs of the DAG `release`. A browser that opens the page without being logged
    in is led to the login, as by Airflow's own pages. The icon is for all who are logged in: Airflow shows the navigation to all of them.
    """
    import httpx
    from airflow.api_fastapi.app import get_auth_manager
    from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
    from airflow.api_fastapi.core_api.security import GetUserDep, requires_access_dag
    from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request
    from fastapi.exception_handlers import http_exception_handler
    from fastapi.responses import FileResponse, JSONResponse, RedirectResponse, Response

    from serving.models_api.body import read_body
    from windtunnel.settings import load_settings

    app = FastAPI(openapi_url=None)
    seen = APIRouter(dependencies=[Depends(requires_access_dag("GET", DagAccessEntity.RUN, DAG))])
    address = load_settings().models_api_url
    service = httpx.AsyncClient(base_url=address, timeout=SECONDS, trust_env=False)

    @app.exception_handler(HTTPException)
    async def refuse(request: Request, error: HTTPException) -> Response:
        stranger = error.status_code == 401 or error.detail == "Invalid JWT token"  # what Airflow says of a cookie that it did not sign
        page = request.method == "GET" and path_of(request.scope) == "/" and "text/html" in request.headers.get("Accept", "")
        if not (stranger and page):
            return await http_exception_handler(request, error)
        back = urlencode({"next": f"{request.scope['root_path']}/"})
        return RedirectResponse(f"../../{LOGIN}?{back}", headers=HEADERS)  # relative: Airflow may be served below a path

    @app.get(f"/{ICON}")
    def icon(user: GetUserDep) -> Response:
        return send_file(ICON)

    @app.get(f"/{DARK_ICON}")
    def dark_icon(user: GetUserDep) -> Response:
        return send_file(DARK_ICON)

    @seen.get("/permissions")
    def permissions(user: GetUserDep) -> Response:
        details = DagDetails(id=DAG)
        allowed = get_auth_manager().is_authorized_dag(method="POST", access_entity=DagAccessEntity.RUN, details=details, user=user)
        return JSONResponse({"release": allowed, "user": user.get_name()}, headers=HEADERS)

    @seen.get("/api/{name}")
    async def read(request: Request, name: str) -> Response:
        return await forward(request, name, b"")

    @seen.post("/api/{name}")
    async def send(request: Request, name: str) -> Response:
        return await forward(request, name, await read_body(request))

    async def forward(request: Request, name: str, body: bytes) -> Response:
        if name not in FORWARDED[request.method]:
            raise HTTPException(404, f"there is no {name!r}")
        # The service needs neither the cookie nor the token with which the user is logged in.
        headers = {"Content-Type": request.headers["Content-Type"]} if "Content-Type" in request.headers else {}
        try:
            url = httpx.URL(f"/api/{name}", query=request.url.query.encode())
            reply = await service.request(request.method, url, content=body, headers=headers)
        except httpx.HTTPError as error:
            said = f"the service models_api does not answer at {address} ({error or type(error).__name__}). See `windtunnel status`"
            return JSONResponse({"detail": said}, 502, headers=HEADERS)
        return Response(reply.content, reply.status_code, HEADERS, "application/json")

    @seen.get("/{file:path}")
    def page(file: str) -> Response:
        names = {found.name for found in PAGE.iterdir() if found.suffix in TYPES}
        wanted = file or "index.html"
        if wanted not in names:
            raise HTTPException(404, f"there is no {file!r}")
        return send_file(wanted)

    def send_file(name: str) -> Response:
        return FileResponse(PAGE / name, headers=HEADERS, media_type=TYPES[Path(name).suffix])

    app.include_router(seen)
    return app
