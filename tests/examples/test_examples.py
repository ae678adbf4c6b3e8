"""The examples, installed as a package: their declarations, their trainers as the host starts them, and the server with its client."""

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from functools import partial

import httpx
import numpy as np
import pytest
from safetensors.numpy import load_file

from serving.backends.base import ServerError, Version
from tests.examples.installed import install
from tests.processes import started
from tests.waiting import wait_for
from train_server.conditions import draw_declared, write_conditions
from train_server.lenet5.trainer import load_conditions
from train_server.train import run_trainer
from windtunnel.backend import backends
from windtunnel.manifest import read_manifest
from windtunnel.model import declarations
from windtunnel.platform.ports import free_ports
from windtunnel.run import Run
from windtunnel.settings import ROOT, load_settings

DECLARED = """
import json
from windtunnel.backend import backends
from windtunnel.model import find_model, models
print(json.dumps([list(models()), find_model("lenet5").framework_names, find_model("lenet5").default_frameworks, list(backends())]))
"""


@pytest.fixture(scope="module", autouse=True)
def package(tmp_path_factory):
    """The package, for this process and its children. It stays on the path of modules: what imports it is read once."""
    place = tmp_path_factory.mktemp("package")
    install(place, "--target", str(place / "site"))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(place / "site")
        patch.setenv("PYTHONPATH", f"{place / 'site'}:{ROOT}")
        with declared_anew():
            yield
    for name in [name for name in sys.modules if name.startswith("windtunnel_examples")]:
        del sys.modules[name]


@contextmanager
def declared_anew():
    """What packages declare is read again, and again afterwards."""

    def clear():
        for cache in (backends, declarations):
            cache.cache_clear()

    clear()
    try:
        yield
    finally:
        clear()


@pytest.fixture(scope="module")
def quadrants(tmp_path_factory):
    """The trained versions of `quadrants`, by framework, and the data that they were trained with."""
    from windtunnel_examples.quadrants import QUADRANTS, locate

    place = tmp_path_factory.mktemp("quadrants")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WINDTUNNEL_DATA", str(place / "data"))
        data = locate("auto")
    run = Run(place)
    write_conditions(run, data, partial(draw_declared, QUADRANTS, data, {"samples": 2000, "epochs": 3, "weight_decay": 0.001}))
    for framework in QUADRANTS.frameworks:
        run_trainer(framework, run.spec_file, data, run.conditions, run.version(framework.name))
    return place, data


def test_the_package_declares_a_framework_a_model_and_a_backend():
    done = subprocess.run([sys.executable, "-c", DECLARED], capture_output=True, text=True, check=True)
    models, frameworks, default, backends = json.loads(done.stdout)
    assert sorted(models) == ["lenet5", "quadrants", "speech_commands"]
    assert frameworks == ["libtorch", "pytorch", "tensorflow", "native", "linear"]
    assert default == ["libtorch", "pytorch", "tensorflow"]
    assert set(backends) == {"torchserve", "tfserving", "speech", "npz_server"}


def test_the_declarations_import_no_framework():
    script = DECLARED + "\nimport sys; print({'torch', 'starlette', 'uvicorn', 'airflow', 'mlflow'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("\nset()\n")


def test_the_framework_trains_a_linear_model_under_the_conditions_of_the_run(make_job, tmp_path):
    from windtunnel_examples.linear import LINEAR

    job = make_job(epochs=4, learning_rate=0.001)
    run_trainer(LINEAR, job.spec_file, job.content, job.conditions, tmp_path / "linear")
    manifest = read_manifest(tmp_path / "linear")
    assert manifest.spec == job.spec
    assert manifest.value > 0.9
    probe = load_file(tmp_path / "linear" / "probe.safetensors")
    assert probe["losses"].shape == (job.spec.steps,)
    assert np.allclose(probe["losses"][0], np.log(10))
    assert np.allclose(probe["rehearsal"], probe["losses"], atol=1e-4)


def test_the_gradients_of_the_linear_model_are_those_of_its_loss(make_job):
    from windtunnel_examples.linear import Linear

    job = make_job()
    conditions = load_conditions(job.spec_file, job.data, job.conditions)
    model, batch = Linear(conditions, "float64"), conditions.order[0, 0]
    model.weights["weight"] += np.random.default_rng(0).normal(0, 0.01, (784, 10))
    found = model.probe(batch)["gradient.weight"]

    def loss():
        logits = model.probe(batch)["logits"]
        return (np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(batch)), conditions.labels[batch]]).mean()

    for place in [(0, 0), (400, 3), (783, 9)]:
        model.weights["weight"][place] += 1e-6
        above = loss()
        model.weights["weight"][place] -= 2e-6
        below = loss()
        model.weights["weight"][place] += 1e-6
        assert found[place] == pytest.approx((above - below) / 2e-6, abs=1e-6)


def test_the_data_of_the_model_is_simulated_once_and_always_the_same(quadrants, tmp_path, monkeypatch):
    from windtunnel_examples.quadrants import locate

    place, data = quadrants
    said = []
    monkeypatch.setenv("WINDTUNNEL_DATA", str(place / "data"))
    assert locate("quadrants", said.append) == data
    assert said == [f"Quadrants in {place / 'data' / 'quadrants'}"]
    monkeypatch.setenv("WINDTUNNEL_DATA", str(tmp_path))
    again = locate("quadrants", said.append)
    assert said[1].endswith(f"constructing it into {tmp_path / 'quadrants'}")
    assert (again.directory, again.fingerprint) == (tmp_path / "quadrants", data.fingerprint)
    assert again.counts() == {"train": 4000, "test": 1000}


