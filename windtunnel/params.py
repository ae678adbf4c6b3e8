"""Parameters of a run as typed at the command line: `name=value`."""

import json
from typing import Any

from windtunnel.errors import WindtunnelError


def parse_params(given: list[str], schemas: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The values of `name=value` pairs, as the JSON schemas of a DAG's parameters want them.

    A value is JSON, else a string; where an array is wanted, `a,b` is `["a", "b"]`. Whether the values are allowed is for Airflow to say.

    Raises:
        WindtunnelError: a pair without `=`, a name that the DAG does not know, or a value that no request can carry.
    """
    values = {}
    for pair in given:
        name, equals, text = pair.partition("=")
        if not equals:
            raise WindtunnelError(f"--param {pair}: found no '=', want name=value")
        if name not in schemas:
            raise WindtunnelError(f"--param {pair}: there is no parameter {name!r}, there are {', '.join(sorted(schemas)) or 'none'}")
        values[name] = _value(text, schemas[name].get("type"))
        _check(pair, values[name])
    return values


def _check(pair: str, value: Any) -> None:
    """JSON in UTF-8 has neither infinite numbers nor bytes that are no text."""
    try:
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise WindtunnelError(f"--param {pair!a}: found bytes that are not UTF-8, expected text. Set the terminal to UTF-8") from None
    except ValueError:
        raise WindtunnelError(f"--param {pair}: found a number that is not finite, expected one. Give a number such as 0.01") from None


def _value(text: str, wanted: str | list[str] | None) -> Any:
    types = [wanted] if isinstance(wanted, str) else wanted or []
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = text
    if value is None and "null" in types:
        return None
    if "array" in types and not isinstance(value, list):
        return [item.strip() for item in text.split(",") if item.strip()]
    return text if "string" in types else value
