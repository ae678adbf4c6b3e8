"""Inference audio, if it is configured to be kept: WAVs written in the background, within a quota, for some days."""

import logging
import queue
import re
import threading
import time
import uuid
from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np

from serving.speech_server.metrics import Metrics
from windtunnel.data.clips import as_pcm
from windtunnel.data.wav import wav_bytes
from windtunnel.errors import WindtunnelError
from windtunnel.problems import Problem

_log = logging.getLogger(__name__)

WAITING = 64
SWEEP_SECONDS = 3600.0

_NAME = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}-(.+)\.wav")


class Uploads:
    """A folder of `UUID-WORD.wav`. Requests do not wait for it: clips that exceed the disk's speed or the quota are not kept.

    Files with other names belong to others and are neither counted nor removed.
    """

    def __init__(
        self, folder: Path, disk_bytes: int, keep_days: int | None, metrics: Metrics, words: Callable[[], Collection[str]]
    ) -> None:
        """Create the folder and start the thread that writes.

        Args:
            folder: the folder of the files.
            disk_bytes: the quota.
            keep_days: the age in days at which files are removed; None: never.
            metrics: receives the number of clips that are not kept.
            words: returns the server's words; files that name another word belong to others.

        Raises:
            WindtunnelError: the folder cannot be created.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise WindtunnelError(f"InferUploadPath {folder} cannot be created ({error.strerror}). Set another folder") from error
        self._folder, self._disk_bytes, self._keep_days, self._metrics = folder, disk_bytes, keep_days, metrics
        self._words = words
        self._unkept = Problem(_log.error)
        self._queue: queue.Queue[tuple[np.ndarray, str] | None] = queue.Queue(WAITING)
        self._thread = threading.Thread(target=self._write, name="uploads", daemon=True)
        self._thread.start()

    def keep(self, clip: np.ndarray, word: str) -> None:
        """Schedule a clip in -1..1 and the recognised word to be written."""
        try:
            self._queue.put_nowait((clip, word))
        except queue.Full:
            self._metrics.unkept.inc()

    def close(self) -> None:
        """Write what is queued, and end."""
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
                self._lose(f"the quota of {self._disk_bytes} bytes is used up: found {used}. Raise UploadMegabytes, or remove files")
                continue
            try:
                (self._folder / f"{uuid.uuid4()}-{word}.wav").write_bytes(content)
            except OSError as error:
                self._lose(f"{error.strerror}. Free disk space, or make the folder writable")
                continue
            self._unkept.is_over()
            used += len(content)

    def _lose(self, why: str) -> None:
        self._metrics.unkept.inc()
        self._unkept.is_there(f"inference audio is not kept in {self._folder}: {why}")

    def _sweep(self) -> int:
        """Remove files that are too old, if any ever are; returns the bytes of the remaining ones."""
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
            except FileNotFoundError:  # removed by somebody else
                continue
        return used
