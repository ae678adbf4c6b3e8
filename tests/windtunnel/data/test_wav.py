import contextlib
import io
import struct
import wave
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from windtunnel.data.wav import convert_wav, read_clip, read_wav, wav_bytes
from windtunnel.errors import WindtunnelError


def recording(samples: int = 1600, rate: int = 16_000, channels: int = 1, width: int = 2) -> bytes:
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setparams((channels, width, rate, 0, "NONE", ""))
        file.writeframes(bytes(samples * channels * width))
    return stream.getvalue()


@pytest.mark.parametrize("samples", [[1], [-32768, 0, 32767], list(range(-8000, 8000))], ids=len)
def test_what_is_written_is_read(samples: list[int]) -> None:
    read = read_wav(wav_bytes(np.array(samples, np.int16)))
    assert read.dtype == np.int16
    assert read.tolist() == samples


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "the recording is empty: use a WAV file"),
        (
            b"\xff\xfb\x90 an MP3",
            r"is not a WAV file of integers: it begins with b'\xff\xfb\x90 an M' (file does not start with RIFF id). Convert it: ffmpeg",
        ),
        (b"RIFF" + bytes(100), "is not a WAV file of integers: it begins with b'RIFF"),
        (recording()[:30], "(the file is truncated)"),
        (recording().replace(b"fmt \x10\0\0\0\1", b"fmt \x10\0\0\0\3"), "(unknown format: 3)"),
        (recording(rate=8000), "the recording: found 8000 Hz, expected 16000. Convert it: ffmpeg"),
        (recording(channels=2), "the recording: found 2 channels, expected 1. Convert it"),
        (recording(width=1), "the recording: found 8 bits per sample, expected 16. Convert it"),
        (recording(samples=0), "found 0 s, expected more than 0 and at most 1 s"),
        (recording(samples=16_001), "found 1.00006 s, expected more than 0 and at most 1 s. Record one word, or cut it out"),
        (recording(samples=16_000 * 60), "the recording has a wrong length: found 60 s"),
    ],
    ids=["empty", "MP3", "zeros", "cut off", "floats", "8 kHz", "stereo", "8 bits", "no samples", "a sample too long", "a minute"],
)
def test_what_cannot_be_used_is_refused_with_a_sentence(content: bytes, sentence: str) -> None:
    with pytest.raises(WindtunnelError) as error:
        read_wav(content)
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


def test_a_length_that_was_unknown_when_the_header_was_written_does_not_matter() -> None:
    """As ffmpeg writes into a pipe; other chunks, such as its own name, come before the samples."""
    content = wav_bytes(np.arange(1600, dtype=np.int16))
    name = b"LIST\x1a\0\0\0INFOISFT\x0e\0\0\0Lavf60.16.100\0"
    piped = b"RIFF\xff\xff\xff\xffWAVE" + content[12:36] + name + b"data\xff\xff\xff\xff" + content[44:]
    assert read_wav(piped).tolist() == list(range(1600))


@pytest.mark.parametrize("riff", [0, 36, 0x7FFFFFFF, 0xFFFFFFFF])
@pytest.mark.parametrize("data", [0, 0x7FFFFFDB, 0xFFFFFFFF])
def test_sizes_that_a_recorder_could_not_go_back_to_do_not_matter(riff: int, data: int) -> None:
    samples = [0, 0, 0, 0, *range(-800, 800)]
    content = bytearray(wav_bytes(np.array(samples, np.int16)))
    struct.pack_into("<I", content, 4, riff)
    struct.pack_into("<I", content, 40, data)
    assert read_wav(bytes(content)).tolist() == samples


def test_a_title_behind_no_samples_is_not_sound() -> None:
    title = b"LIST\x0e\0\0\0INFOINAM\x02\0\0\0a\0"
    with pytest.raises(WindtunnelError, match="found 0 s, expected more than 0"):
        read_wav(recording(samples=0) + title)


PCM, FLOAT = ("0100000000001000800000aa00389b71", "0300000000001000800000aa00389b71")


def extensible(subformat: str, pcm: np.ndarray) -> bytes:
    """WAVE_FORMAT_EXTENSIBLE, as ffmpeg and audio workstations write it."""
    fmt = struct.pack("<HHIIHHHHI", 0xFFFE, 1, 16_000, 32_000, 2, 16, 22, 16, 4) + bytes.fromhex(subformat)
    body = b"WAVE" + b"fmt " + struct.pack("<I", len(fmt)) + fmt + b"data" + struct.pack("<I", 2 * len(pcm)) + pcm.astype("<i2").tobytes()
    return b"RIFF" + struct.pack("<I", len(body)) + body


def test_the_extensible_form_of_integers_is_read() -> None:
    pcm = np.arange(-800, 800, dtype=np.int16)
    assert read_wav(extensible(PCM, pcm)).tolist() == pcm.tolist()


def test_the_extensible_form_of_other_samples_is_refused() -> None:
    with pytest.raises(WindtunnelError, match=r"is not a WAV file of integers.*unknown"):
        read_wav(extensible(FLOAT, np.zeros(1600, np.int16)))


# Other kinds, converted

TONE = 0.5 * np.sin(2 * np.pi * 440 * np.arange(8000) / 16_000)
KINDS = {
    "8 bits": (1, 1, lambda x: (128 + 128 * x).round().astype(np.uint8), 0.005),
    "24 bits": (1, 3, lambda x: (x * 2**31).astype("<i4").view(np.uint8).reshape(-1, 4)[:, 1:], 1e-6),
    "32 bits": (1, 4, lambda x: (x * 2**31).astype("<i4"), 1e-6),
    "floats": (3, 4, lambda x: x.astype("<f4"), 1e-6),
    "doubles": (3, 8, lambda x: x.astype("<f8"), 1e-6),
}


