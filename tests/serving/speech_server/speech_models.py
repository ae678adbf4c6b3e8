"""Versions of a speech model that need no training: they tell tones apart, whatever their level, and know no other sound.

The tone of word k has 500·(k+1) Hz. A version has a shift, by which its words are others than those of the tones. One that is calibrated
has operating points, and its probabilities leave a share for what is no command.
"""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file

from train_server.speech_commands.model import SpeechSpec
from windtunnel.data.clips import CLIP_SAMPLES, FULL_SCALE, SAMPLE_RATE, WORDS, as_pcm
from windtunnel.files import sha256, write_json
from windtunnel.manifest import DataLineage, Environment, Manifest

OPERATING_POINTS = [
    {"reject_below": 0.3, "commands_lost": 0.01, "others_rejected": None},
    {"reject_below": 0.8, "commands_lost": 0.05, "others_rejected": 0.75},
]
_NO_COMMAND = 4.0
"""The logit of what is no command, in a version that is calibrated."""

_TIME = np.arange(CLIP_SAMPLES) / SAMPLE_RATE
_TONES = 10  # which a version of so many words tells apart
_ANGLES = 2 * np.pi * 500 * np.arange(1, _TONES + 1) * _TIME[:, None]


def tone(word: int, level: float = 0.3) -> np.ndarray:
    """A second of a word's tone, float32."""
    return (level * np.sin(_ANGLES[:, word])).astype(np.float32)


def noise(level: float = 0.3) -> np.ndarray:
    """A second of no word, float32."""
    return (level * np.random.default_rng(5).uniform(-1, 1, CLIP_SAMPLES)).astype(np.float32)


def write_version(directory: Path, shift: int = 0, calibrated: bool = False, words: tuple[str, ...] = WORDS) -> Path:
    """A whole version, whose answer to the tone of word k is word k + shift."""
    directory.mkdir(parents=True)
    onnx.save(_graph(shift, calibrated, len(words)), directory / "model.onnx")
    facts = {"labels": words, "sample_rate": SAMPLE_RATE, "samples": CLIP_SAMPLES, "reject_below": 0.6}
    write_json(directory / "recognizer.json", facts | ({"operating_points": OPERATING_POINTS} if calibrated else {}))
    audio = np.stack([tone(number % len(words), 0.01 * number + 0.01) for number in range(31)] + [noise()])
    audio = as_pcm(audio).astype(np.float32) / FULL_SCALE  # so that 16 bits carry it over the protocol unchanged
    session = onnxruntime.InferenceSession(directory / "model.onnx", providers=["CPUExecutionProvider"])
    logits, probabilities = session.run(["logits", "probabilities"], {"audio": audio})
    assert np.allclose(logits, _answers(audio, shift, len(words)), atol=1e-3)
    golden = {"audio": audio, "logits": logits, "probabilities": probabilities, "label": logits.argmax(axis=1)}
    save_file(golden, directory / "golden.safetensors")
    write_manifest(directory)
    return directory


def write_manifest(directory: Path) -> None:
    """Say of the files that are there that they are right."""
    manifest = Manifest(
        manifest_version=1,
        model="speech_commands",
        framework="pytorch",
        spec=SpeechSpec(dataset="tones", samples=64),
        dataset=DataLineage(name="tones", fingerprint="0", files={}),
        metrics={"accuracy": 1, "loss": 0, "seconds": 1, "setup_seconds": 1, "samples_per_second": 64},
        environment=Environment(packages={}, threads=1, machine="test", cpu="test"),
        created=datetime.now(UTC),
        files={file.name: sha256(file) for file in directory.iterdir() if file.name != "manifest.json"},
    )
    (directory / "manifest.json").write_text(manifest.model_dump_json())


def _answers(audio: np.ndarray, shift: int, words: int) -> np.ndarray:
    """The logits, by other arithmetic than the graph's."""
    angles = _ANGLES[:, :words]
    energy = (audio @ np.cos(angles)) ** 2 + (audio @ np.sin(angles)) ** 2
    power = CLIP_SAMPLES / 2 * np.square(audio, dtype=np.float64).sum(axis=1, keepdims=True) + 1e-9
    return np.roll(10 * energy / power, shift, axis=1)


def _graph(shift: int, calibrated: bool, words: int) -> onnx.ModelProto:
    """The same as a graph."""
    constants = {
        "cosines": np.cos(_ANGLES[:, :words]),
        "sines": np.sin(_ANGLES[:, :words]),
        "half": np.array(CLIP_SAMPLES / 2),
        "least": np.array(1e-9),
        "scale": np.array(10.0),
        "no_command": np.array(_NO_COMMAND),
        "words": np.roll(np.eye(words), shift, axis=1),
    }
    steps = [
        ("MatMul", "audio cosines", "c"),
        ("MatMul", "audio sines", "s"),
        ("Mul", "c c", "cc"),
        ("Mul", "s s", "ss"),
        ("Add", "cc ss", "energy"),
        ("Mul", "audio audio", "squares"),
        ("ReduceSum", "squares axes", "sum"),
        ("Mul", "sum half", "halves"),
        ("Add", "halves least", "power"),
        ("Div", "energy power", "share"),
        ("Mul", "share scale", "scaled"),
        ("MatMul", "scaled words", "logits"),
    ]
    if calibrated:
        steps += [
            ("Pad", "logits pads no_command", "all_logits"),
            ("Softmax", "all_logits", "all"),
            ("Slice", "all first last axes", "probabilities"),
        ]
    else:
        steps.append(("Softmax", "logits", "probabilities"))
    nodes = [helper.make_node(kind, inputs.split(), [output]) for kind, inputs, output in steps]
    tensors = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()]
    places = {"axes": [1], "pads": [0, 0, 0, 1], "first": [0], "last": [words]}
    tensors += [numpy_helper.from_array(np.array(value), name) for name, value in places.items()]
    inputs = [helper.make_tensor_value_info("audio", TensorProto.FLOAT, ["N", CLIP_SAMPLES])]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", words]) for name in ("logits", "probabilities")]
    graph = helper.make_graph(nodes, "tones", inputs, outputs, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
