"""The service with a real registry and the embedded server; TorchServe is down, as a server may be."""

import io
import json
import math
import socket
import time

import numpy as np
import pytest
from PIL import Image, ImageOps
from safetensors.numpy import load_file

from serving.models_api import ask
from serving.models_api.ask import AUDIO_BYTES
from serving.models_api.body import MOST_BYTES
from serving.models_api.sources import connect
from serving.release import audit
from serving.release.release import Cause, Release
from tests import benchmark_results
from tests.serving.models_api.running_service import service
from tests.versions import make_version
from tests.waiting import PATIENCE
from train_server.lenet5.model import Spec
from windtunnel.data.wav import wav_bytes
from windtunnel.files import write_json
from windtunnel.platform.ports import free_ports
from windtunnel.registry import get_version
from windtunnel.run import Run
from windtunnel.settings import ROOT, Settings

NAME = "lenet5-tensorflow"
PNG = {"Content-Type": "image/png"}
DIGIT = (ROOT / "img/digit.png").read_bytes()
SPEC = Spec(dataset="mnist", mean=0.1307, std=0.3081, samples=60_000)


@pytest.fixture(scope="module")
def client(small_house, trained):
    """The service beside a champion, version 2, and the version before it, 1. Their run was measured and certified."""
    release = Release(small_house.settings, NAME)
    for seed in (1, 2):
        number = small_house.register(trained("tensorflow", seed)).version
        release.promote(number, Cause("ada", f"version {number}", "lenet5/test-1-2", "test:1+2"))
    run = Run(small_house.settings.runs / "lenet5" / "test")
    measured = benchmark_results.benchmark()
    for row in measured["rows"]:
        row["version"] = 2
    write_json(run.benchmark, measured)
    write_json(run.certificate, {"passed": True, "checks": []})
    run.certificate.with_suffix(".txt").write_text("all checks passed")
    with service(small_house.settings) as client:
        yield client


@pytest.fixture(scope="module")
def known(client):
    """What the overview says of the registered models, by name."""
    return {each["name"]: each for model in client.get("/api/models").json()["models"] for each in model["registered"]}


def test_desired_and_actual_state_are_side_by_side(client, known):
    found = known[NAME]
    assert (found["champion"]["version"], found["previous"]["version"], found["challenger"]) == (2, 1, None)
    assert (found["actual"], found["agrees"], found["problem"]) == ({"champion": 2, "loaded": [1, 2]}, True, None)
    assert (found["server"], found["framework"], found["newest"]) == ("tfserving", "tensorflow", 2)
    assert "lenet5-native" not in known  # it has no version


def test_a_version_has_its_lineage_its_size_its_speed_and_who_promoted_it(client, known, small_house):
    found = known[NAME]["champion"]
    registered = connect(small_house.settings).registry.version(NAME, 2)
    assert (found["value"], found["text"]) == (registered.value, f"{registered.value:.2%}")
    assert (found["dag_run"], found["run_url"], found["dataset"]) == ("lenet5/test", "dags/lenet5/runs/test", "tiny")
    assert found["git_commit"] == "c0ffee"
    assert found["size"] > 100_000
    assert 2000 < found["throughput"] < 10_000
    assert known[NAME]["previous"]["throughput"] is None  # its run measured another version
    about = {"action": "promote", "who": "ada", "why": "version 2", "run": "lenet5/test-1-2", "run_url": "dags/lenet5/runs/test%3A1%2B2"}
    assert {key: found["promoted"][key] for key in about} == about
    assert found["mlflow_url"] == f"{small_house.settings.mlflow_url}/#/models/{NAME}/versions/2"


def test_a_server_that_is_down_is_named_and_the_rest_is_there(client, known):
    servers = {each["name"]: each for each in client.get("/api/models").json()["servers"]}
    assert {name: each["healthy"] for name, each in servers.items()} == {"tfserving": True, "torchserve": False, "speech": False}
    assert "does not answer at http://127.0.0.1:" in servers["torchserve"]["problem"]
    assert known[NAME]["agrees"]


def test_what_a_server_has_lost_is_said(client, small_house):
    server = small_house.server("tfserving")
    server.withdraw(NAME, 1)
    try:
        (found,) = [each for model in client.get("/api/models").json()["models"] for each in model["registered"] if each["name"] == NAME]
        assert (found["agrees"], found["actual"]["loaded"]) == (False, [2])
        assert found["problem"] == "tfserving has not loaded version 1, which the registry's aliases name. Reconcile"
    finally:
        Release(small_house.settings, NAME).reconcile()


