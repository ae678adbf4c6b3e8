"""The one error of the server, which both protocols translate: gRPC sends its code, REST the HTTP status that goes with it."""

import grpc

CODES = {code.value[0]: code for code in grpc.StatusCode}
"""TensorFlow's error codes are gRPC's, by number (error_codes.proto)."""


class ServingError(Exception):
    """A request cannot be answered. The text is the one TensorFlow Serving gives, so that clients written for it can read it.

    Attributes:
        code: the gRPC status code.
        message: the sentence for the client.
    """

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def invalid_argument(message: str) -> ServingError:
    """The request itself is wrong."""
    return ServingError(grpc.StatusCode.INVALID_ARGUMENT, message)


def not_found(message: str) -> ServingError:
    """What the request names does not exist, or is not loaded."""
    return ServingError(grpc.StatusCode.NOT_FOUND, message)


def failed_precondition(message: str) -> ServingError:
    """The request cannot be met in the state the server or the model is in."""
    return ServingError(grpc.StatusCode.FAILED_PRECONDITION, message)
