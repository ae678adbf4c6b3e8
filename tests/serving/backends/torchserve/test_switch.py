"""Versions are switched, and withdrawn, while users ask."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.serving.backends.torchserve.running_torchserve import npy
from tests.waiting import PATIENCE

pytestmark = pytest.mark.usefixtures("any_name")

NAME = "lenet5-switched"
USERS = 4
PAUSE = 0.02  # seconds that a user thinks
SWITCHES = 10
SETTLED = 0.2  # seconds between switches


@pytest.fixture
def model(torchserve, trained):
    """A model with the versions 1 and 2; 1 is the champion."""
    for number in (1, 2):
        torchserve.load(NAME, number, trained("pytorch", number))
    torchserve.server.promote(NAME, 1)
    yield torchserve.server
    for number in sorted(torchserve.server.served(NAME).versions, key=lambda each: each == torchserve.server.served(NAME).champion):
        torchserve.server.withdraw(NAME, number)


def test_switching_loses_nothing_and_holds_at_once(torchserve, model, trained, monkeypatch):
    golden = {number: load_file(trained("pytorch", number) / "golden.safetensors") for number in (1, 2)}
    body = npy(golden[1]["image"][:1])
    logits = {number: model.predict(NAME, golden[1]["image"][:1], number)["logits"][0] for number in (1, 2)}
    done = threading.Event()

    def use(ask):
        """When each request was sent and answered, and by which version, which the logits confirm."""
        answers = []
        while not done.is_set():
            sent = time.monotonic()
            answer = ask()
            np.testing.assert_allclose(answer["predictions"][0]["logits"], logits[answer["version"]], rtol=1e-5, atol=1e-5)
            answers.append((sent, time.monotonic(), answer["version"]))
            time.sleep(PAUSE)
        return answers

    def rest():
        reply = torchserve.post(NAME, body)
        assert reply.status_code == 200, reply.text
        return reply.json()

    reigns = [[time.monotonic(), 1]]  # from when on nobody but this version may answer, and until when

    def promote(number):
        reigns[-1].insert(1, time.monotonic())
        model.promote(NAME, number)
        reigns.append([time.monotonic(), number])

    monkeypatch.setattr("serving.backends.torchserve.backend.DRAIN_SECONDS", PATIENCE)  # what still waits is answered, however slowly
    with ThreadPoolExecutor(USERS) as users:
        asking = [users.submit(use, rest if user % 2 else lambda: torchserve.call(NAME, body)) for user in range(USERS)]
        try:
            for switch in range(SWITCHES):
                time.sleep(SETTLED)
                promote(2 - switch % 2)
            promote(2)
            model.withdraw(NAME, 1)  # at once: what still waits for it must be answered
            time.sleep(SETTLED)
        finally:
            done.set()
    reigns[-1].insert(1, time.monotonic())
    answers = sorted(answer for each in asking for answer in each.result())
    for since, until, version in reigns:
        assert {found for sent, answered, found in answers if since <= sent and answered <= until} <= {version}
    assert len(answers) > 5 * SWITCHES  # on a quiet machine some hundred