def test_versions_come_by_the_page_newest_first(client):
    first = client.get("/api/versions", params={"name": NAME, "limit": 1}).json()
    assert ([each["version"] for each in first["versions"]], first["more"]) == ([2], True)
    assert first["versions"][0]["aliases"] == ["champion"]
    rest = client.get("/api/versions", params={"name": NAME, "limit": 1, "before": 2}).json()
    assert ([each["version"] for each in rest["versions"]], rest["more"]) == ([1], False)


def test_the_history_comes_by_the_page_newest_first(client):
    first = client.get("/api/history", params={"limit": 1}).json()
    (event,) = first["events"]
    assert (event["action"], event["name"], event["from"], event["to"], event["who"]) == ("promote", NAME, 1, 2, "ada")
    rest = client.get("/api/history", params={"before": event["index"], "name": NAME}).json()
    assert ([each["to"] for each in rest["events"]], rest["more"]) == ([1], False)
    assert client.get("/api/history", params={"name": "lenet5-pytorch"}).json() == {"events": [], "more": False}
    assert (event["run"], event["run_url"]) == ("lenet5/test-1-2", "dags/lenet5/runs/test%3A1%2B2")


@pytest.mark.parametrize("run", [{"run": "lenet5/manual__2026-11-22T23-46-41-00-00"}, {"run": None}, {"run": None, "run_id": None}, {}])
def test_an_event_has_no_link_to_a_run_whose_id_the_log_does_not_say(client, small_house, run):
    log = small_house.settings.serving / audit.LOG
    before = log.read_bytes()
    audit.note(small_house.settings.serving, action="promote", model="old", from_version=1, to_version=2, who="ada", why="", **run)
    try:
        (event,) = client.get("/api/history", params={"name": "old"}).json()["events"]
        assert (event["run"], event["run_url"]) == (run.get("run"), None)
    finally:
        log.write_bytes(before)


def test_two_versions_are_compared(client, trained):
    found = client.get("/api/compare", params={"a": f"{NAME}@2", "b": f"{NAME}@1"}).json()
    assert [found[side]["version"] for side in "ab"] == [2, 1]
    assert [each["epoch"] for each in found["a"]["curve"]] == [1, 2]
    assert found["a"]["curve"][-1]["value"] == found["a"]["value"]
    assert found["a"]["certificate"] == {"passed": True, "text": "all checks passed"}
    assert {each["protocol"] for each in found["a"]["benchmark"]} == {"rest", "grpc"}
    assert found["b"]["benchmark"] == []
    mine, other = (load_file(trained("tensorflow", seed) / "probe.safetensors")["predictions"] for seed in (2, 1))
    places = np.flatnonzero(mine != other)
    assert found["differences"]["of"] == len(mine)
    assert found["differences"]["count"] == len(places)
    said = [(each["index"], each["a"], each["b"]) for each in found["differences"]["samples"]]
    assert said == [(place, str(mine[place]), str(other[place])) for place in places[:60]]


def test_a_champion_is_asked_with_a_picture_and_with_its_golden_set(client, trained):
    golden = load_file(trained("tensorflow", 2) / "golden.safetensors")
    shown = client.get("/api/samples?model=lenet5").json()["samples"]
    assert len(shown) == min(ask.SAMPLES, len(golden["label"]))
    assert [each["label"] for each in shown] == [str(label) for label in golden["label"]][: ask.SAMPLES]
    assert all(each["image"].startswith("data:image/png;base64,") for each in shown)
    for index in (0, len(shown) - 1):
        (answer,) = client.post(f"/api/try?model=lenet5&sample={index}").json()["answers"]
        assert (answer["name"], answer["version"], answer["label"]) == (NAME, 2, str(golden["label"][index]))
        assert answer["milliseconds"] > 0
        np.testing.assert_allclose([bar["value"] for bar in answer["bars"]], golden["probabilities"][index], atol=1e-5)
    found = client.post("/api/try?model=lenet5", content=DIGIT, headers=PNG).json()
    assert [bar["label"] for bar in found["answers"][0]["bars"]] == [str(digit) for digit in range(10)]
    assert found["seen"].startswith("data:image/png;base64,")
    assert found["warning"] is None


def test_a_picture_with_a_bright_background_is_answered_with_a_warning(client):
    stream = io.BytesIO()
    ImageOps.invert(Image.open(io.BytesIO(DIGIT)).convert("L")).save(stream, "PNG")
    found = client.post("/api/try?model=lenet5", content=stream.getvalue(), headers=PNG).json()
    assert found["answers"][0]["problem"] is None
    assert found["warning"].startswith("the image has a bright background, but the model knows bright shapes on a dark one")


