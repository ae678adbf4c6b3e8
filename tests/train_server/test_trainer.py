"""The contract, kept by all trainers; what is particular to each is beside it in `lenet5/`, what the host does in `test_version.py`."""

import json
import re
from contextlib import suppress

import numpy as np
import psutil
import pytest
from safetensors.numpy import load_file, save_file

from tests.job import run, write_idx
from train_server.lenet5.model import LENET5
from train_server.lenet5.trainer import load_conditions
from windtunnel.errors import WindtunnelError
from windtunnel.files import sha256

PYTHON = ("pytorch", "tensorflow")


@pytest.fixture(params=PYTHON)
def framework(request):
    return request.param


@pytest.fixture
def job(make_job):
    return make_job()


def load(job):
    return load_conditions(job.spec_file, job.data, job.conditions)


def test_conditions_load_as_drawn(job):
    conditions = load(job)
    assert conditions.spec == job.spec
    assert conditions.order.shape == (2, 18, 16)
    assert conditions.learning_rate.shape == (2, 18)
    assert conditions.images.shape == (300, 28, 28)
    assert conditions.test_labels.shape == (48,)
    assert sum(weight.size for weight in conditions.weights.values()) == 61_706


@pytest.mark.parametrize("name", ["weights.safetensors", "schedule.safetensors"])
def test_missing_or_damaged_conditions_are_named(job, name):
    (job.conditions / name).write_bytes(b"short")
    with pytest.raises(WindtunnelError, match=r"the conditions in .* cannot be read \(.*\): draw them again"):
        load(job)
    (job.conditions / name).unlink()
    with pytest.raises(WindtunnelError, match=rf"{re.escape(str(job.conditions))} cannot be read \(.*{name}.*\): draw them again"):
        load(job)


def test_truncated_data_are_refused(job):
    file = job.data / "train-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(WindtunnelError, match="train-images-idx3-ubyte: found 235199 bytes after its header, expected 235200"):
        load(job)


def test_a_sample_order_beyond_the_data_is_refused(job):
    write_idx(job.data / "train-images-idx3-ubyte", np.zeros((200, 28, 28)))
    write_idx(job.data / "train-labels-idx1-ubyte", np.zeros(200))
    job.draw()
    with pytest.raises(WindtunnelError, match=r"the sample order does not match .*: found index \d+, expected less than 200"):
        load(job)


def test_a_bad_input_is_one_line_and_leaves_nothing(job, framework, tmp_path):
    (job.conditions / "weights.safetensors").unlink()
    done = job.run(framework, tmp_path / "out")
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert list((tmp_path / "out").iterdir()) == []


def test_wrong_flags_end_with_2(framework):
    done = run([*LENET5.framework(framework).command, "--spec", "x"])
    assert done.returncode == 2
    assert "give --spec, --data, --conditions and --out, or --verify alone" in done.stderr


@pytest.mark.parametrize("framework", LENET5.framework_names)
def test_a_version_is_whole(trained, framework):
    version = trained(framework)
    assert not version.with_name(f"{version.name}.partial").exists()
    manifest = json.loads((version / "manifest.json").read_text())
    files = {str(file.relative_to(version)): sha256(file) for file in version.rglob("*") if file.is_file()}
    del files["manifest.json"]
    assert manifest["files"] == files
    assert manifest["framework"] == framework
    assert manifest["environment"]["threads"] == 1
    assert manifest["environment"]["packages"].keys() == set(LENET5.framework(framework).packages)
    epochs = [json.loads(line) for line in (version / "metrics.jsonl").read_text().splitlines()]
    assert [epoch["epoch"] for epoch in epochs] == [1, 2]
    assert [epoch.get("setup_seconds") for epoch in epochs] == [manifest["metrics"]["setup_seconds"], None]
    assert manifest["metrics"]["loss"] == epochs[1]["loss"] < epochs[0]["loss"]
    assert manifest["metrics"]["seconds"] == pytest.approx(epochs[0]["seconds"] + epochs[1]["seconds"])
    losses = load_file(version / "probe.safetensors")["losses"]
    assert losses.dtype == np.float32
    assert losses.shape == (36,)
    assert losses[18:].mean() == pytest.approx(epochs[1]["loss"])


