import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from safetensors.numpy import load_file, save_file

from serving.speech_server.model import Recognizer
from serving.speech_server.silence import SILENCE_DBFS, is_silence, loudness
from tests.serving.speech_server.speech_models import OPERATING_POINTS, noise, tone, write_manifest, write_version
from windtunnel.errors import WindtunnelError
from windtunnel.files import write_json


@pytest.fixture
def spoilt(version: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(version, tmp_path / "spoilt"))


def refused(directory: Path, words: str) -> None:
    write_manifest(directory)
    with pytest.raises(WindtunnelError) as caught:
        Recognizer(directory, 1)
    assert words in str(caught.value)


def test_a_version_answers_as_trained(version: Path) -> None:
    recognizer = Recognizer(version, 3)
    logits, probabilities = recognizer(np.stack([tone(2), tone(7, 0.001), noise()]))
    assert logits.argmax(axis=1)[:2].tolist() == [2, 7]
    assert np.allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    assert probabilities[2].max() < recognizer.reject_below < probabilities[0].max()


def test_what_the_probabilities_lack_to_1_is_that_a_clip_is_no_command(tmp_path: Path) -> None:
    recognizer = Recognizer(write_version(tmp_path / "calibrated", calibrated=True), 3)
    logits, probabilities = recognizer(np.stack([tone(2), noise()]))
    assert logits.argmax(axis=1)[0] == 2
    assert probabilities[0].sum() > 0.99
    assert probabilities[1].sum() < 0.2
    assert [point.model_dump() for point in recognizer.operating_points] == OPERATING_POINTS


def test_a_version_of_before_there_were_operating_points_has_none(version: Path) -> None:
    assert Recognizer(version, 3).operating_points == ()


def test_an_operating_point_that_is_none_is_refused(spoilt: Path) -> None:
    facts = json.loads((spoilt / "recognizer.json").read_text())
    write_json(spoilt / "recognizer.json", facts | {"operating_points": [{"reject_below": 1.5, "commands_lost": 0.01}]})
    refused(spoilt, "operating_points")


def test_versions_answer_differently(tmp_path: Path) -> None:
    shifted = Recognizer(write_version(tmp_path / "shifted", 3), 4)
    assert shifted(tone(2)[None])[0].argmax() == 5


def test_a_file_that_was_changed_is_refused(spoilt: Path) -> None:
    (spoilt / "model.onnx").write_bytes(b"")
    with pytest.raises(WindtunnelError, match=r"model.onnx has SHA-256"):
        Recognizer(spoilt, 1)


def test_what_is_no_model_is_refused(spoilt: Path) -> None:
    (spoilt / "model.onnx").write_bytes(b"no model")
    refused(spoilt, "model.onnx cannot be loaded (")


def test_another_input_is_refused(spoilt: Path) -> None:
    model = onnx.load(spoilt / "model.onnx")
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "samples"
    onnx.save(model, spoilt / "model.onnx")
    refused(spoilt, "expected audio (N,16000)")


def test_other_words_are_refused(spoilt: Path) -> None:
    write_json(spoilt / "recognizer.json", {"labels": ["yes"] * 8, "sample_rate": 16000, "samples": 16000, "reject_below": 0.5})
    refused(spoilt, "recognizer.json")


@pytest.mark.parametrize("place", [0, 20])
def test_another_answer_than_the_trainers_is_refused(spoilt: Path, place: int) -> None:
    golden = load_file(spoilt / "golden.safetensors")
    golden["logits"][place, 1] += 0.01
    save_file(golden, spoilt / "golden.safetensors")
    refused(spoilt, "1 of ")


def test_a_golden_set_that_is_none_is_refused(spoilt: Path) -> None:
    (spoilt / "golden.safetensors").write_bytes(b"")
    refused(spoilt, "is not a golden set")


def test_silence_is_what_is_nowhere_loud() -> None:
    assert is_silence(np.zeros(16000, np.float32))
    assert is_silence(np.full(16000, 0.3, np.float32)), "a constant cannot be heard"
    assert abs(loudness(tone(0, 0.1)) - 20 * np.log10(0.1 / np.sqrt(2))) < 0.1
    short = np.zeros(16000, np.float32)
    short[5000:6600] = tone(0)[5000:6600]
    assert not is_silence(short), "100 ms of a second are enough"
    edge = 10 ** (SILENCE_DBFS / 20) * np.sqrt(2)
    assert is_silence(tone(0, edge * 0.9))
    assert not is_silence(tone(0, edge * 1.1))
