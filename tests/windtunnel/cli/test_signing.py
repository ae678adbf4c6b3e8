"""`windtunnel verify` of a directory, where no platform runs; `tests/serving/release/test_signatures.py` has the rest."""

import json
import os
import subprocess
import sys

import pytest

from tests.versions import make_signed_version
from tests.waiting import PATIENCE
from windtunnel.files import sha256
from windtunnel.manifest import MANIFEST
from windtunnel.platform.secrets import public_key, signing_key

NOWHERE = {"WINDTUNNEL_MLFLOW_PORT": "9", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}


@pytest.fixture
def version(settings, tmp_path):
    return make_signed_version(tmp_path / "version", signing_key(settings), dag_run="lenet5/a")


@pytest.fixture
def verify(tmp_path):
    """Runs the command in an empty folder, with a home of its own and no registry."""

    def run(*arguments, status=0, home=tmp_path / "empty"):
        environment = os.environ | NOWHERE | {"WINDTUNNEL_HOME": str(home)}
        command = [sys.executable, "-c", "from windtunnel.cli.app import main; main()", "verify", *map(str, arguments)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == status, done.stdout + done.stderr
        return done

    return run


def test_a_directory_is_verified_without_a_registry_with_a_key_from_elsewhere(verify, version, settings):
    digest, key = sha256(version / MANIFEST), sha256(public_key(settings))
    assert verify(version, "--key", public_key(settings)).stdout == (
        "lenet5-pytorch version 3 is whole and signed.\n"
        "files         2, with the SHA-256 that the manifest says, and no others\n"
        f"manifest      SHA-256 {digest}\n"
        "signature     of all files, the manifest and the registration, valid\n"
        f"key           SHA-256 {key}\n"
        "registration  lenet5-pytorch version 3, from lenet5/a\n"
    )
    assert json.loads(verify(version, "--json", home=settings.home).stdout) == {
        **{"name": "lenet5-pytorch", "version": 3, "manifest_sha256": digest, "dag_run": "lenet5/a", "files": 2, "key": key},
    }


def test_what_is_wrong_is_one_line_and_status_1(verify, version, settings, tmp_path):
    (version / "model.pt").write_bytes(b"another export")
    done = verify(version, "--key", public_key(settings), status=1)
    assert done.stderr.startswith(f"error: {version}/model.pt has SHA-256 ")
    assert (done.stdout, done.stderr.count("\n")) == ("", 1)
    assert "the key that verifies versions is missing" in verify(version, status=1).stderr
    missing = verify(tmp_path / "missing", "--key", public_key(settings), status=1)
    assert missing.stderr == f"error: {tmp_path}/missing is not a directory: expected one, or a version such as lenet5-pytorch@3\n"
    gone = verify("lenet5-pytorch@3", "--key", public_key(settings), status=1)
    assert gone.stderr.startswith("error: MLflow at http://127.0.0.1:9 ")
