"""Read and set the registry's aliases: `champion`, `previous` and `challenger` of each registered model.

The aliases are the desired state of the model servers. This module uses MLflow's REST API, because importing MLflow's client takes
longer than a rollback may take: https://mlflow.org/docs/latest/rest-api.html
"""

from pathlib import Path
from typing import Any, Literal, get_args

import httpx

from windtunnel.errors import WindtunnelError
from windtunnel.registered import RegisteredVersion, registered_version
from windtunnel.settings import Settings

Alias = Literal["champion", "previous", "challenger"]
ALIASES: tuple[Alias, ...] = get_args(Alias)


class NotRegisteredError(WindtunnelError):
    """The registry has no such registered model or version."""


class Aliases:
    """A client of the registry's aliases and versions.

    Every method raises:
        NotRegisteredError: there is no such registered model or version.
        WindtunnelError: MLflow does not answer, or refuses.
    """

    def __init__(self, settings: Settings, seconds: float = 30) -> None:
        """`seconds` is the timeout of each request."""
        self._url = settings.mlflow_url
        fresh = httpx.Limits(keepalive_expiry=2)  # s; MLflow closes connections after 5 s, which could hit a request
        self._http = httpx.Client(base_url=f"{self._url}/api/2.0/mlflow", timeout=seconds, trust_env=False, limits=fresh)

    def all(self) -> dict[str, dict[str, int]]:
        """Return the versions by alias of every registered model."""
        models: list[dict[str, Any]] = []
        page: dict[str, str] = {}
        while True:
            reply = self._request("GET", "/registered-models/search", params={"max_results": 1000, **page})
            models += reply.get("registered_models", [])
            if not reply.get("next_page_token"):
                return {model["name"]: _by_alias(model) for model in models}
            page = {"page_token": reply["next_page_token"]}

    def of(self, name: str) -> dict[str, int]:
        """Return the versions by alias of one registered model."""
        return _by_alias(self._request("GET", "/registered-models/get", params={"name": name})["registered_model"])

    def version(self, name: str, number: int) -> RegisteredVersion:
        """Return one version of a registered model."""
        return _registered(self._request("GET", "/model-versions/get", params={"name": name, "version": str(number)})["model_version"])

    def versions(self, name: str, most: int, before: int | None = None) -> list[RegisteredVersion]:
        """Return the newest versions of a registered model, the newest first, at most `most` of them.

        Args:
            name: the registered model.
            most: how many, 1 to 1,000.
            before: only versions with a smaller number than this.
        """
        aliases = self.of(name)  # also finds out whether there is such a model; a search returns no aliases
        quote = '"' if "'" in name else "'"
        below = "" if before is None else f" and version_number < {before}"
        asked = {"filter": f"name = {quote}{name}{quote}{below}", "order_by": "version_number DESC", "max_results": most}
        found = self._request("GET", "/model-versions/search", params=asked).get("model_versions", [])
        numbers = set(aliases.values())
        by_number = {number: sorted(alias for alias, other in aliases.items() if other == number) for number in numbers}
        return [_registered({**each, "aliases": by_number.get(int(each["version"]), [])}) for each in found]

    def move(self, name: str, alias: Alias, number: int | None) -> None:
        """Point an alias to a version. With None, delete the alias."""
        if number is None:
            self._request("DELETE", "/registered-models/alias", json={"name": name, "alias": alias})
        else:
            self._request("POST", "/registered-models/alias", json={"name": name, "alias": alias, "version": str(number)})

    def attach(self, known: RegisteredVersion, *files: Path) -> None:
        """Store files with those of a version, in this order. A file of the same name is replaced."""
        store = f"{self._url}/api/2.0/mlflow-artifacts/artifacts/"
        place = known.source.removeprefix("mlflow-artifacts:/")
        if place == known.source:
            where = f"the files of {known.name} version {known.version} are in {known.source!r}"
            raise WindtunnelError(f"{where}: expected MLflow's own store, mlflow-artifacts:/…. Train a new version")
        for file in files:
            self._request("PUT", f"{store}{place}/{file.name}", content=file.read_bytes())

    def _request(self, method: str, path: str, **arguments: Any) -> Any:
        try:
            reply = self._http.request(method, path, **arguments)
            reply.raise_for_status()
        except httpx.HTTPStatusError as error:
            unknown = (httpx.codes.NOT_FOUND, httpx.codes.BAD_REQUEST)  # of a name that MLflow does not allow
            kind = NotRegisteredError if error.response.status_code in unknown else WindtunnelError
            raise kind(f"MLflow at {self._url}: {_message(error.response)}; `windtunnel models` lists all versions") from error
        except httpx.HTTPError as error:
            raise WindtunnelError(f"MLflow at {self._url} does not answer ({error}); see `windtunnel status`") from error
        return reply.json() if reply.content else None  # none after a file was stored


def _registered(found: dict[str, Any]) -> RegisteredVersion:
    """Return a version as MLflow describes it in JSON."""
    tags = {tag["key"]: tag["value"] for tag in found.get("tags", [])}
    aliases = tuple(sorted(found.get("aliases", [])))
    holder, source, created = found.get("run_id", ""), found.get("source", ""), int(found["creation_timestamp"])
    return registered_version(found["name"], int(found["version"]), aliases, tags, holder, source, created)


def _by_alias(model: dict[str, Any]) -> dict[str, int]:
    return {each["alias"]: int(each["version"]) for each in model.get("aliases", [])}


def _message(reply: httpx.Response) -> str:
    try:
        return str(reply.json()["message"]).splitlines()[0]
    except (ValueError, KeyError, TypeError):
        return f"{reply.status_code} {reply.reason_phrase}"
