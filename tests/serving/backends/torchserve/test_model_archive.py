import json
import stat
import warnings
import zipfile

import pytest

from serving.backends.torchserve.model_archive import EPOCH, MANIFEST, check_archive, write_archive
from windtunnel.errors import WindtunnelError
from windtunnel.files import sha256

NAME = "lenet5-pytorch"


@pytest.fixture
def model(tmp_path):
    file = tmp_path / "model.pt"
    file.write_bytes(bytes(range(256)) * 1000)
    return file


@pytest.fixture
def archive(tmp_path, model):
    file = tmp_path / "made" / "a.mar"
    write_archive(file, NAME, "3", model)
    return file


def members(file):
    with zipfile.ZipFile(file) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write(file, content):
    """An archive of (name or ZipInfo, bytes)."""
    with zipfile.ZipFile(file, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile warns of a name that comes twice
        for name, data in content:
            archive.writestr(regular(name) if isinstance(name, str) else name, data)


def regular(name):
    info = zipfile.ZipInfo(name, EPOCH)
    info.external_attr = (stat.S_IFREG | 0o644) << 16
    return info


def test_two_archives_of_a_version_are_equal_byte_for_byte(tmp_path, archive, model):
    again = tmp_path / "again.mar"
    write_archive(again, NAME, "3", model)
    assert sha256(archive) == sha256(again)
    write_archive(again, NAME, "4", model)
    assert sha256(archive) != sha256(again)


def test_an_archive_holds_the_model_the_handler_and_what_torchserve_reads(archive, model):
    content = members(archive)
    assert content["model.pt"] == model.read_bytes()
    assert b"def handle(" in content["handler.py"]
    manifest = json.loads(content[MANIFEST])
    assert manifest["model"] == {"modelName": NAME, "modelVersion": "3", "serializedFile": "model.pt", "handler": "handler.py"}
    assert manifest["runtime"] == "python"
    check_archive(archive, NAME, "3")


def test_an_archive_declares_what_its_model_takes_and_returns(archive, model, tmp_path):
    assert json.loads(members(archive)["model.json"]) == {
        "input": {"name": "image", "shape": [28, 28, 1], "codec": "image"},
        "outputs": [{"name": "logits", "shape": [10]}, {"name": "probabilities", "shape": [10]}],
    }
    write_archive(tmp_path / "baseline.mar", "no-op-baseline-lenet5", "1", model)
    assert members(tmp_path / "baseline.mar")["model.json"] == members(archive)["model.json"]


def test_an_archive_of_another_packages_model(extension, model, tmp_path):
    write_archive(tmp_path / "blobs.mar", "blobs-numpy", "1", model)
    check_archive(tmp_path / "blobs.mar", "blobs-numpy", "1")
    assert json.loads(members(tmp_path / "blobs.mar")["model.json"]) == {
        "input": {"name": "point", "shape": [4], "codec": "array"},
        "outputs": [{"name": "scores", "shape": [3]}, {"name": "distance", "shape": []}],
    }


def test_an_archive_of_no_model_is_not_made(model, tmp_path):
    with pytest.raises(WindtunnelError, match="'cats-pytorch' is not a registered model"):
        write_archive(tmp_path / "a.mar", "cats-pytorch", "1", model)


def test_another_declaration_is_refused(archive):
    declared = members(archive)["model.json"]
    for content in (declared.replace(b"28", b"32"), declared + b" ", b"{}", b"\xff"):
        write(archive, [*(members(archive) | {"model.json": content}).items()])
        with pytest.raises(WindtunnelError, match=r"contains the wrong model\.json: found b.*, expected b"):
            check_archive(archive, NAME, "3")


def test_nothing_is_left_of_an_archive_that_cannot_be_made(tmp_path):
    with pytest.raises(WindtunnelError, match=r"absent/model\.pt cannot be archived: .*No such file"):
        write_archive(tmp_path / "made" / "a.mar", NAME, "1", tmp_path / "absent" / "model.pt")
    assert not (tmp_path / "made").exists()


def test_a_directory_of_the_models_name_in_tmp_is_left_alone(tmp_path, model, monkeypatch):
    precious = tmp_path / NAME / "precious"
    precious.mkdir(parents=True)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    write_archive(tmp_path / "a.mar", NAME, "1", model)
    assert precious.exists()


def test_another_versions_archive_is_refused(archive):
    with pytest.raises(WindtunnelError, match=r"has the wrong manifest: expected .*'modelVersion': '2'"):
        check_archive(archive, NAME, "2")


@pytest.mark.parametrize("name", ["../escaped.py", "/tmp/escaped.py", "requirements.txt", "handler/", "model.pt", "model.json"])
def test_a_member_too_many_is_refused(archive, name):
    write(archive, [*members(archive).items(), (name, b"import os")])
    with pytest.raises(WindtunnelError, match=r"contains the wrong files: found .*, expected MAR-INF"):
        check_archive(archive, NAME, "3")


@pytest.mark.parametrize("name", ["model.pt", "model.json"])
def test_a_member_too_few_is_refused(archive, name):
    write(archive, [each for each in members(archive).items() if each[0] != name])
    with pytest.raises(WindtunnelError, match=r"contains the wrong files: found .*, expected MAR-INF"):
        check_archive(archive, NAME, "3")


def test_a_link_is_refused(archive):
    link = regular("model.pt")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    write(archive, [*(each for each in members(archive).items() if each[0] != "model.pt"), (link, b"/etc/passwd")])
    with pytest.raises(WindtunnelError, match=r"contains model\.pt, which is not a regular file"):
        check_archive(archive, NAME, "3")


def test_a_bomb_is_refused_before_it_is_unpacked(archive):
    bomb = regular("model.pt")
    bomb.compress_type = zipfile.ZIP_DEFLATED
    write(archive, [*(each for each in members(archive).items() if each[0] != "model.pt"), (bomb, bytes(300 << 20))])
    assert archive.stat().st_size < 1 << 20
    with pytest.raises(WindtunnelError, match=r"is too large: found 3145.* bytes unpacked, expected at most"):
        check_archive(archive, NAME, "3")


def test_foreign_code_is_refused(archive):
    write(archive, [*(members(archive) | {"handler.py": b"import os"}).items()])
    with pytest.raises(WindtunnelError, match=r"contains a handler\.py that is not this project's"):
        check_archive(archive, NAME, "3")


@pytest.mark.parametrize("changes", [{"handler": "os:system"}, {"requirementsFile": "requirements.txt"}, {"modelName": "other"}])
def test_a_manifest_that_says_something_else_is_refused(archive, changes):
    content = members(archive)
    manifest = json.loads(content[MANIFEST])
    content[MANIFEST] = json.dumps(manifest | {"model": manifest["model"] | changes}).encode()
    write(archive, content.items())
    with pytest.raises(WindtunnelError, match="has the wrong manifest"):
        check_archive(archive, NAME, "3")


@pytest.mark.parametrize("spoil", [lambda content: b"", lambda content: content[:1000], lambda content: b"no zip" * 100])
def test_what_is_no_zip_is_refused(archive, spoil):
    archive.write_bytes(spoil(archive.read_bytes()))
    with pytest.raises(WindtunnelError, match="cannot be read"):
        check_archive(archive, NAME, "3")


def test_a_manifest_that_is_no_json_is_refused(archive):
    write(archive, [*(members(archive) | {MANIFEST: b"{"}).items()])
    with pytest.raises(WindtunnelError, match="cannot be read"):
        check_archive(archive, NAME, "3")
