"""Signed versions in directories, without a registry; `tests/serving/release/test_signatures.py` has the registry and a server."""

import hashlib
import json
import shutil
import subprocess
import sys

import pytest

from tests.versions import make_signed_version
from windtunnel.errors import WindtunnelError
from windtunnel.files import sha256, write_json
from windtunnel.manifest import MANIFEST, REGISTRATION, SIGNATURE
from windtunnel.platform.secrets import make_signing_key, public_key, signing_key
from windtunnel.settings import Settings
from windtunnel.signatures import Registration, SignatureError, fingerprint, sign, trusted_key, verify

NAME = "lenet5-pytorch"
EXPECTED = (NAME, 3)


@pytest.fixture
def signed(settings, tmp_path):
    """Makes a version, signed under a number, and returns its directory."""

    def make(number=3, accuracy=0.99, keys=settings):
        directory = tmp_path / f"version-{number}-{accuracy}-{keys.home.name}"
        return make_signed_version(directory, signing_key(keys), number, accuracy=accuracy)

    return make


def test_a_signed_version_is_verified_and_says_what_it_is(signed, settings):
    directory = signed()
    found = verify(directory, trusted_key(settings), EXPECTED)
    assert found.registration == Registration(
        name=NAME, version=3, manifest_sha256=sha256(directory / MANIFEST), dag_run="lenet5/manual__1"
    )
    assert found.manifest.metrics.accuracy == 0.99
    assert found.key == sha256(public_key(settings))
    assert verify(directory, trusted_key(settings)) == found


def test_the_library_s_own_command_line_says_the_same(signed, settings):
    directory = signed()
    command = [sys.executable, "-m", "model_signing", "verify", "key", directory, "--signature", directory / SIGNATURE]
    command += ["--public_key", public_key(settings)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "Verification succeeded\n"), done.stderr
    (directory / "model.pt").write_bytes(b"another export")
    assert subprocess.run(command, capture_output=True).returncode == 1


def consistent(directory):
    """Write a manifest that agrees with the files, as whoever changed them can."""
    manifest = json.loads((directory / MANIFEST).read_text())
    write_json(directory / MANIFEST, manifest | {"files": {name: sha256(directory / name) for name in manifest["files"]}})


def flip(file, index=0):
    content = bytearray(file.read_bytes())
    content[index] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("name", ["model.pt", "probe.safetensors"])
def test_a_changed_file_is_named_whatever_the_manifest_says(signed, settings, name):
    directory = signed()
    flip(directory / name)
    with pytest.raises(WindtunnelError, match=rf"{name} has SHA-256 "):
        verify(directory, public_key(settings), EXPECTED)
    consistent(directory)
    with pytest.raises(SignatureError, match=rf"{NAME} version 3 is not what was signed: .*: manifest\.json, {name}\. .*train a new one"):
        verify(directory, public_key(settings), EXPECTED)


def test_an_edited_manifest_is_named(signed, settings):
    directory = signed()
    manifest = json.loads((directory / MANIFEST).read_text())
    manifest["metrics"]["accuracy"] = 1.0
    write_json(directory / MANIFEST, manifest)
    with pytest.raises(SignatureError, match=r"is not what was signed: changed, added or missing: manifest\.json\. "):
        verify(directory, public_key(settings), EXPECTED)


def test_an_edited_registration_is_named(signed, settings):
    directory = signed(number=1)
    registration = json.loads((directory / REGISTRATION).read_text())
    write_json(directory / REGISTRATION, registration | {"version": 3})
    with pytest.raises(SignatureError, match=rf"{NAME} version 3 is not what was signed: .*: registration\.json\. "):
        verify(directory, public_key(settings), EXPECTED)


def test_files_that_were_added_to_the_manifest_or_removed_are_named(signed, settings):
    directory = signed()
    (directory / "handler.py").write_text("import os")
    manifest = json.loads((directory / MANIFEST).read_text())
    write_json(directory / MANIFEST, manifest | {"files": manifest["files"] | {"handler.py": sha256(directory / "handler.py")}})
    with pytest.raises(SignatureError, match=r"is not what was signed: .*handler\.py"):
        verify(directory, public_key(settings), EXPECTED)
    (directory / "handler.py").unlink()
    (directory / REGISTRATION).unlink()
    write_json(directory / MANIFEST, manifest)
    with pytest.raises(SignatureError, match=r"is not what was signed: .*registration\.json"):
        verify(directory, public_key(settings), EXPECTED)


@pytest.mark.parametrize("expected", [(NAME, 4), ("lenet5-libtorch", 3)])
def test_a_version_under_another_name_or_number_is_refused_with_both(signed, settings, expected):
    with pytest.raises(
        SignatureError, match=rf"{expected[0]} version {expected[1]} is another version, which was signed as {NAME} version 3"
    ):
        verify(signed(), public_key(settings), expected)


def test_a_version_without_a_signature_says_how_to_sign_it(signed, settings):
    directory = signed()
    (directory / SIGNATURE).unlink()
    with pytest.raises(SignatureError, match=rf"{NAME} version 3 is not signed: model\.sig is missing.*`windtunnel sign {NAME}@3`"):
        verify(directory, public_key(settings), EXPECTED)
    with pytest.raises(SignatureError, match=rf"{directory} is not signed.*`windtunnel sign {NAME}@VERSION`"):
        verify(directory, public_key(settings))


