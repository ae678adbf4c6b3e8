import json

import numpy as np
import pytest

from tests.versions import make_version
from train_server.certificate import tabulate
from train_server.lenet5.model import LENET5, Spec
from train_server.lenet5.parity import EXPLANATION, certify, is_reference, judge
from windtunnel.data.datasets import KNOWN, find, locate
from windtunnel.errors import WindtunnelError
from windtunnel.files import write_json
from windtunnel.run import Run
from windtunnel.tables import render

REFERENCE = Spec(dataset="mnist", mean=0.1307, std=0.3081, samples=60_000)
FASHION = REFERENCE.model_copy(update={"dataset": "fashion_mnist"})
SHORT = REFERENCE.model_copy(update={"samples": 1000, "epochs": 1})
LABELS = np.random.default_rng(2).integers(0, 10, 10_000)


def probe(labels=LABELS, wrong=slice(0, 95), **changes):
    """What a trainer notes that takes the images `wrong` for others, with `changes` added to its tensors."""
    generator = np.random.default_rng(1)
    tensors = {
        "logits": generator.normal(size=(64, 10)),
        "gradient.c1.weight": generator.normal(size=(6, 1, 5, 5)),
        "gradient.c1.bias": generator.normal(size=6),
        "losses": generator.uniform(size=REFERENCE.steps),
        "rehearsal": generator.uniform(size=101),
    }
    for name, change in changes.items():
        tensors[name.replace("__", ".")] = tensors[name.replace("__", ".")] + change
    predictions = labels.astype(np.int64)
    predictions[wrong] = (predictions[wrong] + 1) % 10
    return {name: tensor.astype(np.float32 if name in ("logits", "losses") else np.float64) for name, tensor in tensors.items()} | {
        "predictions": predictions
    }


def cut(probe, steps):
    """What it would have noted of a run of so many steps."""
    return {name: tensor[:steps] if name in ("losses", "rehearsal") else tensor for name, tensor in probe.items()}


def disagreeing(first, second):
    """Two probes with so many images that only the first, and only the second, gets right; both are wrong on 500."""
    both = np.arange(500)
    return {
        "libtorch": probe(wrong=np.r_[both, 1000 : 1000 + second]),
        "pytorch": probe(wrong=np.r_[both, 5000 : 5000 + first]),
    }


@pytest.fixture
def make_run(tmp_path):
    """Makes a run whose versions have these probes."""

    def make(probes, specs=None):
        lineage = {"dag_id": "lenet5", "run_id": "1", "git_commit": "c0ffee", "mlflow_run": "parent", "frameworks": list(probes)}
        write_json(tmp_path / "lineage.json", lineage)
        write_json(tmp_path / "spec.json", (specs or {}).get("libtorch", REFERENCE).model_dump())
        for framework, tensors in probes.items():
            make_version(tmp_path / framework, framework, (specs or {}).get(framework, REFERENCE), tensors)
        return Run(tmp_path)

    return make


def missed(probes, spec=REFERENCE):
    return [(check.name, check.who) for check in judge(probes, LABELS, spec) if not check.passed]


def at(index, value, size=101):
    change = np.zeros(size)
    change[index] = value
    return change


def test_equal_trainings_pass_every_check():
    probes = {framework: probe() for framework in LENET5.framework_names}
    assert missed(probes) == []
    assert len(judge(probes, LABELS, REFERENCE)) == 6 * 6 + 4 + 6 * 2 + 4  # of each pair, its steps, its answers, and the accuracies


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"logits": 2e-5}, "logits before the first step"),
        ({"gradient__c1__bias": 2e-9}, "first gradients, float64"),
        ({"rehearsal": at(10, 2e-9)}, "losses up to step 10, float64"),
        ({"rehearsal": at(100, 2e-9)}, "losses up to step 100, float64"),
        ({"rehearsal": at(100, np.nan)}, "losses up to step 100, float64"),
        ({"logits": np.nan}, "logits before the first step"),
        ({"gradient__c1__bias": np.nan}, "first gradients, float64"),
    ],
)
def test_each_number_is_held_to_its_limit(changes, name):
    assert missed({"libtorch": probe(**changes), "pytorch": probe()})[0] == (name, "libtorch, pytorch")


def test_drift_in_float32_is_shown_and_not_judged():
    probes = {"libtorch": probe(), "tensorflow": probe(losses=at(100, 0.02, size=REFERENCE.steps))}
    assert missed(probes) == []
    found = {check.name: check.value for check in judge(probes, LABELS, REFERENCE)}
    assert found["losses up to step 100, float32"] == pytest.approx(0.02, abs=1e-6)


@pytest.mark.parametrize("steps", [REFERENCE.steps - 937, 101, REFERENCE.steps + 1])
def test_an_epoch_that_is_missing_or_too_many_is_missed(steps):
    longer = probe(losses=at(0, 0, size=REFERENCE.steps))
    longer["losses"] = np.append(longer["losses"], np.float32(0.01))
    probes = {"libtorch": probe(), "pytorch": cut(longer, steps)}
    assert missed(probes) == [("steps left out or added", "pytorch")]


