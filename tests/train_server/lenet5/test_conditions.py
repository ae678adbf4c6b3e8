import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file

from tests.job import write_run
from train_server.conditions import draw_declared, write_conditions
from train_server.lenet5.conditions import draw_order, draw_weights, learning_rates
from train_server.lenet5.model import LENET5, Spec
from windtunnel.data.datasets import DataSet
from windtunnel.errors import WindtunnelError
from windtunnel.files import sha256
from windtunnel.run import Run


def make_spec(**fields):
    return Spec(**{"dataset": "mnist", "mean": 0.1307, "std": 0.3081, "samples": 1000} | fields)


@pytest.fixture
def job(make_job):
    return make_job()


def test_weights_are_lenet5s():
    weights = draw_weights(seed=1)
    assert sum(tensor.size for tensor in weights.values()) == 61_706
    assert all(tensor.dtype == np.float32 for tensor in weights.values())
    assert np.abs(weights["c3.weight"]).max() <= 1 / np.sqrt(6 * 25)
    assert np.abs(weights["c3.weight"]).max() > 0.95 / np.sqrt(6 * 25)


def test_weights_follow_from_the_seed_alone():
    assert all(np.array_equal(one, other) for one, other in zip(draw_weights(3).values(), draw_weights(3).values(), strict=True))
    assert not np.array_equal(draw_weights(3)["c1.weight"], draw_weights(4)["c1.weight"])


@given(
    available=st.integers(1, 300),
    share=st.floats(0.01, 1),
    batch_size=st.integers(1, 50),
    epochs=st.integers(1, 4),
    seed=st.integers(0, 2**63 - 1),
)
def test_an_epoch_visits_each_chosen_sample_once_at_most(available, share, batch_size, epochs, seed):
    samples = max(1, int(available * share))
    batch_size = min(batch_size, samples)
    spec = make_spec(samples=samples, batch_size=batch_size, epochs=epochs, seed=seed)
    order = draw_order(spec, available)
    assert order.shape == (epochs, samples // batch_size, batch_size)
    assert order.dtype == np.int32
    for epoch in order:
        assert len(np.unique(epoch)) == epoch.size
    assert 0 <= order.min() <= order.max() < available
    assert len(np.unique(order)) <= samples


def test_epochs_differ_and_the_chosen_samples_stay():
    order = draw_order(make_spec(samples=128, batch_size=64, epochs=2), available=1000)
    assert not np.array_equal(order[0], order[1])
    assert np.array_equal(np.sort(order[0], axis=None), np.sort(order[1], axis=None))


def test_a_constant_schedule_is_constant():
    assert np.array_equal(learning_rates(make_spec(schedule="constant", epochs=2)), np.full(30, 0.01))


def test_a_cosine_schedule_warms_up_over_a_tenth_and_falls_to_zero():
    rates = learning_rates(make_spec(samples=6400, epochs=2))
    assert len(rates) == 200
    assert np.allclose(rates[:20], 0.01 * np.arange(1, 21) / 20)
    assert rates[20] == pytest.approx(0.01)
    assert rates[110] == pytest.approx(0.005)
    assert (np.diff(rates[20:]) < 0).all()
    assert 0 < rates[-1] < 1e-6


@pytest.mark.parametrize("steps", [1, 2, 9])
def test_a_schedule_of_few_steps_trains(steps):
    rates = learning_rates(make_spec(samples=64 * steps, epochs=1))
    assert len(rates) == steps
    assert np.isfinite(rates).all()
    assert rates.max() == pytest.approx(0.01)


def test_conditions_name_what_they_hold_and_are_the_same_bytes_each_time(tmp_path):
    data = DataSet("mnist", tmp_path, 0.1307, 0.3081, {"train-images-idx3-ubyte": "0" * 64})
    run = Run(tmp_path / "run")
    (tmp_path / "run").mkdir()
    write_run(make_spec(), data, 1000, run)
    first = {file.name: sha256(file) for file in run.conditions.iterdir()}
    write_run(make_spec(), data, 1000, run)
    assert {file.name: sha256(file) for file in run.conditions.iterdir()} == first
    content = json.loads((run.conditions / "conditions.json").read_text())
    assert content["files"] == {
        "spec.json": sha256(run.spec_file),
        "weights.safetensors": first["weights.safetensors"],
        "schedule.safetensors": first["schedule.safetensors"],
    }
    assert content["dataset"] == data.lineage()
    assert load_file(run.conditions / "schedule.safetensors")["order"].shape == (5, 15, 64)


def test_the_same_choice_gives_the_bytes_that_it_has_always_given(job, tmp_path):
    chosen = {"epochs": 2, "learning_rate": 0.02, "batch_size": 16, "schedule": "constant", "seed": 3, "threads": 1}
    run = Run(tmp_path / "run")
    spec = write_conditions(run, job.content, lambda directory: draw_declared(LENET5, job.content, chosen, directory))
    assert (spec.samples, spec.mean, spec.std) == (300, 0.2, 0.3)
    first = {file.name: sha256(file) for file in (run.spec_file, *run.conditions.iterdir())}
    del first["conditions.json"]  # names the data, too
    assert first == {
        "spec.json": "c1eacc7f9023b86543ffad2c334982d6e7e69236ae33639aef457daa829627dc",
        "weights.safetensors": "95e86fe58b49f59e8776e6ea39db923364af9d791547648190cfd391fb46784b",
        "schedule.safetensors": "fe60b0d70df2ba1550a973492ef56f896f1073238af5cb91e5d2dd27831c350e",
    }
    content = json.loads((run.conditions / "conditions.json").read_text())
    assert content == {"files": first, "dataset": job.content.lineage()}


@pytest.mark.parametrize(
    ("chosen", "says"),
    [
        ({"samples": 301}, "samples is 301, expected at most 300, the training images of tiny, or all"),
        ({"samples": 63}, "the spec is invalid: samples is 63, less than one batch of 64: use more, or a smaller batch_size"),
        ({"epochs": 0}, r"the spec is invalid: epochs: Input should be greater than 0 \(found 0\)"),
        ({"dropout": 0.5}, r"the spec is invalid: dropout: unknown name, correct or remove it \(found 0.5\)"),
    ],
)
def test_what_cannot_be_trained_is_refused_and_leaves_nothing(job, tmp_path, chosen, says):
    run = Run(tmp_path / "run")
    with pytest.raises(WindtunnelError, match=says):
        write_conditions(run, job.content, lambda directory: draw_declared(LENET5, job.content, chosen, directory))
    assert list(run.directory.iterdir()) == []
