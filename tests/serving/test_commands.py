"""Commands without servers: `windtunnel predict` with the declared reader and outputs, and `windtunnel audit`."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from serving.commands import predict
from serving.release import audit
from tests.serving.fake_server import FakeServer
from tests.waiting import PATIENCE
from windtunnel.errors import WindtunnelError
from windtunnel.settings import ROOT


@pytest.fixture
def served(monkeypatch):
    """Makes all models be served by a backend with these answers."""

    def serve(**outputs):
        server = FakeServer(outputs)
        monkeypatch.setattr("serving.backends.catalog.connect", lambda name, settings: server)
        return server

    return serve


@pytest.fixture
def points(extension, tmp_path):
    """A file of two points, the input of the model `blobs` of another package."""
    np.save(tmp_path / "points.npy", np.arange(8).reshape(2, 4))
    return tmp_path / "points.npy"


def test_a_model_of_another_package_is_asked(served, points, capsys):
    server = served(scores=np.array([[0, 1, 2.5], [5, 1, 0]], np.float32), distance=np.array([0.5, 2], np.float32))
    predict("blobs-numpy", [points], as_json=True)
    (asked,) = server.asked
    assert (asked[0], asked[1].tolist(), asked[2:]) == ("blobs-numpy", [[0, 1, 2, 3], [4, 5, 6, 7]], (None, "rest"))
    assert json.loads(capsys.readouterr().out) == [
        {"file": str(points), "image": 0, "label": 2, "distance": 0.5, "scores": [0, 1, 2.5]},
        {"file": str(points), "image": 1, "label": 0, "distance": 2, "scores": [5, 1, 0]},
    ]
    predict("blobs-numpy", [points], version=3, grpc=True)
    assert server.asked[1][2:] == (3, "grpc")
    text = capsys.readouterr().out
    assert "scores" in text
    assert "2.5" in text


def test_lenet5_is_asked_as_ever(served, tmp_path, capsys):
    np.save(tmp_path / "digit.npy", np.eye(28) * 255)
    served(logits=np.array([[0, 3, 1]], np.float32), probabilities=np.array([[0.125, 0.625, 0.25]], np.float32))
    predict("lenet5-pytorch", [tmp_path / "digit.npy"], as_json=True)
    answer = {"file": str(tmp_path / "digit.npy"), "image": 0, "label": 1, "probabilities": [0.125, 0.625, 0.25], "logits": [0, 3, 1]}
    (printed,) = json.loads(capsys.readouterr().out)
    assert (printed, list(printed)) == (answer, list(answer))
    predict("lenet5-pytorch", [tmp_path / "digit.npy"])
    text = capsys.readouterr().out
    assert "probability" in text
    assert "62.50%" in text


def test_a_file_of_another_models_samples_is_an_error(served, points):
    served()
    with pytest.raises(WindtunnelError, match=r"points\.npy: wrong shape: found \(2, 4\), expected \(28,28\)"):
        predict("lenet5-pytorch", [points])


def test_images_with_a_bright_background_are_warned_about(served, tmp_path, capsys):
    digit = np.asarray(Image.open(ROOT / "img" / "digit.png"))
    Image.fromarray(255 - digit).save(tmp_path / "paper.png")
    np.save(tmp_path / "both.npy", np.stack([digit, 255 - digit, digit]))
    served(logits=np.eye(3, dtype=np.float32), probabilities=np.eye(3, dtype=np.float32))
    predict("lenet5-pytorch", [ROOT / "img" / "digit.png", tmp_path / "paper.png", tmp_path / "both.npy"])
    bright = "a bright background, but the model knows bright shapes on a dark one: the answer is probably wrong. Invert the colours"
    assert capsys.readouterr().err.splitlines() == [
        f"warning: {tmp_path / 'paper.png'}: the image has {bright}",
        f"warning: {tmp_path / 'both.npy'}: 1 of 3 images have {bright}",
    ]


@pytest.fixture
def run_audit(tmp_path):
    """Runs `windtunnel audit` on a platform whose home is `tmp_path`."""

    def run(*arguments, status=0):
        command = [sys.executable, "-c", "from windtunnel.cli.app import main; main()", "audit", *arguments]
        environment = os.environ | {"WINDTUNNEL_HOME": str(tmp_path)}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == status, done.stdout + done.stderr
        return done

    return run


def change(home, number, why="the new data"):
    versions = {"action": "promote", "model": "lenet5-pytorch", "from_version": number - 1 or None, "to_version": number}
    audit.note(home / "serving", **versions, server="torchserve", who="ada", run=None, why=why)


def test_the_audit_log_is_shown(run_audit, tmp_path):
    assert run_audit().stdout == "Users have not got a version yet. Release one: `windtunnel run lenet5`.\n"
    assert json.loads(run_audit("--json").stdout) == []
    change(tmp_path, 1)
    change(tmp_path, 2, "[red]\x1b[2Ka\nb")
    head, first, second = (run_audit().stdout.splitlines()[line] for line in (1, 3, 4))
    columns = [[cell.strip() for cell in line.strip("│").split("│")] for line in (head, first, second)]
    assert columns[0] == ["time (UTC)", "model", "action", "from", "to", "who", "run", "why"]
    assert columns[1][1:] == ["lenet5-pytorch", "promote", "", "1", "ada", "", "the new data"]
    assert columns[2][1:] == ["lenet5-pytorch", "promote", "1", "2", "ada", "", "[red] [2Ka b"]
    assert json.loads(run_audit("--json").stdout) == audit.read(tmp_path / "serving")


def test_the_audit_log_is_verified(run_audit, tmp_path):
    log = tmp_path / "serving" / audit.LOG
    assert run_audit("--verify").stdout == "The log has no line yet.\n"
    log.parent.mkdir()
    log.write_text('{"time": "2026-01-01T00:00:00.000+00:00", "action": "promote"}\n')
    older = "No line has a digest yet. The next one begins the chain and covers the 1 line before it.\n"
    assert run_audit("--verify").stdout == older
    log.write_text('{"time": "2026-01-01T00:00:00.000+00:00", "action": "promote"}\n{"time": "2026-01-02T00')
    change(tmp_path, 1)
    change(tmp_path, 2)
    kept, last = audit.verify(log.parent).lines
    assert run_audit("--verify", kept).stdout.splitlines() == [
        "2 lines checked: unchanged and in order. Line 4, the last, has the digest",
        last,
        "Line 3 has the digest that was given: nothing up to it was removed.",
        "1 line before the digests began: unchanged since line 3 was written, and not checked before.",
        "Line 2 is cut off, by a power cut or by somebody: unchanged since line 3 was written.",
    ]
    assert json.loads(run_audit("--verify", "--json").stdout) == {"lines": 2, "digest": last, "older": 1, "cut_off": [2]}
    log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:3]))
    assert f"has no line with the digest {last}" in run_audit("--verify", last, status=1).stderr
    log.write_text(log.read_text().replace("ada", "eve"))
    done = run_audit("--verify", "--json", status=1)
    assert (done.stdout, done.stderr.count("\n")) == ("", 1)
    assert done.stderr.startswith(f"error: the audit log {log} is broken at line 3 (")
    assert f"`windtunnel audit --verify {last}`" in run_audit(last, status=1).stderr
