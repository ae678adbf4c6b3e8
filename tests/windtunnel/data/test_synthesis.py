from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from windtunnel.data.clips import FULL_SCALE, WORDS
from windtunnel.data.download import DownloadError
from windtunnel.data.recordings import RECORDINGS, Recordings
from windtunnel.data.synthesis import LEVELS, VOICES, render
from windtunnel.errors import WindtunnelError


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The demonstration set, rendered twice: by one of two that begin at once, and then, in another second, once more."""
    files = [tmp_path_factory.mktemp("render") / "data" / "demonstration.zip" for _ in range(2)]
    with ThreadPoolExecutor() as pool:
        list(pool.map(render, [files[0], files[0]], [WORDS, WORDS]))
    render(files[1], WORDS)
    return files


@pytest.fixture(scope="module")
def demonstration(rendered: list[Path]) -> Recordings:
    return RECORDINGS["demonstration"].read("demonstration", rendered[0].parent)


def test_it_is_the_same_bytes_each_time(rendered: list[Path]) -> None:
    first, second = (file.read_bytes() for file in rendered)
    assert first == second
    assert {file.name for file in rendered[0].parent.iterdir()} - {".lock"} == {"demonstration.zip"}


def test_every_voice_says_every_word(demonstration: Recordings) -> None:
    assert len(demonstration.labels) == len(VOICES) * len(WORDS)
    speakers, counts = np.unique(demonstration.speakers, return_counts=True)
    assert len(speakers) == len(VOICES)
    assert set(counts) == {len(WORDS)}
    share = {part: count / len(demonstration.labels) for part, count in demonstration.counts().items()}
    assert share == pytest.approx({"train": 0.7, "validation": 0.1, "test": 0.2}, abs=0.03)


def test_every_word_is_heard_whole(demonstration: Recordings) -> None:
    loudest = np.abs(demonstration.clips.astype(int)).max(axis=1) / FULL_SCALE
    assert LEVELS[0] - 0.01 < loudest.min() < loudest.max() < LEVELS[1]
    for clip in demonstration.clips:
        heard = np.flatnonzero(clip)
        assert 0.2 < (heard[-1] - heard[0]) / 16_000 < 0.9
        assert 0 < heard[0] < heard[-1] < 15_999


def test_no_voice_is_another_one(demonstration: Recordings) -> None:
    """Of two clips of a word none is the other one, moved or at another level."""
    for label in range(len(WORDS)):
        spectra = np.abs(np.fft.rfft(demonstration.clips[demonstration.labels == label]))[:, :8000]
        bands = spectra.reshape(len(spectra), 80, 100).mean(axis=2)
        alike = np.corrcoef(bands) - np.eye(len(bands))
        assert alike.max() < 0.9999


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").touch()
    with pytest.raises(DownloadError, match=r"data.* cannot be written"):
        render(tmp_path / "data" / "demonstration.zip", WORDS)


def test_a_missing_synthesiser_is_named_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "espeakng_loader.py").write_text("raise ModuleNotFoundError('No module named espeakng_loader')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(WindtunnelError, match=r"espeak-ng does not work \(ModuleNotFoundError: .*: pip install --force-reinstall espeakng"):
        render(tmp_path / "demonstration.zip", WORDS)
    assert not (tmp_path / "demonstration.zip").exists()
