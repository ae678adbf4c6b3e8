import json

import numpy as np
import onnxruntime
import pytest
from safetensors.numpy import load_file, save_file

from tests.tones import tone
from tests.windtunnel.data.spoken import wav, zipped
from train_server.speech_commands.evaluate import CONDITIONS, calibration, evaluate, other_sounds, own_point, tabulate
from train_server.speech_commands.model import SMALLEST_BATCH
from train_server.standalone import train_alone
from windtunnel.data.clips import FULL_SCALE
from windtunnel.data.recordings import check_clips, source_of
from windtunnel.errors import WindtunnelError
from windtunnel.manifest import verify_version
from windtunnel.model import find_model
from windtunnel.recognizer import read_recognizer
from windtunnel.registry import registered_name
from windtunnel.tables import render

pytestmark = pytest.mark.minutes(1)


def ask(version, audio):
    session = onnxruntime.InferenceSession(version / "model.onnx")
    return dict(zip(("logits", "probabilities"), session.run(["logits", "probabilities"], {"audio": audio}), strict=True))


def test_it_learns_and_leaves_a_whole_version(version, tones):
    manifest = verify_version(version)
    assert registered_name(manifest) == "speech-commands"
    assert manifest.metrics.accuracy > 0.9
    assert manifest.dataset.fingerprint == tones.fingerprint
    facts = read_recognizer(version)
    assert [point.commands_lost for point in facts.operating_points] == [0.01, 0.02, 0.05, 0.1]
    assert 0 < facts.reject_below == facts.operating_points[2].reject_below < 1
    lines = [json.loads(line) for line in (version / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == list(range(1, 9))
    assert lines[-1]["loss"] < lines[0]["loss"]


@pytest.mark.parametrize("count", [1, 3, 32])
def test_the_export_answers_any_number_of_clips(version, count):
    golden = load_file(version / "golden.safetensors")
    assert len(golden["audio"]) == 32
    found = ask(version, golden["audio"][:count])
    for name in ("logits", "probabilities"):
        assert np.abs(found[name] - golden[name][:count]).max() < 1e-5


def test_it_hears_the_same_however_clips_come(version, tones, others):
    clips, labels = tones.split("test")
    result = evaluate(version, clips, labels, other_sounds(clips, others))
    accuracy = result["accuracy"]
    assert list(accuracy) == list(CONDITIONS)
    assert accuracy["10 times softer"] == pytest.approx(accuracy["as recorded"], abs=0.03)
    assert min(accuracy.values()) > 0.7
    assert np.sum(result["confusion"]) == len(labels)
    told = {"clips": len(clips), "speakers": 9, "dataset": "tones", "conditions": list(CONDITIONS), "sounds": ["noise"]}
    text = "".join(map(render, tabulate(told | {"versions": [{"name": "after"} | result]})))
    assert f"{accuracy['as recorded']:.2%}" in text
    assert f"{own_point(result)['rejected']['noise']:.1%}" in text


def test_it_rejects_what_is_no_command_and_says_how_sure_it_is(version, tones, others):
    clips, labels = tones.split("test")
    result = evaluate(version, clips, labels, other_sounds(clips, others))
    limits = [point["reject_below"] for point in result["points"]]
    assert limits == sorted(limits)
    assert own_point(result)["lost"] < 0.3
    assert own_point(result)["rejected"]["other words by synthetic voices"] > 0.7  # to tones, no word is like
    assert result["calibration"] < 0.2
    probabilities = ask(version, clips.astype(np.float32) / FULL_SCALE)["probabilities"]
    assert (probabilities.sum(1) < 1 + 1e-5).all()
    assert probabilities.sum(1).min() < 0.999  # the rest is no command


def test_calibration_is_the_distance_between_what_is_said_and_what_is_true():
    sure = np.array([0.9] * 8 + [0.1] * 2)
    assert calibration(sure, np.array([True] * 8 + [False] * 2), np.full(10, 0.1)) == pytest.approx(0.5 * 0.8 * 0.1 + 0.5 * 1.2 * 0.1)
    assert calibration(np.ones(4), np.ones(4, bool), np.zeros(9)) == 0


def test_training_goes_on_from_a_champion(version, make_job, tones, tmp_path):
    job = make_job(champion=version, initial="0" * 64, epochs=1, learning_rate=1e-4)
    job.train(tmp_path / "out")
    assert verify_version(tmp_path / "out").metrics.accuracy > 0.9  # from new weights, one epoch teaches nothing
    audio = tones.split("test")[0].astype(np.float32) / FULL_SCALE
    assert not np.array_equal(ask(version, audio)["logits"], ask(tmp_path / "out", audio)["logits"])


def test_the_tutorials_network_trains_too(make_job, tmp_path):
    job = make_job(network="tutorial", epochs=3, learning_rate=0.001)
    job.train(tmp_path / "out")
    assert verify_version(tmp_path / "out").spec.network == "tutorial"


def test_a_version_is_trained_with_recordings_alone_and_without_the_platform(tones, tmp_path):
    model, out = find_model("speech_commands"), tmp_path / "version"
    batch_size = tones.counts()["train"] // 9  # of nine steps, PyTorch's own schedule rises in none, and divides by zero
    train_alone(model, model.framework("pytorch"), tones, {"epochs": 1, "batch_size": batch_size}, out)
    spec = verify_version(out).spec
    assert (spec.words, spec.suggestions, spec.initial, spec.steps) == (tones.words, (), None, 9)


def test_the_fewest_clips_of_an_own_data_set_can_be_trained_with(tmp_path):
    """Two words by six speakers: four of them fill the smallest batch."""
    speakers = ("ann", "bob", "cy", "dee", "eve", "fay")
    names = [(label, word, number, speaker) for label, word in enumerate(("up", "down")) for number, speaker in enumerate(speakers)]
    recordings = {f"{word}_{speaker}_0.wav": wav(tone(4 * label, number)) for label, word, number, speaker in names}
    (tmp_path / "mine.zip").write_bytes(zipped(recordings))
    manifest = {"title": "Mine", "words": ["up", "down"], "sample_rate": 16_000, "recording": "{word}_{speaker}_{n}.wav"}
    (tmp_path / "mine.json").write_text(json.dumps(manifest | {"test": ["ann"], "validation": ["bob"]}))
    data, said = source_of("mine").read("mine", tmp_path), []
    check_clips(data, said.append)
    assert said == [
        "warning: mine has only 2 test clips: an accuracy measured with them is uncertain by up to 69 points (95% confidence). "
        "Record more speakers"
    ]
    model = find_model("speech_commands")
    train_alone(model, model.framework("pytorch"), data, {"epochs": 1, "batch_size": SMALLEST_BATCH}, tmp_path / "version")
    assert verify_version(tmp_path / "version").metrics.accuracy in (0, 0.5, 1)
    assert read_recognizer(tmp_path / "version").labels == ("up", "down")


def test_a_suggestion_that_was_changed_is_not_trained_with(make_job, tmp_path):
    job = make_job(epochs=1)
    save_file({"clips": np.zeros((1, 16_000), np.int16), "labels": np.array([0], np.uint8)}, job.run.conditions / "suggestions.safetensors")
    with pytest.raises(WindtunnelError, match=r"suggestions\.safetensors has SHA-256"):
        job.train(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
