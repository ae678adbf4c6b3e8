import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from serving.backends.base import PROTOCOLS, Served, ServerError, Version
from serving.backends.torchserve.backend import TorchServe
from tests.waiting import PATIENCE
from windtunnel.platform.ports import platform_ports
from windtunnel.settings import Settings

pytestmark = pytest.mark.usefixtures("any_name")


@pytest.fixture
def golden(trained):
    return lambda framework, number: load_file(trained(framework, number) / "golden.safetensors")


@pytest.fixture
def fresh(request, torchserve):
    """A model of the test's own, withdrawn in the end."""
    name = f"lenet5-{request.node.name.replace('_', '-')[:40]}"
    yield name
    served = torchserve.server.served(name)
    for number in sorted(served.versions, key=lambda each: each == served.champion):
        torchserve.server.withdraw(name, number)
    assert name not in torchserve.server.names()
    assert not list(torchserve.server.folders.models.glob(f"{name}-*"))


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("framework", ["libtorch", "pytorch"])
@pytest.mark.parametrize("number", [1, 2])
def test_a_version_answers_what_its_trainer_answered(torchserve, golden, framework, number, protocol):
    expected = golden(framework, number)
    outputs = torchserve.server.predict(f"lenet5-{framework}", expected["image"], number, protocol)
    assert outputs.keys() == {"logits", "probabilities"}
    for name, output in outputs.items():
        assert output.dtype == np.float32
        np.testing.assert_allclose(output, expected[name], rtol=1e-5, atol=1e-5)
    assert np.array_equal(outputs["logits"].argmax(1), expected["logits"].argmax(1))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_users_get_the_champion(torchserve, golden, protocol):
    server, expected = torchserve.server, golden("libtorch", 1)
    champion = server.predict("lenet5-libtorch", expected["image"], protocol=protocol)
    np.testing.assert_allclose(champion["logits"], expected["logits"], rtol=1e-5, atol=1e-5)
    challenger = server.predict("lenet5-libtorch", expected["image"], 2, protocol)
    assert abs(challenger["logits"] - expected["logits"]).max() > 0.01


def test_from_the_first_version_to_none(torchserve, trained, fresh):
    server, image = torchserve.server, np.zeros((1, 28, 28, 1), np.float32)
    assert server.served(fresh) == Served(frozenset(), None)
    torchserve.load(fresh, 1, trained("pytorch", 1))
    assert server.served(fresh) == Served(frozenset({1}), None)
    assert fresh in server.names()
    for protocol in PROTOCOLS:  # it answers to its number, and to nobody else
        assert server.predict(fresh, image, 1, protocol)["logits"].shape == (1, 10)
        with pytest.raises(ServerError, match="has no worker"):
            server.predict(fresh, image, protocol=protocol)
    server.promote(fresh, 1)
    torchserve.load(fresh, 2, trained("pytorch", 2))
    assert server.served(fresh) == Served(frozenset({1, 2}), 1)
    with pytest.raises(ServerError, match=r"version 1 is the champion on torchserve\. Promote another first: 2"):
        server.withdraw(fresh, 1)
    server.promote(fresh, 2)
    assert server.served(fresh) == Served(frozenset({1, 2}), 2)
    server.promote(fresh, 1)  # the way back
    server.withdraw(fresh, 2)
    assert server.served(fresh) == Served(frozenset({1}), 1)
    server.withdraw(fresh, 1)
    assert server.served(fresh) == Served(frozenset(), None)
    assert fresh not in server.names()


def test_every_verb_can_be_repeated(torchserve, trained, fresh):
    server = torchserve.server
    for _ in range(2):
        torchserve.load(fresh, 7, trained("pytorch", 1))
    assert len(server._describe(fresh, "7")["workers"]) == 1
    for _ in range(2):
        server.promote(fresh, 7)
    assert server.served(fresh) == Served(frozenset({7}), 7)
    for _ in range(2):
        server.withdraw(fresh, 7)
    assert server.served(fresh) == Served(frozenset(), None)


def test_an_unverified_first_version_can_be_withdrawn(torchserve, trained, fresh):
    torchserve.load(fresh, 1, trained("pytorch", 1))
    torchserve.server.withdraw(fresh, 1)
    assert fresh not in torchserve.server.names()


def test_a_version_that_cannot_be_loaded_disappears_again(torchserve, tmp_path, fresh):
    (tmp_path / "model.pt").write_bytes(b"no TorchScript")
    with pytest.raises(ServerError, match=f"cannot load {fresh} version 1: PytorchStreamReader failed reading zip archive"):
        torchserve.load(fresh, 1, tmp_path)
    assert fresh not in torchserve.server.names()
    with pytest.raises(ServerError, match=rf"has no {fresh} version 1\. Publish it"):
        torchserve.server.ready(fresh, 1)


def test_a_version_without_torchscript_is_not_published(torchserve, tmp_path, fresh):
    with pytest.raises(ServerError, match=r"there is no model\.pt"):
        torchserve.server.publish(Version(fresh, 1, tmp_path))


def test_promoting_what_is_not_there(torchserve):
    with pytest.raises(ServerError, match=r"has no lenet5-pytorch version 9\. Publish it"):
        torchserve.server.promote("lenet5-pytorch", 9)


@pytest.mark.parametrize(("protocol", "reason"), [("rest", "404 Model version: 9"), ("grpc", "INTERNAL Model version: 9")])
def test_asking_a_version_that_is_not_there(torchserve, protocol, reason):
    with pytest.raises(ServerError, match=reason):
        torchserve.server.predict("lenet5-pytorch", np.zeros((1, 28, 28, 1), np.float32), 9, protocol)


@pytest.mark.parametrize("call", [lambda server: server.names(), lambda server: server.predict("a", np.zeros((1, 28, 28, 1)), 1, "grpc")])
def test_a_server_that_is_not_there_is_said(torchserve, tmp_path, call):
    absent = TorchServe(Settings(home=tmp_path, **platform_ports()))
    with pytest.raises(ServerError, match="is not running") as raised:  # it never was: there are no tokens
        call(absent)
    assert raised.value.retriable
    absent.folders.root.mkdir(parents=True)
    shutil.copy(torchserve.server.folders.keys, absent.folders.keys)
    with pytest.raises(ServerError, match=r"does not answer at|UNAVAILABLE") as raised:
        call(absent)
    assert raised.value.retriable


def test_the_example_asks_the_champion(torchserve, tmp_path):
    (tmp_path / "img").mkdir()
    Image.fromarray(np.eye(28, dtype=np.uint8) * 255).save(tmp_path / "img" / "digit.png")
    done = subprocess.run(
        torchserve.server.example("lenet5-pytorch"), shell=True, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE, check=True
    )
    assert '"label"' in done.stdout
    assert '"version": 1' in done.stdout


def test_the_model_store_holds_what_is_registered(torchserve):
    names = {file.name for file in torchserve.server.folders.models.iterdir()}
    assert names == {f"lenet5-{framework}-{number}.mar" for framework in ("libtorch", "pytorch") for number in (1, 2)}
