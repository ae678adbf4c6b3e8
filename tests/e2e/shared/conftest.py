"""The platform that tests share which do not harm it: starting one takes some 20 s, and champions to ask a run; and a browser."""

import pytest

from tests.e2e.browser import chromium, logged_in
from tests.e2e.conftest import new_platform, up
from windtunnel.platform.secrets import USER

AIRFLOWS = "An iframe which has both allow-scripts and allow-same-origin"  # what the browser says of the frame in which Airflow shows pages


@pytest.fixture(scope="package")
def platform(tmp_path_factory):
    """The platform that tests share: up until the last of them has ended, and left as it is found. One of its users only looks."""
    with up(new_platform(tmp_path_factory.mktemp("platform"), users="admin:admin,viewer:viewer")) as shared:
        yield shared


@pytest.fixture(scope="module")
def champions(platform):
    """Something to ask: what the tests before have left, or else what a run releases."""
    if [known["served"] for known in platform.json("models")].count("to users") == 3:
        return
    run = platform.json("run", "lenet5", "--param", "samples=4000", "--param", "margin=1", "--param", "benchmark_seconds=0")
    assert {row["release"] for row in run["result"]["frameworks"].values()} == {"champion on torchserve", "champion on tfserving"}


@pytest.fixture(scope="package")
def browser(tmp_path_factory):
    """The browser that tests share."""
    with chromium(tmp_path_factory.mktemp("browser")) as started:
        yield started


@pytest.fixture
def open_page(platform, browser):
    """Opens a page of Airflow for a user who is logged in.

    In the end no request has left the platform, and the console has no error and no warning.
    """
    said, foreign, contexts = [], [], []
    own = (platform.settings.airflow_url, "data:", "blob:")

    def start(user=USER, **options):
        context = browser.new_context(base_url=platform.settings.airflow_url, **options)
        contexts.append(context)
        page = logged_in(context, platform, user=user)
        page.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: None if request.url.startswith(own) else foreign.append(request.url))
        return page

    yield start
    for context in contexts:
        context.close()
    assert foreign == []
    assert [text for text in said if not text.startswith(AIRFLOWS)] == []
