"""The wanted state, and what becomes of it."""

import asyncio
import shutil
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest

from serving.speech_server.models import MODELS, Models
from tests.serving.speech_server.running_speech import in_loop
from tests.serving.speech_server.speech_models import write_version
from tests.waiting import PATIENCE
from windtunnel.files import write_json


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published")
    for number in (3, 4):
        write_version(folder / str(number), number)
    return folder


@pytest.fixture
def folder(published: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(published, tmp_path / "models"))


def want(folder: Path, champion: int | None, *versions: int) -> None:
    write_json(folder / MODELS, {"versions": versions, "champion": champion})


def state(models: Models) -> tuple[int | None, list[int], list[int]]:
    return models.champion and models.champion.number, sorted(models.loaded), sorted(models.refused)


@in_loop
async def test_nothing_is_wanted(tmp_path: Path) -> None:
    models = Models(tmp_path / "none", None)
    await models.start()
    assert state(models) == (None, [], [])


@in_loop
async def test_the_first_version_answers_until_there_is_a_champion(folder: Path, version: Path) -> None:
    models = Models(folder, version)
    await models.start()
    assert state(models) == (0, [0], [])
    want(folder, None, 3)
    assert await models.converge()
    assert state(models) == (0, [0, 3], []), "published, not promoted"
    want(folder, 3, 3)
    await models.converge()
    assert state(models) == (3, [3], [])
    assert not await models.converge(), "nothing new"


@in_loop
async def test_promote_roll_back_withdraw(folder: Path) -> None:
    models = Models(folder, None)
    want(folder, 3, 3, 4)
    await models.start()
    assert state(models) == (3, [3, 4], [])
    old, gone = models.champion, weakref.ref(models.loaded[3])
    want(folder, 4, 4)
    await models.converge()
    assert state(models) == (4, [4], [])
    assert gone() is old, "a request that holds it ends on it"
    del old
    assert gone() is None, "and then it is gone"
    want(folder, 3, 3, 4)
    await models.converge()
    assert state(models) == (3, [3, 4], [])


def cut(directory: Path) -> None:
    (directory / "model.onnx").write_bytes(b"")


@pytest.mark.parametrize("spoil", [cut, shutil.rmtree])
@in_loop
async def test_a_bad_champion_leaves_the_old_one(folder: Path, spoil: Callable[[Path], None]) -> None:
    models = Models(folder, None)
    want(folder, 3, 3)
    await models.start()
    spoil(folder / "4")
    want(folder, 4, 4)
    await models.converge()
    assert state(models) == (3, [3], [4])
    assert str(folder / "4") in models.refused[4]
    shutil.rmtree(folder / "4", ignore_errors=True)
    write_version(folder / "4")
    want(folder, 4, 4, 3)
    await models.converge()
    assert state(models) == (4, [3, 4], []), "it is tried again when the release writes again"


@pytest.mark.parametrize("content", ["{", '{"versions": [3]}', '{"versions": ["x"], "champion": 3}'])
@in_loop
async def test_a_file_that_says_nothing_changes_nothing(folder: Path, content: str) -> None:
    models = Models(folder, None)
    want(folder, 3, 3)
    await models.start()
    (folder / MODELS).write_text(content)
    assert not await models.converge()
    (folder / MODELS).unlink()
    assert not await models.converge()
    assert state(models) == (3, [3], [])


@in_loop
async def test_what_cannot_be_read_is_said_once(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    models = Models(folder, None)
    want(folder, 3, 3)
    await models.start()
    for _ in range(2):
        (folder / MODELS).unlink()
        (folder / MODELS).mkdir()
        for _ in range(3):
            assert not await models.converge()
        (folder / MODELS).rmdir()
        want(folder, 3, 3, 4)
        assert await models.converge(), "and is followed when it can be"
    unread = f"{folder / MODELS} cannot be read (Is a directory). The loaded models stay unchanged. Make it readable"
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == [unread, unread]


@in_loop
async def test_what_is_written_is_followed(folder: Path) -> None:
    models, changes = Models(folder, None), asyncio.Event()
    await models.start()

    async def changed() -> None:
        changes.set()

    task = asyncio.ensure_future(models.follow(changed))
    want(folder, 4, 4)
    await asyncio.wait_for(changes.wait(), PATIENCE)
    assert state(models) == (4, [4], [])
    task.cancel()
