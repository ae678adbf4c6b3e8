import shutil

import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.serving.speech_server.speech_models import write_version
from tests.tones import tone
from train_server.speech_commands.conditions import check_vocabulary, draw, draw_alone, new_suggestions, same_words
from windtunnel.data.clips import WORDS
from windtunnel.data.recordings import DIGITS
from windtunnel.errors import WindtunnelError
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


def test_recordings_of_other_words_than_the_champions_are_refused(tones, tmp_path):
    run = Run(tmp_path)
    check_vocabulary(run, tones)  # there is no champion yet
    assert same_words(run) == "auto"
    write_version(run.champion)
    check_vocabulary(run, tones)
    assert same_words(run) == "auto"
    shutil.rmtree(run.champion)
    write_version(run.champion, words=DIGITS)
    write_json(run.suggestions, {"accepted": []})
    with pytest.raises(WindtunnelError) as error:
        draw(run, tones, tune=True)
    assert str(error.value).startswith(
        f"the words of mini_speech_commands differ from the champion's: found {', '.join(WORDS)}, expected {', '.join(DIGITS)}. "
        "A server has one vocabulary. "
    )
    assert same_words(run) == "tones"  # the champion's own data set, where nobody names one
    assert not run.spec_file.exists()


def test_recordings_that_do_not_fill_a_batch_are_refused(tones, tmp_path):
    run = Run(tmp_path)
    write_json(run.suggestions, {"accepted": []})
    save_file({"clips": np.zeros((0, 16_000), np.int16), "labels": np.zeros(0, np.uint8)}, run.clips)
    found = tones.counts()["train"]
    problem = (
        f"mini_speech_commands in {tones.directory} has too few training clips: found {found}, expected {found + 1} at least, one batch. "
    )
    with pytest.raises(WindtunnelError) as error:
        draw(run, tones, tune=False, batch_size=found + 1)
    assert str(error.value) == f"{problem}Record more, or choose a smaller batch_size"
    with pytest.raises(WindtunnelError) as error:
        draw_alone(tones, {"batch_size": found + 1}, tmp_path)
    assert str(error.value).startswith(problem)
    with pytest.raises(WindtunnelError, match="batch_size is 7, expected 8 at least, for clips without a command in each batch"):
        draw(run, tones, tune=False, batch_size=7)
    assert not run.spec_file.exists()
    assert draw(run, tones, tune=False, batch_size=found).steps_per_epoch == 1
