"""The service behind the page Models, running."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from tests.processes import started
from tests.waiting import PATIENCE, wait_for
from windtunnel.settings import ROOT, Settings


@contextmanager
def service(settings: Settings) -> Iterator[httpx.Client]:
    """Start it with these settings, and return a client of it."""
    environment = os.environ | settings.variables | {"PYTHONPATH": str(ROOT)}
    log = settings.home / "models_api.log"
    with (
        log.open("a") as output,
        started([sys.executable, "-m", "serving.models_api"], env=environment, cwd=ROOT, stdout=output, stderr=output) as process,
        httpx.Client(base_url=settings.models_api_url, timeout=PATIENCE, trust_env=False) as client,
    ):

        def answers() -> bool:
            assert process.poll() is None, log.read_text()
            try:
                return client.get("/health").is_success
            except httpx.HTTPError:
                return False

        wait_for(answers, explain=log.read_text)
        yield client
