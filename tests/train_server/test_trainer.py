"""The contract, kept by both Python trainers; what is particular to each is beside it in `lenet5/`."""

import json
import re
import signal
import subprocess

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.job import REPOSITORY, run, write_idx
from tests.processes import started
from train_server.train import PROGRAMS
from train_server.trainer import load_conditions
from windtunnel.errors import WindtunnelError
from windtunnel.files import sha256
from windtunnel.spec import FRAMEWORKS

PYTHON = ("pytorch", "tensorflow")


@pytest.fixture(params=PYTHON)
def framework(request):
    return request.param


@pytest.fixture
def job(make_job):
    return make_job()


def load(job):
    return load_conditions(job.spec_file, job.data, job.conditions)


def change_a_byte(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def test_conditions_load_as_drawn(job):
    conditions = load(job)
    assert conditions.spec == job.spec
    assert conditions.order.shape == (2, 18, 16)
    assert conditions.learning_rate.shape == (2, 18)
    assert conditions.images.shape == (300, 28, 28)
    assert conditions.test_labels.shape == (48,)
    assert sum(weight.size for weight in conditions.weights.values()) == 61_706


@pytest.mark.parametrize("name", ["weights.safetensors", "schedule.safetensors"])
def test_a_changed_byte_in_the_conditions_is_refused(job, name):
    change_a_byte(job.conditions / name)
    with pytest.raises(WindtunnelError, match=rf"{name} has SHA-256 .* wants .*: draw the conditions again"):
        load(job)


def test_another_spec_is_refused(job):
    job.spec_file.write_text(job.spec.model_copy(update={"learning_rate": 0.02}).model_dump_json())
    with pytest.raises(WindtunnelError, match=r"spec\.json has SHA-256"):
        load(job)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"files": {}, "dataset": {}}'])
def test_malformed_conditions_are_refused(job, content):
    (job.conditions / "conditions.json").write_text(content)
    with pytest.raises(WindtunnelError, match=r"conditions\.json is malformed .*: draw the conditions again"):
        load(job)


@pytest.mark.parametrize("name", ["conditions.json", "weights.safetensors", "schedule.safetensors"])
def test_missing_conditions_are_named(job, name):
    (job.conditions / name).unlink()
    with pytest.raises(WindtunnelError, match=rf"{name} cannot be read \(No such file or directory\)"):
        load(job)


def test_truncated_data_are_refused(job):
    file = job.data / "train-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(WindtunnelError, match="train-images-idx3-ubyte promises 235200 bytes after its header and holds 235199"):
        load(job)


@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"])
def test_data_that_the_conditions_were_not_drawn_for_are_refused(job, name):
    file = job.data / name
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(WindtunnelError, match=name):
        load(job)


def test_more_images_than_labels_are_refused(job):
    write_idx(job.data / "train-labels-idx1-ubyte", np.zeros(299))
    job.draw()
    with pytest.raises(WindtunnelError, match=r"300 images .* 299 labels"):
        load(job)


def test_a_sample_order_beyond_the_data_is_refused(job):
    write_idx(job.data / "train-images-idx3-ubyte", np.zeros((200, 28, 28)))
    write_idx(job.data / "train-labels-idx1-ubyte", np.zeros(200))
    job.draw()
    with pytest.raises(WindtunnelError, match=r"has 200 training images, the sample order asks for number \d+"):
        load(job)


def test_a_bad_input_is_one_line_and_leaves_nothing(job, framework, tmp_path):
    change_a_byte(job.conditions / "weights.safetensors")
    done = job.run(framework, tmp_path / "out")
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_wrong_flags_end_with_2(framework):
    done = run([*PROGRAMS["lenet5"][framework], "--spec", "x"])
    assert done.returncode == 2
    assert "give --spec, --data, --conditions and --out, or --verify alone" in done.stderr


