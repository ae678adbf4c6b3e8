import json

import pytest

from tests.versions import make_version
from windtunnel.errors import WindtunnelError
from windtunnel.manifest import read_manifest, verify_version
from windtunnel.spec import Spec


@pytest.fixture
def version(tmp_path):
    make_version(tmp_path / "version", "pytorch", Spec(dataset="mnist", mean=0.1307, std=0.3081, samples=60_000))
    return tmp_path / "version"


def test_a_whole_version_is_read(version):
    manifest = verify_version(version)
    assert (manifest.framework, manifest.metrics.accuracy, manifest.spec.samples) == ("pytorch", 0.99, 60_000)


def test_a_changed_byte_is_refused_with_both_digests(version):
    (version / "model.pt").write_bytes(b"An export")
    with pytest.raises(WindtunnelError, match=r"model\.pt has SHA-256 [0-9a-f]{64}, but manifest\.json says [0-9a-f]{64}"):
        verify_version(version)


def test_a_missing_file_is_refused(version):
    (version / "model.pt").unlink()
    with pytest.raises(WindtunnelError, match=r"model\.pt is missing"):
        verify_version(version)


def test_a_file_that_nobody_named_is_refused(version):
    (version / "handler.py").write_text("import os")
    with pytest.raises(WindtunnelError, match=r"handler\.py is not in manifest\.json"):
        verify_version(version)


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname"])
def test_a_path_out_of_the_version_is_refused(version, name):
    content = json.loads((version / "manifest.json").read_text())
    content["files"][name] = "0" * 64
    (version / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(WindtunnelError, match="outside the version"):
        verify_version(version)


def test_a_version_without_manifest_is_not_whole(version):
    (version / "manifest.json").unlink()
    with pytest.raises(WindtunnelError, match=r"manifest\.json cannot be read .* is not a whole version"):
        read_manifest(version)


def test_a_manifest_that_says_nonsense_names_the_field(version):
    content = json.loads((version / "manifest.json").read_text())
    content["metrics"]["accuracy"] = 99.06
    (version / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(WindtunnelError, match=r"metrics\.accuracy: Input should be less than or equal to 1 \(found 99\.06\)"):
        read_manifest(version)
