"""Which tests are fast, in which order all run, which of them share a process, and which no longer begin.

A test is fast unless its file starts servers, trainers or a platform: it uses one of the fixtures below, or is in one of the folders, or
says `pytestmark = pytest.mark.minutes(1)`, which is about how long the file takes. Fast tests run first, because they find the most
errors a second; then the files that take longest, so that the processes end together.
"""

import time
from collections import defaultdict

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

FOLDERS = {"tests/containers/": 25.0, "tests/newcomer/": 6.0, "tests/e2e/": 3.0}
FIXTURES = {"house", "small_house", "trained", "execute", "torchserve", "start_torchserve", "speech_server"}
FAST_SECONDS = 200  # the duration of the fast tests on a machine on which the others take the minutes that they declare
TOGETHER = ("tests/containers/", "tests/e2e/shared/")  # each needs something that takes long to start: one engine, one platform


def sort(items: list[pytest.Item]) -> None:
    """Mark the tests of files that take less than a minute as fast, and put them first, then those of the file that takes longest."""
    files = defaultdict(list)
    for item in items:
        files[_file(item)].append(item)
    minutes = {file: max(map(_minutes, found)) for file, found in files.items()}
    for file, found in files.items():
        for item in found if minutes[file] < 1 else ():
            item.add_marker(pytest.mark.fast)
    items.sort(key=lambda item: (minutes[_file(item)] >= 1, -minutes[_file(item)]))


class Deadline:
    """The time at which a run of the tests has to end, in seconds since 1970. A file that has begun may continue until then."""

    def __init__(self, end: float) -> None:
        self._end = end
        self._start = time.time()
        self._begun: set[str] = set()
        self._slowness: float | None = None

    def allows(self, item: pytest.Item) -> bool:
        """Return whether there is time for a test: for its whole file, on a machine as slow as this, if it is the file's first."""
        now, minutes, scope = time.time(), _minutes(item), _scope(item.nodeid)
        if minutes >= 1 and self._slowness is None:
            self._slowness = max(1, (now - self._start) / FAST_SECONDS)
        needed = 0 if scope in self._begun else 60 * minutes * (self._slowness or 1)
        if now + needed >= self._end:
            return False
        self._begun.add(scope)
        return True


class ByFile(LoadFileScheduling):
    """Gives each process a file at a time, in their order; all files of a folder that share something, to the same process."""

    def __init__(self, config: pytest.Config, log: Producer) -> None:
        config.option.loadscopereorder = False
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        return _scope(nodeid)


def _scope(nodeid: str) -> str:
    """What a process is given at a time."""
    shared = [folder for folder in TOGETHER if nodeid.startswith(folder)]
    return shared[0] if shared else nodeid.partition("::")[0]


def _file(item: pytest.Item) -> str:
    return item.nodeid.partition("::")[0]


def _minutes(item: pytest.Item) -> float:
    """About how long the file of a test takes, as far as this test tells."""
    if marked := item.get_closest_marker("minutes"):
        return float(marked.args[0])
    folders = [minutes for folder, minutes in FOLDERS.items() if item.nodeid.startswith(folder)]
    return folders[0] if folders else float(bool(FIXTURES & set(getattr(item, "fixturenames", ()))))
