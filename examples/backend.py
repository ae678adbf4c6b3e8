"""A backend: a model server that computes with the weights in `.npz` files, our client of it, and the declaration of both.

A version is a softmax regression, `model.npz`: `weights`, float32 (inputs, classes), and `bias`, float32 (classes). The API is HTTP:

| request | what it does |
|---|---|
| `GET /models` | returns what is served: `{NAME: {"versions": [N, …], "champion": N or null}}` |
| `PUT /models/NAME/N` | loads a version, the bytes of a `.npz`, next to the others |
| `POST /models/NAME/N/promote` | makes a loaded version the champion |
| `DELETE /models/NAME/N` | unloads a version and removes its file |
| `POST /models/NAME/predict`, `POST /models/NAME/N/predict` | `{"inputs": […]}` → `{"version": N, "probabilities": […]}` |
"""

import json
import re
from collections.abc import Sequence
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from zipfile import BadZipFile

import httpx
import numpy as np

from serving.backends.base import START, Outputs, Protocol, Served, Server, ServerError, Version, not_loaded
from windtunnel.backend import Backend
from windtunnel.files import write_atomically
from windtunnel.model import declared
from windtunnel.platform.child_processes import die_with_parent
from windtunnel.server_settings import Port, ServerSettings

if TYPE_CHECKING:
    from serving.load.requests import Batch, Requests
    from windtunnel.settings import Settings  # imports the declarations of all backends

SECONDS = 30  # request timeout


class NpzSettings(ServerSettings):
    """The npz server's host and port: `WINDTUNNEL_NPZ_SERVER_HOST` and `WINDTUNNEL_NPZ_SERVER_PORT`."""

    health: ClassVar[str | None] = "/models"

    port: Port = 8601
    """The npz server: REST."""

    @property
    def address(self) -> str:
        """Address of the API, without a trailing slash."""
        return f"http://{self.reached_at}:{self.port}"


NPZ_SERVER = Backend(
    name="npz_server",
    title="npz server",
    client="windtunnel_examples.backend:NpzServer",
    program="windtunnel_examples.backend",
    settings=NpzSettings,
    packages=("numpy",),
)


class NpzServer(Server):
    """The client: what a release does with the server."""

    name = "npz_server"
    protocols = ("rest",)

    def __init__(self, settings: "Settings") -> None:
        self.address = settings.server(NpzSettings).address
        self.published_address = settings.published.server(NpzSettings).address

    def publish(self, version: Version) -> None:
        """Send the version's file. The server loads it before it answers."""
        self._ask("PUT", f"/models/{version.name}/{version.number}", content=(version.directory / "model.npz").read_bytes())

    def ready(self, name: str, number: int) -> bool:
        """Return whether the version is loaded."""
        return number in self.served(name).versions

    def predict(self, name: str, samples: np.ndarray, number: int | None = None, protocol: Protocol = "rest") -> Outputs:
        """Send the samples as JSON, whose numbers restore float32 exactly."""
        reply = self._ask("POST", _predict(name, number), json={"inputs": samples.tolist()})
        return {"probabilities": np.array(reply["probabilities"], np.float32)}

    def requests(self, name: str, batches: "Sequence[Batch]", number: int | None, protocol: Protocol) -> "Requests":
        """Return the same requests for a load generator."""
        from serving.load.requests import Rest

        def labels(answer: bytes) -> list[int]:
            return np.argmax(json.loads(answer)["probabilities"], axis=1).tolist()

        bodies = [json.dumps({"inputs": batch.images.tolist()}).encode() for batch in batches]
        return Rest(bodies, [batch.labels for batch in batches], labels, self.address + _predict(name, number), "application/json", {})

    def promote(self, name: str, number: int) -> None:
        """Make a version the champion. The previous one stays loaded."""
        if not self.ready(name, number):
            raise not_loaded(self.name, name, number)
        self._ask("POST", f"/models/{name}/{number}/promote")

    def withdraw(self, name: str, number: int) -> None:
        """Unload a version and remove its file."""
        self._ask("DELETE", f"/models/{name}/{number}")

    def served(self, name: str) -> Served:
        """Return what the server says."""
        found = self._ask("GET", "/models").get(name, {"versions": [], "champion": None})
        return Served(frozenset(found["versions"]), found["champion"])

    def published(self, name: str) -> frozenset[int]:
        """Return the loaded versions: the server has no others."""
        return self.served(name).versions

    def names(self) -> list[str]:
        """Return the models that have a version."""
        return sorted(self._ask("GET", "/models"))

    def example(self, name: str) -> str:
        """Return a curl command with an input of zeros."""
        inputs = json.dumps({"inputs": np.zeros((1, *declared(name)[0].input.shape)).tolist()})
        return f"curl -d '{inputs}' {self.published_address}{_predict(name)}"

    @cached_property
    def _http(self) -> httpx.Client:
        return httpx.Client(base_url=self.address, timeout=SECONDS, trust_env=False, verify=False)  # no proxy between our own processes

    def _ask(self, method: str, path: str, **request: Any) -> Any:
        try:
            reply = self._http.request(method, path, **request)
        except httpx.TransportError as error:
            raise ServerError(f"{self.name} does not answer at {self.address} ({error}). {START}", retriable=True) from error
        if reply.is_error:
            raise ServerError(f"{self.name} rejects {method} {path}: {reply.text}")
        return reply.json()


