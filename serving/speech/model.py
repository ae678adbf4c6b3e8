"""A version of the model, ready to answer: verified, loaded into ONNX Runtime, and held against what its trainer answered."""

from pathlib import Path

import numpy as np
import onnxruntime
from safetensors import SafetensorError
from safetensors.numpy import load_file

from serving.golden import compare
from windtunnel.clips import CLIP_SAMPLES
from windtunnel.errors import WindtunnelError
from windtunnel.manifest import verify_version
from windtunnel.speech import read_recognizer

BATCH = 16
"""Clips computed together at most: a core gains nothing from more, and what a clip waits for grows."""

TOLERANCE = 1e-4
"""Between what the trainer's framework and ONNX Runtime answer: absolute, and relative to what is large."""

OUTPUTS = ("logits", "probabilities")


class BadModelError(WindtunnelError):
    """A version that must not answer."""


class Recognizer:
    """A loaded version. It can be called from several threads; each call is computed on the thread that makes it."""

    def __init__(self, directory: Path, number: int) -> None:
        """Verify and load the version in `directory`.

        Raises:
            WindtunnelError: it is not whole, cannot be loaded, or does not answer what its trainer did.
        """
        self.number, self.directory = number, directory
        verify_version(directory)
        facts = read_recognizer(directory)
        self.words, self.reject_below, self.operating_points = facts.labels, facts.reject_below, facts.operating_points
        self._session = _session(directory / "model.onnx", len(self.words))
        self._check_golden(directory / "golden.safetensors")

    def __call__(self, clips: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Logits and probabilities, float32 (N,K), of clips, float32 (N,16000) in -1..1.

        The probabilities are that the clip is the word; what they lack to 1 is that it is no command. The highest logit tells the word
        that the clip is most like.
        """
        logits, probabilities = self._session.run(OUTPUTS, {"audio": clips})
        return logits, probabilities

    def _check_golden(self, file: Path) -> None:
        try:
            golden = load_file(file)
            audio, label = golden["audio"], golden["label"]
            expected = {name: golden[name] for name in OUTPUTS}
        except (OSError, SafetensorError, KeyError) as error:
            raise BadModelError(f"{file} is no golden set ({error}): train the version again") from error
        # By as many as users' clips are computed by: more would leave the session with memory it never needs again.
        for clips in (slice(0, 1), *(slice(start, start + BATCH) for start in range(0, len(audio), BATCH))):
            try:
                found = dict(zip(OUTPUTS, self(audio[clips]), strict=True))
            except Exception as error:  # ONNX Runtime's have no common base
                raise BadModelError(f"{file.parent} cannot answer its golden set ({error}): export it again") from error
            for name in OUTPUTS:
                compare(f"{file.parent}, asked for its golden set, answers {name}", found[name], expected[name][clips], TOLERANCE)
            if (found["logits"].argmax(axis=1) != label[clips]).any():
                raise BadModelError(f"{file.parent} hears another word in its golden set than its trainer did: train it again")


def _session(file: Path, words: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    # A batch is computed by the thread that asks: others would take the core from who reads requests.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's have no common base
        raise BadModelError(f"{file} cannot be loaded ({error}): export it again") from error
    inputs = [(each.name, each.type, each.shape[1:]) for each in session.get_inputs()]
    outputs = {each.name: (each.type, each.shape[1:]) for each in session.get_outputs()}
    if inputs != [("audio", "tensor(float)", [CLIP_SAMPLES])] or any(outputs.get(name) != ("tensor(float)", [words]) for name in OUTPUTS):
        raise BadModelError(
            f"{file} takes {inputs} and gives {outputs}: it must take audio (N,{CLIP_SAMPLES}) and give {' and '.join(OUTPUTS)} "
            f"(N,{words}), all float; export it again"
        )
    return session
