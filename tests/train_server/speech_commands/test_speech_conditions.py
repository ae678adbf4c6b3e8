import numpy as np
from safetensors.numpy import save_file

from tests.tones import tone
from train_server.speech_commands.conditions import new_suggestions
from windtunnel.files import write_json
from windtunnel.run import Run


def test_recordings_that_are_suggested_are_not_trained_with(tones, tmp_path):
    run = Run(tmp_path)
    tested = tones.split("test")
    clips = np.stack([tone(1, 5000), tested[0][0], tones.split("train")[0][0], tone(2, 5000)])
    save_file({"clips": clips, "labels": np.array([1, tested[1][0], 0, 2], np.uint8)}, run.clips)
    write_json(run.suggestions, {"accepted": [{"digest": name} for name in "abcd"]})
    found, digests = new_suggestions(run, tones)
    assert digests == ["a", "d"]
    assert found["labels"].tolist() == [1, 2]
    assert np.array_equal(found["clips"], clips[[0, 3]])
