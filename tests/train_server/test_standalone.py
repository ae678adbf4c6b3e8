"""Versions that are trained without the platform, as somebody tries a trainer."""

import subprocess
import sys

import pytest

from train_server.standalone import main
from windtunnel.errors import WindtunnelError
from windtunnel.manifest import verify_version
from windtunnel.settings import ROOT


def test_a_model_is_trained_by_its_name(tmp_path):
    program = [sys.executable, "-m", "train_server.standalone", "--model", "lenet5", "--framework", "pytorch"]
    fields = ["--param", "samples=640", "--param", "epochs=1"]
    done = subprocess.run([*program, *fields, "--out", tmp_path / "version"], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, str(tmp_path / "version")), done.stderr
    manifest = verify_version(tmp_path / "version")
    assert (manifest.spec.model, manifest.spec.samples, manifest.spec.epochs) == ("lenet5", 640, 1)


@pytest.mark.parametrize(
    ("framework", "fields", "says"),
    [
        ("jax", [], "framework 'jax' is unknown: choose from libtorch, pytorch, tensorflow, native"),
        ("pytorch", ["samples=99999999"], "samples is 99999999, expected at most 60000, the training images of "),
        ("pytorch", ["dataset=mnist"], "--param dataset=mnist: the data set is no field to choose. Name it with --dataset mnist"),
        ("pytorch", ["samples"], "--param samples: found no '=', expected name=value"),
    ],
)
def test_what_cannot_be_trained_is_refused_and_leaves_nothing(tmp_path, framework, fields, says):
    with pytest.raises(WindtunnelError, match=says):
        main("lenet5", framework, tmp_path / "version", "auto", fields)
    assert list(tmp_path.iterdir()) == []