def _predict(name: str, number: int | None = None) -> str:
    return f"/models/{name}/predict" if number is None else f"/models/{name}/{number}/predict"


def application(folder: Path) -> Any:
    """Return the server. It keeps the file of each version, `NAME/N.npz`, and the number of each champion, `NAME/champion`, in `folder`."""
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.requests import Request
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    loaded = {(file.parent.name, int(file.stem)): dict(np.load(file)) for file in folder.glob("*/*.npz")}
    champions = {file.parent.name: int(file.read_text()) for file in folder.glob("*/champion")}

    def place(request: Request) -> tuple[str, int]:
        name, number = request.path_params.values()
        if not re.fullmatch(r"[\w-]+", name):
            raise ValueError(f"{name!r} is not the name of a model")
        return name, number

    def find(name: str, number: int | None) -> dict[str, np.ndarray]:
        if number is None or (name, number) not in loaded:
            raise HTTPException(404, f"{name} {f'version {number} is not loaded' if number else 'has no champion'}")
        return loaded[name, number]

    async def served(request: Request) -> JSONResponse:
        versions = {name: sorted(number for each, number in loaded if each == name) for name, _ in loaded}
        return JSONResponse({name: {"versions": versions[name], "champion": champions.get(name)} for name in versions})

    async def load(request: Request) -> JSONResponse:
        name, number = place(request)
        weights = dict(np.load(BytesIO(content := await request.body())))
        write_atomically(folder / name / f"{number}.npz", content)
        loaded[name, number] = weights
        return JSONResponse({})

    async def promote(request: Request) -> JSONResponse:
        name, number = place(request)
        find(name, number)
        write_atomically(folder / name / "champion", str(number).encode())
        champions[name] = number
        return JSONResponse({})

    async def withdraw(request: Request) -> JSONResponse:
        name, number = place(request)
        if champions.get(name) == number:
            if sum(each == name for each, _ in loaded) > 1:
                raise ValueError(f"version {number} is the champion. Promote another version first")
            (folder / name / "champion").unlink()
            del champions[name]
        (folder / name / f"{number}.npz").unlink(missing_ok=True)
        loaded.pop((name, number), None)
        return JSONResponse({})

    async def predict(request: Request) -> JSONResponse:
        name = request.path_params["name"]
        number = request.path_params.get("number") or champions.get(name)
        weights = find(name, number)
        inputs = np.asarray((await request.json())["inputs"], np.float32)
        scores = inputs.reshape(len(inputs), -1) @ weights["weights"] + weights["bias"]
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        return JSONResponse({"version": number, "probabilities": (powers / powers.sum(axis=1, keepdims=True)).tolist()})

    async def refuse(request: Request, error: Exception) -> JSONResponse:
        status, problem = (error.status_code, error.detail) if isinstance(error, HTTPException) else (400, repr(error))
        return JSONResponse({"error": problem}, status)

    version = "/models/{name}/{number:int}"
    routes = [
        Route("/models", served),
        Route(version, load, methods=["PUT"]),
        Route(version, withdraw, methods=["DELETE"]),
        Route(f"{version}/promote", promote, methods=["POST"]),
        Route(f"{version}/predict", predict, methods=["POST"]),
        Route("/models/{name}/predict", predict, methods=["POST"]),
    ]
    mistakes = (ValueError, TypeError, LookupError, OSError, EOFError, BadZipFile)  # raised for malformed files and inputs
    return Starlette(routes=routes, exception_handlers=dict.fromkeys((HTTPException, *mistakes), refuse))


def main() -> None:
    """Run the server. It ends with its parent process."""
    import uvicorn

    from windtunnel.settings import load_settings

    die_with_parent()
    settings = load_settings()
    port = settings.servers[NPZ_SERVER.name].ports["port"]
    uvicorn.run(application(settings.serving / NPZ_SERVER.name), host=settings.host, port=port, log_level="warning")


if __name__ == "__main__":
    main()