@pytest.mark.parametrize("framework", LENET5.framework_names)
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


@pytest.mark.parametrize("other", [framework for framework in LENET5.framework_names if framework != "pytorch"])
def test_the_frameworks_agree(trained, other):
    ours, theirs = (load_file(trained(framework) / "probe.safetensors") for framework in ("pytorch", other))
    assert {name: (value.shape, value.dtype) for name, value in ours.items()} == {
        name: (value.shape, value.dtype) for name, value in theirs.items()
    }
    assert np.abs(ours["logits"] - theirs["logits"]).max() <= 1e-5
    for name in ours.keys() - {"logits", "losses", "rehearsal"}:
        assert ours[name].dtype in (np.float64, np.int64), name
        assert np.abs(ours[name] - theirs[name]).max() <= 1e-9, name
        assert np.abs(ours[name]).max() > 1e-4, name
    assert np.abs(ours["losses"] - theirs["losses"])[:2].max() <= 1e-5
    assert ours["rehearsal"].dtype == np.float64
    assert np.abs(ours["rehearsal"] - theirs["rehearsal"]).max() <= 1e-9


@pytest.mark.parametrize("framework", LENET5.framework_names)
def test_the_same_conditions_train_the_same_model(make_job, trained, framework, tmp_path):
    done = make_job().run(framework, tmp_path / "again")
    assert (done.returncode, done.stderr) == (0, "")
    for name in ("golden.safetensors", "probe.safetensors"):
        assert sha256(tmp_path / "again" / name) == sha256(trained(framework) / name)


@pytest.mark.parametrize("framework", LENET5.framework_names)
def test_a_training_that_diverges_says_where(make_job, framework, tmp_path):
    done = make_job(learning_rate=1e30, schedule="constant").run(framework, tmp_path / "out")
    assert done.returncode == 1
    assert re.fullmatch(r"error: the loss is -?(nan|inf) in epoch 1, step \d+: train with a lower learning_rate\n", done.stderr)


def test_an_export_that_answers_otherwise_is_refused(trained, framework, tmp_path):
    golden = load_file(trained(framework) / "golden.safetensors")
    export = "model.pt" if framework == "pytorch" else "saved_model"
    (tmp_path / export).symlink_to(trained(framework) / export)
    verify = [*LENET5.framework(framework).command, "--verify", str(tmp_path)]

    save_file(golden, tmp_path / "golden.safetensors")
    assert run(verify).returncode == 0
    golden["logits"][3, 4] += 1e-3
    save_file(golden, tmp_path / "golden.safetensors")
    done = run(verify)
    assert done.returncode == 1
    assert f"{tmp_path / export} differs from its golden set by 1.0e-03 (expected at most 1e-05" in done.stderr
    assert done.stderr.endswith("and in 0 of 32 labels: train again\n")


@pytest.mark.parametrize("framework", LENET5.framework_names)
def test_a_killed_trainer_leaves_no_version_and_the_next_try_ends_right(make_job, framework, tmp_path):
    job, out = make_job(epochs=60), tmp_path / "out"

    def kill(line):
        if line.startswith("epoch 2/"):
            for child in psutil.Process().children():
                with suppress(psutil.ZombieProcess):  # another test's, for which nobody has waited
                    if str(out) in " ".join(child.cmdline()):
                        child.kill()

    with pytest.raises(WindtunnelError, match=f"the {framework} trainer was terminated by SIGKILL. Run its task again"):
        job.train(framework, out, kill)
    assert not out.exists()
    partial = out.with_name("out.partial")
    assert partial.is_dir()
    (partial / "left").write_text("by the first try")

    job.train(framework, out)
    assert len((out / "metrics.jsonl").read_text().splitlines()) == 60
    assert not (out / "left").exists()
    assert not partial.exists()
