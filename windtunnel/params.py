"""Parameters of a run as typed at the command line: `name=value`."""

import json
from typing import Any

from windtunnel.errors import WindtunnelError


def parse_params(given: list[str], schemas: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The values of `name=value` pairs, as the JSON schemas of a DAG's parameters want them.

    A value is JSON, else a string; where an array is wanted, `a,b` is `["a", "b"]`. Whether the values are allowed is for Airflow to say.

    Raises:
        WindtunnelError: a pair without `=`, or a name that the DAG does not know.
    """
    values = {}
    for pair in given:
        name, equals, text = pair.partition("=")
        if not equals:
            raise WindtunnelError(f"--param {pair}: found no '=', want name=value")
        if name not in schemas:
            raise WindtunnelError(f"--param {pair}: there is no parameter {name!r}, there are {', '.join(sorted(schemas)) or 'none'}")
        values[name] = _value(text, schemas[name].get("type"))
    return values


def _value(text: str, wanted: str | list[str] | None) -> Any:
    types = [wanted] if isinstance(wanted, str) else wanted or []
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    if value is None and "null" in types:
        return None
    if "array" in types and not isinstance(value, list):
        return [item.strip() for item in text.split(",") if item.strip()]
    return text if "string" in types else value
