import asyncio
import threading
from pathlib import Path

import numpy as np
import pytest

from serving.speech_server.batching import Batcher, BusyError
from serving.speech_server.metrics import Metrics
from serving.speech_server.model import BATCH, Recognizer
from tests.serving.speech_server.running_speech import in_loop
from tests.serving.speech_server.speech_models import tone, write_version


class Slow(Recognizer):
    """A version that answers when it is let, and remembers how many clips it was asked for at a time."""

    def __init__(self, directory: Path, number: int) -> None:
        self.batches: list[int] = []
        self.let = threading.Event()
        self.let.set()
        super().__init__(directory, number)
        self.batches.clear()

    def __call__(self, clips: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self.let.wait()
        self.batches.append(len(clips))
        return super().__call__(clips)


@pytest.fixture
def slow(version: Path) -> Slow:
    return Slow(version, 1)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def batcher(metrics: Metrics):
    made = Batcher(1, 40, metrics)
    yield made
    made.close()


async def begun(*heard: "asyncio.Future") -> None:
    """Wait until what was asked for is in the queue, or on the thread."""
    await asyncio.sleep(0.05)


@in_loop
async def test_what_queued_is_computed_together(batcher: Batcher, slow: Slow) -> None:
    slow.let.clear()
    first = asyncio.ensure_future(batcher.hear(slow, tone(0)))
    await begun()
    rest = [asyncio.ensure_future(batcher.hear(slow, tone(number % 8))) for number in range(20)]
    await begun()
    slow.let.set()
    assert (await first).logits.argmax() == 0
    assert [heard.logits.argmax() for heard in await asyncio.gather(*rest)] == [number % 8 for number in range(20)]
    assert slow.batches == [1, BATCH, 20 - BATCH]


@in_loop
async def test_a_clip_alone_waits_for_nobody(batcher: Batcher, slow: Slow) -> None:
    for number in range(8):
        assert (await batcher.hear(slow, tone(number))).logits.argmax() == number
    assert slow.batches == [1] * 8


@in_loop
async def test_versions_are_computed_apart(batcher: Batcher, slow: Slow, tmp_path: Path) -> None:
    other = Recognizer(write_version(tmp_path / "other", 1), 2)
    slow.let.clear()
    asked = [asyncio.ensure_future(batcher.hear(each, tone(3))) for each in (slow, slow, other, other, slow)]
    await begun()
    slow.let.set()
    assert [(heard.recognizer.number, int(heard.logits.argmax())) for heard in await asyncio.gather(*asked)] == [
        (1, 3),
        (1, 3),
        (2, 4),
        (2, 4),
        (1, 3),
    ]


@in_loop
async def test_the_queue_is_bounded(batcher: Batcher, slow: Slow) -> None:
    slow.let.clear()
    asked = [asyncio.ensure_future(batcher.hear(slow, tone(0))) for _ in range(BATCH)]
    await begun()
    asked += [asyncio.ensure_future(batcher.hear(slow, tone(0))) for _ in range(40)]
    await begun()
    with pytest.raises(BusyError, match="too many clips are waiting: 40"):
        await batcher.hear(slow, tone(0))
    slow.let.set()
    assert len(await asyncio.gather(*asked)) == BATCH + 40


@in_loop
async def test_nobody_computes_for_who_has_gone(batcher: Batcher, slow: Slow, metrics: Metrics) -> None:
    slow.let.clear()
    first = asyncio.ensure_future(batcher.hear(slow, tone(0)))
    await begun()
    late = asyncio.ensure_future(batcher.hear(slow, tone(1), asyncio.get_running_loop().time() + 0.01))
    gone = asyncio.ensure_future(batcher.hear(slow, tone(2)))
    patient = asyncio.ensure_future(batcher.hear(slow, tone(3), asyncio.get_running_loop().time() + 60))
    await begun()
    gone.cancel()
    slow.let.set()
    assert (await patient).logits.argmax() == 3
    with pytest.raises(TimeoutError):
        await late
    await first
    assert slow.batches == [1, 1]
    assert metrics.registry.get_sample_value("speech_expired_clips_total") == 2


@in_loop
async def test_a_version_that_fails_fails_its_own_clips(batcher: Batcher, slow: Slow) -> None:
    with pytest.raises(ValueError, match="cannot reshape"):
        await batcher.hear(slow, np.zeros(3, np.float32))
    assert (await batcher.hear(slow, tone(5))).logits.argmax() == 5
