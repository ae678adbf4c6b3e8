"""Requests of every kind to an HTTP server, made up from a description of it. `FUZZ_SECONDS` in the environment makes it longer."""

import os
import time
from collections import Counter
from typing import Any

import hypothesis.strategies as some
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case, GenerationMode

from tests.waiting import PATIENCE

SECONDS = float(os.environ.get("FUZZ_SECONDS", "5"))
FAILURE = 500
LATE = "does not answer"  # said of a program behind the server, which a busy machine may keep from answering in time

Described = dict[str, Any]
"""A part of an OpenAPI description."""


def path(name: str, schema: Described) -> Described:
    """A parameter that is a part of the path."""
    return {"name": name, "in": "path", "required": True, "schema": schema}


def query(name: str, schema: Described) -> Described:
    """A parameter that may follow the path."""
    return {"name": name, "in": "query", "schema": schema}


def operation(*parameters: Described, bodies: Described | None = None) -> Described:
    """An operation with these parameters; `bodies` are the schemas of its body by media type."""
    content = {kind: {"schema": schema} for kind, schema in (bodies or {}).items()}
    body = {"requestBody": {"content": content}} if content else {}
    return {"parameters": list(parameters), "responses": {"default": {"description": "any"}}, **body}


def fuzz(url: str, paths: Described, headers: dict[str, str] | None = None) -> Counter[int]:
    """Sends requests, some as `paths` describes and some as it does not, and returns how many were answered with which status.

    None may be answered with a failure of the server.
    """
    description = schemathesis.openapi.from_dict({"openapi": "3.1.0", "info": {"title": url, "version": "1"}, "paths": paths})
    operations = [found.ok() for found in description.get_all_operations()]
    cases = some.one_of([each.as_strategy(generation_mode=mode) for each in operations for mode in GenerationMode])
    statuses: Counter[int] = Counter()
    session = requests.Session()
    session.trust_env = False
    deadline = time.monotonic() + SECONDS

    @settings(max_examples=300, database=None, derandomize=False, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(cases)
    def send(case: Case) -> None:
        if time.monotonic() < deadline:
            answer = case.call(base_url=url, session=session, headers=headers, timeout=PATIENCE)
            said = f"{case.as_curl_command()}: {answer.status_code} {answer.text[:1000]}"
            assert answer.status_code < FAILURE or LATE in answer.text, said
            statuses[answer.status_code] += 1

    while time.monotonic() < deadline:
        send()
    return statuses
