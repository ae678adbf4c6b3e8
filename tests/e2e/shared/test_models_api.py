"""The page Models in Airflow, without its script: what it shows, what every champion answers, and who may change what users get."""

import json
import time
from urllib.parse import quote

import httpx
import pytest

from serving.release import audit
from tests.waiting import PATIENCE, wait_for
from train_server.lenet5.model import LENET5
from windtunnel.platform.airflow import Airflow, authorization, token_request
from windtunnel.platform.secrets import USER, password_file, password_of
from windtunnel.settings import ROOT

pytestmark = pytest.mark.usefixtures("champions")

PAGE = "/windtunnel/models"
RUNS = "/api/v2/dags/release/dagRuns"
PNG = {"Content-Type": "image/png"}


@pytest.fixture(scope="module")
def admin(platform):
    """A client that is logged in as the platform's user."""
    return Airflow(platform.settings).http


@pytest.fixture(scope="module")
def viewer(platform):
    """A client of a user who may look and change nothing."""
    password = password_of("viewer", password_file(platform.settings).read_text())
    with httpx.Client(base_url=platform.settings.airflow_url, timeout=PATIENCE, trust_env=False) as client:
        request = token_request("viewer", password)
        reply = client.request(request["method"], request["path"], json=request["json"])
        client.headers.update(authorization(reply.raise_for_status().json()))
        yield client


@pytest.fixture
def registered(admin):
    """What the page shows of the registered models, by name, at this moment."""

    def look():
        reply = admin.get(f"{PAGE}/api/models")
        assert reply.status_code == 200, reply.text
        return {each["name"]: each for model in reply.json()["models"] for each in model["registered"]}

    return look


@pytest.fixture
def release(admin):
    """Does what the page does with the button: triggers a run, waits for its end, and returns its state and what its task says."""

    def act(**conf):
        begin = time.monotonic()
        reply = admin.post(RUNS, json={"conf": conf, "logical_date": None})
        assert reply.status_code == 200, reply.text
        path = f"{RUNS}/{quote(reply.json()['dag_run_id'], safe='')}"
        state = wait_for(lambda: (found := admin.get(path).json()["state"]) in ("success", "failed") and found)
        print(f"{conf['action']} took {time.monotonic() - begin:.1f} s")
        log = wait_for(lambda: admin.get(f"{path}/taskInstances/release/logs/1").json()["content"])
        return state, json.dumps(log)

    return act


def test_every_champion_is_served_and_the_page_answers_within_a_second(admin, registered, platform):
    found = registered()
    champions = {known["name"]: known["version"] for known in platform.champions().values()}
    assert {name: each["champion"]["version"] for name, each in found.items() if each["champion"]} == champions
    for name, number in champions.items():
        assert (found[name]["actual"]["champion"], found[name]["agrees"], found[name]["problem"]) == (number, True, None)
        assert found[name]["champion"]["promoted"]["why"]
        assert admin.get(f"/api/v2/{found[name]['champion']['run_url'].replace('/runs/', '/dagRuns/')}").status_code == 200
    servers = admin.get(f"{PAGE}/api/models").json()["servers"]
    assert {each["name"]: each["healthy"] for each in servers} == {"torchserve": True, "tfserving": True, "speech": True}
    taken = []
    for _ in range(5):
        start = time.monotonic()
        registered()
        taken.append(time.monotonic() - start)
    print("seconds:", [f"{seconds:.3f}" for seconds in taken])
    assert min(taken) < 1


def test_a_digit_is_recognised_by_all_champions_at_once(admin):
    digit = (ROOT / "img" / "digit.png").read_bytes()
    found = admin.post(f"{PAGE}/api/try", params={"model": "lenet5"}, content=digit, headers=PNG).json()
    answers = {each["framework"]: each for each in found["answers"]}
    assert set(LENET5.default_frameworks) <= set(answers)
    for framework in LENET5.default_frameworks:
        answer = answers[framework]
        assert answer["problem"] is None
        assert len(answer["bars"]) == 10
        assert max(answer["bars"], key=lambda bar: bar["value"])["label"] == answer["label"]
    shown = admin.get(f"{PAGE}/api/samples", params={"model": "lenet5"}).json()["samples"]
    assert len(shown) == 32
    again = admin.post(f"{PAGE}/api/try", params={"model": "lenet5", "sample": 0}).json()
    assert len(again["answers"]) == len(found["answers"])


def test_two_frameworks_are_compared_on_the_test_set(admin, registered):
    first, second = (f"{name}@{registered()[name]['champion']['version']}" for name in ("lenet5-pytorch", "lenet5-tensorflow"))
    found = admin.get(f"{PAGE}/api/compare", params={"a": first, "b": second}).json()
    assert found["a"]["curve"]
    assert found["a"]["certificate"]["passed"]
    differences = found["differences"]
    assert 0 < differences["count"] <= differences["of"] == 10_000
    assert all(each["a"] != each["b"] and each["image"].startswith("data:image/png") for each in differences["samples"])


