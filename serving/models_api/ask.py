"""Try the champions: ask all of a model at once, with a file that somebody sends or a sample of their golden set."""

import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load

from serving.backends.base import Outputs, Server
from serving.backends.images import reversed_images
from serving.models_api.body import MOST_BYTES
from serving.models_api.labels import called, words_of, words_served
from serving.models_api.pictures import audio_uri, image_uri
from serving.models_api.records import Json
from serving.models_api.servers import Answer, Look
from serving.models_api.sources import Sources
from serving.models_api.state import by_server
from windtunnel.errors import WindtunnelError
from windtunnel.golden import FILE, LABEL, labels
from windtunnel.model import Framework, Model
from windtunnel.registered import RegisteredVersion

ASK_SECONDS = 10.0
"""The timeout of a prediction. A warm version answers within milliseconds; a busy machine takes longer."""

AUDIO_BYTES = 2**20
"""The largest recording: a second with 96 kHz, two channels and 32 bits has 768 kB. Decoding takes many times as much memory."""


class Kind(NamedTuple):
    """A kind of files that can be sent: its name, the suffix for the model's reader, how files begin, and the largest.

    The readers take more formats, such as JSON, whose lists need twenty times the memory of the file.
    """

    name: str
    suffix: str
    magic: tuple[bytes, ...]
    most_bytes: int = MOST_BYTES


IMAGE = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")  # browsers take the type from the file's name, which may be wrong
KINDS = {
    "image/png": Kind("a PNG or JPEG picture", ".png", IMAGE),
    "image/jpeg": Kind("a PNG or JPEG picture", ".jpg", IMAGE),
    "audio/wav": Kind("a WAV file", ".wav", (b"RIFF", b"RIFX", b"RF64"), AUDIO_BYTES),
    "application/octet-stream": Kind("a NumPy array (.npy), or a picture or WAV sent as such", ".npy", (b"\x93NUMPY",)),
}
"""The kinds of files, by media type."""

SAMPLES = 40
"""How many samples of the golden set are shown."""

PROBABILITIES = "probabilities"

_READING = threading.Lock()
"""One file at a time: the largest takes 90 MiB of memory while it is read, and in containers the service has 192 MiB."""


class BadSampleError(WindtunnelError):
    """What was sent is not a sample of the model."""


def read_file(model: Model, kind: str, content: bytes) -> np.ndarray:
    """Return the first sample in a file, float32 (1, shape).

    Args:
        model: the model that is asked.
        kind: the type of the file, one of `KINDS`.
        content: the file.

    Raises:
        BadSampleError: it is not of this kind, or the model's reader rejects it.
    """
    wanted, suffix, magic, _ = KINDS[kind]
    if not content.startswith(magic):
        begin = f"{len(content):,} bytes that begin with {content[:8]!r}" if content else "an empty file"
        raise BadSampleError(f"unknown format: found {begin}, expected {wanted}. Send another file")
    read: Callable[[Path, Any], np.ndarray] = model.load(model.input.reader)
    with _READING, tempfile.TemporaryDirectory(prefix="windtunnel-") as folder:
        file = Path(folder, f"sample{suffix}")  # a name of our own: the sender's says nothing
        file.write_bytes(content)
        try:
            return read(file, model.input)[:1]
        except WindtunnelError as error:
            raise BadSampleError(str(error).replace(str(file), "the file")) from error
        except Exception as error:  # a reader may be another package's, and decoders raise anything for malformed files
            raise BadSampleError(f"the file cannot be read ({error}). Send another one") from error


def try_sample(sources: Sources, model: Model, sample: np.ndarray) -> Json:
    """Ask every champion of a model for its answer to one sample, float32 (1, shape)."""
    frameworks = {model.registered_name(framework.name): framework for framework in model.frameworks}
    look, desired = sources.servers.look(by_server(frameworks)), _desired(sources)
    champions = {name: framework for name, framework in frameworks.items() if _has_champion(name, look, desired)}

    def asked(name: str) -> Callable[[Server], tuple[Outputs, float]]:
        return lambda server: _timed(server, name, sample)

    ready = {name: (framework.backend, asked(name)) for name, framework in champions.items() if _champion(look, name) is not None}
    found = sources.servers.ask(ready, ASK_SECONDS)
    answers = [_answer(sources, model, name, framework, look, found.get(name)) for name, framework in champions.items()]
    return {"answers": answers, "seen": image_uri(model, sample[0]), "warning": reversed_images(sample, model.input)}


