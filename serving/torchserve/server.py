"""TorchServe behind the port of a model server: https://github.com/pytorch/serve/blob/master/docs/management_api.md."""

import json
import re
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from io import BytesIO
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np

from serving.server import START, Outputs, Protocol, Served, Server, ServerError, Version
from serving.torchserve.archive import MODEL, check_archive, write_archive
from serving.torchserve.config import TUNED, Config, folders
from serving.torchserve.tokens import REFUSED, Kind, Tokens, authorization
from windtunnel.settings import Settings

if TYPE_CHECKING:
    from serving.requests import Batch, Requests

NOBODY = "none"
"""A version without workers. TorchServe makes the first version of a model its default; as long as there is no champion, it is this one,
and users' requests are answered with a 503."""

SECONDS = 60  # to answer in; registering and unregistering wait for files and processes
CONNECT_SECONDS = 2
DRAIN_SECONDS = 1
PIXELS = 28 * 28
# says TorchServe while a worker starts, where there is no champion, and where it was interrupted while it waited for a worker's end
LATER = re.compile("has no worker|Worker died|Interrupted while cleaning resources")
REMOVALS = 3
MODEL_LOG = "model_log.log"
DIED = "Backend worker process died."
TRACEBACK = "Traceback (most recent call last):"
PAGE = 1000  # models that TorchServe lists at most


