"""Loaded versions, shared: two models that serve the same directory load it once."""

import asyncio
import logging
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from serving.tfserving_embedded.config_files import read_batching_parameters
from serving.tfserving_embedded.runtime import lite
from serving.tfserving_embedded.runtime.model import Model, ModelOptions, SavedModel
from serving.tfserving_embedded.runtime.warmup import warm_up

logger = logging.getLogger(__name__)

BATCHING = "batching_params.pbtxt"
LOADING_NICENESS = 10


@dataclass
class Shared:
    """A loaded version, and its number of holders."""

    model: Model
    directory: Path
    holders: int = 0


class Library:
    """Loads versions on low-priority threads, and frees them when they have no holder."""

    def __init__(self, options: ModelOptions, threads: int) -> None:
        """Initialise; threads start with the first version.

        Args:
            options: how versions are loaded.
            threads: how many versions load at the same time.
        """
        self._options = options
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="load", initializer=_give_way)
        self._loading: dict[Path, asyncio.Future[Model]] = {}
        self._loaded: dict[Path, Shared] = {}

    def share(self, directory: Path) -> Shared | None:
        """Return a version, with one more holder, if it is loaded already; otherwise None."""
        shared = self._loaded.get(directory.resolve())
        if shared is not None:
            shared.holders += 1
        return shared

    async def hold(self, directory: Path) -> Shared:
        """Load a version, or share it; `release` gives it back.

        Raises:
            ServingError: it cannot be loaded, or does not answer its warm-up records.
        """
        if (shared := self.share(directory)) is not None:
            return shared
        path = directory.resolve()
        if path not in self._loading:
            self._loading[path] = asyncio.get_running_loop().run_in_executor(self._threads, self._load, path)
        try:
            model = await self._loading[path]
        finally:
            self._loading.pop(path, None)
        shared = self._loaded.setdefault(path, Shared(model, path))
        shared.holders += 1
        return shared

    def release(self, shared: Shared) -> None:
        """Give a version back; the last holder's release frees it, on a thread."""
        shared.holders -= 1
        if shared.holders == 0:
            del self._loaded[shared.directory]
            self._threads.submit(shared.model.close)

    def close(self) -> None:
        """End the threads after their current work."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _load(self, directory: Path) -> Model:
        began = time.perf_counter()
        tflite, own = directory / lite.FILE, directory / BATCHING
        batching = read_batching_parameters(own) if self._options.enable_per_model_batching_parameters and own.is_file() else None
        model: Model
        if self._options.prefer_tflite_model and tflite.is_file():
            model = lite.LiteModel(tflite, self._options.num_tflite_interpreters)
        else:
            model = SavedModel(directory, self._options)
        model.batching = batching
        if self._options.enable_model_warmup:
            try:
                warm_up(model, directory, self._options.num_request_iterations_for_warmup)
            except BaseException:
                model.close()
                raise
        logger.info("Loaded %s in %.0f ms", directory, 1000 * (time.perf_counter() - began))
        return model


def _give_way() -> None:
    """Lower this thread's priority, unless it is already lower: on Linux each thread has its own, and only root may raise it."""
    thread = threading.get_native_id()
    os.setpriority(os.PRIO_PROCESS, thread, max(LOADING_NICENESS, os.getpriority(os.PRIO_PROCESS, thread)))