def encoded(kind, size=(28, 28)):
    stream = io.BytesIO()
    picture = Image.new("L", size)
    picture.putpixel((3, 3), 255)
    picture.save(stream, kind)
    return stream.getvalue()


def saved(array):
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


NPY = "application/octet-stream"


@pytest.mark.parametrize(
    ("kind", "content", "status", "said"),
    [
        ("image/png", b"", 400, "found an empty file"),
        ("image/png", b"nonsense", 400, "found 8 bytes that begin with b'nonsense', expected a PNG or JPEG picture. Send"),
        ("image/png", DIGIT[:60], 400, "cannot be decoded"),
        ("image/jpeg", encoded("JPEG")[:200], 400, "cannot be decoded"),
        ("image/png", encoded("PNG", (9000, 9000)), 400, "too large"),
        ("image/png", wav_bytes(np.zeros(100, np.int16)), 400, "unknown format"),
        ("image/png", b"[[0]]", 400, "unknown format"),
        ("audio/wav", b"RIFF", 400, "unknown format"),
        ("audio/wav", b"RIFF" + bytes(AUDIO_BYTES), 413, f"expected at most {AUDIO_BYTES} bytes"),
        ("audio/wav", b"RIFF" + bytes(AUDIO_BYTES - 4), 400, "unknown format"),
        (NPY, saved(np.zeros((3, 3))), 400, "wrong shape"),
        (NPY, saved(np.array([{"a": 1}], object)), 400, "cannot be read"),
        (NPY, b"\x93NUMPY\x01\x00", 400, "cannot be read"),
        (NPY, saved(np.zeros((28, 28))).replace(b"(28, 28)", b"(9**9,  )", 1), 400, "cannot be read"),
        (NPY, saved(np.zeros((28, 28))).replace(b"(28, 28), ", b"(99999999,)", 1), 400, "cannot be read"),
        (
            NPY,
            b"[" + b"[]," * (2 * 2**20) + b"[]]",
            400,
            "expected a NumPy array (.npy), or a picture or WAV sent as such. Send another file",
        ),
        (NPY, b"\x1f\x8b" + bytes(50), 400, "unknown format"),
        ("image/svg+xml", b"<svg/>", 415, "image/png"),
        ("", DIGIT, 415, "image/png"),
        ("image/png", bytes(MOST_BYTES + 1), 413, f"expected at most {MOST_BYTES} bytes"),
    ],
)
def test_a_file_that_is_no_sample_is_refused_in_one_line_without_our_paths(client, kind, content, status, said):
    reply = client.post("/api/try?model=lenet5", content=content, headers={"Content-Type": kind})
    assert reply.status_code == status
    detail = reply.json()["detail"]
    assert said in detail
    assert "/tmp" not in detail
    assert "\n" not in detail


@pytest.mark.parametrize("name", ["", "../../etc/passwd", "lenet5' OR name != '", "a\"b'c", "x" * 5000, "lenet5-native", "ü\u0000", "%"])
def test_hostile_and_unknown_names_are_not_found(client, name):
    versions = client.get("/api/versions", params={"name": name})
    assert versions.status_code in (400, 404, 503)
    assert client.get("/api/compare", params={"a": f"{name}@1", "b": f"{NAME}@1"}).status_code in (400, 404, 503)
    assert client.get("/api/samples", params={"model": name}).status_code == 404
    assert client.post("/api/try", params={"model": name}, content=DIGIT, headers=PNG).status_code == 404
    assert client.get("/api/history", params={"name": f"{name}-"}).json()["events"] == []


@pytest.mark.parametrize(
    "path",
    [
        *(f"/api/versions?name={NAME}&limit={limit}" for limit in ("0", "201", "-1", "1e3", "٣", "")),
        *("/api/history?before=x", "/api/try?model=lenet5&sample=x"),
        *("/api/compare?a=lenet5-tensorflow&b=x@1", f"/api/compare?a={NAME}@1&b={NAME}@99999999999"),
    ],
)
def test_wrong_numbers_are_refused(client, path):
    reply = client.post(path) if "try" in path else client.get(path)
    assert reply.status_code == 400
    assert reply.json()["detail"]


