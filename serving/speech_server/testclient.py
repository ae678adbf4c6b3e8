"""A command-line client: `dlserver_testclient HOST:PORT [WORD] < clip.wav`.

It asks with the extended protocol, which can reject a clip, and a server that lacks it with the protocol of the first speech server. It
suggests with the first protocol, and with the extended one the words that the first does not have.
"""

import ssl
import sys
from pathlib import Path
from typing import Annotated

import grpc
import numpy as np
import typer

from serving.speech_server.protos.dlserver_pb2 import InferenceRequest, Label, TrainingRequest
from serving.speech_server.protos.dlserver_pb2_grpc import DLServerStub
from serving.speech_server.protos.speech_pb2 import RecognizeRequest, SuggestRequest
from serving.speech_server.protos.speech_pb2_grpc import SpeechStub
from windtunnel.data.wav import convert_wav
from windtunnel.errors import WindtunnelError
from windtunnel.platform.program import run_program

Metadata = tuple[tuple[str, str], ...]

DEADLINE_SECONDS = 10
MAX_BYTES = 2**24  # input limit: enough to report how much too long a recording is, and an end for endless input

_WORDS = [name.lower() for name, _ in Label.items()]


def main(
    server: Annotated[str, typer.Argument(help="The server's address, such as localhost:55221.", metavar="HOST:PORT")],
    label: Annotated[str | None, typer.Argument(help="The spoken word; with it, the recording is suggested for training.")] = None,
    certificate_file: Annotated[
        Path | None,
        typer.Option(help="Use TLS, and trust this PEM file: the server's CertificateFile, or the certificate of its authority."),
    ] = None,
    token_file: Annotated[Path | None, typer.Option(help="A file that contains only the token, for a server with a TokensFile.")] = None,
) -> None:
    """Recognise the word in a recording or, if WORD is given, suggest the recording for training.

    If the server rejects the recording as no command, "unknown word" or "silence" is printed instead of a word.

    The recording is read from standard input: a WAV file of at most a second. Other rates than 16 kHz, and several channels, are converted.
    """
    if not server.rpartition(":")[2].isdigit():
        raise WindtunnelError(f"{server} has no port: expected HOST:PORT, such as localhost:55221")
    word = None if label is None else _word(label)
    recording, converted = convert_wav(_standard_input())
    if converted:
        print(converted, file=sys.stderr)
    metadata: Metadata = () if token_file is None else (("authorization", f"Bearer {_token(token_file)}"),)
    if metadata and certificate_file is None:
        print("warning: the token is sent unencrypted. If the server uses TLS, add --certificate-file", file=sys.stderr)
    with _channel(server, certificate_file) as channel:
        try:
            print(_ask(channel, metadata, recording) if word is None else _suggest(channel, metadata, recording, word))
        except grpc.RpcError as error:
            raise WindtunnelError(_sentence(server, error, certificate_file is not None)) from error


def _channel(server: str, certificate_file: Path | None) -> grpc.Channel:
    """Return a channel, with TLS if there is a certificate to trust. It uses no proxy: the user names the server itself."""
    options = [("grpc.enable_http_proxy", 0)]
    if certificate_file is None:
        return grpc.insecure_channel(server, options)
    content = _read(certificate_file, "--certificate-file", "Give the server's CertificateFile, or the certificate of its authority")
    try:
        # gRPC would only say that it cannot connect. What is not ASCII in a PEM file is a comment.
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=content.encode("ascii", "ignore").decode())
    except (ssl.SSLError, ValueError) as error:
        raise WindtunnelError(
            f"--certificate-file {certificate_file} contains no certificate in PEM ({error}). Give the server's CertificateFile"
        ) from error
    return grpc.secure_channel(server, grpc.ssl_channel_credentials(content.encode()), options)


def _token(file: Path) -> str:
    """Return the token in a file. It is no argument: every user of a machine can read the arguments of a process."""
    words = _read(file, "--token-file", "Write the token into it").split()
    if len(words) != 1 or not (words[0].isascii() and words[0].isprintable()):
        found = f"{len(words)} words" if len(words) != 1 else "characters that are not ASCII"
        raise WindtunnelError(
            f"--token-file {file}: found {found}, expected only the token. A line of the server's TokensFile is NAME TOKEN"
        )
    return words[0]


def _read(file: Path, option: str, step: str) -> str:
    try:
        return file.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text"
        raise WindtunnelError(f"{option} {file} cannot be read ({why}). {step}") from error


def _ask(channel: grpc.Channel, metadata: Metadata, recording: np.ndarray) -> str:
    """Return the word in a recording, or why the server rejects it: `unknown word` or `silence`. The old protocol rejects nothing."""
    samples = recording.tolist()
    try:
        answer = SpeechStub(channel).Recognize(RecognizeRequest(samples=samples), timeout=DEADLINE_SECONDS, metadata=metadata)
    except grpc.RpcError as error:
        if error.code() != grpc.StatusCode.UNIMPLEMENTED:
            raise
    else:
        return answer.word or answer.reason
    request = InferenceRequest(audio_samples=samples)
    return _WORDS[DLServerStub(channel).Infer(request, timeout=DEADLINE_SECONDS, metadata=metadata).label]


def _suggest(channel: grpc.Channel, metadata: Metadata, recording: np.ndarray, word: str) -> str:
    """Suggest a recording, with the old protocol if it has the word; returns what was done."""
    samples = recording.tolist()
    try:
        if word in _WORDS:
            request = TrainingRequest(label=word.upper(), audio_samples=samples)
            DLServerStub(channel).Train(request, timeout=DEADLINE_SECONDS, metadata=metadata)
        else:
            SpeechStub(channel).Suggest(SuggestRequest(word=word, samples=samples), timeout=DEADLINE_SECONDS, metadata=metadata)
    except grpc.RpcError as error:
        if error.code() != grpc.StatusCode.UNIMPLEMENTED:
            raise
        known = f"expected {', '.join(_WORDS)}, or 0 to {len(_WORDS) - 1}"
        raise WindtunnelError(f"{word} cannot be suggested: {known}") from error
    return f"suggested as {word}"


def _standard_input() -> bytes:
    if sys.stdin is None or sys.stdin.isatty():
        raise WindtunnelError("standard input is a terminal or closed. Give it a recording: < clip.wav")
    try:
        return sys.stdin.buffer.read(MAX_BYTES)
    except OSError as error:
        raise WindtunnelError(f"standard input cannot be read ({error.strerror}). Give it a recording: < clip.wav") from error


def _word(label: str) -> str:
    """Return the word that is meant by a word, or by the number of one in the old protocol."""
    return _WORDS[int(label)] if label.isdecimal() and int(label) < len(_WORDS) else label.lower()


def _sentence(server: str, error: grpc.RpcError, tls: bool) -> str:
    code, details = error.code(), " ".join(error.details().split())
    if code == grpc.StatusCode.UNAVAILABLE:
        return f"{server} cannot answer now ({details}). Check that dlserver runs there, {'with' if tls else 'without'} TLS, and try again"
    if code == grpc.StatusCode.UNAUTHENTICATED:
        return f"{server} answers only callers with a token, and yours is missing or unknown. Name a file that contains it: --token-file"
    if code == grpc.StatusCode.DEADLINE_EXCEEDED:
        return f"{server} has not answered within {DEADLINE_SECONDS} s. See dlserver's output there, and try again"
    return f"{server} answered {code.name}: {details}"


def command() -> None:
    """The command `dlserver_testclient`."""
    run_program(main)


if __name__ == "__main__":
    command()
