"""Parse the parameters of a run from the command line: `name=value`."""

import json
from typing import Any

from windtunnel.errors import WindtunnelError


def parse_params(given: list[str], schemas: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Convert `name=value` pairs to the types in the JSON schemas of a DAG's parameters.

    A value is parsed as JSON, or else is a string; for an array, `a,b` means `["a", "b"]`. Airflow checks whether the values are allowed.

    Raises:
        WindtunnelError: a pair has no `=`, the DAG has no such parameter, or the value cannot be sent as JSON.
    """
    values = {}
    for pair in given:
        name, equals, text = pair.partition("=")
        if not equals:
            raise WindtunnelError(f"--param {pair}: found no '=', expected name=value")
        if name not in schemas:
            known = ", ".join(sorted(schemas)) or "none"
            raise WindtunnelError(f"--param {pair}: there is no parameter {name!r}, there are {known}")
        values[name] = _value(text, schemas[name].get("type"))
        _check(pair, values[name])
    return values


def _check(pair: str, value: Any) -> None:
    """Reject what JSON in UTF-8 cannot represent: infinite numbers, and bytes that are not text."""
    try:
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise WindtunnelError(
            f"--param {pair!a}: found bytes that are not UTF-8, expected text. Set the terminal's encoding to UTF-8"
        ) from None
    except ValueError:
        raise WindtunnelError(f"--param {pair}: found an infinite number or NaN, expected a finite number, such as 0.01") from None


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