@pytest.fixture
def other(admin, registered, platform):
    """A version of `lenet5-tensorflow` that is not the champion: what the tests before have left, or else what a short run makes."""
    champion = registered()["lenet5-tensorflow"]["champion"]["version"]

    def found():
        versions = admin.get(f"{PAGE}/api/versions", params={"name": "lenet5-tensorflow"}).json()["versions"]
        return [each["version"] for each in versions if each["version"] != champion]

    if not found():
        weak = ("--param", "frameworks=tensorflow", "--param", "samples=64", "--param", "epochs=1", "--param", "benchmark_seconds=0")
        platform.json("run", "lenet5", *weak)
    return found()[0]


def test_a_version_is_promoted_and_rolled_back_by_the_user_with_a_reason(release, registered, platform, admin, other):
    name = "lenet5-tensorflow"
    version = registered()[name]["champion"]["version"]
    for action, number, expected in (("promote", other, other), ("roll back", version, version)):
        state, log = release(action=action, model=name, version=number, reason=f"to see: {action} --who=mallory")
        assert state == "success", log
        found = registered()[name]
        assert (found["champion"]["version"], found["actual"]["champion"], found["agrees"]) == (expected, expected, True)
        digit = (ROOT / "img" / "digit.png").read_bytes()
        answers = admin.post(f"{PAGE}/api/try", params={"model": "lenet5"}, content=digit, headers=PNG).json()["answers"]
        assert {each["version"] for each in answers if each["name"] == name} == {expected}
        last = audit.read(platform.settings.serving)[-1]
        assert (last["who"], last["why"], last["to_version"]) == (USER, f"to see: {action} --who=mallory", expected)
        assert last["run"].startswith("release/manual__")
        event = admin.get(f"{PAGE}/api/history", params={"name": name, "limit": 1}).json()["events"][0]
        assert (event["to"], event["who"], event["action"]) == (expected, USER, action)
        assert event["run_url"] == f"dags/release/runs/{quote(last['run_id'], safe='')}"
        assert admin.get(f"{RUNS}/{quote(last['run_id'], safe='')}").json()["state"] == "success"
        emitted = admin.get("/api/v2/assets/events", params={"source_dag_id": "release", "order_by": "-timestamp"}).json()["asset_events"]
        assert emitted[0]["extra"]["version"] == expected


def test_the_servers_are_reconciled(release, registered, platform):
    state, log = release(action="reconcile", model="", version=None, reason="to see")
    assert state == "success", log
    assert all(each["agrees"] for each in registered().values() if each["champion"])


@pytest.mark.parametrize(
    ("conf", "said"),
    [
        ({"action": "promote", "model": "cats", "version": 1}, "'cats' is not a registered model"),
        ({"action": "promote", "model": "lenet5-pytorch", "version": 999}, "999"),
        ({"action": "promote", "model": "lenet5-pytorch"}, "the version is missing"),
    ],
)
def test_a_run_with_a_wrong_input_fails_and_says_why(release, platform, conf, said):
    before = audit.read(platform.settings.serving)
    state, log = release(**conf, reason="to see")
    assert state == "failed"
    assert said in log
    assert audit.read(platform.settings.serving) == before


@pytest.mark.parametrize(
    "conf", [{"action": "reconcile"}, {"action": "reconcile", "reason": "x"}, {"action": "destroy", "reason": "to see"}]
)
def test_without_a_reason_or_with_another_action_nothing_runs(admin, conf):
    reply = admin.post(RUNS, json={"conf": conf, "logical_date": None})
    assert reply.status_code == 400
    assert "reason" in reply.text or "action" in reply.text


def test_somebody_without_the_right_sees_everything_and_changes_nothing(admin, viewer, platform):
    assert admin.get(f"{PAGE}/permissions").json() == {"release": True, "user": USER}
    assert viewer.get(f"{PAGE}/permissions").json() == {"release": False, "user": "viewer"}
    assert viewer.get(f"{PAGE}/api/models").status_code == viewer.get(f"{PAGE}/").status_code == 200
    assert viewer.get(PAGE, follow_redirects=True).url.path == f"{PAGE}/"
    before = audit.read(platform.settings.serving)
    refused = viewer.post(RUNS, json={"conf": {"action": "reconcile", "reason": "to see"}, "logical_date": None})
    assert refused.status_code == 403
    assert audit.read(platform.settings.serving) == before


def test_nobody_sees_anything_without_logging_in(platform):
    with httpx.Client(base_url=platform.settings.airflow_url, timeout=PATIENCE, trust_env=False) as stranger:
        for path in ("/", "/permissions", "/api/models"):
            assert stranger.get(f"{PAGE}{path}").status_code == 401
        assert stranger.post(RUNS, json={"conf": {"action": "reconcile", "reason": "to see"}, "logical_date": None}).status_code == 401


def test_another_sites_page_cannot_act_for_a_user(platform, admin):
    """A form of another site can send the cookie, if the browser lets it, but no JSON: and the cookie is not for other sites."""
    token = admin.headers["Authorization"].removeprefix("Bearer ")
    body = json.dumps({"conf": {"action": "reconcile", "reason": "to see"}, "logical_date": None})
    with httpx.Client(base_url=platform.settings.airflow_url, timeout=PATIENCE, trust_env=False, cookies={"_token": token}) as browser:
        forged = browser.post(RUNS, content=body, headers={"Content-Type": "text/plain", "Origin": "https://evil.example"})
        assert forged.status_code in (403, 415, 422), forged.text