class TorchServe(Server):
    """TorchServe 0.12: a registered model is a model of it, and the champion its default version."""

    name = "torchserve"

    def __init__(self, settings: Settings, config: Config = TUNED) -> None:
        self.settings = settings
        self.config = config
        self.folders = folders(settings)
        self.management = settings.torchserve_management_url
        self.inference = settings.torchserve_url

    def publish(self, version: Version) -> None:
        """Archive the version into the model store, register it, and have its workers started; none of this makes it the default."""
        if self._describe(version.name, str(version.number)):
            return
        if not self._versions(version.name):
            self._register(version, NOBODY, workers=0)
        self._register(version, str(version.number), self.config.workers)

    def ready(self, name: str, number: int) -> bool:
        """Whether every worker has the version loaded. One that could not load it is tried again by TorchServe, and withdrawn here."""
        description = self._describe(name, str(number))
        if not description:
            raise ServerError(f"torchserve has no {name} version {number}: publish it")
        if _is_ready(description):
            return True
        for worker in description["workers"]:
            if reason := self._failure(worker["id"], name, number):
                self.withdraw(name, number)
                raise ServerError(f"torchserve cannot load {name} version {number}: {reason}")
        return False

    def predict(self, name: str, images: np.ndarray, number: int | None = None, protocol: Protocol = "rest") -> Outputs:
        """Send the images as `.npy`, which is exact, and read the reply's numbers as float32, which is what they were."""
        stream = BytesIO()
        np.save(stream, images)
        ask = self._ask_rest if protocol == "rest" else self._ask_grpc
        reply = ask(name, number, stream.getvalue())
        try:
            if number not in (None, reply["version"]):
                raise ServerError(f"torchserve answered with {name} version {reply['version']}, not {number}, which was asked")
            return {
                output: np.array([prediction[output] for prediction in reply["predictions"]], np.float32)
                for output in ("probabilities", "logits")
            }
        except (KeyError, TypeError) as error:
            raise ServerError(f"torchserve gave of {name} {str(reply)[:200]}, which is no reply of this project's handler") from error

    def requests(self, name: str, batches: "Sequence[Batch]", number: int | None, protocol: Protocol) -> "Requests":
        """A PNG for one digit, an `.npy` of bytes for more."""
        from serving.requests import Grpc, Rest

        headers = authorization(self.tokens.get("inference"))
        bodies = [_body(batch.images) for batch in batches]
        labels = [batch.labels for batch in batches]
        if protocol == "rest":
            content_type = "image/png" if len(labels[0]) == 1 else "application/octet-stream"
            return Rest(bodies, labels, _labels, self._url(name, number), content_type, headers)
        from serving.torchserve.stubs import PREDICTIONS, PredictionResponse, PredictionsRequest

        version = "" if number is None else str(number)
        messages = [PredictionsRequest(model_name=name, model_version=version, input={"data": body}) for body in bodies]
        serialized = [message.SerializeToString() for message in messages]
        address = self.settings.torchserve_grpc
        return Grpc(
            serialized, labels, lambda answer: _labels(PredictionResponse.FromString(answer).prediction), address, PREDICTIONS, headers
        )

    def promote(self, name: str, number: int) -> None:
        """Make a version that is ready the default, and let the one before answer what it has been asked."""
        if not self.ready(name, number):
            raise ServerError(f"torchserve has not loaded {name} version {number} yet: wait until it is ready", retriable=True)
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
            raise ServerError(f"torchserve: {name} version {number} is the champion, promote another first: {', '.join(sorted(others))}")
        removed = {str(number)} if others else {str(number), NOBODY}
        for version in sorted(removed, key=lambda each: each == default):  # TorchServe removes the default only as the last
            self._remove(name, version)

    def served(self, name: str) -> Served:
        """The versions that are ready, and the default one."""
        loaded = {int(number) for number, description in self._versions(name).items() if _is_ready(description)}
        default = self._default(name)
        return Served(frozenset(loaded), None if default in (None, NOBODY) else int(default))

    def published(self, name: str) -> frozenset[int]:
        """The versions that are registered or have an archive in the model store."""
        archives = {file.name.removeprefix(f"{name}-").removesuffix(".mar") for file in self.folders.models.glob(f"{name}-*.mar")}
        return frozenset(int(number) for number in {*self._versions(name), *archives} if number.isdecimal())

    def names(self) -> list[str]:
        """The registered models of which a version is published, loaded or not."""
        listed = self._manage("GET", "/models", params={"limit": PAGE})["models"]
        return sorted(model["modelName"] for model in listed if set(self._versions(model["modelName"])) != {NOBODY})

    def example(self, name: str) -> str:
        """With curl; its token is in the file that TorchServe keeps, in its own container if it has one."""
        where = "" if self.settings.runtime == "process" else "docker compose exec -T torchserve "
        token = f"""{where}python3 -c 'import json; print(json.load(open("{self.folders.keys}"))["inference"]["key"])'"""
        return f'curl -H "Authorization: Bearer $({token})" -T img/digit.png {self.settings.published.torchserve_url}/predictions/{name}'

    def _drain(self, name: str, number: int) -> None:
        """Wait until a version has answered what it was asked so far, but not for long: it may be gone because it does not answer.

        Its worker answers in turn, so that all requests before this one have been. Withdrawing a version ends the others.
        """
        with suppress(ServerError):
            self._ask_rest(name, number, bytes(PIXELS), timeout=DRAIN_SECONDS)

    def _register(self, version: Version, number: str, workers: int) -> None:
        model = version.directory / MODEL
        if not model.is_file():
            raise ServerError(f"torchserve serves TorchScript, and {version} has no {MODEL} in {version.directory}")
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
        self._manage("POST", "/models", params=parameters, well=(httpx.codes.CONFLICT,))  # a conflict: another has registered it

    def _remove(self, name: str, number: str) -> None:
        """Unregister a version, once more where TorchServe was interrupted: it then keeps the version, without workers."""
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
        """What TorchServe says of one version, None if it has none."""
        found = self._manage("GET", f"/models/{name}/{number}", well=(httpx.codes.NOT_FOUND,))
        return found[0] if isinstance(found, list) else None

    def _versions(self, name: str) -> dict[str, Any]:
        """What TorchServe says of each version of a model."""
        found = self._manage("GET", f"/models/{name}/all", well=(httpx.codes.NOT_FOUND,))
        return {each["modelVersion"]: each for each in found} if isinstance(found, list) else {}

    def _default(self, name: str) -> str | None:
        """The version that requests without one get."""
        found = self._manage("GET", f"/models/{name}", well=(httpx.codes.NOT_FOUND,))
        return found[0]["modelVersion"] if isinstance(found, list) else None

    def _manage(self, method: str, path: str, well: tuple[int, ...] = (), **request: Any) -> Any:
        """Ask the management API; `well` are error codes that are as good as a success."""
        return self._http("management", method, self.management + path, well, **request)

    def _ask_rest(self, name: str, number: int | None, body: bytes, **request: Any) -> Any:
        return self._http("inference", "POST", self._url(name, number), content=body, **request)

    def _url(self, name: str, number: int | None) -> str:
        return f"{self.inference}/predictions/{name}{'' if number is None else f'/{number}'}"

    def _http(self, kind: Kind, method: str, url: str, well: tuple[int, ...] = (), **request: Any) -> Any:
        """The JSON that TorchServe answers."""
        try:
            token = self.tokens.get(kind)
            response = self.client.request(method, url, headers=authorization(token), **request)
            if response.status_code == httpx.codes.BAD_REQUEST and REFUSED in response.text:
                response = self.client.request(method, url, headers=authorization(self.tokens.renew(kind, token)), **request)
        except httpx.TransportError as error:
            raise ServerError(f"torchserve does not answer at {url} ({error}): {START}", retriable=True) from error
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

        from serving.torchserve.stubs import PredictionsRequest, predictions

        address = self.settings.torchserve_grpc
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
        """Why a worker could not load its version, from its output in TorchServe's log; None if it does not say that."""
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
        """Keeps its connections. No proxy between our own processes, and no TLS, whose set-up takes longer than a request."""
        return httpx.Client(timeout=httpx.Timeout(SECONDS, connect=CONNECT_SECONDS), trust_env=False, verify=False)

    @cached_property
    def tokens(self) -> Tokens:
        """The tokens of this TorchServe."""
        return Tokens(self.folders.keys, f"{self.management}/token", self.client)


def _body(images: np.ndarray) -> bytes:
    stream = BytesIO()
    pixels = images.astype(np.uint8)
    if len(pixels) == 1:
        from PIL import Image

        Image.fromarray(pixels[0, :, :, 0]).save(stream, "PNG")
    else:
        np.save(stream, pixels)
    return stream.getvalue()


def _labels(answer: bytes) -> list[int]:
    reply = json.loads(answer)
    return [reply["label"]] if "label" in reply else [prediction["label"] for prediction in reply["predictions"]]


def _is_ready(description: dict[str, Any]) -> bool:
    """Whether all workers of a version, of which there are some, have loaded it."""
    workers = description["workers"]
    return bool(workers) and all(worker["status"] == "READY" for worker in workers)
