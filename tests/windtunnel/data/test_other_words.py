import numpy as np
import pytest

from tests.windtunnel.data.spoken import wav, zipped
from windtunnel.data.clips import WORDS
from windtunnel.data.other_words import EACH, SOURCES, SPOKEN, UNHEARD, locate_others
from windtunnel.data.recordings import DIGITS
from windtunnel.data.synthesis import VOICES, render
from windtunnel.errors import WindtunnelError


@pytest.fixture(scope="module")
def spoken(tmp_path_factory):
    """What the synthesiser says, once for all tests."""
    file = tmp_path_factory.mktemp("spoken") / "spoken_words.zip"
    render(file, SPOKEN, EACH)
    return file


@pytest.fixture
def place(tmp_path, spoken, monkeypatch):
    """A data search path with the synthesiser's words alone."""
    (tmp_path / "speech").mkdir()
    (tmp_path / "speech" / spoken.name).symlink_to(spoken)
    monkeypatch.setattr("windtunnel.data.datasets.search_path", lambda: [tmp_path])
    return tmp_path / "speech"


def clip(word, speaker):
    return np.random.default_rng([DIGITS.index(word) if word in DIGITS else 10 + UNHEARD.index(word), speaker]).integers(
        -9000, 9000, 8000, np.int16
    )


def other_words(words):
    return zipped({f"other_words/{word}/{speaker:08x}_nohash_0.wav": wav(clip(word, speaker)) for word in words for speaker in range(3)})


def test_no_word_is_a_command_or_never_to_be_trained_with():
    assert not {*SPOKEN} & {*WORDS, *UNHEARD, *DIGITS}
    assert len({*SPOKEN}) == len(SPOKEN)


def test_a_synthesiser_speaks_where_no_recordings_are(place):
    said = []
    others = locate_others(WORDS, said.append)
    assert [*others.fingerprints] == ["spoken_words"]
    assert len(others.train) + len(others.validation) + sum(map(len, others.test.values())) == EACH * len(VOICES)
    assert min(len(others.train), len(others.validation), *map(len, others.test.values())) > 50
    assert said == [f"other words by synthetic voices in {place}"]


def test_they_are_spoken_for_once_where_nothing_can_be_kept(place, monkeypatch):
    kept = locate_others(WORDS, print)
    (place / "spoken_words.zip").unlink()
    monkeypatch.setattr("windtunnel.data.datasets._writable_path", list)
    said = []
    others = locate_others(WORDS, said.append)
    assert others.fingerprints == kept.fingerprints
    assert said[0].startswith("other words by synthetic voices are synthesised for this run only: ")
    assert not list(place.iterdir())


def test_some_words_of_people_are_never_trained_with(place):
    (place / "other_words.zip").write_bytes(other_words((*DIGITS, *UNHEARD)))
    others = locate_others(WORDS, print)
    assert [*others.fingerprints] == ["spoken_words", "other_words"]
    assert others.test[SOURCES["other_words"].title].shape == (3 * len(UNHEARD), 16_000)
    heard = {each.tobytes() for each in others.test[SOURCES["other_words"].title]}
    for part in (others.train, others.validation):
        assert not heard & {each.tobytes() for each in part}
    trained = {each.tobytes() for each in others.train}
    assert all(np.pad(clip("one", speaker), (0, 8000)).tobytes() not in trained for speaker in range(3))


def test_a_word_of_the_vocabulary_is_no_other_word(place):
    (place / "other_words.zip").write_bytes(other_words((*DIGITS, *UNHEARD)))
    commands, digits = (locate_others(words, print) for words in (WORDS, DIGITS))
    assert len(commands.validation) - len(digits.validation) == 3 * len(DIGITS)
    assert digits.fingerprints == commands.fingerprints


def test_recordings_that_are_not_what_they_should_be_are_named(place):
    (place / "other_words.zip").write_bytes(other_words(("one", "bed")))
    with pytest.raises(WindtunnelError, match=r"other_words\.zip has no recording of .*: get a complete one"):
        locate_others(WORDS, print)
