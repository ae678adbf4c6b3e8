"""The body of a request as JSON: what TensorFlow Serving accepts (including NaN and infinities), and its error messages."""

import gc
import json
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from serving.tfserving_embedded.rest import json_numbers
from serving.tfserving_embedded.serving_error import invalid_argument

MAX_VALUES = 20_000_000  # in a body with other values than numbers: each takes up to 100 bytes of memory, of text as short as `[],`
EXCERPT = 200  # maximum characters of a value that an error quotes
MAX_DIGITS = 20  # of a 64-bit integer, or 19 and a sign: like the real server, orjson reads a larger integer as a double

# Python's messages for syntax errors, and those of RapidJSON, which TensorFlow Serving uses.
_SYNTAX = {
    "Expecting value": "Invalid value.",
    "Expecting property name enclosed in double quotes": "Missing a name for object member.",
    "Illegal trailing comma before end of object": "Missing a name for object member.",
    "Illegal trailing comma before end of array": "Invalid value.",
    "Expecting ':' delimiter": "Missing a colon after a name of object member.",
    "Expecting ',' delimiter": "Missing a comma or ] or } after a value.",
    "Extra data": "The document root must not be followed by other values.",
    "Unterminated string starting at": "Missing a closing quotation mark in string.",
    "Invalid control character at": "Invalid encoding in string.",
    "Invalid \\escape": "Invalid escape character in string.",
    "Invalid \\uXXXX escape": "Incorrect hex digit after \\u escape in string.",
}

_MEMBERS = ("signature_name", "instances", "inputs", "examples", "context")


@dataclass(frozen=True)
class Document:
    """The parsed body of a request.

    Attributes:
        members: the members of its top object; `instances` or `inputs` is an array if the request contains nothing but numbers.
    """

    members: dict[str, Any]

    @property
    def signature_name(self) -> str:
        """The requested signature; empty for the default one."""
        name = self.members.get("signature_name", "")
        if not isinstance(name, str):
            raise self.wrong("not formatted correctly. 'signature_name' key must be a string value.")
        return name

    def wrong(self, problem: str) -> Exception:
        """Return the error that the document as a whole is not what was expected."""
        return invalid_argument(f"JSON Value: {excerpt(self.members)} {problem}")


def read(body: bytes) -> Document:
    """Parse a request's body.

    Args:
        body: JSON in UTF-8.

    Raises:
        ServingError: it is not JSON, or not an object; the message says where. Or it has too many values.
    """
    body = body.partition(b"\0")[0]  # RapidJSON ends here: clients in C may send arbitrary bytes after it
    if (numbers := json_numbers.read(body)) is not None:
        return Document(numbers)
    # a shorter body cannot have as many, and is not counted
    if len(body) > MAX_VALUES and (values := sum(map(body.count, (b",", b"[", b"{")))) > MAX_VALUES:
        found = f"The request's body has too many values: found {values:,}, expected at most {MAX_VALUES:,}"
        step = "Send fewer instances at a time. (Numbers alone, as `instances` or `inputs`, have no limit: send `signature_name` first.)"
        raise invalid_argument(f"{found}. {step}")
    with _without_collection():
        try:
            members = orjson.loads(body)
        except orjson.JSONDecodeError:
            members = _read_slowly(body)
        if not isinstance(members, dict):
            raise invalid_argument(f"JSON Value: {excerpt(members)} Is not object")
        if any(_count(name, body) != times for name, times in _names(members)):
            members = _read_slowly(body)  # an object may contain a name twice
    return Document(members)


def _names(members: dict[str, Any]) -> Iterator[tuple[str, int]]:
    """Return the names that the text must contain, those of inputs too, and how often.

    If an object contains a name twice, the text contains it more often.
    """
    yield from ((name, 1) for name in _MEMBERS if name in members)
    inputs, instances = members.get("inputs"), members.get("instances")
    if isinstance(inputs, dict):
        yield from ((name, 1) for name in inputs)
    if isinstance(instances, list) and instances and isinstance(instances[0], dict):
        objects = sum(type(row) is dict for row in instances)
        yield from ((name, objects) for name in instances[0])


def _count(name: str, body: bytes) -> int:
    """Count how often a text contains a name, as plain text or with `\\u` for non-ASCII characters."""
    return sum(map(body.count, {orjson.dumps(name), json.dumps(name).encode()}))


@contextmanager
def _without_collection() -> Iterator[None]:
    """Disable garbage collection while millions of lists are created: searching them for cycles would take ten times as long as parsing."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _read_slowly(body: bytes) -> Any:
    """Parse what orjson does not: NaN and infinities, the first of two members of the same name, and the position of an error."""

    def decimal(number: str) -> float:
        value = float(number)
        if math.isinf(value):
            raise _parse_error("Number too big to be stored in double.", len(text[: text.index(number)].encode()))
        return value

    def integer(number: str) -> int | float:
        value = int(number) if len(number) <= MAX_DIGITS else None
        return value if value is not None and -(2**63) <= value < 2**64 else decimal(number)

    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _parse_error("Invalid encoding in string.", error.start) from None
    if not text.strip():
        raise invalid_argument("JSON Parse error: The document is empty")
    try:
        value = json.loads(_spelled_out(text), parse_float=decimal, parse_int=integer, object_pairs_hook=_first_of_each_name)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        raise _parse_error(_SYNTAX.get(error.msg, error.msg), len(error.doc[: error.pos].encode())) from None
    except UnicodeEncodeError:
        raise invalid_argument("JSON Parse error: The surrogate pair in string is invalid.") from None
    except RecursionError:
        raise invalid_argument("JSON Parse error: Lists and objects are nested too deep. A tensor has a list per dimension.") from None
    return value


def _first_of_each_name(members: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(members)
    return found if len(found) == len(members) else dict(reversed(members))


def _spelled_out(text: str) -> str:
    """Convert `Inf`, `-Inf` and `-NaN` to the spelling that Python reads, except in strings."""
    parts = re.split("(Inf(?!inity)|-NaN)", text)
    quotes = 0
    for index in range(1, len(parts), 2):
        quotes += parts[index - 1].replace("\\\\", "").replace('\\"', "").count('"')
        if quotes % 2 == 0:
            parts[index] = {"Inf": "Infinity", "-NaN": "NaN"}[parts[index]]
    return "".join(parts)


def _parse_error(problem: str, offset: int) -> Exception:
    return invalid_argument(f"JSON Parse error: {problem} at offset: {offset}")


def excerpt(value: Any) -> str:
    """Return the beginning of a value as JSON. The whole value might be as large as the request."""
    text = ""
    for chunk in json.JSONEncoder(ensure_ascii=False, default=np.ndarray.tolist).iterencode(value):
        text += chunk[: EXCERPT + 1]
        if len(text) > EXCERPT:
            return text[:EXCERPT] + "…"
    return text
