"""The backend of TorchServe: https://github.com/pytorch/serve/blob/master/docs/management_api.md."""

import json
import re
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from io import BytesIO
from itertools import takewhile
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np

from serving.backends.base import START, Outputs, Protocol, Served, Server, ServerError, Version, served_model
from serving.backends.torchserve.configuration import TUNED, Config, folders
from serving.backends.torchserve.declaration import TorchServeSettings
from serving.backends.torchserve.model_archive import MODEL, check_archive, write_archive
from serving.backends.torchserve.tokens import REFUSED, Kind, Tokens, authorization
from windtunnel.errors import WindtunnelError
from windtunnel.model import Input
from windtunnel.settings import ROOT, Settings

if TYPE_CHECKING:
    from serving.load.requests import Batch, Requests

NOBODY = "none"
"""A version without workers. TorchServe makes a model's first version its default. While there is no champion this version is the default,
and users' requests get a 503."""

SECONDS = 60  # request timeout; registering and unregistering wait for files and processes
CONNECT_SECONDS = 2
DRAIN_SECONDS = 1
# TorchServe's messages while a worker starts, while there is no champion, and when it was interrupted while waiting for a worker's end
LATER = re.compile("has no worker|Worker died|Interrupted while cleaning resources")
REMOVALS = 3
MODEL_LOG = "model_log.log"
DIED = "Backend worker process died."
TRACEBACK = "Traceback (most recent call last):"
PNG = b"\x89PNG"
PAGE = 1000  # the most models that TorchServe lists at once


