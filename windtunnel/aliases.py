"""The registry's aliases: which version of a registered model is its champion, which was it before, which is being judged.

They are the wanted state of the model servers. They, and the versions that they point to, are read and set over MLflow's REST API, since
its client takes longer to import than a rollback may take: https://mlflow.org/docs/latest/rest-api.html
"""

from typing import Any, Literal, get_args

import httpx

from windtunnel.errors import WindtunnelError
from windtunnel.registered import RegisteredVersion, registered_version
from windtunnel.settings import Settings

Alias = Literal["champion", "previous", "challenger"]
ALIASES: tuple[Alias, ...] = get_args(Alias)


class Aliases:
    """The aliases of the platform's registry, and the versions.

    Raises, from every method:
        WindtunnelError: MLflow does not answer, or there is no such registered model or version.
    """

    def __init__(self, settings: Settings) -> None:
        self._url = settings.mlflow_url
        fresh = httpx.Limits(keepalive_expiry=2)  # MLflow closes a connection that was idle for 5 s, perhaps as a request is sent
        self._http = httpx.Client(base_url=f"{self._url}/api/2.0/mlflow", timeout=30, trust_env=False, limits=fresh)

    def all(self) -> dict[str, dict[str, int]]:
        """Of every registered model its versions by alias."""
        models: list[dict[str, Any]] = []
        page: dict[str, str] = {}
        while True:
            reply = self._request("GET", "/registered-models/search", params={"max_results": 1000, **page})
            models += reply.get("registered_models", [])
            if not reply.get("next_page_token"):
                return {model["name"]: _by_alias(model) for model in models}
            page = {"page_token": reply["next_page_token"]}

    def of(self, name: str) -> dict[str, int]:
        """A registered model's versions by alias."""
        return _by_alias(self._request("GET", "/registered-models/get", params={"name": name})["registered_model"])

    def version(self, name: str, number: int) -> RegisteredVersion:
        """What the registry says of one version of a registered model."""
        found = self._request("GET", "/model-versions/get", params={"name": name, "version": str(number)})["model_version"]
        tags = {tag["key"]: tag["value"] for tag in found.get("tags", [])}
        aliases = tuple(sorted(found.get("aliases", [])))
        holder, source, created = found.get("run_id", ""), found.get("source", ""), int(found["creation_timestamp"])
        return registered_version(name, number, aliases, tags, holder, source, created)

    def move(self, name: str, alias: Alias, number: int | None) -> None:
        """Let an alias point to a version, or to none."""
        if number is None:
            self._request("DELETE", "/registered-models/alias", json={"name": name, "alias": alias})
        else:
            self._request("POST", "/registered-models/alias", json={"name": name, "alias": alias, "version": str(number)})

    def _request(self, method: str, path: str, **arguments: Any) -> Any:
        try:
            reply = self._http.request(method, path, **arguments)
            reply.raise_for_status()
        except httpx.HTTPStatusError as error:
            raise WindtunnelError(f"MLflow at {self._url}: {_message(error.response)}; `windtunnel models` lists what there is") from error
        except httpx.HTTPError as error:
            raise WindtunnelError(f"MLflow at {self._url} does not answer ({error}); see `windtunnel status`") from error
        return reply.json()


def _by_alias(model: dict[str, Any]) -> dict[str, int]:
    return {each["alias"]: int(each["version"]) for each in model.get("aliases", [])}


def _message(reply: httpx.Response) -> str:
    try:
        return str(reply.json()["message"]).splitlines()[0]
    except (ValueError, KeyError, TypeError):
        return f"{reply.status_code} {reply.reason_phrase}"
