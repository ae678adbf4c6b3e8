"""A client for the command line: `dlserver_testclient HOST:PORT [WORD] < clip.wav`.

It speaks the protocol of the first speech server, and the richer one for words that the first has not.
"""

import sys
from typing import Annotated

import grpc
import numpy as np
import typer

from serving.speech.protos.dlserver_pb2 import InferenceRequest, Label, TrainingRequest
from serving.speech.protos.dlserver_pb2_grpc import DLServerStub
from serving.speech.protos.speech_pb2 import RecognizeRequest, SuggestRequest
from serving.speech.protos.speech_pb2_grpc import SpeechStub
from windtunnel.errors import WindtunnelError
from windtunnel.program import run_program
from windtunnel.wav import convert_wav

DEADLINE_SECONDS = 10
MAX_BYTES = 2**24  # of what comes in: enough to tell how much too long a recording is, and an end to what has none

_WORDS = [name.lower() for name, _ in Label.items()]


def main(
    server: Annotated[str, typer.Argument(help="Where the server listens, such as localhost:55221.", metavar="HOST:PORT")],
    label: Annotated[str | None, typer.Argument(help="The word that was spoken: suggest the clip for training.")] = None,
) -> None:
    """Ask a speech server which word a recording holds, or suggest a recording with its word.

    The recording is read from standard input: WAV, a second at most. What has another rate than 16 kHz, or more channels, is converted.
    """
    if not server.rpartition(":")[2].isdigit():
        raise WindtunnelError(f"{server} names no port: write HOST:PORT, such as localhost:55221")
    word = None if label is None else _word(label)
    recording, converted = convert_wav(_standard_input())
    if converted:
        print(converted, file=sys.stderr)
    # No proxy between a client and the server that it names.
    with grpc.insecure_channel(server, [("grpc.enable_http_proxy", 0)]) as channel:
        try:
            print(_ask(channel, recording) if word is None else _suggest(channel, recording, word))
        except grpc.RpcError as error:
            raise WindtunnelError(_sentence(server, error)) from error


def _ask(channel: grpc.Channel, recording: np.ndarray) -> str:
    """The word in a recording, of the old protocol if that has an answer."""
    request = InferenceRequest(audio_samples=recording.tolist())
    try:
        return _WORDS[DLServerStub(channel).Infer(request, timeout=DEADLINE_SECONDS).label]
    except grpc.RpcError as error:
        if error.code() != grpc.StatusCode.FAILED_PRECONDITION:
            raise
    answer = SpeechStub(channel).Recognize(RecognizeRequest(samples=recording.tolist()), timeout=DEADLINE_SECONDS)
    return answer.word or answer.reason


def _suggest(channel: grpc.Channel, recording: np.ndarray, word: str) -> str:
    """Suggest a recording, by the old protocol if that has the word; returns what was done."""
    try:
        if word in _WORDS:
            DLServerStub(channel).Train(
                TrainingRequest(label=word.upper(), audio_samples=recording.tolist()), timeout=DEADLINE_SECONDS
            )  # fmt: skip
        else:
            SpeechStub(channel).Suggest(SuggestRequest(word=word, samples=recording.tolist()), timeout=DEADLINE_SECONDS)
    except grpc.RpcError as error:
        if error.code() != grpc.StatusCode.UNIMPLEMENTED:
            raise
        known = f"choose {', '.join(_WORDS)}, or 0 to {len(_WORDS) - 1}"
        raise WindtunnelError(f"{word} is no word that can be suggested: {known}") from error
    return f"suggested as {word}"


def _standard_input() -> bytes:
    if sys.stdin is None or sys.stdin.isatty():
        raise WindtunnelError("standard input is a terminal, or closed: give it a recording, with < clip.wav")
    try:
        return sys.stdin.buffer.read(MAX_BYTES)
    except OSError as error:
        raise WindtunnelError(f"standard input cannot be read ({error.strerror}): give it a recording, with < clip.wav") from error


def _word(label: str) -> str:
    """The word that is meant by a word, or by the number of one in the old protocol."""
    return _WORDS[int(label)] if label.isdecimal() and int(label) < len(_WORDS) else label.lower()


def _sentence(server: str, error: grpc.RpcError) -> str:
    code, details = error.code(), " ".join(error.details().split())
    if code == grpc.StatusCode.UNAVAILABLE:
        return f"{server} cannot answer now ({details}): see that dlserver runs there, and try again"
    if code == grpc.StatusCode.DEADLINE_EXCEEDED:
        return f"{server} has not answered within {DEADLINE_SECONDS} s: see what dlserver says there, and try again"
    return f"{server} answered {code.name}: {details}"


def command() -> None:
    """The command `dlserver_testclient`."""
    run_program(main)


if __name__ == "__main__":
    command()
