"""What the host does around a trainer; the trainer here is a few lines of Python, or has no time to begin."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest

from tests.job import write_idx
from train_server.lenet5.model import LENET5
from train_server.train import run_trainer
from train_server.version import read_metrics
from windtunnel.errors import WindtunnelError
from windtunnel.manifest import verify_version
from windtunnel.model import find_model

PYTORCH = LENET5.framework("pytorch")
TRAINER = """
import json, pathlib, sys
flags = dict(zip(sys.argv[1::2], sys.argv[2::2]))
if "--verify" in flags:
    print("looked at", *sorted(file.name for file in pathlib.Path(flags["--verify"]).iterdir()))
    VERIFIED
    sys.exit()
out = pathlib.Path(flags["--out"])
print("found", sorted(out.iterdir()))
(out / "export").mkdir()
(out / "export/model").write_text("1")
(out / "metrics.jsonl").write_text(METRICS)
"""
EPOCH = {"epoch": 1, "loss": 0.5, "accuracy": 0.75, "seconds": 2.0, "samples_per_second": 1.0, "setup_seconds": 3.0}
METRICS = json.dumps(EPOCH) + "\n" + json.dumps({"epoch": 2, "loss": 0.25, "accuracy": 1.0, "seconds": 6.0}) + "\n"


@pytest.fixture
def job(make_job):
    return make_job()


@pytest.fixture
def train(job, tmp_path):
    """Trains a version `out` with a program that writes the given metrics, and verifies so; the lines that it has printed."""

    def run(metrics=METRICS, verified="") -> list[str]:
        file, lines = tmp_path / "trainer.py", []
        file.write_text(TRAINER.replace("METRICS", repr(metrics)).replace("VERIFIED", verified))
        framework = replace(PYTORCH, command=(sys.executable, str(file)), packages=("numpy",))
        run_trainer(framework, job.spec_file, job.content, job.conditions, tmp_path / "out", lines.append)
        return lines

    return run


@pytest.fixture
def refused(train, tmp_path):
    """Checks that a training is refused before its program begins."""

    def check(match):
        with pytest.raises(WindtunnelError, match=match):
            train()
        assert not list(tmp_path.glob("out*"))

    return check


def change_a_byte(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def test_what_a_trainer_writes_becomes_a_version(train, job, tmp_path):
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial/left").write_text("by an earlier try")
    lines = train()
    assert lines == ["found []", "looked at export metrics.jsonl", f"export verified in a fresh process  {tmp_path / 'out'}"]
    assert not (tmp_path / "out.partial").exists()
    manifest = verify_version(tmp_path / "out")
    assert set(manifest.files) == {"export/model", "metrics.jsonl"}
    assert (manifest.framework, manifest.spec) == ("pytorch", job.spec)
    assert manifest.dataset.model_dump() == job.content.lineage()
    assert manifest.environment.packages == {"numpy": np.__version__}
    assert manifest.metrics.model_dump() == {
        "accuracy": 1.0,
        "loss": 0.25,
        "seconds": 8.0,
        "setup_seconds": 3.0,
        "samples_per_second": 2 * 18 * 16 / 8,
    }


def test_an_existing_version_is_an_error_and_stays(train, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("dear")
    with pytest.raises(WindtunnelError, match=f"{tmp_path / 'out'} exists: choose another path or remove it"):
        train()
    assert (tmp_path / "out" / "mine").read_text() == "dear"


@pytest.mark.parametrize("name", ["weights.safetensors", "schedule.safetensors"])
def test_a_changed_byte_in_the_conditions_is_refused(job, refused, name):
    change_a_byte(job.conditions / name)
    refused(rf"{name} has SHA-256 [0-9a-f]{{64}}, but .* says [0-9a-f]{{64}}: draw the conditions again")


def test_another_spec_is_refused(job, refused):
    job.spec_file.write_text(job.spec.model_copy(update={"learning_rate": 0.02}).model_dump_json())
    refused(r"spec\.json has SHA-256")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"files": {}, "dataset": {}}'])
def test_malformed_conditions_are_refused(job, refused, content):
    (job.conditions / "conditions.json").write_text(content)
    refused(r"conditions\.json is malformed .*: draw the conditions again")


@pytest.mark.parametrize("name", ["conditions.json", "weights.safetensors", "schedule.safetensors"])
def test_missing_conditions_are_named(job, refused, name):
    (job.conditions / name).unlink()
    refused(rf"{name} cannot be read \(No such file or directory\)")


def test_a_file_that_the_conditions_do_not_name_is_refused(job, refused):
    (job.conditions / "more.safetensors").write_bytes(b"")
    refused(r"conditions\.json is malformed \(KeyError\('more\.safetensors'\)\)")


@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"])
def test_data_that_the_conditions_were_not_drawn_for_are_refused(job, refused, name):
    change_a_byte(job.data / name)
    refused(rf"the data in {job.data} differs from the data in .*conditions\.json: draw the conditions again")


def test_a_data_set_of_another_size_is_refused(job, refused):
    write_idx(job.data / "train-labels-idx1-ubyte", np.zeros(299))
    refused("the data in .* differs from the data in")


def test_an_export_that_does_not_verify_is_no_version(train, tmp_path):
    with pytest.raises(WindtunnelError, match=r"^export differs: train again$"):
        train(verified='sys.exit("a warning\\nerror: export differs: train again")')
    with pytest.raises(WindtunnelError, match=r"--verify .* ended with status 3$"):
        train(verified="sys.exit(3)")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "metrics",
    ["", "[]\n", METRICS.replace("setup_seconds", "x"), METRICS.replace("accuracy", "x"), METRICS.replace("2.0", "-6.0"), "no JSON"]
    + [METRICS.replace('"accuracy": 1.0', f'"accuracy": {value}') for value in ("99.06", "NaN", "null")],
)
def test_metrics_that_say_too_little_are_no_version(train, tmp_path, metrics):
    with pytest.raises(WindtunnelError, match=r"metrics\.jsonl does not have the format in train_server/README\.md"):
        train(metrics)
    assert not (tmp_path / "out").exists()


def test_a_trainer_that_fails_or_is_not_there_is_named(job, tmp_path):
    def train(*command):
        run_trainer(replace(PYTORCH, command=command), job.spec_file, job.content, job.conditions, tmp_path / "out")

    with pytest.raises(WindtunnelError, match=r"the pytorch trainer ended with status 1\. See its error above"):
        train("false")
    with pytest.raises(WindtunnelError, match=r"/no/trainer is no program that can be started\. Build it with `make setup`"):
        train("/no/trainer")
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("extension")
def test_a_trainer_that_another_package_declares_is_started(job, tmp_path):
    lines, numpy_framework = [], find_model("lenet5").framework("numpy")
    with pytest.raises(WindtunnelError, match="the numpy trainer ended with status 3"):
        run_trainer(numpy_framework, job.spec_file, job.content, job.conditions, tmp_path / "out", lines.append)
    assert lines == ["an own trainer, --spec --data --conditions --out"]


@pytest.mark.usefixtures("extension")
def test_the_metrics_of_another_model_have_its_metric(tmp_path):
    spec = find_model("blobs").spec(dataset="drawn", samples=320, epochs=2)
    (tmp_path / "metrics.jsonl").write_text(METRICS.replace("accuracy", "error").replace('"error": 1.0', '"error": 12.5'))
    assert read_metrics(tmp_path, spec) == {
        **{"error": 12.5, "loss": 0.25, "seconds": 8.0, "setup_seconds": 3.0, "samples_per_second": 2 * 5 * 64 / 8}
    }
    (tmp_path / "metrics.jsonl").write_text(METRICS.replace('"accuracy": 1.0', '"error": Infinity'))
    with pytest.raises(WindtunnelError, match=r"does not have the format in .*error is inf, expected a finite number"):
        read_metrics(tmp_path, spec)
