"""The backend of the speech server, with a real one: what a release does with it."""

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from safetensors.numpy import load_file

from serving.backends.base import Served, ServerError, Version
from serving.backends.catalog import connect, server_of
from serving.release import golden
from serving.release.fire_drill import break_version
from serving.speech_server.models import MODELS, Wanted
from serving.speech_server.protos.dlserver_pb2 import InferenceRequest
from tests.serving.speech_server.running_speech import running
from tests.serving.speech_server.speech_models import tone, write_version
from tests.waiting import PATIENCE
from windtunnel.files import write_json
from windtunnel.settings import Settings

pytestmark = pytest.mark.minutes(1)

NAME = "speech-commands"


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """The port, and the server as the platform configures it."""
    home = tmp_path_factory.mktemp("home")
    place = home / "serving" / "speech"
    place.mkdir(parents=True)
    with running(place) as server:
        yield connect(server_of(NAME), Settings(home=home, servers={"speech": {"port": server.port}})), server


@pytest.fixture(scope="module")
def versions(tmp_path_factory):
    """Two versions; what the first calls word k, is word k + 1 to the second."""
    return [Version(NAME, number, write_version(tmp_path_factory.mktemp("versions") / str(number), shift=number - 1)) for number in (1, 2)]


def test_a_version_is_published_promoted_replaced_and_withdrawn(served, versions):
    port, _ = served
    first, second = versions
    assert port.served(NAME) == Served(frozenset(), None)
    port.load(first)
    port.load(first)  # a step that was done changes nothing
    golden.verify(port, first)
    assert port.served(NAME) == Served(frozenset({1}), None)
    port.promote(NAME, 1)
    golden.verify(port, first, addressed=False)
    port.load(second)
    assert port.served(NAME) == Served(frozenset({1, 2}), 1)
    port.promote(NAME, 2)
    golden.verify(port, second, addressed=False)
    golden.verify(port, first)
    with pytest.raises(ServerError, match=r"version 2 is the champion on speech\. Promote another version, such as 1"):
        port.withdraw(NAME, 2)
    port.promote(NAME, 1)
    port.withdraw(NAME, 2)
    assert (port.served(NAME), port.published(NAME), port.names()) == (Served(frozenset({1}), 1), frozenset({1}), [NAME])
    with pytest.raises(ServerError, match="answers NOT_FOUND: version 2 is not loaded"):
        port.predict(NAME, load_file(second.directory / "golden.safetensors")["audio"][:1], 2)
    port.withdraw(NAME, 1)
    assert (port.served(NAME), port.names()) == (Served(frozenset(), None), [])


def test_a_bad_version_is_refused_and_can_be_mended(served, versions, tmp_path):
    port, _ = served
    good, other = versions
    port.load(good)
    port.promote(NAME, 1)
    bad = Version(NAME, 7, tmp_path / "bad")
    break_version(other.directory, bad.directory, "model.onnx")
    for _ in range(2):  # a second try is judged anew
        with pytest.raises(ServerError, match="the speech server rejects speech-commands version 7: "):
            port.load(bad)
    golden.verify(port, good, addressed=False)
    mended = Version(NAME, 7, other.directory)
    port.load(mended)
    golden.verify(port, mended)
    port.withdraw(NAME, 7)
    port.withdraw(NAME, 1)


@pytest.mark.parametrize("spoilt", [(2,), (1,), (2, 1)])
def test_what_was_broken_when_the_server_started_can_be_published_again(versions, tmp_path, spoilt):
    place = tmp_path / "serving" / "speech"
    for version in versions:
        shutil.copytree(version.directory, place / "models" / str(version.number))
    write_json(place / "models" / MODELS, Wanted(versions=(1, 2), champion=2).model_dump())
    for number in spoilt:
        (place / "models" / str(number) / "model.onnx").write_bytes(b"")
    with running(place) as server:
        port = connect(server_of(NAME), Settings(home=tmp_path, servers={"speech": {"port": server.port}}))
        for number in spoilt:  # the champion first, as reconcile does
            with pytest.raises(ServerError, match=f"the speech server rejects .* version {number}: "):
                port.ready(NAME, number)
        for number in spoilt:
            port.load(versions[number - 1])
        port.promote(NAME, 2)
        assert port.served(NAME) == Served(frozenset({1, 2}), 2)
        for version in versions:
            golden.verify(port, version)
        golden.verify(port, versions[1], addressed=False)


def test_no_user_notices_a_switch(served, versions):
    port, server = served
    for version in versions:
        port.load(version)
    port.promote(NAME, 1)
    stop, answers = threading.Event(), []

    def ask(_):
        request = InferenceRequest(audio_samples=tone(3).tolist())
        while not stop.is_set():
            answers.append(server.old.Infer(request, timeout=PATIENCE).label)

    with ThreadPoolExecutor(4) as users:
        asking = [users.submit(ask, number) for number in range(4)]
        for turn in range(20):
            port.promote(NAME, 2 - turn % 2)
        stop.set()
        for each in asking:
            each.result()
    assert set(answers) == {3, 4}
    port.withdraw(NAME, 2)
    port.withdraw(NAME, 1)


def test_a_server_that_is_down_is_said(tmp_path):
    port = connect("speech", Settings(home=tmp_path, servers={"speech": {"port": 9}}))
    with pytest.raises(ServerError, match=r"the speech server at 127.0.0.1:9 answers UNAVAILABLE") as caught:
        port.served(NAME)
    assert caught.value.retriable


def test_silence_has_no_answer_to_hold_against_a_trainers(served, versions):
    port, _ = served
    port.load(versions[0])
    with pytest.raises(ServerError, match="1 of 2 clips are silence"):
        port.predict(NAME, np.stack([tone(1), np.zeros(16_000, np.float32)]), 1)
    port.withdraw(NAME, 1)