def test_a_version_or_sample_that_does_not_exist_is_said(client):
    missing = client.get("/api/compare", params={"a": f"{NAME}@99", "b": f"{NAME}@1"})
    assert (missing.status_code, "99" in missing.json()["detail"]) == (404, True)
    assert client.post("/api/try?model=lenet5&sample=39").status_code == 400  # the golden set has 32


def test_another_host_is_not_answered_and_nothing_can_be_changed(client):
    assert client.get("/api/models", headers={"Host": "evil.example"}).status_code == 400
    for path in ("models", "versions", "history", "compare", "samples"):
        for method in ("POST", "PUT", "DELETE"):
            assert client.request(method, f"/api/{path}").status_code == 405


def test_without_mlflow_the_servers_are_there_and_answer(small_house):
    missing, port = free_ports(2)
    with service(small_house.settings.model_copy(update={"mlflow_port": missing, "models_api_port": port})) as alone:
        found = alone.get("/api/models")
        answers = alone.post("/api/try?model=lenet5", content=DIGIT, headers=PNG).json()["answers"]
        assert alone.get("/api/versions", params={"name": NAME}).status_code == 503
    assert found.status_code == 200
    assert any("MLflow" in problem for problem in found.json()["problems"])
    (tensorflow,) = [each for model in found.json()["models"] for each in model["registered"] if each["name"] == NAME]
    assert (tensorflow["actual"], tensorflow["champion"], tensorflow["agrees"]) == ({"champion": 2, "loaded": [1, 2]}, None, None)
    by_name = {each["name"]: each for each in answers}
    assert len(by_name[NAME]["bars"]) == 10
    assert by_name["lenet5-pytorch"]["bars"] == []
    assert "torchserve" in by_name["lenet5-pytorch"]["problem"]


def test_a_server_that_hangs_does_not_hold_up_the_others(small_house):
    with socket.create_server(("127.0.0.1", 0)) as hanging:  # it takes connections and answers none
        settings, port = small_house.settings, hanging.getsockname()[1]
        own = {name: dict(server.ports) for name, server in settings.servers.items()}
        own["torchserve"] |= {"inference_port": port, "management_port": port}
        values = dict(settings) | {"models_api_port": free_ports(1)[0]}
        with service(Settings(servers=own, **values)) as other:
            for _ in range(3):  # requests do not pile up before it
                start = time.monotonic()
                found = other.get("/api/models").json()
                taken = time.monotonic() - start
        servers = {each["name"]: each for each in found["servers"]}
        assert "torchserve" in servers["torchserve"]["problem"]
        assert servers["tfserving"]["healthy"]
        assert taken < PATIENCE / 10  # and not the client's own minute for each of its models


def test_a_thousand_versions_answer_within_a_second(client, small_house, tmp_path):
    """Versions that nobody serves, of a model whose package is not installed."""
    make_version(tmp_path / "version", "pytorch", SPEC)
    mlflow = small_house.mlflow
    store = type(mlflow)(f"sqlite:///{small_house.settings.home}/mlflow.db", f"sqlite:///{small_house.settings.home}/mlflow.db")
    store.create_registered_model("many")
    tags = {"framework": "rust", "accuracy": "0.5", "dag_run": "../../x", "dataset": "mnist"}
    for _ in range(1000):
        store.create_model_version("many", "file:///nowhere", tags=tags)
    client.get("/api/versions", params={"name": "many"})  # the connection is there
    taken = []
    for path in ("/api/versions?name=many", "/api/versions?name=many&before=500", "/api/models"):
        start = time.monotonic()
        found = client.get(path)
        taken.append(time.monotonic() - start)
        assert found.status_code == 200
    print("seconds:", [f"{seconds:.3f}" for seconds in taken])
    page = client.get("/api/versions", params={"name": "many", "before": 500}).json()
    assert ([each["version"] for each in page["versions"]], page["more"]) == (list(range(499, 449, -1)), True)
    assert page["versions"][0]["throughput"] is None  # its run's name leads elsewhere
    (undeclared,) = [model for model in client.get("/api/models").json()["models"] if model["model"] == "many"]
    assert undeclared["registered"][0]["newest"] == 1000
    assert "no installed package declares many" in undeclared["registered"][0]["problem"]
    assert min(taken) < 1
    mlflow.delete_registered_model("many")