def test_the_command_line_finds_the_data_of_the_model_and_imports_no_framework(quadrants, tmp_path):
    script = (
        "import atexit, sys; from windtunnel.cli.app import main; "
        "atexit.register(lambda: print({'torch', 'tensorflow', 'airflow', 'mlflow'} & set(sys.modules))); main()"
    )

    def run(name):
        command = [sys.executable, "-c", script, "data", name]
        return subprocess.run(command, env=os.environ | {"WINDTUNNEL_DATA": str(tmp_path)}, capture_output=True, text=True)

    done = run("quadrants")
    fingerprint = quadrants[1].fingerprint
    assert done.stdout == f"{tmp_path / 'quadrants'}\nSHA-256 {fingerprint}\ntrain 4000, test 1000\nset()\n", done.stderr
    assert done.stderr.endswith(f"constructing it into {tmp_path / 'quadrants'}\nQuadrants in {tmp_path / 'quadrants'}\n")
    done = run("cats")
    assert (done.returncode, done.stdout) == (1, "set()\n")
    names = "mnist, fashion_mnist, mini_speech_commands, demonstration, free_spoken_digits, demonstration_digits, quadrants, "
    assert done.stderr == f"error: data set 'cats' is unknown: choose {names}spoken_words, other_words or auto\n"


def test_the_model_is_trained_and_exported_by_both_frameworks(quadrants):
    place, _ = quadrants
    one, other = (read_manifest(place / framework) for framework in ("numpy", "torchscript"))
    assert one.value == other.value < 0.1
    assert one.spec.model_dump()["weight_decay"] == 0.001
    assert "model.npz" in one.files
    assert "model.pt" in other.files
    golden = load_file(place / "numpy" / "golden.safetensors")
    assert {name: values.shape for name, values in golden.items()} == {"readings": (32, 6), "probabilities": (32, 4), "label": (32,)}
    assert set(golden["label"].tolist()) == {0, 1, 2, 3}


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Starts the server on a free port, as often as a test wants, with the same home."""
    monkeypatch.setenv("WINDTUNNEL_HOME", str(tmp_path))
    monkeypatch.setenv("WINDTUNNEL_NPZ_SERVER_PORT", str(free_ports(1)[0]))
    from windtunnel_examples.backend import NpzServer

    @contextmanager
    def start():
        client = NpzServer(load_settings())
        with started([sys.executable, "-m", "windtunnel_examples.backend"], cwd=ROOT):
            wait_for(lambda: answers(client))
            yield client

    return start


def answers(client):
    try:
        return client.names() is not None
    except ServerError as error:
        if not error.retriable:
            raise
        return False


def test_the_server_serves_versions_and_keeps_them_over_a_restart(server, quadrants):
    name, place = "quadrants-numpy", quadrants[0]
    golden = load_file(place / "numpy" / "golden.safetensors")
    with server() as client:
        assert (client.names(), client.served(name).versions, client.served(name).champion) == ([], frozenset(), None)
        for number in (1, 2, 1):
            client.publish(Version(name, number, place / "numpy"))
            assert client.ready(name, number)
        assert client.names() == [name]
        assert (client.published(name), client.served(name).champion) == ({1, 2}, None)
        assert np.allclose(client.predict(name, golden["readings"], 2)["probabilities"], golden["probabilities"], atol=1e-6)
        with pytest.raises(ServerError, match="quadrants-numpy has no champion"):
            client.predict(name, golden["readings"])
        with pytest.raises(ServerError, match="quadrants-numpy version 3 is not loaded on npz_server"):
            client.promote(name, 3)
        client.promote(name, 2)
        with pytest.raises(ServerError, match="version 2 is the champion"):
            client.withdraw(name, 2)
        client.promote(name, 1)
    with server() as client:
        assert (client.served(name).versions, client.served(name).champion) == ({1, 2}, 1)
        assert np.allclose(client.predict(name, golden["readings"])["probabilities"], golden["probabilities"], atol=1e-6)
        for number in (2, 2, 1):
            client.withdraw(name, number)
        assert client.names() == []
    with server() as client:
        assert client.served(name).champion is None


def test_users_and_load_generators_are_answered_and_mistakes_are_named(server, quadrants):
    from serving.load.requests import batches

    name, place = "quadrants-numpy", quadrants[0]
    golden = load_file(place / "numpy" / "golden.safetensors")
    with server() as client:
        client.publish(Version(name, 1, place / "numpy"))
        client.promote(name, 1)
        requests = client.requests(name, batches(golden["readings"], golden["label"], 8), None, "rest")
        assert len(requests.messages) == 4
        requests.check_all(2)
        shown = subprocess.run(client.example(name), shell=True, capture_output=True, text=True, check=True, env=os.environ)
        assert json.loads(shown.stdout)["version"] == 1
        url = f"{client.address}/models/{name}/1"
        for body in (b"{", b'{"inputs": "x"}', b'{"inputs": [[1, 2]]}', b"[]", b'{"inputs": 3}'):
            reply = httpx.post(f"{url}/predict", content=body, trust_env=False)
            assert (reply.status_code, list(reply.json())) == (400, ["error"])
        assert httpx.put(f"{client.address}/models/{name}/2", content=b"PK\3\4", trust_env=False).status_code == 400
        assert httpx.put(f"{client.address}/models/{name}/2", content=b"", trust_env=False).status_code == 400
        assert client.published(name) == {1}