def test_a_foreign_signature_names_both_keys(signed, settings, tmp_path):
    other = Settings(home=tmp_path / "other")
    make_signing_key(other)
    directory = signed(keys=other)
    keys = rf"found {fingerprint(public_key(other))}, expected {fingerprint(public_key(settings))} of .*signing-key\.pub"
    with pytest.raises(SignatureError, match=rf"{NAME} version 3 was signed with another key: {keys}"):
        verify(directory, public_key(settings), EXPECTED)
    bundle = json.loads((directory / SIGNATURE).read_text())
    bundle["verificationMaterial"]["publicKey"]["hint"] = fingerprint(public_key(settings))  # it only says that it is ours
    (directory / SIGNATURE).write_text(json.dumps(bundle))
    with pytest.raises(SignatureError, match=rf"the signature of {NAME} version 3 is broken.*InvalidSignature"):
        verify(directory, public_key(settings), EXPECTED)


def test_a_signature_of_another_version_is_refused(signed, settings):
    directory, other = signed(), signed(accuracy=0.5)
    shutil.copyfile(other / SIGNATURE, directory / SIGNATURE)
    with pytest.raises(SignatureError, match=r"is not what was signed: .*manifest\.json"):
        verify(directory, public_key(settings), EXPECTED)


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"null", b"\xff\xfe", b'{"verificationMaterial": {"publicKey": {"hint": null}}}'])
def test_a_signature_that_is_none_is_refused(signed, settings, content):
    directory = signed()
    (directory / SIGNATURE).write_bytes(content)
    with pytest.raises(SignatureError, match=rf"{NAME} version 3 was signed with another key: found none, expected"):
        verify(directory, public_key(settings), EXPECTED)


def test_a_signature_is_refused_wherever_it_is_damaged(signed, settings, capsys):
    directory = signed()
    whole = (directory / SIGNATURE).read_bytes()
    refused = 0
    for index in range(0, len(whole), 61):
        for damage in (whole[:index], whole[:index] + bytes([whole[index] ^ 1]) + whole[index + 1 :]):
            (directory / SIGNATURE).write_bytes(damage)
            try:
                found = verify(directory, public_key(settings), EXPECTED)
            except SignatureError:
                refused += 1
            else:  # what says nothing, such as the type of the bundle's certificates, of which there are none
                assert found.registration.version == 3
    assert refused > 2 * len(whole) / 61 * 0.9
    assert capsys.readouterr().out == ""


def test_a_key_that_is_none_is_named(signed, settings, tmp_path):
    (tmp_path / "key").write_text("no key")
    with pytest.raises(WindtunnelError, match="key is not a public key in PEM"):
        verify(signed(), tmp_path / "key", EXPECTED)
    with pytest.raises(WindtunnelError, match=r"signing-key\.pem is not a public key in PEM"):
        verify(signed(accuracy=0.9), signing_key(settings), EXPECTED)


def test_the_key_beside_the_versions_is_a_copy_and_another_one_is_a_warning_that_names_both(settings, tmp_path, capsys):
    copy = settings.serving / "versions" / "signing-key.pub"
    assert trusted_key(settings) == public_key(settings)
    assert trusted_key(settings) == public_key(settings)
    assert copy.read_bytes() == public_key(settings).read_bytes()
    other = Settings(home=tmp_path / "other")
    make_signing_key(other)
    shutil.copyfile(public_key(other), copy)
    assert capsys.readouterr().err == ""
    theirs, ours = fingerprint(copy), f"{public_key(settings)}, {fingerprint(public_key(settings))}"
    for content, digest in ((copy.read_bytes(), theirs), (b"no key", hashlib.sha256(b"no key").hexdigest())):
        copy.write_bytes(content)
        assert trusted_key(settings) == public_key(settings)
        expected = f"warning: the key beside the versions, {copy}, has SHA-256 {digest}, but versions are verified with {ours}. "
        assert capsys.readouterr().err.startswith(expected)
        assert copy.read_bytes() == content


def test_the_key_that_verifies_is_a_setting_and_its_lack_is_said(settings, tmp_path):
    named = Settings(home=tmp_path / "elsewhere", public_key=public_key(settings))
    assert trusted_key(named) == public_key(settings)
    with pytest.raises(WindtunnelError, match=r"the key that verifies versions is missing: expected .*\. Start the platform"):
        trusted_key(Settings(home=tmp_path / "none"))


def test_nothing_is_imported_where_nothing_is_signed():
    code = "import sys, windtunnel.signatures; print({'cryptography', 'model_signing', 'mlflow'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_symbolic_links_are_not_followed_out_of_a_version(signed, settings):
    directory = signed()
    found = verify(directory, public_key(settings), EXPECTED)
    file = directory / "model.pt"
    file.rename(directory.parent / "model.pt")
    file.symlink_to(directory.parent / "model.pt")
    with pytest.raises(SignatureError, match="symlink"):
        verify(directory, public_key(settings), EXPECTED)
    with pytest.raises(WindtunnelError, match=r"model\.pt' because it is a symlink"):
        sign(directory, found.registration, signing_key(settings))
