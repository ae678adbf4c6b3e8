"""A version of the model: verified, loaded into ONNX Runtime, and compared with its trainer's answers."""

from pathlib import Path

import numpy as np
import onnxruntime
from safetensors import SafetensorError
from safetensors.numpy import load_file

from serving.answers import compare
from windtunnel.data.clips import CLIP_SAMPLES
from windtunnel.errors import WindtunnelError
from windtunnel.manifest import verify_version
from windtunnel.recognizer import read_recognizer

BATCH = 16
"""Maximum batch size: more gains nothing on a core, and increases the latency."""

TOLERANCE = 1e-4
"""Tolerance between the trainer's framework and ONNX Runtime: absolute, and relative for large values."""

OUTPUTS = ("logits", "probabilities")


class BadModelError(WindtunnelError):
    """A version that must not answer."""


class Recognizer:
    """A loaded version. It can be called from several threads; each call computes on the calling thread."""

    def __init__(self, directory: Path, number: int) -> None:
        """Verify and load the version in `directory`.

        Raises:
            WindtunnelError: it is incomplete, cannot be loaded, or does not give its trainer's answers.
        """
        self.number, self.directory = number, directory
        verify_version(directory)
        facts = read_recognizer(directory)
        self.words, self.reject_below, self.operating_points = facts.labels, facts.reject_below, facts.operating_points
        self._session = _session(directory / "model.onnx", len(self.words))
        self._check_golden(directory / "golden.safetensors")

    def __call__(self, clips: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return logits and probabilities, float32 (N,K), of clips, float32 (N,16000) in -1..1.

        A probability is that of the clip being the word; their sum's difference to 1 is the probability of no command. The highest logit
        marks the word that the clip is most like.
        """
        logits, probabilities = self._session.run(OUTPUTS, {"audio": clips})
        return logits, probabilities

    def _check_golden(self, file: Path) -> None:
        try:
            golden = load_file(file)
            audio, label = golden["audio"], golden["label"]
            expected = {name: golden[name] for name in OUTPUTS}
        except (OSError, SafetensorError, KeyError) as error:
            raise BadModelError(f"{file} is not a golden set ({error}). Train the version again") from error
        # In batches of the size used for users' clips: larger ones would leave the session with memory that it never needs again.
        for clips in (slice(0, 1), *(slice(start, start + BATCH) for start in range(0, len(audio), BATCH))):
            try:
                found = dict(zip(OUTPUTS, self(audio[clips]), strict=True))
            except Exception as error:  # ONNX Runtime's exceptions have no common base
                raise BadModelError(f"{file.parent} cannot compute its golden set ({error}). Export it again") from error
            for name in OUTPUTS:
                compare(f"{file.parent}, given its golden set, answers {name}", found[name], expected[name][clips], TOLERANCE)
            if (found["logits"].argmax(axis=1) != label[clips]).any():
                raise BadModelError(f"{file.parent} hears other words in its golden set than its trainer did. Train it again")


def _session(file: Path, words: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    # A batch is computed by the calling thread: more threads would take the core from the one that reads requests.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions have no common base
        raise BadModelError(f"{file} cannot be loaded ({error}). Export it again") from error
    inputs = [(each.name, each.type, each.shape[1:]) for each in session.get_inputs()]
    outputs = {each.name: (each.type, each.shape[1:]) for each in session.get_outputs()}
    if inputs != [("audio", "tensor(float)", [CLIP_SAMPLES])] or any(outputs.get(name) != ("tensor(float)", [words]) for name in OUTPUTS):
        raise BadModelError(
            f"{file} has the wrong interface: found inputs {inputs} and outputs {outputs}, expected audio (N,{CLIP_SAMPLES}) and "
            f"{' and '.join(OUTPUTS)} (N,{words}), all float. Export it again"
        )
    return session
