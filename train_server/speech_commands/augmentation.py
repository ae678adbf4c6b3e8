"""Augment clips with random variations of speaking, room and microphone, drawn anew for each training step."""

import torch
import torch.nn.functional as F
from torch import Tensor

from windtunnel.data.clips import CLIP_SAMPLES, SAMPLE_RATE

SHIFT = 4000  # samples: 0.25 s
SPEED = 0.15  # maximum change of speed, and with it of pitch
NOISY, CLIPPED, TELEPHONED, TILTED = 0.7, 0.3, 0.4, 0.5  # fractions of the clips
TELEPHONE = ((100.0, 400.0), (3000.0, 4000.0))  # Hz: ranges of the lower and the upper limit of a telephone line's band
PIECE = (0.2, 0.45)  # fraction of a word that is too short to be the word
_WINDOW, _HOP = 1600, 400  # samples: windows to locate a word in its clip
_AUDIBLE = 0.05  # fraction of the power of the loudest window


def augment(clips: Tensor, generator: torch.Generator) -> Tensor:
    """Augment clips (N,16000): shift, change the speed, add noise, filter and clip. Returns (N,16000)."""
    return _clip(_filter(_add_noise(_stretch(clips, generator), generator), generator), generator)


def made_unknown(clips: Tensor, generator: torch.Generator) -> Tensor:
    """Make clips without a command (N,16000) from commands (N,16000).

    A quarter each: reversed words, the end of one clip before the start of another, the first or last part of a word, noise.
    """
    kind = torch.arange(len(clips)) % 4
    half = CLIP_SAMPLES // 2
    swapped = torch.cat([clips[:, half:], clips.roll(1, 0)[:, :half]], 1)
    made = torch.stack([clips.flip(1), swapped, pieces(clips, generator), _noise(len(clips), generator)])
    return made[kind, torch.arange(len(clips))]


def pieces(clips: Tensor, generator: torch.Generator) -> Tensor:
    """Keep only the beginning or the end of the word in each clip (N,16000); the rest becomes silence."""
    power = F.avg_pool1d(clips.square()[:, None], _WINDOW, _HOP, _WINDOW // 2)[:, 0]
    audible = power >= _AUDIBLE * power.amax(1, keepdim=True)
    windows = torch.arange(power.shape[1])
    start = torch.where(audible, windows, len(windows)).amin(1, keepdim=True) * _HOP
    end = torch.where(audible, windows, 0).amax(1, keepdim=True) * _HOP
    part = (end - start).clamp(min=_WINDOW) * _uniform(len(clips), *PIECE, generator)
    place = torch.arange(CLIP_SAMPLES)
    beginning = _uniform(len(clips), 0, 1, generator) < 0.5
    return clips * torch.where(beginning, place < start + part, place >= end - part)


def mask(features: Tensor, generator: torch.Generator) -> Tensor:
    """Set a stripe of each axis of features (N,M,T), up to a fifth wide, to their mean (SpecAugment, Park et al., arXiv 1904.08779)."""
    mean = features.mean((1, 2), keepdim=True)
    for axis in (1, 2):
        size = features.shape[axis]
        width = _uniform(len(features), 0, size / 5, generator)
        start = _uniform(len(features), 0, 1, generator) * (size - width)
        place = torch.arange(size)
        stripe = (place >= start) & (place < start + width.floor())
        features = torch.where(stripe.unsqueeze(3 - axis), mean, features)
    return features


def _uniform(count: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    return torch.empty(count, 1).uniform_(low, high, generator=generator)


def _stretch(clips: Tensor, generator: torch.Generator) -> Tensor:
    """Shift clips and change their speed, by linear interpolation; the space outside a clip is silence."""
    count = len(clips)
    middle = CLIP_SAMPLES / 2
    speed, shift = _uniform(count, 1 - SPEED, 1 + SPEED, generator), _uniform(count, -SHIFT, SHIFT, generator)
    place = (torch.arange(CLIP_SAMPLES) - middle) * speed + middle + shift
    inside = (place >= 0) & (place < CLIP_SAMPLES - 1)
    left = place.clamp(0, CLIP_SAMPLES - 2).long()
    part = place - left
    return (clips.gather(1, left) * (1 - part) + clips.gather(1, left + 1) * part) * inside


def _noise(count: int, generator: torch.Generator) -> Tensor:
    """Draw noise (N,16000) with mean square 1, its colour between white and slightly beyond brown."""
    spectrum = torch.fft.rfft(torch.randn(count, CLIP_SAMPLES, generator=generator))
    slope = _uniform(count, -0.2, 1.2, generator)
    noise = torch.fft.irfft(spectrum * torch.arange(spectrum.shape[1]).clamp(min=1) ** -slope, CLIP_SAMPLES)
    return noise / noise.square().mean(1, keepdim=True).sqrt()


def _add_noise(clips: Tensor, generator: torch.Generator) -> Tensor:
    """Add noise to most clips, 0 to 30 dB below their level."""
    count = len(clips)
    level = clips.square().mean(1, keepdim=True).sqrt() * 10 ** (-_uniform(count, 0, 30, generator) / 20)
    return clips + _noise(count, generator) * level * (_uniform(count, 0, 1, generator) < NOISY)


def _filter(clips: Tensor, generator: torch.Generator) -> Tensor:
    """Limit some clips to a telephone line's band, and tilt the spectrum of some as a microphone does."""
    count, hertz = len(clips), torch.fft.rfftfreq(CLIP_SAMPLES, 1 / SAMPLE_RATE)
    low, high = (_uniform(count, *limits, generator) for limits in TELEPHONE)
    line = torch.sigmoid((hertz - low) / 30) * torch.sigmoid((high - hertz) / 60)
    tilt = (hertz.clamp(min=50) / 1000) ** _uniform(count, -0.3, 0.3, generator)
    line = torch.where(_uniform(count, 0, 1, generator) < TELEPHONED, line, 1)
    tilt = torch.where(_uniform(count, 0, 1, generator) < TILTED, tilt, 1)
    return torch.fft.irfft(torch.fft.rfft(clips) * line * tilt, CLIP_SAMPLES)


def _clip(clips: Tensor, generator: torch.Generator) -> Tensor:
    """Clip some clips at a fraction of their peak, as an overdriven microphone does."""
    count = len(clips)
    limit = clips.abs().amax(1, keepdim=True) * _uniform(count, 0.1, 1, generator)
    cut = _uniform(count, 0, 1, generator) < CLIPPED
    return torch.where(cut, torch.minimum(torch.maximum(clips, -limit), limit), clips)
