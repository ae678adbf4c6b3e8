"""The page Models without a platform: who gets it, with which headers, and what is forwarded to the real service.

In Airflow, with its own pages around it, tests/e2e/shared/test_models_api.py has it.
"""

import json
import os
import subprocess
import sys
from urllib.parse import quote

import httpx
import pytest

from serving.release import audit
from tests.processes import started
from tests.serving.models_api.running_service import service
from tests.waiting import PATIENCE, wait_for
from windtunnel.platform.ports import platform_ports
from windtunnel.settings import ROOT, Settings

pytestmark = pytest.mark.minutes(1)

BELOW = "/team"
"""Airflow is served below this path."""

BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}

IMPORT = """
import json, sys
import airflow.sdk.plugins_manager
before = set(sys.modules)
from dags.plugins.models_page.plugin import ModelsPage
ModelsPage().external_views
print("LOADED" + json.dumps(sorted(set(sys.modules) - before)))
"""
AIRFLOW = """
import json, sys
import uvicorn
from fastapi import FastAPI
from airflow.api_fastapi.app import API_ROOT_PATH, get_auth_manager, init_auth_manager
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
from airflow.api_fastapi.core_api.routes.public.auth import auth_router
from airflow.models import import_all_models
from airflow.models.base import Base
from airflow.settings import engine
from dags.plugins.models_page.plugin import PREFIX, WithSlash, application

import_all_models()
Base.metadata.create_all(engine)
app = FastAPI(root_path=API_ROOT_PATH.removesuffix("/"))
app.include_router(auth_router, prefix="/api/v2")
init_auth_manager(app)
app.mount(PREFIX, application())
app.add_middleware(WithSlash)
roles = {"viewer": "viewer", "user": "user", "nobody": None}
users = {name: SimpleAuthManagerUser(username=f"a {name}", role=role) for name, role in roles.items()}
tokens = {name: get_auth_manager().generate_jwt(user) for name, user in users.items()}
print("TOKENS" + json.dumps(tokens), flush=True)
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
"""


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    audit.note(home / "serving", action="promote", model="lenet5-pytorch", from_version=None, to_version=1, who="ada", why="<b>", run=None)
    return Settings(home=home, **platform_ports())


@pytest.fixture(scope="module")
def environment(settings, tmp_path_factory):
    folder = tmp_path_factory.mktemp("airflow")
    return (
        os.environ
        | settings.variables
        | {
            "AIRFLOW_HOME": str(folder),
            "AIRFLOW__API__BASE_URL": f"{settings.airflow_url}{BELOW}",
            "AIRFLOW__API_AUTH__JWT_SECRET": "a secret of sixty-four characters, as the platform makes them: yes.",
            "AIRFLOW__CORE__LOAD_EXAMPLES": "false",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{folder}/airflow.db",
            "PYTHONPATH": str(ROOT),
        }
    )


@pytest.fixture(scope="module")
def airflow(settings, environment, tmp_path_factory):
    """An address, and the tokens of users by their role."""
    file = tmp_path_factory.mktemp("output") / "output"

    def tokens():
        assert process.poll() is None, file.read_text()
        return [json.loads(line.removeprefix("TOKENS")) for line in file.read_text().splitlines() if line.startswith("TOKENS")]

    command = [sys.executable, "-c", AIRFLOW, str(settings.airflow_port)]
    with file.open("w") as output, started(command, env=environment, cwd=ROOT, stdout=output, stderr=output) as process:
        found = wait_for(tokens, explain=file.read_text)[0]
        wait_for(lambda: answers(settings.airflow_url), explain=file.read_text)
        yield f"{settings.airflow_url}{BELOW}/windtunnel/models", found


@pytest.fixture(scope="module")
def as_role(airflow):
    """Clients of users by their role; nobody is logged in without one."""
    address, tokens = airflow

    def client(role=None):
        headers = {"Authorization": f"Bearer {tokens[role]}"} if role else {}
        return httpx.Client(base_url=address, headers=headers, timeout=PATIENCE, trust_env=False)

    return client


@pytest.fixture
def models_api(settings):
    """The service, while a test needs it."""
    with service(settings):
        yield


def answers(url):
    try:
        return httpx.get(url, trust_env=False, timeout=PATIENCE)
    except httpx.HTTPError:
        return None


def test_it_imports_nothing_before_a_page_is_served(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", IMPORT],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
        env={"AIRFLOW_HOME": str(tmp_path)},
    )
    package = "dags.plugins.models_page"
    assert set(json.loads(done.stdout.partition("LOADED")[2])) <= {"dags", "dags.plugins", "dags.web", package, f"{package}.plugin"}


@pytest.mark.parametrize("path", ["/", "/index.html", "/permissions", "/api/models", "/api/history", "/no-such-file"])
def test_nobody_gets_anything_without_logging_in(as_role, path):
    with as_role() as stranger:
        assert stranger.get(path).status_code == 401
        assert stranger.get(path, headers={"Authorization": "Bearer forged"}).status_code == 403
        assert stranger.post("/api/try?model=lenet5", content=b"x").status_code == 401


