import json

import pytest

from tests.versions import make_version
from train_server.lenet5.model import Spec
from windtunnel.errors import WindtunnelError
from windtunnel.manifest import read_manifest, verify_version
from windtunnel.model import find_model


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
    with pytest.raises(WindtunnelError, match=r"manifest\.json cannot be read .* is not a complete version"):
        read_manifest(version)


def test_a_manifest_that_says_nonsense_names_the_field(version):
    content = json.loads((version / "manifest.json").read_text())
    content["metrics"]["accuracy"] = 99.06
    (version / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(WindtunnelError, match=r"metrics\.accuracy: Input should be less than or equal to 1 \(found 99\.06\)"):
        read_manifest(version)


@pytest.fixture
def blobs(extension, tmp_path):
    """A version of a model of another package, whose metric is an error."""
    make_version(tmp_path / "blobs", "numpy", find_model("blobs").spec(dataset="drawn", samples=320), accuracy=12.5)
    return tmp_path / "blobs"


def test_a_version_of_another_model_has_the_metric_that_the_model_declares(blobs):
    manifest = verify_version(blobs)
    assert manifest.value == 12.5
    assert manifest.metrics.model_dump() == {
        **{"error": 12.5, "loss": 0.01, "seconds": 35.0, "setup_seconds": 1.0, "samples_per_second": 8571.0}
    }


@pytest.mark.parametrize(
    ("metrics", "says"),
    [
        ({"error": float("inf")}, r"metrics\.error: Input should be a finite number"),
        ({"accuracy": 0.5}, r"metrics\.accuracy: unknown name, correct or remove it"),
        ({"error": None}, r"metrics\.error: Input should be a valid number"),
    ],
)
def test_metrics_that_its_model_does_not_have_are_refused(blobs, metrics, says):
    content = json.loads((blobs / "manifest.json").read_text())
    content["metrics"] |= metrics
    (blobs / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(WindtunnelError, match=says):
        read_manifest(blobs)
