"""The speech server behind the port: versions in `models/N/`, and beside them `models.json`, which says what is to be served.

The server follows the file (`serving/speech/models.py`), and tells by GetModel how far it has come.
"""

import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np

from serving.copies import digests, replace_copy
from serving.server import Outputs, Protocol, Served, Server, ServerError, Version, not_loaded
from serving.speech.config import Config
from serving.speech.models import FIRST, MODELS, Wanted, read_wanted
from serving.speech.protos import speech_pb2, speech_pb2_grpc
from windtunnel.files import write_json
from windtunnel.locks import held
from windtunnel.settings import Settings
from windtunnel.speech import SPEECH_COMMANDS

if TYPE_CHECKING:
    from serving.requests import Batch, Requests

ANSWER_SECONDS = 30.0
SETTLE_SECONDS = 60.0
POLL_SECONDS = 0.05
TURN_SECONDS = 300.0


class SpeechServer(Server):
    """The speech server that the settings name, and the files it serves."""

    name = "speech"
    protocols = ("grpc",)

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._models = Config.of(settings).models
        self._file = self._models / MODELS

    def publish(self, version: Version) -> None:
        """Copy a version beside the others, and have it loaded."""
        _check_name(version.name)
        copy = self._models / str(version.number)
        with self._turn():
            changed = not copy.exists() or digests(copy) != digests(version.directory)
            wanted = self._wanted()
            if version.number in self._state().refused or (changed and version.number != wanted.champion):
                self._forget(version.number)
            if changed:
                replace_copy(version.directory, copy)
            wanted = self._wanted()
            if version.number not in wanted.versions:
                self._write(Wanted(versions=(*wanted.versions, version.number), champion=wanted.champion))

    def ready(self, name: str, number: int) -> bool:
        """Whether the server has loaded it."""
        state = self._state()
        if number in state.refused:
            raise ServerError(f"{name} version {number} is refused by the speech server: {state.refused[number]}")
        return number in state.loaded

    def predict(self, name: str, images: np.ndarray, number: int | None = None, protocol: Protocol = "grpc") -> Outputs:
        """Ask Recognize, clips, float32 (N,16000) in -1..1, all at once; what is silence to it has no answer here.

        Beside logits and probabilities, (N,K), the answer has the `words`, str (K).
        """
        _check_name(name)
        requests = [speech_pb2.RecognizeRequest(samples=clip.tolist(), model_version=number or 0) for clip in images]
        calls = [self._stub.Recognize.future(request, timeout=ANSWER_SECONDS) for request in requests]
        answers = [self._said(call.result) for call in calls]
        if silent := sum(not answer.scores for answer in answers):
            raise ServerError(f"{silent} of {len(answers)} clips are silence to the speech server: ask with clips that hold speech")
        return {
            "words": np.array([score.word for score in answers[0].scores]),
            "logits": np.array([[score.logit for score in answer.scores] for answer in answers], np.float32),
            "probabilities": np.array([[score.probability for score in answer.scores] for answer in answers], np.float32),
        }

    def requests(self, name: str, batches: "Sequence[Batch]", number: int | None, protocol: Protocol) -> "Requests":
        """None yet: `windtunnel bench` asks with pictures."""
        raise ServerError(f"{name} is not measured by `windtunnel bench`: measure it with `make bench-speech`")

    def promote(self, name: str, number: int) -> None:
        """Let users get a version: the server switches one reference, and requests in flight end on the one before."""
        with self._turn():
            wanted = self._wanted()
            if number not in wanted.versions or number not in self._state().loaded:
                raise not_loaded(self.name, name, number)
            self._write(Wanted(versions=wanted.versions, champion=number))
            self._settle(lambda state: self._champion(state) == number, f"let users get version {number}")

    def withdraw(self, name: str, number: int) -> None:
        """Unload a version and remove its directory."""
        with self._turn():
            wanted = self._wanted()
            others = [other for other in wanted.versions if other != number]
            if wanted.champion == number and others:
                raise ServerError(
                    f"{name} version {number} is the champion on speech: promote another, such as {others[-1]}, before it is withdrawn"
                )
            self._forget(number)
            shutil.rmtree(self._models / str(number), ignore_errors=True)

    def served(self, name: str) -> Served:
        """What GetModel says."""
        state = self._state()
        if name != SPEECH_COMMANDS:
            return Served(frozenset(), None)
        return Served(frozenset(state.loaded) - {FIRST}, self._champion(state))

    def published(self, name: str) -> frozenset[int]:
        """The versions that have a directory."""
        if name != SPEECH_COMMANDS:
            return frozenset()
        return frozenset(int(directory.name) for directory in self._models.glob("*") if directory.name.isdecimal())

    def names(self) -> list[str]:
        """The one model it serves, if there are versions of it."""
        return [SPEECH_COMMANDS] if self.published(SPEECH_COMMANDS) else []

    def example(self, name: str) -> str:
        """The client asks."""
        return f"dlserver_testclient {self._settings.published.speech_grpc} < clip.wav"

    @cached_property
    def _stub(self) -> speech_pb2_grpc.SpeechStub:
        return speech_pb2_grpc.SpeechStub(grpc.insecure_channel(self._settings.speech_grpc, [("grpc.enable_http_proxy", 0)]))

    def _said(self, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except grpc.RpcError as error:
            code, where = error.code(), self._settings.speech_grpc
            down = code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
            raise ServerError(f"the speech server at {where} answers {code.name}: {error.details()}", retriable=down) from error

    def _state(self) -> speech_pb2.GetModelResponse:
        return self._said(lambda: self._stub.GetModel(speech_pb2.GetModelRequest(), timeout=ANSWER_SECONDS))

    def _champion(self, state: speech_pb2.GetModelResponse) -> int | None:
        """Which released version users get; none where it is the one that the server was started with."""
        return state.champion if state.HasField("champion") and state.champion != FIRST else None

    def _wanted(self) -> Wanted:
        return read_wanted(self._models)

    def _write(self, wanted: Wanted) -> None:
        write_json(self._file, wanted.model_dump())

    def _forget(self, number: int) -> None:
        """Want a version no longer, and wait until the server has unloaded it, or forgotten why it refused it."""
        wanted = self._wanted()
        champion = None if wanted.champion == number else wanted.champion
        self._write(Wanted(versions=tuple(other for other in wanted.versions if other != number), champion=champion))
        self._settle(lambda state: number not in state.loaded and number not in state.refused, f"unload version {number}")

    def _settle(self, reached: Callable[[speech_pb2.GetModelResponse], bool], what: str) -> None:
        deadline = time.monotonic() + SETTLE_SECONDS
        while not reached(self._state()):
            if time.monotonic() > deadline:
                raise ServerError(f"the speech server does not {what} in {SETTLE_SECONDS:g} s: see the server's log", retriable=True)
            time.sleep(POLL_SECONDS)

    def _turn(self) -> AbstractContextManager[None]:
        """One change of the file at a time."""
        return held(self._models / ".lock", f"the folder {self._models}", TURN_SECONDS)


def _check_name(name: str) -> None:
    if name != SPEECH_COMMANDS:
        raise ServerError(f"the speech server serves {SPEECH_COMMANDS} alone, not {name}")