@pytest.mark.parametrize("cookies", [{}, {"_token": "forged"}])
def test_a_browser_is_led_to_the_login_and_back_to_the_page(airflow, cookies):
    with httpx.Client(headers=BROWSER, cookies=cookies, timeout=PATIENCE, trust_env=False) as stranger:
        reply = stranger.get(f"{airflow[0]}/?next=https://evil.example")
        back = quote(f"{BELOW}/windtunnel/models/", safe="")
        assert (reply.status_code, reply.headers["location"]) == (307, f"../../api/v2/auth/login?next={back}")
        assert "no-cache" in reply.headers["cache-control"]
        login = stranger.get(reply.next_request.url)  # Airflow's own, which refuses to lead to another site
        assert (login.status_code, login.headers["location"]) == (307, f"{BELOW}/auth/login?next={back}")
        assert stranger.get(login.next_request.url, follow_redirects=True).status_code == 200


@pytest.mark.parametrize("path", ["/index.html", "/models.js", "/permissions", "/api/models"])
def test_only_the_page_itself_leads_to_the_login(as_role, path):
    with as_role() as stranger:
        assert stranger.get(path, headers=BROWSER).status_code == 401
        assert stranger.post("/", headers=BROWSER).status_code == 405
        assert stranger.get("/").status_code == 401  # a program, which reads no form


def test_who_may_not_see_the_page_is_told_so_and_not_led_to_the_login(as_role):
    with as_role("nobody") as nobody:
        assert nobody.get("/", headers=BROWSER).status_code == 403


def test_the_page_loads_nothing_from_elsewhere_and_is_framed_by_nobody_else(as_role):
    with as_role("viewer") as viewer:
        page = viewer.get("/")
    assert page.headers["content-type"].startswith("text/html")
    assert "<!doctype html>" in page.text.lower()
    policy = dict(rule.split(" ", 1) for rule in page.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == policy["frame-ancestors"] == "'self'"
    assert policy["form-action"] == policy["base-uri"] == "'none'"
    assert "unsafe" not in str(policy)
    assert page.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("file", ["icon.svg", "icon_dark.svg"])
def test_everybody_who_is_logged_in_gets_the_icon_and_nobody_else(as_role, file):
    with as_role("nobody") as somebody, as_role() as stranger:
        icon = somebody.get(f"/{file}")
        assert (icon.status_code, icon.headers["content-type"]) == (200, "image/svg+xml")
        assert "default-src 'none'" in icon.headers["content-security-policy"]
        assert stranger.get(f"/{file}", headers=BROWSER).status_code == 401
        assert somebody.get("/models.js").status_code == 403


def test_its_address_without_a_slash_leads_to_the_page(as_role, airflow):
    with as_role("viewer") as viewer:
        reply = viewer.get(airflow[0])
        assert (reply.status_code, reply.headers["location"]) == (307, "models/")
        assert viewer.get(airflow[0], follow_redirects=True).url.path == f"{BELOW}/windtunnel/models/"


@pytest.mark.parametrize(
    "path", ["/plugin.py", "/__init__.py", "/..%2fplugin.py", "/%2e%2e/plugin.py", "/page/index.html", "/%2e", "/x%00"]
)
def test_no_other_file_is_served(as_role, path):
    with as_role("viewer") as viewer:
        assert viewer.get(path).status_code == 404


def test_who_may_trigger_the_dag_is_told_so_and_others_are_not(as_role):
    with as_role("viewer") as viewer, as_role("user") as user:
        assert viewer.get("/permissions").json() == {"release": False, "user": "a viewer"}
        assert user.get("/permissions").json() == {"release": True, "user": "a user"}


@pytest.mark.usefixtures("models_api")
def test_the_service_is_asked_and_its_errors_are_passed_on(as_role):
    with as_role("viewer") as viewer:
        found = viewer.get("/api/history", params={"name": "lenet5-pytorch"})
        assert [event["why"] for event in found.json()["events"]] == ["<b>"]
        assert found.headers["content-type"] == "application/json"
        assert "content-security-policy" in found.headers
        wrong = viewer.get("/api/history?limit=none")
        assert (wrong.status_code, wrong.json()["detail"]) == (400, "invalid limit: found 'none', expected a whole number from 1 to 200")
        picture = viewer.post("/api/try?model=lenet5", content=b"nonsense", headers={"Content-Type": "image/png"})
        assert picture.status_code == 400
        assert "found 8 bytes that begin with b'nonsense'" in picture.json()["detail"]
        seen = viewer.post("/api/try?model=lenet5", content=(ROOT / "img/digit.png").read_bytes(), headers={"Content-Type": "image/png"})
        assert seen.json()["seen"].startswith("data:image/png;base64,")


@pytest.mark.usefixtures("models_api")
def test_what_is_too_large_is_refused(as_role):
    with as_role("viewer") as viewer:
        reply = viewer.post("/api/try?model=lenet5", content=bytes(16 * 2**20 + 1), headers={"Content-Type": "image/png"})
        assert reply.status_code == 413


@pytest.mark.parametrize("name", ["..%2fhealth", "%2e%2e", "a.b", "x" * 5000, "models/more"])
def test_nothing_else_of_the_service_is_reached(as_role, name):
    with as_role("user") as user:
        assert user.get(f"/api/{name}").status_code == 404


def test_without_the_service_the_page_says_so(as_role, settings):
    with as_role("viewer") as viewer:
        reply = viewer.get("/api/models")
        assert reply.status_code == 502
        assert f"models_api does not answer at {settings.models_api_url}" in reply.json()["detail"]
        assert viewer.get("/").status_code == 200
