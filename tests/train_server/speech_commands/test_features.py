import warnings

import numpy as np
import onnxruntime
import pytest
import torch

from train_server.speech_commands.features import HOP, POINTS, SPARSE, LogMel, mel_filters
from windtunnel.data.clips import SAMPLE_RATE

VOICE = torch.randn(2, 16_000, generator=torch.Generator().manual_seed(0)) * torch.tensor([[0.1], [0.001]])


def test_they_are_the_logarithm_of_mel_energies():
    audio = VOICE.numpy().astype(np.float64)
    audio = audio - audio.mean(1, keepdims=True)
    audio = audio / np.sqrt((audio**2).mean(1, keepdims=True))
    window = np.sin(np.pi * (np.arange(POINTS) + 0.5) / POINTS) ** 2
    frames = np.lib.stride_tricks.sliding_window_view(audio, POINTS, axis=1)[:, ::HOP] * window
    wanted = np.log(np.abs(np.fft.rfft(frames, POINTS)) ** 2 @ mel_filters().T + 0.01) / 4
    found = LogMel()(VOICE).numpy()
    assert found.shape == (2, 40, 79)
    assert np.abs(found - wanted.swapaxes(1, 2)).max() < 1e-3


@pytest.mark.parametrize("gain", [0.001, 0.1, 3, 32_768])
def test_they_do_not_hear_how_loud_it_is(gain):
    assert (LogMel()(gain * VOICE) - LogMel()(VOICE)).abs().max() < 2e-2


def test_silence_has_features():
    assert LogMel()(torch.zeros(1, 16_000)).isfinite().all()


def test_onnx_runtime_makes_them_as_exactly(tmp_path):
    """An error that all features of a clip share is its level's, and the network makes the tenfold of it."""
    clips = VOICE * torch.exp(-(((torch.arange(16_000) - 6000) / 2000) ** 2))  # a word in silence
    exact = LogMel().double()(clips.double()).numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(LogMel(), (clips,), tmp_path / "features.onnx", input_names=["audio"], opset_version=17, dynamo=False)
    session = onnxruntime.InferenceSession(tmp_path / "features.onnx", providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"audio": clips.numpy()})
    assert np.abs((found - exact).mean((1, 2))).max() < 3e-7


def test_filters_share_out_what_is_between_the_first_and_the_last():
    filters = mel_filters()
    assert filters.max(axis=1).min() > 0.5  # each hears something
    first, last = filters[0].argmax(), filters[-1].argmax()
    shares = filters.sum(axis=0)[first + 1 : last]
    computed = shares[shares > 0]
    assert len(computed) < len(shares) / 1.5  # of high ones, not all are computed: those that are stand for the others
    assert set(computed.round(9)) == {1, 2, 4}
    high = np.arange(first + 1, last) * SAMPLE_RATE / POINTS >= SPARSE
    assert shares[high].mean() == pytest.approx(1, abs=0.05)