def test_an_existing_out_is_an_error_and_stays(job, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("dear")
    done = job.run("pytorch", tmp_path / "out")
    assert done.returncode == 1
    assert done.stderr == f"error: {tmp_path / 'out'} exists: choose another --out, or remove it\n"
    assert (tmp_path / "out" / "mine").read_text() == "dear"


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_version_is_whole(trained, framework):
    version = trained(framework)
    assert not version.with_name("version.partial").exists()
    manifest = json.loads((version / "manifest.json").read_text())
    files = {str(file.relative_to(version)): sha256(file) for file in version.rglob("*") if file.is_file()}
    del files["manifest.json"]
    assert manifest["files"] == files
    assert manifest["framework"] == framework
    assert manifest["environment"]["threads"] == 1
    epochs = [json.loads(line) for line in (version / "metrics.jsonl").read_text().splitlines()]
    assert [epoch["epoch"] for epoch in epochs] == [1, 2]
    assert manifest["metrics"]["loss"] == epochs[1]["loss"] < epochs[0]["loss"]
    assert manifest["metrics"]["seconds"] == pytest.approx(epochs[0]["seconds"] + epochs[1]["seconds"])
    losses = load_file(version / "probe.safetensors")["losses"]
    assert losses.dtype == np.float32
    assert losses.shape == (36,)
    assert losses[18:].mean() == pytest.approx(epochs[1]["loss"])


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_golden_set_holds_pixels_and_answers(trained, framework):
    golden = load_file(trained(framework) / "golden.safetensors")
    assert {name: (value.shape, value.dtype.name) for name, value in golden.items()} == {
        "image": ((32, 28, 28, 1), "float32"),
        "logits": ((32, 10), "float32"),
        "probabilities": ((32, 10), "float32"),
        "label": ((32,), "int64"),
    }
    assert golden["image"].max() > 1
    assert np.allclose(golden["probabilities"].sum(1), 1)
    assert np.array_equal(golden["probabilities"].argmax(1), golden["label"])


@pytest.mark.parametrize("other", ["libtorch", "tensorflow"])
def test_the_frameworks_agree(trained, other):
    ours, theirs = (load_file(trained(framework) / "probe.safetensors") for framework in ("pytorch", other))
    assert {name: (value.shape, value.dtype) for name, value in ours.items()} == {
        name: (value.shape, value.dtype) for name, value in theirs.items()
    }
    assert np.abs(ours["logits"] - theirs["logits"]).max() <= 1e-5
    for name in ours.keys() - {"logits", "losses", "rehearsal"}:
        assert np.abs(ours[name] - theirs[name]).max() <= 1e-6, name
        assert np.abs(ours[name]).max() > 1e-4, name
    assert np.abs(ours["losses"] - theirs["losses"])[:2].max() <= 1e-5
    assert ours["rehearsal"].dtype == np.float64
    assert np.abs(ours["rehearsal"] - theirs["rehearsal"]).max() <= 1e-9


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_same_conditions_train_the_same_model(make_job, trained, framework, tmp_path):
    assert make_job().run(framework, tmp_path / "again").returncode == 0
    for name in ("golden.safetensors", "probe.safetensors"):
        assert sha256(tmp_path / "again" / name) == sha256(trained(framework) / name)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_training_that_diverges_says_where(make_job, framework, tmp_path):
    done = make_job(learning_rate=1e30, schedule="constant").run(framework, tmp_path / "out")
    assert done.returncode == 1
    assert re.fullmatch(r"error: the loss is -?(nan|inf) in epoch 1, step \d+: train with a lower learning_rate\n", done.stderr)
    assert not (tmp_path / "out").exists()


def test_an_export_that_answers_otherwise_is_refused(trained, framework, tmp_path):
    golden = load_file(trained(framework) / "golden.safetensors")
    export = "model.pt" if framework == "pytorch" else "saved_model"
    (tmp_path / export).symlink_to(trained(framework) / export)
    verify = [*PROGRAMS["lenet5"][framework], "--verify", str(tmp_path)]

    save_file(golden, tmp_path / "golden.safetensors")
    assert run(verify).returncode == 0
    golden["logits"][3, 4] += 1e-3
    save_file(golden, tmp_path / "golden.safetensors")
    done = run(verify)
    assert done.returncode == 1
    assert f"{tmp_path / export} differs from its golden set by 1.0e-03 (allowed are 1e-05" in done.stderr
    assert done.stderr.endswith("and in 0 labels of 32: train again\n")


def test_a_killed_trainer_leaves_no_version_and_the_next_try_ends_right(make_job, framework, tmp_path):
    job, out = make_job(epochs=60), tmp_path / "out"
    with started(job.command(framework, out), cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("epoch 2/"):
                process.send_signal(signal.SIGKILL)
        process.wait()
    assert process.returncode == -signal.SIGKILL
    assert not out.exists()
    partial = out.with_name("out.partial")
    assert partial.is_dir()
    (partial / "left").write_text("by the first try")

    done = job.run(framework, out)
    assert (done.returncode, done.stderr) == (0, "")
    assert len((out / "metrics.jsonl").read_text().splitlines()) == 60
    assert not (out / "left").exists()
    assert not partial.exists()
