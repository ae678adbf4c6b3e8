"""The server's only error, which both protocols translate: gRPC sends its code, REST the corresponding HTTP status."""

import grpc

CODES = {code.value[0]: code for code in grpc.StatusCode}
"""TensorFlow's error codes are gRPC's, by number (error_codes.proto)."""


class ServingError(Exception):
    """A request cannot be answered. The message is TensorFlow Serving's, so that clients written for it can interpret it.

    Attributes:
        code: the gRPC status code.
        message: the message for the client.
    """

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def invalid_argument(message: str) -> ServingError:
    """Return the error for an invalid request."""
    return ServingError(grpc.StatusCode.INVALID_ARGUMENT, message)


def not_found(message: str) -> ServingError:
    """Return the error for something that does not exist, or is not loaded."""
    return ServingError(grpc.StatusCode.NOT_FOUND, message)


def failed_precondition(message: str) -> ServingError:
    """Return the error for a request that does not fit the state of the server or of the model."""
    return ServingError(grpc.StatusCode.FAILED_PRECONDITION, message)
