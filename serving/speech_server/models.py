"""The loaded versions, which follow the release's `models.json` while requests are answered.

`models.json` is next to the versions, a folder per number: {"versions": [3, 4], "champion": 4}. The release replaces it atomically; the
server checks it a few times a second. A version is loaded and verified on a thread; then one reference is switched, and requests that hold
the old version finish on it. A version that cannot be used is refused, with the reason, until the file is written again.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from serving.speech_server.model import Recognizer
from windtunnel.errors import WindtunnelError
from windtunnel.problems import Problem
from windtunnel.spec import first_problem
from windtunnel.vocabulary import WORDS

_log = logging.getLogger(__name__)

MODELS = "models.json"
POLL_SECONDS = 0.2
FIRST = 0
"""The number of the version that answers while no other one is the champion."""


class Wanted(BaseModel):
    """`models.json`: the versions to load, and the one that users get."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    versions: tuple[int, ...]
    champion: int | None


def read_wanted(folder: Path) -> Wanted:
    """Return the contents of `models.json` in a folder; empty if there is no file yet.

    Raises:
        OSError: it cannot be read.
        ValidationError: it is not a file that a release has written.
    """
    try:
        return Wanted.model_validate_json((folder / MODELS).read_bytes())
    except FileNotFoundError:
        return Wanted(versions=(), champion=None)


class Models:
    """The loaded versions. `champion` is the one that users get, None if there is none; `refused` has the reason for each unusable one."""

    def __init__(self, folder: Path, first: Path | None, first_words: tuple[str, ...] = WORDS) -> None:
        """Initialise without loading anything.

        Args:
            folder: the folder of the versions and of `models.json`; it may not exist yet.
            first: the directory of the version that answers while `models.json` does not exist, or names no champion.
            first_words: the vocabulary while there is no model.
        """
        self.champion: Recognizer | None = None
        self.loaded: dict[int, Recognizer] = {}
        self.refused: dict[int, str] = {}
        self._folder = folder
        self._first, self._first_words = first, first_words
        self._seen: tuple[int, int, int] | None = None
        self._unread = Problem(_log.error)

    @property
    def words(self) -> tuple[str, ...]:
        """The champion's words, in the order of its scores; without a champion, the words of a future one."""
        return self._first_words if self.champion is None else self.champion.words

    async def start(self) -> None:
        """Load the versions in `models.json`, otherwise the first version."""
        if not await self.converge():
            await self._follow(Wanted(versions=(), champion=None))

    async def follow(self, changed: Callable[[], Awaitable[None]]) -> None:
        """Follow `models.json` forever; `changed` is called after each change."""
        while True:
            await asyncio.sleep(POLL_SECONDS)
            try:
                if await self.converge():
                    await changed()
            except Exception as error:  # a failure here must not end a server that answers
                self._unread.is_there(f"the loaded models stay unchanged: {error!r}", exc_info=error)

    async def converge(self) -> bool:
        """Load, switch and drop versions if `models.json` has been written since the last call; returns whether it has."""
        stamp, wanted = await asyncio.to_thread(self._news)
        if stamp == self._seen:
            return False
        self._seen = stamp
        if wanted is None:
            return False
        await self._follow(wanted)
        return True

    async def _follow(self, wanted: Wanted) -> None:
        self.refused = {}
        champion = FIRST if wanted.champion is None and self._first is not None else wanted.champion
        numbers = dict.fromkeys((*(() if champion is None else (champion,)), *wanted.versions))
        for number in numbers:  # the champion first
            if number not in self.loaded:
                await self._load(number)
            self._switch(champion)
        self._switch(champion)
        self.loaded = {number: each for number, each in self.loaded.items() if number in numbers or each is self.champion}

    def _switch(self, number: int | None) -> None:
        """Make a version the one that users get, if it is loaded; otherwise they keep the previous one."""
        new = None if number is None else self.loaded.get(number, self.champion)
        if new is not self.champion:
            _log.info("users get version %s", "none" if new is None else new.number)
        self.champion = new

    async def _load(self, number: int) -> None:
        directory = self._first if number == FIRST and self._first is not None else self._folder / str(number)
        try:
            recognizer = await asyncio.to_thread(Recognizer, directory, number)
        except (WindtunnelError, OSError) as error:
            self.refused = {**self.refused, number: str(error)}
            _log.error("version %d is refused: %s", number, error)
        else:
            self.loaded = {**self.loaded, number: recognizer}
            _log.info("version %d is loaded from %s", number, directory)

    def _news(self) -> tuple[tuple[int, int, int] | None, Wanted | None]:
        """Return when `models.json` was written, and its contents if they are new."""
        file = self._folder / MODELS
        try:
            status = file.stat()
            stamp = (status.st_mtime_ns, status.st_ino, status.st_size)
            wanted = None if stamp == self._seen else Wanted.model_validate_json(file.read_bytes())
        except FileNotFoundError:
            return None, None
        except OSError as error:
            self._unread.is_there(f"{file} cannot be read ({error.strerror}). The loaded models stay unchanged. Make it readable")
            return self._seen, None
        except ValidationError as error:
            _log.error("%s: %s. The loaded models stay unchanged. Publish a version again", file, first_problem(error))
            return stamp, None
        self._unread.is_over()
        return stamp, wanted
