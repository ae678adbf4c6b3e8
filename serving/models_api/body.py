"""The body of a request, up to a limit: for the service, and for the API server that forwards to it."""

from starlette.exceptions import HTTPException
from starlette.requests import Request

MOST_BYTES = 8 * 2**20
"""The largest file that can be sent: more than 1,024 images of 28 x 28 float64. The container of the service has 192 MiB of memory."""


async def read_body(request: Request, most: int = MOST_BYTES) -> bytes:
    """Return the body. It is read in pieces: its length in the header may be missing or wrong.

    Raises:
        HTTPException: 413, it is too large.
    """
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > most:
            raise HTTPException(413, f"the file is too large: found {len(body)} bytes or more, expected at most {most} bytes. Send less")
    return bytes(body)