class TorchServe(Server):
    """TorchServe 0.12: a registered model is a TorchServe model, and its champion is the default version."""

    name = "torchserve"

    def __init__(self, settings: Settings, config: Config = TUNED) -> None:
        self.settings = settings
        self.config = config
        self.folders = folders(settings)
        self._addresses = settings.server(TorchServeSettings)
        self.management = self._addresses.management_url
        self.inference = self._addresses.address

    def publish(self, version: Version) -> None:
        """Archive the version into the model store, register it, and start its workers. It does not become the default."""
        if self._describe(version.name, str(version.number)):
            return
        if not self._versions(version.name):
            self._register(version, NOBODY, workers=0)
        self._register(version, str(version.number), self.config.workers)

    def ready(self, name: str, number: int) -> bool:
        """Return whether every worker has loaded the version.

        TorchServe would retry a version that a worker could not load, so such a version is withdrawn here.
        """
        description = self._describe(name, str(number))
        if not description:
            raise ServerError(f"torchserve has no {name} version {number}. Publish it")
        if _is_ready(description):
            return True
        for worker in description["workers"]:
            if reason := self._failure(worker["id"], name, number):
                self.withdraw(name, number)
                raise ServerError(f"torchserve cannot load {name} version {number}: {reason}")
        return False

    def predict(self, name: str, samples: np.ndarray, number: int | None = None, protocol: Protocol = "rest") -> Outputs:
        """Send the samples as `.npy`, which is exact, and parse the reply's numbers as float32, which restores them exactly."""
        ask = self._ask_rest if protocol == "rest" else self._ask_grpc
        reply = ask(name, number, _npy(samples))
        try:
            if number not in (None, reply["version"]):
                raise ServerError(f"torchserve answered with {name} version {reply['version']}, expected version {number}")
            predictions = reply["predictions"]
            names = [output for output in predictions[0] if output != "label"]
            return {output: np.array([prediction[output] for prediction in predictions], np.float32) for output in names}
        except (IndexError, KeyError, TypeError, ValueError) as error:
            raise ServerError(f"torchserve's reply for {name} is not from this project's handler: found {str(reply)[:200]}") from error

    def requests(self, name: str, batches: "Sequence[Batch]", number: int | None, protocol: Protocol) -> "Requests":
        """Return requests: a PNG for one image, an `.npy` of bytes for more, and an `.npy` of numbers for other samples."""
        from serving.load.requests import Grpc, Rest

        headers = authorization(self.tokens.get("inference"))
        model_input = served_model(name).input
        bodies = [_body(batch.images, model_input) for batch in batches]
        labels = [batch.labels for batch in batches]
        if protocol == "rest":
            content_type = "image/png" if bodies[0].startswith(PNG) else "application/octet-stream"
            return Rest(bodies, labels, _labels, self._url(name, number), content_type, headers)
        from serving.backends.torchserve.stubs import PREDICTIONS, PredictionResponse, PredictionsRequest

        version = "" if number is None else str(number)
        messages = [PredictionsRequest(model_name=name, model_version=version, input={"data": body}) for body in bodies]
        serialized = [message.SerializeToString() for message in messages]
        address = self._addresses.grpc
        return Grpc(
            serialized, labels, lambda answer: _labels(PredictionResponse.FromString(answer).prediction), address, PREDICTIONS, headers
        )

    def promote(self, name: str, number: int) -> None:
        """Make a version that is ready the default, and let the previous one answer its pending requests."""
        if not self.ready(name, number):
            raise ServerError(f"torchserve has not loaded {name} version {number} yet. Wait until it is ready", retriable=True)
        before = self._default(name)
        self._manage("PUT", f"/models/{name}/{number}/set-default")
        self._remove(name, NOBODY)
        if before not in (None, NOBODY, str(number)):
            self._drain(name, int(before))

    def withdraw(self, name: str, number: int) -> None:
        """Unregister a version and delete its archive."""
        others = set(self._versions(name)) - {str(number), NOBODY}
        default = self._default(name)
        if others and default == str(number):
            raise ServerError(f"{name} version {number} is the champion on torchserve. Promote another first: {', '.join(sorted(others))}")
        removed = {str(number)} if others else {str(number), NOBODY}
        for version in sorted(removed, key=lambda each: each == default):  # TorchServe removes the default version only when it is the last
            self._remove(name, version)

    def served(self, name: str) -> Served:
        """Return the versions that are ready, and the default version."""
        loaded = {int(number) for number, description in self._versions(name).items() if _is_ready(description)}
        default = self._default(name)
        return Served(frozenset(loaded), None if default in (None, NOBODY) else int(default))

    def published(self, name: str) -> frozenset[int]:
        """Return the versions that are registered or have an archive in the model store."""
        archives = {file.name.removeprefix(f"{name}-").removesuffix(".mar") for file in self.folders.models.glob(f"{name}-*.mar")}
        return frozenset(int(number) for number in {*self._versions(name), *archives} if number.isdecimal())

    def names(self) -> list[str]:
        """Return the registered models with a published version, loaded or not."""
        listed = self._manage("GET", "/models", params={"limit": PAGE})["models"]
        return sorted(model["modelName"] for model in listed if set(self._versions(model["modelName"])) != {NOBODY})

    def example(self, name: str) -> str:
        """Return lines that ask with curl. The token is in the file that TorchServe keeps, in its own container if it has one."""
        where = "" if self.settings.runtime == "process" else "docker compose exec -T torchserve "
        file = "img/digit.png" if served_model(name).input.codec == "image" else "sample.npy"
        keys = self.folders.keys
        keys = keys.relative_to(ROOT) if keys.is_relative_to(ROOT) else keys  # the example's file is in the project's folder, too
        return (
            f"keys={quote(str(keys))}\n"
            """py='import json, sys; print(json.load(open(sys.argv[1]))["inference"]["key"])'\n"""
            f'token=$({where}python3 -c "$py" "$keys")\n'
            f'curl -H "Authorization: Bearer $token" -T {file} \\\n'
            f"  {self._addresses.published.address}/predictions/{name}"
        )

    def _drain(self, name: str, number: int) -> None:
        """Wait until a version has answered its pending requests, but not for long: it may be replaced because it does not answer.

        Its worker answers requests in order, so when this request is answered, all earlier ones are. Withdrawing a version ends the rest.
        """
        with suppress(WindtunnelError):
            self._ask_rest(name, number, _npy(np.zeros(served_model(name).input.shape, np.float32)), timeout=DRAIN_SECONDS)

    def _register(self, version: Version, number: str, workers: int) -> None:
        model = version.directory / MODEL
        if not model.is_file():
            raise ServerError(f"torchserve cannot serve {version}: there is no {MODEL} (TorchScript) in {version.directory}")
        archive = self._archive(version.name, number)
        write_archive(archive, version.name, number, model, self.config.handler)
        check_archive(archive, version.name, number, self.config.handler)
        parameters = {
            "url": archive.name,
            "batch_size": self.config.batch_size,
            "max_batch_delay": self.config.batch_delay_ms,
            "initial_workers": workers,
            "synchronous": "false",
        }
        self._manage("POST", "/models", params=parameters, well=(httpx.codes.CONFLICT,))  # conflict: another process has registered it

    def _remove(self, name: str, number: str) -> None:
        """Unregister a version. Retry if TorchServe was interrupted, because it then keeps the version, without workers."""
        for left in reversed(range(REMOVALS)):
            try:
                self._manage("DELETE", f"/models/{name}/{number}", well=(httpx.codes.NOT_FOUND,))
                break
            except ServerError as error:
                if not (error.retriable and left):
                    raise
        self._archive(name, number).unlink(missing_ok=True)

    def _archive(self, name: str, number: str) -> Path:
        return self.folders.models / f"{name}-{number}.mar"

    def _describe(self, name: str, number: str) -> Any:
        """Return TorchServe's description of a version, or None if it has none."""
        found = self._manage("GET", f"/models/{name}/{number}", well=(httpx.codes.NOT_FOUND,))
        return found[0] if isinstance(found, list) else None

    def _versions(self, name: str) -> dict[str, Any]:
        """Return TorchServe's description of each version of a model."""
        found = self._manage("GET", f"/models/{name}/all", well=(httpx.codes.NOT_FOUND,))
        return {each["modelVersion"]: each for each in found} if isinstance(found, list) else {}

    def _default(self, name: str) -> str | None:
        """Return the version that answers requests without a version."""
        found = self._manage("GET", f"/models/{name}", well=(httpx.codes.NOT_FOUND,))
        return found[0]["modelVersion"] if isinstance(found, list) else None

    def _manage(self, method: str, path: str, well: tuple[int, ...] = (), **request: Any) -> Any:
        """Call the management API; error codes in `well` count as success."""
        return self._http("management", method, self.management + path, well, **request)

    def _ask_rest(self, name: str, number: int | None, body: bytes, **request: Any) -> Any:
        return self._http("inference", "POST", self._url(name, number), content=body, **request)

    def _url(self, name: str, number: int | None) -> str:
        return f"{self.inference}/predictions/{name}{'' if number is None else f'/{number}'}"

    def _http(self, kind: Kind, method: str, url: str, well: tuple[int, ...] = (), **request: Any) -> Any:
        """Send a request and return the JSON that TorchServe answers."""
        try:
            token = self.tokens.get(kind)
            response = self.client.request(method, url, headers=authorization(token), **request)
            if response.status_code == httpx.codes.BAD_REQUEST and REFUSED in response.text:
                response = self.client.request(method, url, headers=authorization(self.tokens.renew(kind, token)), **request)
        except httpx.TransportError as error:
            raise ServerError(f"torchserve does not answer at {url} ({error}). {START}", retriable=True) from error
        try:
            answer = response.json()
        except ValueError:
            answer = {"message": response.text[:200]}
        if response.is_success or response.status_code in well:
            return answer
        said = answer.get("message") if isinstance(answer, dict) else answer
        raise ServerError(f"torchserve refuses {method} {url}: {response.status_code} {said}", bool(LATER.search(str(said))))

    def _ask_grpc(self, name: str, number: int | None, body: bytes) -> Any:
        import grpc

        from serving.backends.torchserve.stubs import PredictionsRequest, predictions

        address = self._addresses.grpc
        request = PredictionsRequest(model_name=name, model_version="" if number is None else str(number), input={"data": body})
        with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
            call = predictions(channel)
            try:
                token = self.tokens.get("inference")
                try:
                    reply = call(request, timeout=SECONDS, metadata=tuple(authorization(token).items()))
                except grpc.RpcError as error:
                    if REFUSED not in (error.details() or ""):
                        raise
                    token = self.tokens.renew("inference", token)
                    reply = call(request, timeout=SECONDS, metadata=tuple(authorization(token).items()))
            except grpc.RpcError as error:
                said = (error.details() or "").partition("\n")[0]  # the second line is the name of a Java class
                later = error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED) or bool(LATER.search(said))
                raise ServerError(
                    f"torchserve refuses gRPC Predictions of {name} at {address}: {error.code().name} {said}", later
                ) from error
        return json.loads(reply.prediction)

    def _failure(self, worker: str, name: str, number: int) -> str | None:
        """Return why a worker could not load its version, from its output in TorchServe's log; None if the log does not say."""
        said = re.compile(rf" W-{worker}-{re.escape(f'{name}_{number}')}-std(out|err) MODEL_LOG - (.*)")
        try:
            output = said.findall((self.folders.logs / MODEL_LOG).read_text(errors="replace"))
        except OSError:
            return None
        for index, (stream, line) in enumerate(output):
            rest = [each for _, each in output[index + 1 :]]
            if loading := re.fullmatch(r"Failed to load model \S+, exception (.*)", line):
                reason = list(takewhile(lambda each: each != TRACEBACK, [loading[1], *rest]))
                return next(each.strip() for each in reversed(reason) if each.strip())
            if line == DIED or (stream == "err" and line == TRACEBACK):  # the exception is the first line that is not indented
                return next((each for each in rest if each.strip() and not each.startswith((" ", TRACEBACK))), line)
        return None

    @cached_property
    def client(self) -> httpx.Client:
        """An HTTP client that keeps connections. No proxy between our own processes, and no TLS context, which is slow to create."""
        return httpx.Client(timeout=httpx.Timeout(SECONDS, connect=CONNECT_SECONDS), trust_env=False, verify=False)

    @cached_property
    def tokens(self) -> Tokens:
        """The tokens of this TorchServe."""
        return Tokens(self.folders.keys, f"{self.management}/token", self.client)


def _body(samples: np.ndarray, model_input: Input) -> bytes:
    if model_input.codec == "array":
        return _npy(samples)
    pixels = samples.astype(np.uint8)
    if len(pixels) > 1:
        return _npy(pixels)
    from PIL import Image

    stream = BytesIO()
    Image.fromarray(pixels[0, :, :, 0] if model_input.shape[2] == 1 else pixels[0]).save(stream, "PNG")
    return stream.getvalue()


def _npy(array: np.ndarray) -> bytes:
    stream = BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def _labels(answer: bytes) -> list[int]:
    reply = json.loads(answer)
    return [reply["label"]] if "label" in reply else [prediction["label"] for prediction in reply["predictions"]]


def _is_ready(description: dict[str, Any]) -> bool:
    """Return whether a version has workers and all of them have loaded it."""
    workers = description["workers"]
    return bool(workers) and all(worker["status"] == "READY" for worker in workers)
