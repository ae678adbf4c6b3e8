"""Words as espeak-ng's synthetic voices say them: demonstration sets, for where no recordings can be had, and words that are no commands.

A model that has learned its words from them alone understands people far less well than one that has heard people: it shows how things go,
no more. The library keeps state from one word to the next (oscillators, echoes, libc's random numbers for breath), so a set is spoken in
one order by a process of its own, `python -m windtunnel.synthesis NAME EACH WORD… > FILE`: the same bytes each time.
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

from windtunnel.clips import CLIP_SAMPLES, FULL_SCALE, SAMPLE_RATE
from windtunnel.download import DownloadError
from windtunnel.errors import WindtunnelError
from windtunnel.files import write_atomically
from windtunnel.locks import held

ACCENTS = ("en", "en-029", "en-GB-scotland", "en-GB-x-gbclan", "en-GB-x-gbcwmd", "en-GB-x-rp", "en-US", "en-US-nyc")
VARIANTS = ("f1", "f2", "f3", "f4", "f5", "m1", "m2", "m3", "m4", "m5", "m6", "m7")
VOICES = [f"gmw/{accent}+{variant}" for accent, variant in product(ACCENTS, VARIANTS)]
RATES = (120, 180)  # words a minute
PITCHES = (30, 70)  # of 0 to 100
LEVELS = (0.1, 0.9)  # the loudest sample, of full scale
SEED = 4  # with it, the parts have about as many voices as `windtunnel.recordings.part_of` is to give them
SECONDS = 600  # after which something is wrong: it takes about 3 on a quiet machine

# speak_lib.h of espeak-ng
_SYNCHRONOUS, _DONT_EXIT = 2, 0x8000
_RATE, _PITCH = 1, 3
_BY_CHARACTER, _UTF8 = 1, 1
_ON_SAMPLES = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


def render(file: Path, words: Sequence[str], each: int | None = None) -> None:
    """Write the words, as all voices say them, to `file`, a zip of recordings `NAME/WORD/SPEAKER_nohash_0.wav`, where there is none.

    NAME is that of the file. With `each`, a voice says so many of the words, drawn for it. Processes take turns.

    Raises:
        DownloadError: it cannot be written.
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
    command = [sys.executable, "-m", "windtunnel.synthesis", name, str(each), *words]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise WindtunnelError(f"espeak-ng has not ended within {SECONDS} s: run it again") from error
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip().rpartition("\n")[2] or f"exit status {done.returncode}"
        raise WindtunnelError(f"espeak-ng cannot speak ({said}): pip install --force-reinstall espeakng-loader")
    return done.stdout


def _speak_all(name: str, each: int, words: Sequence[str]) -> bytes:
    """The zip: so many of the words by each speaker, which is an accent, a variant of the voice, a rate and a pitch."""
    speak = Synthesiser()
    random = np.random.default_rng(SEED)
    rates, pitches = (random.integers(*limits, size=len(VOICES)).tolist() for limits in (RATES, PITCHES))
    content = BytesIO()
    with ZipFile(content, "w") as archive:
        for voice, rate, pitch in zip(VOICES, rates, pitches, strict=True):
            speaker = hashlib.sha256(f"{voice} {rate} {pitch}".encode()).hexdigest()[:8]
            for word in words if each == len(words) else random.choice(words, each, replace=False).tolist():
                clip = _placed(speak(word, voice, rate, pitch), random)
                entry = ZipInfo(f"{name}/{word}/{speaker}_nohash_0.wav")  # of 1980, whenever it is written
                entry.compress_type = ZIP_DEFLATED
                archive.writestr(entry, _wav(clip))
    return content.getvalue()


class Synthesiser:
    """espeak-ng. A process can have one only: it has one callback and no handle."""

    def __init__(self) -> None:
        import espeakng_loader

        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        self._samples: list[np.ndarray] = []
        self._on_samples = _ON_SAMPLES(self._keep)  # kept, since the library does not keep it
        self._rate = self._library.espeak_Initialize(_SYNCHRONOUS, 0, espeakng_loader.get_data_path().encode(), _DONT_EXIT)
        if self._rate <= 0:
            raise WindtunnelError(f"espeak_Initialize answered {self._rate}")
        self._check("espeak_ng_SetRandSeed", ctypes.c_long(SEED))  # else it is the time
        self._library.espeak_SetSynthCallback(self._on_samples)

    def __call__(self, word: str, voice: str, rate: int, pitch: int) -> np.ndarray:
        """What `voice` makes of `word`, without the silence around it: float64 (N) of SAMPLE_RATE, with 1 as the loudest sample."""
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
    """A second, int16 (CLIP_SAMPLES), with the word near its middle, at a level of its own; of a longer word its start."""
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
