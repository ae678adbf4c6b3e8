"""Which tests are fast, in which order all run, and which of them share a process.

A test is fast unless its file starts servers, trainers or a platform: it uses one of the fixtures below, or is in one of the folders, or
says `pytestmark = pytest.mark.minutes(1)`, which is about how long the file takes. What takes longest begins first, so that the processes
end together.
"""

from collections import defaultdict

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

FOLDERS = {"tests/containers/": 20.0, "tests/newcomer/": 6.0, "tests/e2e/": 3.0}
FIXTURES = {"house", "trained", "execute", "torchserve", "start_torchserve", "speech_server"}
TOGETHER = ("tests/containers/", "tests/e2e/shared/")  # each needs something that takes long to start: one engine, one platform


def sort(items: list[pytest.Item]) -> None:
    """Put the tests of the file that takes longest first, and mark those of files that take less than a minute as fast."""
    files = defaultdict(list)
    for item in items:
        files[_file(item)].append(item)
    minutes = {file: max(map(_minutes, found)) for file, found in files.items()}
    for file, found in files.items():
        for item in found if minutes[file] < 1 else ():
            item.add_marker(pytest.mark.fast)
    items.sort(key=lambda item: -minutes[_file(item)])


class ByFile(LoadFileScheduling):
    """Gives each process a file at a time, in their order; all files of a folder that share something, to the same process."""

    def __init__(self, config: pytest.Config, log: Producer) -> None:
        config.option.loadscopereorder = False
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        shared = [folder for folder in TOGETHER if nodeid.startswith(folder)]
        return shared[0] if shared else super()._split_scope(nodeid)


def _file(item: pytest.Item) -> str:
    return item.nodeid.partition("::")[0]


def _minutes(item: pytest.Item) -> float:
    """About how long the file of a test takes, as far as this test tells."""
    if marked := item.get_closest_marker("minutes"):
        return float(marked.args[0])
    folders = [minutes for folder, minutes in FOLDERS.items() if item.nodeid.startswith(folder)]
    return folders[0] if folders else float(bool(FIXTURES & set(getattr(item, "fixturenames", ()))))