def test_losses_that_stop_before_the_others_pass_no_check():
    missing = [name for name, _ in missed({"libtorch": probe(), "pytorch": cut(probe(), 90)})]
    assert missing == ["losses up to step 100, float64", "steps left out or added"]


# The answers to the test images


@pytest.mark.parametrize(("first", "second"), [(295, 254), (245, 204), (232, 232), (0, 0), (6, 0)])
def test_as_far_apart_as_equal_trainings_on_fashion_mnist_were_passes(first, second):
    """0.41 points have been seen in an honest run, and 464 images that only one of two equal trainings gets right."""
    assert missed(disagreeing(first, second), FASHION) == []


@pytest.mark.parametrize(("first", "second"), [(350, 200), (200, 350), (60, 4)])
def test_farther_apart_than_chance_makes_them_is_missed(first, second):
    assert missed(disagreeing(first, second), FASHION) == [("difference of the test accuracies", "libtorch, pytorch")]


def test_the_certificate_says_what_was_found_what_chance_gives_and_the_verdict():
    checks = judge(disagreeing(900, 500), LABELS, FASHION)
    discordant, difference = checks[-2:]
    assert (discordant.name, discordant.found, discordant.limit) == ("test images that only one gets right", "1,400", None)
    assert difference.value == 0.04
    assert 0.01 < difference.limit < 0.03
    text = render(tabulate(checks, EXPLANATION))
    rows = {row.split("│")[1].strip(): [cell.strip() for cell in row.split("│")[2:-1]] for row in text.splitlines() if row.startswith("│")}
    assert rows["test images that only one gets right"] == ["libtorch, pytorch", "1,400", "", ""]
    assert rows["difference of the test accuracies"] == ["libtorch, pytorch", "0.04", f"at most {difference.limit:.3g}", "MISSED"]
    assert "allows for chance: 99.9% of runs with equal trainings stay within it." in " ".join(text.split())
    assert str(difference) == f"difference of the test accuracies (libtorch, pytorch): found 0.04, expected at most {difference.limit:.3g}"


def test_every_two_frameworks_are_compared():
    worse = probe(wrong=slice(0, 600))
    pairs = [who for _, who in missed({"libtorch": probe(), "pytorch": worse, "tensorflow": probe()}, FASHION)]
    assert pairs == ["libtorch, pytorch", "pytorch, tensorflow"]


def test_a_short_run_is_held_to_more_chance_and_to_the_steps_it_made():
    probes = {framework: cut(probes, 15) for framework, probes in disagreeing(150, 55).items()}
    checks = judge(probes, LABELS, SHORT)
    assert [check.name for check in checks] == [
        "logits before the first step",
        "first gradients, float64",
        "losses up to step 10, float64",
        "losses up to step 10, float32",
        "steps left out or added",
        "steps left out or added",
        "test images that only one gets right",
        "difference of the test accuracies",
    ]
    assert all(check.passed for check in checks)
    assert missed(disagreeing(150, 55), FASHION) == [("difference of the test accuracies", "libtorch, pytorch")]


def test_a_learning_rate_at_which_a_training_may_collapse_is_not_judged_by_its_accuracies():
    probes = disagreeing(2000, 100)
    assert missed(probes, SHORT.model_copy(update={"samples": 60_000, "epochs": 5, "learning_rate": 0.03}))
    assert not missed(probes, FASHION.model_copy(update={"learning_rate": 0.031}))


def test_an_accuracy_below_98_9_on_mnist_is_missed():
    probes = {"libtorch": probe(wrong=slice(0, 109)), "pytorch": probe(wrong=slice(0, 111))}
    assert missed(probes) == [("test accuracy on MNIST", "pytorch")]
    assert missed(probes, FASHION) == []


def test_one_framework_alone_is_held_to_its_steps_and_its_accuracy():
    checks = judge({"pytorch": probe()}, LABELS, REFERENCE)
    assert [(check.name, check.who) for check in checks] == [
        ("steps left out or added", "pytorch"),
        ("test accuracy on MNIST", "pytorch"),
    ]


def test_predictions_of_other_images_are_refused():
    with pytest.raises(WindtunnelError, match=r"pytorch has a wrong number of predictions: found 9999, expected 10000, .*\. Train again"):
        judge({"libtorch": probe(), "pytorch": probe(labels=LABELS[:-1])}, LABELS, REFERENCE)


# A run


def test_a_run_is_held_against_the_labels_of_its_data_set(make_run):
    name = next(name for name, known in KNOWN.items() if find(known))
    spec = SHORT.model_copy(update={"dataset": name})
    labels = locate(name).test()[1]
    probes = {
        framework: cut(probe(labels, slice(0, wrong)), 15)
        for framework, wrong in zip(LENET5.default_frameworks, (950, 955, 2000), strict=True)
    }
    run = make_run(probes, dict.fromkeys(LENET5.default_frameworks, spec))
    assert [(check.who, check.value) for check in certify(run) if not check.passed] == [
        ("libtorch, tensorflow", 0.105),
        ("pytorch, tensorflow", 0.1045),
    ]


def test_other_conditions_are_not_compared(make_run):
    specs = {"pytorch": REFERENCE.model_copy(update={"seed": 2})}
    with pytest.raises(WindtunnelError, match="pytorch was trained with a different spec"):
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
