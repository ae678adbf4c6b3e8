"""The backend of the speech server. Versions are in `models/N/`; `models.json` next to them says which versions to serve.

The server follows this file (`serving/speech_server/models.py`) and reports its progress through GetModel.
"""

import shutil
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np

from serving.backends.base import Outputs, Protocol, Served, Server, ServerError, Version, not_loaded
from serving.speech_server.declaration import SpeechSettings
from serving.speech_server.ini_file import Config
from serving.speech_server.models import FIRST, MODELS, Wanted, read_wanted
from serving.speech_server.protos import speech_pb2, speech_pb2_grpc
from windtunnel.files import digests, replace_copy, write_json
from windtunnel.locks import held
from windtunnel.settings import Settings
from windtunnel.vocabulary import SPEECH_COMMANDS
from windtunnel.waiting import wait_until

if TYPE_CHECKING:
    from serving.load.requests import Batch, Requests

ANSWER_SECONDS = 30.0
SETTLE_SECONDS = 60.0
POLL_SECONDS = 0.05
TURN_SECONDS = 300.0


class SpeechServer(Server):
    """The speech server that the settings name, and the files that it serves."""

    name = "speech"
    protocols = ("grpc",)
    benchmarked = False

    def __init__(self, settings: Settings) -> None:
        self._addresses = settings.server(SpeechSettings)
        self._models = Config.of(settings).models
        self._file = self._models / MODELS

    def publish(self, version: Version) -> None:
        """Copy a version next to the others, and have the server load it."""
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
        """Return whether the server has loaded the version."""
        state = self._state()
        if number in state.refused:
            raise ServerError(f"the speech server rejects {name} version {number}: {state.refused[number]}")
        return number in state.loaded

    def predict(self, name: str, samples: np.ndarray, number: int | None = None, protocol: Protocol = "grpc") -> Outputs:
        """Send clips, float32 (N,16000) in -1..1, to Recognize, all at the same time.

        Besides logits and probabilities, (N,K), the answer contains the `words`, str (K). Silent clips have no answer and are an error.
        """
        _check_name(name)
        requests = [speech_pb2.RecognizeRequest(samples=clip.tolist(), model_version=number or 0) for clip in samples]
        calls = [self._stub.Recognize.future(request, timeout=ANSWER_SECONDS) for request in requests]
        answers = [self._said(call.result) for call in calls]
        if silent := sum(not answer.scores for answer in answers):
            raise ServerError(f"{silent} of {len(answers)} clips are silence to the speech server. Send clips that contain speech")
        return {
            "words": np.array([score.word for score in answers[0].scores]),
            "logits": np.array([[score.logit for score in answer.scores] for answer in answers], np.float32),
            "probabilities": np.array([[score.probability for score in answer.scores] for answer in answers], np.float32),
        }

    def requests(self, name: str, batches: "Sequence[Batch]", number: int | None, protocol: Protocol) -> "Requests":
        """Not implemented; see `benchmarked`."""
        raise ServerError(f"`windtunnel bench` cannot measure {name}. Use `make bench-speech`")

    def promote(self, name: str, number: int) -> None:
        """Make a version the champion: the server switches one reference, and requests in flight finish on the previous version."""
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
                    f"{name} version {number} is the champion on speech. Promote another version, such as {others[-1]}, then withdraw it"
                )
            self._forget(number)
            shutil.rmtree(self._models / str(number), ignore_errors=True)

    def served(self, name: str) -> Served:
        """Return what GetModel reports."""
        state = self._state()
        if name != SPEECH_COMMANDS:
            return Served(frozenset(), None)
        return Served(frozenset(state.loaded) - {FIRST}, self._champion(state))

    def published(self, name: str) -> frozenset[int]:
        """Return the versions that have a directory."""
        if name != SPEECH_COMMANDS:
            return frozenset()
        return frozenset(int(directory.name) for directory in self._models.glob("*") if directory.name.isdecimal())

    def names(self) -> list[str]:
        """Return the one model that this server serves, if there are versions of it."""
        return [SPEECH_COMMANDS] if self.published(SPEECH_COMMANDS) else []

    def example(self, name: str) -> str:
        """Return a command that uses the test client."""
        return f"dlserver_testclient {self._addresses.published.address} < clip.wav"

    @cached_property
    def _stub(self) -> speech_pb2_grpc.SpeechStub:
        return speech_pb2_grpc.SpeechStub(grpc.insecure_channel(self._addresses.address, [("grpc.enable_http_proxy", 0)]))

    def _said(self, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except grpc.RpcError as error:
            code, where = error.code(), self._addresses.address
            down = code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
            raise ServerError(f"the speech server at {where} answers {code.name}: {error.details()}", retriable=down) from error

    def _state(self) -> speech_pb2.GetModelResponse:
        return self._said(lambda: self._stub.GetModel(speech_pb2.GetModelRequest(), timeout=ANSWER_SECONDS))

    def _champion(self, state: speech_pb2.GetModelResponse) -> int | None:
        """Return the released version that users get; None if it is the version that the server was started with."""
        return state.champion if state.HasField("champion") and state.champion != FIRST else None

    def _wanted(self) -> Wanted:
        return read_wanted(self._models)

    def _write(self, wanted: Wanted) -> None:
        write_json(self._file, wanted.model_dump())

    def _forget(self, number: int) -> None:
        """Remove a version from `models.json`, and wait until the server has unloaded it or cleared its rejection."""
        wanted = self._wanted()
        champion = None if wanted.champion == number else wanted.champion
        self._write(Wanted(versions=tuple(other for other in wanted.versions if other != number), champion=champion))
        self._settle(lambda state: number not in state.loaded and number not in state.refused, f"unload version {number}")

    def _settle(self, reached: Callable[[speech_pb2.GetModelResponse], bool], what: str) -> None:
        if not wait_until(lambda: reached(self._state()), SETTLE_SECONDS, POLL_SECONDS):
            raise ServerError(f"the speech server did not {what} within {SETTLE_SECONDS:g} s. See the server's log", retriable=True)

    def _turn(self) -> AbstractContextManager[None]:
        """Allow one change of the file at a time."""
        return held(self._models / ".lock", f"the folder {self._models}", TURN_SECONDS)


def _check_name(name: str) -> None:
    if name != SPEECH_COMMANDS:
        raise ServerError(f"the speech server serves only {SPEECH_COMMANDS}: found {name}")