def samples(sources: Sources, model: Model) -> Json:
    """Return the first samples of the champions' golden set as JSON; none if there is no champion.

    Raises:
        WindtunnelError: the registry does not answer, or no golden set can be read.
    """
    known, golden = _golden(sources, model)
    if golden is None or known is None:
        return {"samples": []}
    words = words_of(sources.files, known)
    inputs, right = golden[model.input.name][:SAMPLES], golden[LABEL][:SAMPLES]
    return {
        "samples": [
            {
                "index": index,
                "label": called(int(label), words),
                "image": image_uri(model, sample),
                "audio": audio_uri(model, sample),
            }
            for index, (sample, label) in enumerate(zip(inputs, right, strict=True))
        ]
    }


def golden_sample(sources: Sources, model: Model, index: int) -> np.ndarray:
    """Return a sample of the champions' golden set, float32 (1, shape).

    Raises:
        BadSampleError: it has no such sample.
        WindtunnelError: as `samples`.
    """
    _, golden = _golden(sources, model)
    count = 0 if golden is None else min(SAMPLES, len(golden[LABEL]))
    if golden is None or not 0 <= index < count:
        raise BadSampleError(f"there is no sample {index} of {model.name}: found {count} samples. Choose one of them")
    return golden[model.input.name][index : index + 1].astype(np.float32)


def _golden(sources: Sources, model: Model) -> tuple[RegisteredVersion | None, dict[str, np.ndarray] | None]:
    """Return the golden set of the first champion of a model that has one, and this version."""
    desired, problem = sources.registry.all(), None
    for name in (model.registered_name(framework) for framework in model.framework_names):
        if (number := desired.get(name, {}).get("champion")) is None:
            continue
        known = sources.registry.version(name, number)
        try:
            return known, _checked(model, load(sources.files.read(known, FILE)))
        except (WindtunnelError, SafetensorError) as error:
            problem = WindtunnelError(f"the golden set of {name} version {number} cannot be read ({error})")
    if problem:
        raise problem
    return None, None


def _checked(model: Model, golden: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    if missing := {model.input.name, LABEL} - golden.keys():
        raise WindtunnelError(f"it lacks {', '.join(sorted(missing))}")
    return golden


def _desired(sources: Sources) -> dict[str, dict[str, int]] | None:
    """Return the registry's aliases; None if it does not answer: then the servers' champions are asked all the same."""
    try:
        return sources.registry.all()
    except WindtunnelError:
        return None


def _has_champion(name: str, look: Look, desired: dict[str, dict[str, int]] | None) -> bool:
    """Return whether a registered model has a champion: one that is served, or one that should be."""
    served = look.of(name)
    if served is not None and served.champion is not None:
        return True
    return served is None if desired is None else "champion" in desired.get(name, {})


def _champion(look: Look, name: str) -> int | None:
    served = look.of(name)
    return served.champion if served else None


def _timed(server: Server, name: str, sample: np.ndarray) -> tuple[Outputs, float]:
    start = time.perf_counter()
    outputs = server.predict(name, sample, protocol=server.protocols[0])  # without a number: as users ask
    return outputs, 1000 * (time.perf_counter() - start)


def _answer(
    sources: Sources, model: Model, name: str, framework: Framework, look: Look, found: Answer[tuple[Outputs, float]] | None
) -> Json:
    version = _champion(look, name)
    about = {"name": name, "framework": framework.name, "server": framework.backend, "version": version}
    if found is None or found.found is None or version is None:
        nothing = f"{framework.backend} has no champion of {name}. Reconcile"
        problem = found.problem if found else look.problems.get(framework.backend, nothing)
        return about | {"label": None, "bars": [], "milliseconds": None, "problem": problem}
    outputs, milliseconds = found.found
    names = outputs.get("words")
    words = words_served(sources.settings, name, version) if names is None else [str(word) for word in names]
    shown = outputs[PROBABILITIES if PROBABILITIES in outputs else model.outputs[0].name][0].ravel()
    bars = [{"label": called(index, words), "value": float(value)} for index, value in enumerate(shown)]
    label = called(int(labels(outputs[model.outputs[0].name])[0]), words)
    return about | {"label": label, "bars": bars, "milliseconds": round(milliseconds, 2), "problem": None}
