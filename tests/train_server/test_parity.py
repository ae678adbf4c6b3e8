import json

import numpy as np
import pytest

from tests.versions import make_version
from train_server.parity import certify, is_reference
from windtunnel.errors import WindtunnelError
from windtunnel.files import write_json
from windtunnel.run import Run
from windtunnel.spec import FRAMEWORKS, Spec

REFERENCE = Spec(dataset="mnist", mean=0.1307, std=0.3081, samples=60_000)


def probe(**changes):
    generator = np.random.default_rng(1)
    tensors = {
        "logits": generator.normal(size=(64, 10)),
        "gradient.c1.weight": generator.normal(size=(6, 1, 5, 5)),
        "gradient.c1.bias": generator.normal(size=6),
        "losses": generator.uniform(size=200),
        "rehearsal": generator.uniform(size=101),
    }
    for name, change in changes.items():
        tensors[name.replace("__", ".")] = tensors[name.replace("__", ".")] + change
    return {name: tensor.astype(np.float64 if name == "rehearsal" else np.float32) for name, tensor in tensors.items()}


@pytest.fixture
def make_run(tmp_path):
    """Makes a run whose versions have these probes and accuracies."""

    def make(probes, accuracies=None, specs=None):
        lineage = {"dag_id": "lenet5", "run_id": "1", "git_commit": "c0ffee", "mlflow_run": "parent", "frameworks": list(probes)}
        write_json(tmp_path / "lineage.json", lineage)
        for framework, tensors in probes.items():
            accuracy = (accuracies or {}).get(framework, 0.9905)
            make_version(tmp_path / framework, framework, (specs or {}).get(framework, REFERENCE), tensors, accuracy)
        return Run(tmp_path)

    return make


def missed(run):
    return [(check.name, check.who) for check in certify(run) if not check.passed]


def at(index, value, size=101):
    change = np.zeros(size)
    change[index] = value
    return change


def test_equal_trainings_pass_every_check(make_run):
    run = make_run({framework: probe() for framework in FRAMEWORKS})
    assert missed(run) == []
    assert len(certify(run)) == 3 * 6 + 1 + 3  # six numbers a pair, the spread, an accuracy each


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"logits": 2e-5}, "logits before the first step"),
        ({"gradient__c1__bias": 3e-6}, "first gradients"),
        ({"rehearsal": at(10, 2e-9)}, "losses up to step 10, float64"),
        ({"rehearsal": at(100, 2e-9)}, "losses up to step 100, float64"),
        ({"rehearsal": at(100, np.nan)}, "losses up to step 100, float64"),
    ],
)
def test_each_number_is_held_to_its_limit(make_run, changes, name):
    assert missed(make_run({"libtorch": probe(**changes), "pytorch": probe()}))[0] == (name, "libtorch, pytorch")


def test_drift_in_float32_is_shown_and_not_judged(make_run):
    run = make_run({"libtorch": probe(), "tensorflow": probe(losses=at(100, 0.02, size=200))})
    assert missed(run) == []
    assert {check.name: check.value for check in certify(run)}["losses up to step 100, float32"] == pytest.approx(0.02, abs=1e-6)


def test_a_spread_of_more_than_0_3_points_is_missed(make_run):
    run = make_run({"libtorch": probe(), "pytorch": probe()}, {"libtorch": 0.9935, "pytorch": 0.9904})
    assert [name for name, _ in missed(run)] == ["spread of the test accuracies"]


def test_an_accuracy_below_98_9_on_mnist_is_missed(make_run):
    run = make_run({"libtorch": probe(), "pytorch": probe()}, {"libtorch": 0.9891, "pytorch": 0.9889})
    assert missed(run) == [("test accuracy on MNIST", "pytorch")]


def test_a_short_run_is_held_to_chance_and_to_the_steps_it_made(make_run):
    spec = REFERENCE.model_copy(update={"samples": 1000, "epochs": 1})
    short = {name: tensor[:15] if name in ("losses", "rehearsal") else tensor for name, tensor in probe().items()}
    run = make_run({"libtorch": short, "pytorch": short}, {"libtorch": 0.90, "pytorch": 0.91}, {"libtorch": spec, "pytorch": spec})
    checks = certify(run)
    assert [check.name for check in checks] == [
        "logits before the first step",
        "first gradients",
        "losses up to step 10, float64",
        "losses up to step 10, float32",
        "spread of the test accuracies",
    ]
    assert all(check.passed for check in checks)
    assert checks[-1].limit == pytest.approx(0.0166, abs=1e-4)


def test_one_framework_alone_is_held_to_its_accuracy(make_run):
    assert [check.who for check in certify(make_run({"pytorch": probe()}))] == ["pytorch"]


def test_other_conditions_are_not_compared(make_run):
    specs = {"pytorch": REFERENCE.model_copy(update={"seed": 2})}
    with pytest.raises(WindtunnelError, match="pytorch was trained with another spec"):
        certify(make_run({"libtorch": probe(), "pytorch": probe()}, specs=specs))


def test_a_missing_version_is_named(make_run, tmp_path):
    run = make_run({"libtorch": probe()})
    lineage = json.loads((tmp_path / "lineage.json").read_text())
    write_json(tmp_path / "lineage.json", lineage | {"frameworks": ["libtorch", "tensorflow"]})
    with pytest.raises(WindtunnelError, match=r"tensorflow/manifest\.json cannot be read"):
        certify(run)


def test_only_the_reference_run_has_a_known_accuracy():
    assert is_reference(REFERENCE)
    assert is_reference(REFERENCE.model_copy(update={"epochs": 10, "seed": 9, "threads": 1}))
    for change in ({"epochs": 4}, {"samples": 59_999}, {"schedule": "constant"}, {"learning_rate": 0.02}, {"batch_size": 32}):
        assert not is_reference(REFERENCE.model_copy(update=change))
