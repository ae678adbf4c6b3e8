"""What happens to clips on their way from mouth to microphone, drawn anew each time a clip is trained on."""

import torch
import torch.nn.functional as F
from torch import Tensor

from windtunnel.clips import CLIP_SAMPLES, SAMPLE_RATE

SHIFT = 4000  # samples: 0.25 s
SPEED = 0.15  # faster or slower, and higher or lower, by up to this part
NOISY, CLIPPED, TELEPHONED, TILTED = 0.7, 0.3, 0.4, 0.5  # of the clips
TELEPHONE = ((100.0, 400.0), (3000.0, 4000.0))  # Hz: between which the lowest and the highest lie that a bad line lets through
PIECE = (0.2, 0.45)  # of a word: how much of it is no word yet
_WINDOW, _HOP = 1600, 400  # samples: what a word's place in its clip is told by
_AUDIBLE = 0.05  # of the power of its loudest window


def augment(clips: Tensor, generator: torch.Generator) -> Tensor:
    """Clips (N,16000) → the same words earlier or later, faster or slower, in noise, over a bad line, and clipped: (N,16000)."""
    return _clip(_filter(_add_noise(_stretch(clips, generator), generator), generator), generator)


def made_unknown(clips: Tensor, generator: torch.Generator) -> Tensor:
    """Clips (N,16000) → what is no command, made of them (N,16000): words backwards, the end of one before the start of another, the first
    or the last part of a word, noise; a quarter each."""
    kind = torch.arange(len(clips)) % 4
    half = CLIP_SAMPLES // 2
    swapped = torch.cat([clips[:, half:], clips.roll(1, 0)[:, :half]], 1)
    made = torch.stack([clips.flip(1), swapped, pieces(clips, generator), _noise(len(clips), generator)])
    return made[kind, torch.arange(len(clips))]


def pieces(clips: Tensor, generator: torch.Generator) -> Tensor:
    """Clips (N,16000) with the beginning or the end of their words alone, and silence (N,16000)."""
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
    """Features (N,M,T) with a stripe of each axis, up to a fifth wide, at their mean (SpecAugment, Park et al., arXiv 1904.08779)."""
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
    """Shift and speed, by linear interpolation; what comes in from outside is silence."""
    count = len(clips)
    middle = CLIP_SAMPLES / 2
    speed, shift = _uniform(count, 1 - SPEED, 1 + SPEED, generator), _uniform(count, -SHIFT, SHIFT, generator)
    place = (torch.arange(CLIP_SAMPLES) - middle) * speed + middle + shift
    inside = (place >= 0) & (place < CLIP_SAMPLES - 1)
    left = place.clamp(0, CLIP_SAMPLES - 2).long()
    part = place - left
    return (clips.gather(1, left) * (1 - part) + clips.gather(1, left + 1) * part) * inside


def _noise(count: int, generator: torch.Generator) -> Tensor:
    """Noise (N,16000) of mean square 1, from white to beyond brown."""
    spectrum = torch.fft.rfft(torch.randn(count, CLIP_SAMPLES, generator=generator))
    slope = _uniform(count, -0.2, 1.2, generator)
    noise = torch.fft.irfft(spectrum * torch.arange(spectrum.shape[1]).clamp(min=1) ** -slope, CLIP_SAMPLES)
    return noise / noise.square().mean(1, keepdim=True).sqrt()


def _add_noise(clips: Tensor, generator: torch.Generator) -> Tensor:
    """Most clips get noise, 0 to 30 dB below them."""
    count = len(clips)
    level = clips.square().mean(1, keepdim=True).sqrt() * 10 ** (-_uniform(count, 0, 30, generator) / 20)
    return clips + _noise(count, generator) * level * (_uniform(count, 0, 1, generator) < NOISY)


def _filter(clips: Tensor, generator: torch.Generator) -> Tensor:
    """Some clips come over a line as a telephone's, and some through a microphone that likes low or high tones better."""
    count, hertz = len(clips), torch.fft.rfftfreq(CLIP_SAMPLES, 1 / SAMPLE_RATE)
    low, high = (_uniform(count, *limits, generator) for limits in TELEPHONE)
    line = torch.sigmoid((hertz - low) / 30) * torch.sigmoid((high - hertz) / 60)
    tilt = (hertz.clamp(min=50) / 1000) ** _uniform(count, -0.3, 0.3, generator)
    line = torch.where(_uniform(count, 0, 1, generator) < TELEPHONED, line, 1)
    tilt = torch.where(_uniform(count, 0, 1, generator) < TILTED, tilt, 1)
    return torch.fft.irfft(torch.fft.rfft(clips) * line * tilt, CLIP_SAMPLES)


def _clip(clips: Tensor, generator: torch.Generator) -> Tensor:
    """Some clips are cut off at a part of their peak, as by a microphone that is shouted into."""
    count = len(clips)
    limit = clips.abs().amax(1, keepdim=True) * _uniform(count, 0.1, 1, generator)
    cut = _uniform(count, 0, 1, generator) < CLIPPED
    return torch.where(cut, torch.minimum(torch.maximum(clips, -limit), limit), clips)
