"""The HTTP service: JSON of what the other modules return, and one line about what is wrong."""

from collections.abc import Callable
from functools import partial, wraps
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from serving.models_api import ask, compare, history, state
from serving.models_api.ask import KINDS, BadSampleError
from serving.models_api.body import read_body
from serving.models_api.records import Json
from serving.models_api.sources import Sources
from windtunnel.aliases import NotRegisteredError
from windtunnel.errors import WindtunnelError
from windtunnel.model import Model, models
from windtunnel.server_settings import LOOPBACK

PAGE, MOST = 50, 200
"""How many versions or events a page has by default, and at most."""

Read = Callable[[Sources, Request], Json]


def application(sources: Sources) -> Starlette:
    """Return the service. It reads from `sources` and changes nothing."""
    reads: dict[str, Read] = {
        "models": lambda sources, request: state.overview(sources),
        "versions": _versions,
        "history": _history,
        "compare": _compare,
        "samples": lambda sources, request: ask.samples(sources, _model(request)),
    }
    routes = [Route(f"/api/{name}", _endpoint(read, sources)) for name, read in reads.items()]
    routes.append(Route("/api/try", partial(_try, sources), methods=["POST"]))
    routes.append(Route("/health", _health))
    settings = sources.settings
    # A page of another site, whose name leads here after it was loaded, must not read this.
    hosts = {LOOPBACK, "localhost", settings.host, settings.models_api_host or settings.host}
    return Starlette(
        routes=routes,
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=sorted(hosts), www_redirect=False)],
        exception_handlers={HTTPException: _refused, WindtunnelError: _failed, Exception: _broken},
    )


def _endpoint(read: Read, sources: Sources) -> Callable[[Request], JSONResponse]:
    @wraps(read)
    def endpoint(request: Request) -> JSONResponse:
        return JSONResponse(read(sources, request))

    return endpoint


def _health(request: Request) -> JSONResponse:
    return JSONResponse({"status": "ok"})


def _versions(sources: Sources, request: Request) -> Json:
    name = request.query_params.get("name", "")
    if not name:
        raise HTTPException(400, "the name is missing: expected that of a registered model, such as lenet5-pytorch")
    return state.versions_page(sources, name, _number(request, "limit", PAGE, 1, MOST), _before(request))


def _history(sources: Sources, request: Request) -> Json:
    name = request.query_params.get("name") or None
    events, more = history.page(sources.settings, name, _number(request, "limit", PAGE, 1, MOST), _before(request))
    return {"events": events, "more": more}


def _compare(sources: Sources, request: Request) -> Json:
    return compare.compare(sources, _reference(request, "a"), _reference(request, "b"))


async def _try(sources: Sources, request: Request) -> JSONResponse:
    model, sample = _model(request), request.query_params.get("sample")
    if sample is not None:
        index = _number(request, "sample", 0, 0, ask.SAMPLES)
        chosen = await run_in_threadpool(ask.golden_sample, sources, model, index)
    else:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind not in KINDS:
            raise HTTPException(415, f"the content type is {kind!r}: expected one of {', '.join(KINDS)}")
        content = await read_body(request, KINDS[kind].most_bytes)
        chosen = await run_in_threadpool(ask.read_file, model, kind, content)
    return JSONResponse(await run_in_threadpool(ask.try_sample, sources, model, chosen))


def _model(request: Request) -> Model:
    name = request.query_params.get("model", "")
    if name not in models():
        raise HTTPException(404, f"model {name!r} is unknown: expected one of {', '.join(sorted(models()))}")
    return models()[name]


def _reference(request: Request, key: str) -> tuple[str, int]:
    """Return the name and the number of a version that a parameter names as NAME@VERSION."""
    text = request.query_params.get(key, "")
    name, _, number = text.rpartition("@")
    if not name or not (number.isascii() and number.isdecimal()) or len(number) > 9:
        raise HTTPException(400, f"invalid {key}: found {text!r}, expected NAME@VERSION, such as lenet5-pytorch@3")
    return name, int(number)


def _before(request: Request) -> int | None:
    return _number(request, "before", 0, 0, 10**9) if "before" in request.query_params else None


def _number(request: Request, name: str, default: int, least: int, most: int) -> int:
    text = request.query_params.get(name, str(default))
    if not (text.isascii() and text.isdecimal()) or len(text) > 10 or not least <= int(text) <= most:
        raise HTTPException(400, f"invalid {name}: found {text!r}, expected a whole number from {least} to {most}")
    return int(text)


async def _refused(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return _detail(error.status_code, error.detail)


async def _failed(request: Request, error: Exception) -> JSONResponse:
    statuses: dict[type[Exception], int] = {NotRegisteredError: 404, BadSampleError: 400}
    return _detail(statuses.get(type(error), 503), str(error))


async def _broken(request: Request, error: Exception) -> JSONResponse:
    return _detail(500, f"an error of models_api ({type(error).__name__}). See its log")


def _detail(status: int, detail: Any) -> JSONResponse:
    return JSONResponse({"detail": detail}, status)
