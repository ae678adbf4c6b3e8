import hashlib
import json
import stat

import pytest

from windtunnel.files import sha256, write_atomically, write_json


def test_sha256(tmp_path):
    (tmp_path / "file").write_bytes(b"LeNet")
    assert sha256(tmp_path / "file") == hashlib.sha256(b"LeNet").hexdigest()


def test_write_atomically_replaces_and_leaves_nothing_beside(tmp_path):
    file = tmp_path / "new" / "file"
    write_atomically(file, b"one")
    write_atomically(file, b"two")
    assert file.read_bytes() == b"two"
    assert [entry.name for entry in file.parent.iterdir()] == ["file"]
    assert stat.S_IMODE(file.stat().st_mode) == 0o644


def test_write_atomically_keeps_the_old_file_when_it_cannot_write(tmp_path):
    file = tmp_path / "file"
    write_atomically(file, b"old")
    with pytest.raises(TypeError):
        write_atomically(file, "not bytes")
    assert file.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_write_json_gives_equal_bytes_for_equal_values(tmp_path):
    write_json(tmp_path / "a", {"x": 1, "y": 2})
    write_json(tmp_path / "b", {"y": 2, "x": 1})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert json.loads((tmp_path / "a").read_text()) == {"x": 1, "y": 2}
