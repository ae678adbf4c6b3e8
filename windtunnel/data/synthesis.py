"""Synthesise recordings with espeak-ng: demonstration sets, for use without real recordings, and words that are not commands.

A model trained only with these understands people much worse than one trained with recordings of people: it is only for demonstrations.
The library keeps state between words (oscillators, echoes, libc's random numbers for breath). To get the same bytes each time, a process
of its own, `python -m windtunnel.data.synthesis NAME EACH WORD… > FILE`, speaks all words in a fixed order.
"""

import ctypes
import hashlib
import subprocess
import sys
import wave
from collections.abc import Sequence
from io import BytesIO
from itertools import product
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import numpy as np

from windtunnel.data.clips import CLIP_SAMPLES, FULL_SCALE, SAMPLE_RATE
from windtunnel.data.download import DownloadError
from windtunnel.errors import WindtunnelError
from windtunnel.files import write_atomically
from windtunnel.locks import held

ACCENTS = ("en", "en-029", "en-GB-scotland", "en-GB-x-gbclan", "en-GB-x-gbcwmd", "en-GB-x-rp", "en-US", "en-US-nyc")
VARIANTS = ("f1", "f2", "f3", "f4", "f5", "m1", "m2", "m3", "m4", "m5", "m6", "m7")
VOICES = [f"gmw/{accent}+{variant}" for accent, variant in product(ACCENTS, VARIANTS)]
RATES = (120, 180)  # words per minute
PITCHES = (30, 70)  # of 0 to 100
LEVELS = (0.1, 0.9)  # the loudest sample, of full scale
SEED = 4  # with this seed, the parts have about the shares of voices that `windtunnel.data.recordings.part_of` aims at
SECONDS = 600  # timeout; an idle machine needs about 3

# speak_lib.h of espeak-ng
_SYNCHRONOUS, _DONT_EXIT = 2, 0x8000
_RATE, _PITCH = 1, 3
_BY_CHARACTER, _UTF8 = 1, 1
_ON_SAMPLES = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


def render(file: Path, words: Sequence[str], each: int | None = None) -> None:
    """Create the zip `file`, unless it exists, with the words spoken by all voices, as `NAME/WORD/SPEAKER_nohash_0.wav`.

    NAME is the name of the file. With `each`, a voice speaks so many of the words, drawn at random. Only one process does so at a time.

    Raises:
        DownloadError: the file cannot be written.
        WindtunnelError: the synthesiser is not installed, or does not work.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with held(file.parent / ".lock", f"the folder {file.parent}", 2 * SECONDS):
            if not file.exists():
                write_atomically(file, _rendered(file.stem, words, len(words) if each is None else each))
    except OSError as error:
        raise DownloadError(f"{error.filename or file} cannot be written: {error.strerror}") from error


def _rendered(name: str, words: Sequence[str], each: int) -> bytes:
    command = [sys.executable, "-m", "windtunnel.data.synthesis", name, str(each), *words]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise WindtunnelError(f"espeak-ng did not finish within {SECONDS} s: run the command again") from error
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip().rpartition("\n")[2] or f"exit status {done.returncode}"
        raise WindtunnelError(f"espeak-ng does not work ({said}). Reinstall it: pip install --force-reinstall espeakng-loader")
    return done.stdout


def _speak_all(name: str, each: int, words: Sequence[str]) -> bytes:
    """Return the zip: `each` of the words by each speaker, which is an accent, a variant of the voice, a rate and a pitch."""
    speak = Synthesiser()
    random = np.random.default_rng(SEED)
    rates, pitches = (random.integers(*limits, size=len(VOICES)).tolist() for limits in (RATES, PITCHES))
    content = BytesIO()
    with ZipFile(content, "w") as archive:
        for voice, rate, pitch in zip(VOICES, rates, pitches, strict=True):
            speaker = hashlib.sha256(f"{voice} {rate} {pitch}".encode()).hexdigest()[:8]
            for word in words if each == len(words) else random.choice(words, each, replace=False).tolist():
                clip = _placed(speak(word, voice, rate, pitch), random)
                entry = ZipInfo(f"{name}/{word}/{speaker}_nohash_0.wav")  # its date is always in 1980
                entry.compress_type = ZIP_DEFLATED
                archive.writestr(entry, _wav(clip))
    return content.getvalue()


class Synthesiser:
    """espeak-ng. A process can only have one instance, because the library has one callback and no handle."""

    def __init__(self) -> None:
        import espeakng_loader

        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        self._samples: list[np.ndarray] = []
        self._on_samples = _ON_SAMPLES(self._keep)  # keep a reference, because the library does not
        self._rate = self._library.espeak_Initialize(_SYNCHRONOUS, 0, espeakng_loader.get_data_path().encode(), _DONT_EXIT)
        if self._rate <= 0:
            raise WindtunnelError(f"espeak_Initialize answered {self._rate}")
        self._check("espeak_ng_SetRandSeed", ctypes.c_long(SEED))  # the default seed is the time
        self._library.espeak_SetSynthCallback(self._on_samples)

    def __call__(self, word: str, voice: str, rate: int, pitch: int) -> np.ndarray:
        """Speak `word` with `voice`. Return float64 (N) at SAMPLE_RATE, without silence around it, scaled to a maximum of 1."""
        from scipy.signal import resample_poly

        text = word.encode() + b"\0"
        self._samples.clear()
        self._check("espeak_SetVoiceByName", voice.encode())
        self._check("espeak_SetParameter", _RATE, rate, 0)
        self._check("espeak_SetParameter", _PITCH, pitch, 0)
        self._check("espeak_Synth", text, ctypes.c_size_t(len(text)), 0, _BY_CHARACTER, 0, _UTF8, None, None)
        self._check("espeak_Synchronize")
        spoken = resample_poly(np.concatenate(self._samples).astype(float), SAMPLE_RATE, self._rate)
        spoken /= np.abs(spoken).max()
        heard = np.flatnonzero(np.abs(spoken) > 0.01)
        return spoken[heard[0] : heard[-1] + 1]

    def _check(self, function: str, *arguments: object) -> None:
        status = getattr(self._library, function)(*arguments)
        if status != 0:
            raise WindtunnelError(f"{function}{arguments} answered {status}")

    def _keep(self, samples: "ctypes._Pointer[ctypes.c_short]", count: int, _events: object) -> int:
        if count > 0:
            self._samples.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0


def _placed(spoken: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return a second, int16 (CLIP_SAMPLES), with the word near the middle at a random level. A longer word is cut off."""
    clip, spoken = np.zeros(CLIP_SAMPLES), spoken[:CLIP_SAMPLES]
    free = CLIP_SAMPLES - len(spoken)
    start = random.integers(free // 4, free * 3 // 4 + 1)
    clip[start : start + len(spoken)] = spoken * random.uniform(*LEVELS) * (FULL_SCALE - 1)
    return np.rint(clip).astype("<i2")


def _wav(clip: np.ndarray) -> bytes:
    content = BytesIO()
    with wave.open(content, "wb") as wav:
        wav.setparams((1, 2, SAMPLE_RATE, len(clip), "NONE", ""))
        wav.writeframes(clip.tobytes())
    return content.getvalue()


if __name__ == "__main__":
    sys.stdout.buffer.write(_speak_all(sys.argv[1], int(sys.argv[2]), sys.argv[3:]))
