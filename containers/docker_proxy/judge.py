"""Judges a request to the engine by `policy.py`, and writes the one that the engine gets.

That one is written from the policy's models, never copied from the client's bytes, so the engine cannot understand it in another way than
it was judged here: not by a repeated name, a name in other letters, an encoding or a second value.
"""

import json
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode

from pydantic import ValidationError

from containers.docker_proxy.policy import ROUTES, Part, Project, Route


@dataclass(frozen=True)
class Request:
    """A request to the engine: `target` is the path with the query."""

    method: str
    target: str
    body: bytes = b""
    upgrade: bool = False
    """Whether the answer is a stream of another protocol than HTTP."""


class Refused(Exception):
    """Why a request does not pass."""


class Judge:
    """Judges requests about one project."""

    def __init__(self, project: Project) -> None:
        self.project = project
        names = {
            "api": r"/v1\.[4-9][0-9]",
            "container": "[0-9a-f]{64}",
            "host_name": "[0-9a-f]{12}",
            "service": "[a-z0-9]{25}",
            "image": project.image,
        }
        self._routes = [(re.compile(route.path.format(**names)), route) for route in ROUTES]

    def judge(self, request: Request) -> Request:
        """The request as the engine gets it.

        Raises:
            Refused: it is not allowed; the text says which part of it.
        """
        path, _, query = request.target.partition("?")
        refusal = f"does not let {request.method} {path} through"
        if not (route := self._route(request.method, path)):
            raise Refused(refusal)
        if route.body:
            refusal = "refuses to create this: only this project's images, volumes and network pass"
        try:
            asked = self._fit(route.query, _parse_query(query))
            query = urlencode({name: value if isinstance(value, str) else _json(value) for name, value in asked.items()})
            body = _json(self._fit(route.body, _parse_json(request.body.decode()))).encode() if route.body else b""
        except ValidationError as error:
            raise Refused(f"{refusal}: {_reason(error)}") from None
        except ValueError as error:
            raise Refused(f"{refusal}: {error}") from None
        if request.body and not route.body:
            raise Refused(f"{refusal}: it has a body")
        return Request(request.method, f"{path}?{query}" if query else path, body, route.upgrade)

    def _route(self, method: str, path: str) -> Route | None:
        return next((route for pattern, route in self._routes if route.method == method and pattern.fullmatch(path)), None)

    def _fit(self, model: type[Part], found: Any) -> dict[str, Any]:
        """What of `model` is there. Raises ValidationError."""
        return model.model_validate(found, context=self.project).model_dump(exclude_unset=True, by_alias=True)


def _parse_query(text: str) -> dict[str, Any]:
    """A query's names and values, of which `filters` is JSON. Raises ValueError."""
    found = _unique(parse_qsl(text, keep_blank_values=True, strict_parsing=True, errors="strict") if text else [])
    return found | {"filters": _parse_json(found["filters"])} if "filters" in found else found


def _parse_json(text: str) -> Any:
    """Raises ValueError."""
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Without repeated names, of which parsers take the first or the last. Raises ValueError."""
    if len(found := dict(pairs)) < len(pairs):
        raise ValueError("a name is repeated")
    return found


def _json(value: Any) -> str:
    """As JSON in UTF-8, which has no place for half a surrogate pair: to encode that raises a ValueError."""
    return json.dumps(value, ensure_ascii=False)


def _reason(error: ValidationError) -> str:
    """The first thing wrong, such as `HostConfig.Privileged is not allowed`."""
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(map(str, first["loc"])) or "it"
    return f"{place} is not allowed" if first["type"] == "extra_forbidden" else f"{place}: {first['msg'].removeprefix('Value error, ')}"
