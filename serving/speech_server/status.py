"""The status with which a failed call ends."""

import grpc
from google.protobuf.message import DecodeError

from serving.speech_server.batching import BusyError
from serving.speech_server.feedback.journal import JournalError, QuotaError
from windtunnel.errors import WindtunnelError

Code = grpc.StatusCode


class CallError(WindtunnelError):
    """Ends a call with a status code and a message. Handlers raise it."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code


def status_of(error: Exception) -> tuple[grpc.StatusCode, str]:
    """Return the status code and the message for an exception of a handler; INTERNAL for unexpected ones."""
    match error:
        case CallError():
            return error.code, str(error)
        case DecodeError():
            return Code.INVALID_ARGUMENT, "the request is not a valid message of this method. Send what its .proto file defines"
        case BusyError() | QuotaError():
            return Code.RESOURCE_EXHAUSTED, str(error)
        case JournalError():
            return Code.UNAVAILABLE, str(error)
        case TimeoutError():
            return Code.DEADLINE_EXCEEDED, str(error)
        case _:
            return Code.INTERNAL, "the server failed. See its log"