def wave_file(
    tag: int, width: int, samples: np.ndarray, rate: int = 16_000, channels: int = 1, sizes: bool = True, form: str = ""
) -> bytes:
    """A WAV file of any kind; with `form`, in the extensible one; without `sizes`, they are 0."""
    fmt = struct.pack("<HHIIHH", 0xFFFE if form else tag, channels, rate, rate * channels * width, channels * width, 8 * width)
    fmt += struct.pack("<HHI", 22, 8 * width, 4) + bytes.fromhex(form) if form else b""
    data = samples.tobytes()
    body = b"WAVEfmt " + struct.pack("<I", len(fmt)) + fmt + b"data" + struct.pack("<I", len(data) if sizes else 0) + data
    return b"RIFF" + struct.pack("<I", len(body) if sizes else 0) + body


@pytest.mark.parametrize("known", [True, False], ids=["sizes", "no sizes"])
@pytest.mark.parametrize("is_extensible", [False, True], ids=["plain", "extensible"])
@pytest.mark.parametrize("kind", KINDS)
def test_samples_of_every_width_are_the_same_sound(kind: str, is_extensible: bool, known: bool) -> None:
    tag, width, encode, error = KINDS[kind]
    form = {1: PCM, 3: FLOAT}[tag] if is_extensible else ""
    samples, said = convert_wav(wave_file(tag, width, encode(TONE), sizes=known, form=form))
    assert (samples.dtype, said) == (np.float32, "")
    assert np.abs(samples - TONE).max() < error


def test_what_needs_no_conversion_is_left_as_it_is() -> None:
    pcm = (TONE * 32768).astype(np.int16)
    samples, said = convert_wav(wav_bytes(pcm))
    assert (samples.dtype, samples.tolist(), said) == (np.int16, pcm.tolist(), "")


@pytest.mark.parametrize("rate", [8000, 11_025, 44_100, 48_000, 96_000])
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_every_rate_and_number_of_channels_is_converted_and_said(rate: int, channels: int) -> None:
    time = np.arange(rate) / rate
    spoken = 0.5 * np.sin(2 * np.pi * 440 * time)
    others = [np.zeros(rate)] * (channels - 1)
    content = wave_file(1, 2, (np.stack([channels * 0.2 * spoken, *others], axis=1) * 32768).astype("<i2"), rate, channels)
    samples, said = convert_wav(content)
    assert said == f"the recording has {rate} Hz and {channels} channels: converting it to 16000 Hz and one channel"
    assert len(samples) == 16_000
    expected = 0.1 * np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)
    assert np.abs(samples - expected)[200:-200].max() < 0.002


def test_a_filter_makes_nothing_louder_than_it_was() -> None:
    square = np.sign(np.sin(2 * np.pi * 300 * np.arange(44_100) / 44_100))
    assert np.abs(convert_wav(wave_file(3, 4, square.astype("<f4"), 44_100))[0]).max() == 1


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "the recording is empty"),
        (b"\xff\xfb\x90 an MP3", "is not a WAV file of integers"),
        (wave_file(6, 1, np.zeros(800, np.uint8)), "(unknown format: 6). Convert it: ffmpeg"),
        (wave_file(3, 4, np.zeros(0, "<f4")), "the recording has a wrong length: found 0 s, expected more than 0 and at most 1 s"),
        (wave_file(3, 4, np.zeros(44_101, "<f4"), 44_100), "the recording has a wrong length: found 1.00002 s"),
        (wave_file(1, 2, np.zeros(800, "<i2"), 2**30), "Hz, expected 16000"),
    ],
    ids=["empty", "MP3", "A-law", "no samples", "too long", "no such rate"],
)
def test_what_cannot_be_converted_is_refused_with_a_sentence(content: bytes, sentence: str) -> None:
    with pytest.raises(WindtunnelError) as error:
        convert_wav(content)
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_is_a_clip_whatever_its_kind(tmp_path: Path) -> None:
    said: list[str] = []
    (tmp_path / "clip.wav").write_bytes(wave_file(1, 2, (TONE * 32768).astype("<i2")))
    plain = read_clip(tmp_path / "clip.wav", said.append)
    (tmp_path / "clip.wav").write_bytes(wave_file(3, 4, np.repeat(TONE, 2).astype("<f4"), channels=2))
    assert np.abs(read_clip(tmp_path / "clip.wav", said.append) - plain).max() < 1e-4
    assert plain.shape == (1, 16_000)
    assert said == [f"{tmp_path}/clip.wav: the recording has 16000 Hz and 2 channels: converting it to 16000 Hz and one channel"]
    with pytest.raises(WindtunnelError, match=r"none.wav cannot be read: No such file"):
        read_clip(tmp_path / "none.wav")


@given(st.data())
def test_any_bytes_are_samples_or_an_error(data: st.DataObject) -> None:
    content = bytearray(recording(samples=4))
    for place, value in data.draw(st.dictionaries(st.integers(0, 43), st.integers(0, 255), max_size=8)).items():
        content[place] = value
    content = content[: data.draw(st.integers(0, len(content)))] + data.draw(st.binary(max_size=20))
    for read in (read_wav, lambda content: convert_wav(content)[0]):
        with contextlib.suppress(WindtunnelError):
            assert 1 <= len(read(bytes(content))) <= 16_000


def test_a_rate_whose_filter_needs_hundreds_of_megabytes_is_refused():
    content = wav_bytes(np.ones(100, np.int16))
    odd = content[:24] + struct.pack("<II", 399_999, 2 * 399_999) + content[32:]
    with pytest.raises(WindtunnelError, match=r"found 399999 Hz, expected 16000\. Convert it: ffmpeg"):
        convert_wav(odd)