@pytest.mark.parametrize("value", ["99%", "inf", "-inf", "nan", "", "1e999"])
def test_a_tag_that_is_no_finite_number_is_an_unknown_value(client, small_house, value):
    known = connect(small_house.settings).registry.version(NAME, 1)
    mlflow = small_house.mlflow
    mlflow.set_model_version_tag(NAME, "1", "accuracy", value)
    try:
        reply = client.get("/api/models")
        assert not any(word in reply.text for word in ("NaN", "Infinity"))  # Python reads them, and no other reader of JSON does
        (found,) = [each for model in reply.json()["models"] for each in model["registered"] if each["name"] == NAME]
        assert (found["previous"]["value"], found["previous"]["text"], found["agrees"]) == (None, None, True)
        assert found["champion"]["value"] > 0
        assert client.get("/api/versions", params={"name": NAME}).json()["versions"][1]["value"] is None
        assert math.isnan(get_version(mlflow, NAME, 1).value)
    finally:
        mlflow.set_model_version_tag(NAME, "1", "accuracy", str(known.value))


def test_the_newest_version_is_no_count(client, small_house):
    mlflow = small_house.mlflow
    mlflow.create_registered_model("few")
    for _ in range(3):
        mlflow.create_model_version("few", "s3://nowhere/few")
    mlflow.delete_model_version("few", "1")
    try:
        (few,) = [model for model in client.get("/api/models").json()["models"] if model["model"] == "few"]
        assert few["registered"][0]["newest"] == 3
        assert len(client.get("/api/versions", params={"name": "few"}).json()["versions"]) == 2
    finally:
        mlflow.delete_registered_model("few")


@pytest.mark.parametrize("empty", [True, False])
def test_a_model_whose_versions_were_deleted_is_there_as_long_as_its_server_has_them(client, small_house, empty):
    mlflow = small_house.mlflow
    mlflow.rename_registered_model(NAME, "renamed")
    try:
        if empty:
            mlflow.create_registered_model(NAME)
        (found,) = [each for model in client.get("/api/models").json()["models"] for each in model["registered"] if each["name"] == NAME]
        assert (found["newest"], found["champion"], found["agrees"]) == (0 if empty else None, None, False)
        assert found["actual"] == {"champion": 2, "loaded": [1, 2]}
        assert found["problem"] == "users get version 2 from tfserving, but the registry's champion is no version. Reconcile"
        versions = client.get("/api/versions", params={"name": NAME})
        assert (versions.status_code, versions.json().get("versions")) == ((200, []) if empty else (404, None))
        (answer,) = client.post("/api/try?model=lenet5", content=DIGIT, headers=PNG).json()["answers"]
        assert (answer["name"], answer["version"], answer["problem"]) == (NAME, 2, None)
    finally:
        if empty:
            mlflow.delete_registered_model(NAME)
        mlflow.rename_registered_model("renamed", NAME)
    assert connect(small_house.settings).registry.all()[NAME] == {"champion": 2, "previous": 1}


def test_a_rollback_is_one_and_what_a_power_cut_left_hides_nothing(client, small_house):
    serving = small_house.settings.serving
    log = serving / audit.LOG
    before = log.read_bytes()
    try:
        audit.note(serving, action="roll back", model=NAME, from_version=1, to_version=2, who="grace", why="wrong sevens", run=None)
        with log.open("a") as file:
            file.write('{"time": "2026-')
        (event,) = client.get("/api/history", params={"limit": 1}).json()["events"]
        assert (event["action"], event["from"], event["to"], event["who"]) == ("roll back", 1, 2, "grace")
        found = client.get("/api/models").json()
        assert not any("the audit log" in problem for problem in found["problems"])
        (tensorflow,) = [each for model in found["models"] for each in model["registered"] if each["name"] == NAME]
        assert (tensorflow["champion"]["promoted"]["action"], tensorflow["champion"]["promoted"]["who"]) == ("roll back", "grace")
    finally:
        log.write_bytes(before)


def test_a_torn_audit_log_is_said_and_hides_nothing_else(client, small_house):
    log = small_house.settings.serving / audit.LOG
    before = log.read_bytes()
    log.write_bytes(before + b'{"time": \n')
    try:
        found = client.get("/api/models").json()
        assert any("the audit log" in problem for problem in found["problems"])
        (tensorflow,) = [each for model in found["models"] for each in model["registered"] if each["name"] == NAME]
        assert tensorflow["champion"]["promoted"] is None
        assert client.get("/api/history").status_code == 503
        compared = client.get("/api/compare", params={"a": f"{NAME}@2", "b": f"{NAME}@1"})
        assert (compared.status_code, compared.json()["a"]["promoted"]) == (200, None)
    finally:
        log.write_bytes(before)
    assert json.loads(log.read_text().splitlines()[-1])["to_version"] == 2
