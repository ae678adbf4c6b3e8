"""The backend and the embedded server, both real, over both protocols."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from benchmarks.running_servers import private_settings, running
from serving.backends.base import PROTOCOLS, Served, ServerError, Version
from serving.backends.tfserving.backend import TFServing, config_file, models_directory
from serving.backends.tfserving.declaration import TFServingSettings
from serving.backends.tfserving.model_config import Entries, read_config
from windtunnel.settings import ROOT

pytestmark = pytest.mark.usefixtures("any_name")

SERVE = [sys.executable, "-m", "serving.backends.tfserving.serve"]


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    return private_settings(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def server(settings):
    found = TFServing(settings)
    with running(SERVE, settings, found):
        yield found


@pytest.fixture(scope="module")
def directories(trained):
    """Version 3 is version 1 over again."""
    return {number: trained("tensorflow", seed=2 if number == 2 else 1) for number in (1, 2, 3)}


@pytest.fixture
def model(server, request):
    """A name of its own for each test; what is left of it goes."""
    name = re.sub(r"\W+", "-", request.node.name)
    yield name
    served = server.served(name)
    for number in sorted(served.versions, key=lambda each: each == served.champion):
        server.withdraw(name, number)


@pytest.fixture
def publish(server, model, directories):
    def publish(*numbers):
        for number in numbers:
            server.publish(Version(model, number, directories[number]))
            assert server.ready(model, number)

    return publish


@pytest.fixture
def answers(server, model, directories):
    """Whether a version, or what users get, answers as the trainer of `wanted` did."""

    def answers(wanted, number=None):
        golden = load_file(directories[wanted] / "golden.safetensors")
        for protocol in PROTOCOLS:
            outputs = server.predict(model, golden["image"], number, protocol)
            assert set(outputs) == {"logits", "probabilities"}
            for name, output in outputs.items():
                assert output.dtype == np.float32
                if not np.allclose(output, golden[name], rtol=1e-5, atol=1e-5):
                    return False
        return True

    return answers


def entries(settings, model):
    return read_config(config_file(settings))[model]


def test_a_published_version_answers_to_its_number_alone(server, settings, model, publish, answers, directories):
    publish(1, 2)
    assert server.served(model) == Served(frozenset({1, 2}), None)
    assert server.published(model) == {1, 2}
    assert model in server.names()
    assert answers(1, number=1)
    assert answers(2, number=2)
    assert not answers(1, number=2)  # they differ, or nothing here shows anything
    for protocol in PROTOCOLS:
        with pytest.raises(ServerError, match="Servable not found"):
            server.predict(model, np.zeros((1, 28, 28, 1), np.float32), protocol=protocol)
    copy, published = models_directory(settings) / model / "1", directories[1] / "saved_model"
    assert {file.name: file.read_bytes() for file in copy.iterdir() if file.is_file()} == {
        file.name: file.read_bytes() for file in published.iterdir() if file.is_file()
    }


def test_users_get_what_is_promoted_whichever_is_larger(server, settings, model, publish, answers):
    publish(1, 2, 3)
    for number in (2, 1, 3, 2, 3, 1):
        server.promote(model, number)
        assert server.served(model) == Served(frozenset({1, 2, 3}), number)
        assert answers(number)
        stable = httpx.get(f"{settings.server(TFServingSettings).address}/v1/models/{model}/labels/stable", trust_env=False).json()
        assert [status["version"] for status in stable["model_version_status"]] == [str(number)]
        assert entries(settings, model) == Entries.split(frozenset({1, 2, 3}), number)
        assert all(answers(each, number=each) for each in (1, 2, 3))


def test_a_larger_version_that_is_published_later_gets_no_user(server, model, publish, answers):
    publish(2)
    server.promote(model, 2)
    publish(3, 1)
    assert server.served(model) == Served(frozenset({1, 2, 3}), 2)
    assert answers(2)


def test_every_verb_can_be_repeated(server, model, publish):
    publish(1, 1, 2)
    for _ in range(2):
        server.promote(model, 2)
        publish(2, 1)
        assert server.served(model) == Served(frozenset({1, 2}), 2)
    for _ in range(2):
        server.withdraw(model, 1)
        assert server.served(model) == Served(frozenset({2}), 2)


def test_withdrawing_removes_a_version_and_never_the_champion_while_there_is_another(server, settings, model, publish, answers):
    publish(1, 2)
    server.promote(model, 1)
    with pytest.raises(ServerError, match=rf"{model} version 1 is the champion on tfserving\. Promote another version, such as 2"):
        server.withdraw(model, 1)
    server.withdraw(model, 2)
    assert sorted(path.name for path in (models_directory(settings) / model).iterdir()) == ["1"]
    assert answers(1)
    server.withdraw(model, 1)
    assert server.served(model) == Served(frozenset(), None)
    assert model not in server.names()
    assert model not in read_config(config_file(settings))


def broken(directory, how):
    if how == "no SavedModel":
        shutil.rmtree(directory / "saved_model")
    elif how == "no graph":
        (directory / "saved_model" / "saved_model.pb").unlink()
        (directory / "saved_model" / "model.tflite").unlink()
    else:
        (directory / "saved_model" / "model.tflite").write_bytes(b"TFL3" * 100)


@pytest.mark.parametrize("how", ["no SavedModel", "no graph", "no LiteRT model"])
def test_a_version_that_cannot_be_loaded_leaves_nothing(server, settings, model, publish, answers, directories, tmp_path, how):
    publish(1)
    server.promote(model, 1)
    before = config_file(settings).read_bytes()
    shutil.copytree(directories[2], tmp_path / "2")
    broken(tmp_path / "2", how)
    for _ in range(2):
        with pytest.raises(ServerError, match=rf"{model} version 2\b") as caught:
            server.publish(Version(model, 2, tmp_path / "2"))
        assert "\n" not in str(caught.value)
    assert config_file(settings).read_bytes() == before
    assert sorted(path.name for path in (models_directory(settings) / model).iterdir()) == ["1"]
    assert server.served(model) == Served(frozenset({1}), 1)
    assert answers(1)
    publish(2)  # the same number, whole
    assert answers(2, number=2)


def test_a_number_that_could_not_be_loaded_above_the_champion_can_be_below_it(server, model, publish, answers, directories, tmp_path):
    publish(1)
    server.promote(model, 1)
    shutil.copytree(directories[2], tmp_path / "2")
    broken(tmp_path / "2", "no graph")
    with pytest.raises(ServerError, match=f"tfserving cannot load {model} version 2"):
        server.publish(Version(model, 2, tmp_path / "2"))
    publish(3)
    server.promote(model, 3)
    publish(2)
    assert answers(2, number=2)


def test_other_files_under_a_loaded_number_are_loaded(server, model, publish, answers, directories):
    publish(1, 2)
    server.promote(model, 1)
    server.publish(Version(model, 2, directories[1]))
    assert answers(1, number=2)
    publish(2)
    assert answers(2, number=2)


def test_a_champion_whose_published_files_were_changed_is_mended_while_it_answers(server, settings, model, publish, answers):
    publish(1)
    server.promote(model, 1)
    file = models_directory(settings) / model / "1" / "model.tflite"
    right = file.read_bytes()
    file.write_bytes(b"changed")
    publish(1)
    assert file.read_bytes() == right
    assert sorted(path.name for path in (models_directory(settings) / model).iterdir()) == ["1"]
    assert answers(1)


class CutOff(TFServing):
    """Makes a number of changes and is then interrupted."""

    left = 0

    def _change(self, name, entries):
        if not self.left:
            raise KeyboardInterrupt
        self.left -= 1
        super()._change(name, entries)


@pytest.mark.parametrize("done", [0, 1, 2])
@pytest.mark.parametrize(("before", "after", "then"), [(1, 2, 2), (1, 2, 1), (2, 1, 1), (2, 1, 2)])
def test_a_promotion_that_was_cut_off_can_be_taken_again_or_back(server, settings, model, publish, answers, before, after, then, done):
    publish(1, 2, 3)
    server.promote(model, before)
    cut_off = CutOff(settings)
    cut_off.left = done
    with pytest.raises(KeyboardInterrupt):
        cut_off.promote(model, after)
    assert server.served(model).champion in (before, after, None)
    assert answers(before) or answers(after)  # and never the third
    server.promote(model, then)
    assert server.served(model) == Served(frozenset({1, 2, 3}), then)
    assert answers(then)


def test_the_example_can_be_typed(server, model, publish, directories, tmp_path):
    publish(1)
    server.promote(model, 1)
    image = load_file(directories[1] / "golden.safetensors")["image"][:1]
    (tmp_path / "img").mkdir()
    Image.fromarray(image[0, :, :, 0].astype(np.uint8)).save(tmp_path / "img" / "digit.png")
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "no_proxy": "127.0.0.1"}
    done = subprocess.run(["bash", "-c", server.example(model)], cwd=tmp_path, env=environment, capture_output=True, text=True)
    outputs = json.loads(done.stdout)["outputs"]
    assert np.allclose(outputs["logits"], server.predict(model, image)["logits"], atol=1e-5)


def test_refusals_name_model_version_and_reason(server, model, publish):
    publish(1)
    with pytest.raises(ServerError, match=f"{model} version 7 is not loaded on tfserving"):
        server.promote(model, 7)
    image = np.zeros((1, 28, 28, 1), np.float32)
    for protocol in PROTOCOLS:
        with pytest.raises(ServerError, match=f"{model} version 7 is not loaded on tfserving"):
            server.predict(model, image, 7, protocol)
        with pytest.raises(ServerError) as caught:
            server.predict(model, image[:, :14], 1, protocol)
        assert "14" in str(caught.value)


def test_a_server_that_is_started_again_serves_the_same(directories, tmp_path):
    settings = private_settings(tmp_path)
    server = TFServing(settings)
    with running(SERVE, settings, server):
        for number in (1, 2):
            server.publish(Version("again", number, directories[number]))
        server.promote("again", 1)
        before = server.served("again")
    image = np.zeros((1, 28, 28, 1), np.float32)
    for verb in (
        lambda: server.publish(Version("again", 3, directories[3])),
        lambda: server.ready("again", 1),
        lambda: server.predict("again", image),
        lambda: server.predict("again", image, protocol="grpc"),
        lambda: server.promote("again", 2),
        lambda: server.withdraw("again", 2),
        lambda: server.served("again"),
    ):
        with pytest.raises(ServerError, match="does not answer") as caught:
            verb()
        assert caught.value.retriable
    assert sorted(path.name for path in (models_directory(settings) / "again").iterdir()) == ["1", "2"]
    with running(SERVE, settings, server):
        assert server.served("again") == before == Served(frozenset({1, 2}), 1)
        server.promote("again", 2)
        assert server.served("again").champion == 2


@pytest.mark.parametrize("spoilt", [{2}, {1}, {1, 2}])
def test_what_was_broken_when_the_server_started_can_be_published_again(directories, tmp_path, spoilt):
    settings = private_settings(tmp_path)
    server = TFServing(settings)
    name, good = "mended", {1, 2} - spoilt
    with running(SERVE, settings, server):
        for number in (1, 2):
            server.publish(Version(name, number, directories[number]))
        server.promote(name, 2)
    for number in spoilt:
        (models_directory(settings) / name / str(number) / "model.tflite").write_bytes(b"TFL3" * 100)
    with running(SERVE, settings, server):
        assert server.served(name).versions == good
        for number in sorted(spoilt, reverse=True):
            with pytest.raises(ServerError, match=f"tfserving cannot load {name} version {number}"):
                server.ready(name, number)
        for number in sorted(spoilt, reverse=True):  # the champion first, as reconcile does
            server.load(Version(name, number, directories[number]))
            good |= {number}
            assert server.served(name) == Served(frozenset(good), 2 if spoilt == {1} else None)
        server.promote(name, 2)
        assert server.served(name) == Served(frozenset({1, 2}), 2)
        for number in (None, 1, 2):
            golden = load_file(directories[number or 2] / "golden.safetensors")
            np.testing.assert_allclose(server.predict(name, golden["image"], number)["logits"], golden["logits"], rtol=1e-5, atol=1e-5)


def test_the_messages_come_without_tensorflow_and_do_not_stand_in_its_way():
    code = """
import sys
import serving.backends.tfserving.backend, serving.tfserving_protos as protos
assert "tensorflow" not in sys.modules
import tensorflow as tf
assert isinstance(tf.make_tensor_proto([1.0]), protos.TensorProto)
assert tf.function(lambda x: x + 1)(tf.constant(1)) == 2
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
