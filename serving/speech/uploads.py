"""Inference audio, where it is configured to be kept: WAVs written in the background, within a quota, for some days."""

import logging
import queue
import re
import threading
import time
import uuid
from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np

from serving.speech.metrics import Metrics
from windtunnel.clips import as_pcm
from windtunnel.errors import WindtunnelError
from windtunnel.problems import Problem
from windtunnel.wav import wav_bytes

_log = logging.getLogger(__name__)

WAITING = 64
SWEEP_SECONDS = 3600.0

_NAME = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}-(.+)\.wav")


class Uploads:
    """A folder of `UUID-WORD.wav`. Nobody waits for it: what comes faster than the disk takes it, or beyond the quota, is not kept.

    Files with other names are somebody else's: they are neither counted nor removed.
    """

    def __init__(
        self, folder: Path, disk_bytes: int, keep_days: int | None, metrics: Metrics, words: Callable[[], Collection[str]]
    ) -> None:
        """Make the folder and start the thread that writes.

        Args:
            folder: where the files are.
            disk_bytes: how much they may take.
            keep_days: older ones are removed; None: none is.
            metrics: told what is not kept.
            words: gives those that the server knows: files that name another are not its own.

        Raises:
            WindtunnelError: the folder cannot be made.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise WindtunnelError(f"InferUploadPath {folder} cannot be made ({error.strerror}): name a folder that can") from error
        self._folder, self._disk_bytes, self._keep_days, self._metrics = folder, disk_bytes, keep_days, metrics
        self._words = words
        self._unkept = Problem(_log.error)
        self._queue: queue.Queue[tuple[np.ndarray, str] | None] = queue.Queue(WAITING)
        self._thread = threading.Thread(target=self._write, name="uploads", daemon=True)
        self._thread.start()

    def keep(self, clip: np.ndarray, word: str) -> None:
        """Keep a clip in -1..1 and the word that was heard, later."""
        try:
            self._queue.put_nowait((clip, word))
        except queue.Full:
            self._metrics.unkept.inc()

    def close(self) -> None:
        """Write what waits, and end."""
        self._queue.put(None)
        self._thread.join()

    def _write(self) -> None:
        used, swept = self._sweep(), time.monotonic()
        while (item := self._queue.get()) is not None:
            if time.monotonic() - swept > SWEEP_SECONDS:
                used, swept = self._sweep(), time.monotonic()
            clip, word = item
            content = wav_bytes(as_pcm(clip))
            if used + len(content) > self._disk_bytes:
                self._lose(f"it takes {used} bytes, as much as may be: raise UploadMegabytes, or remove some of it")
                continue
            try:
                (self._folder / f"{uuid.uuid4()}-{word}.wav").write_bytes(content)
            except OSError as error:
                self._lose(f"{error.strerror}: make room on its disk, or let it be written")
                continue
            self._unkept.is_over()
            used += len(content)

    def _lose(self, why: str) -> None:
        self._metrics.unkept.inc()
        self._unkept.is_there(f"inference audio is not kept in {self._folder}: {why}")

    def _sweep(self) -> int:
        """Remove what is too old, if anything ever is; returns the bytes of what stays."""
        used, words = 0, set(self._words())
        for file in self._folder.glob("*.wav"):
            named = _NAME.fullmatch(file.name)
            if named is None or named[1] not in words:
                continue
            try:
                status = file.stat()
                if self._keep_days is not None and status.st_mtime < time.time() - self._keep_days * 86_400:
                    file.unlink()
                    _log.info("%s is removed: it is older than %d days (KeepDays)", file, self._keep_days)
                else:
                    used += status.st_size
            except FileNotFoundError:  # somebody else removed it
                continue
        return used
