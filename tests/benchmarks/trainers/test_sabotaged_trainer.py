from dataclasses import replace

import numpy as np
import pytest

from benchmarks.trainers.sabotaged_trainer import KINDS, Sabotage
from train_server.lenet5.parity import judge
from train_server.lenet5.trainer import load_conditions, rehearse

FOUND_BY = {
    "no normalisation": "logits before the first step",
    "padding before normalising": "logits before the first step",
    "epsilon 1e-3": "losses up to step 10, float64",
    "betas swapped": "losses up to step 10, float64",
    "an epoch missing": "steps left out or added",
    "labels of 1 % shuffled": "losses up to step 10, float64",
    "samples in another order": "logits before the first step",
    "another initialisation": "logits before the first step",
    "learning rate 10 % higher": "losses up to step 10, float64",
    "weights in float16": "logits before the first step",
}


@pytest.fixture(scope="module")
def conditions(make_job):
    job = make_job(epochs=2)
    return load_conditions(job.spec_file, job.data, job.conditions)


def note(conditions, sabotage):
    """What a training notes, the labels that it predicts apart: these images are too few to judge by."""
    changed = sabotage.change(conditions)
    model = sabotage.trainer(changed, "float32")
    logits = model.probe(changed.order[0, 0])["logits"]
    losses = [model.train_epoch(order, rate) for order, rate in zip(changed.order, changed.learning_rate, strict=True)]
    return rehearse(sabotage.trainer, changed) | {
        "logits": logits,
        "losses": np.concatenate(losses),
        "predictions": conditions.test_labels.astype(np.int64),
    }


@pytest.mark.parametrize(("kind", "first"), FOUND_BY.items())
def test_each_kind_of_sabotage_is_found_by_the_first_number_that_it_changes(kind, first, conditions):
    probes = {"libtorch": note(conditions, Sabotage()), "pytorch": note(conditions, KINDS[kind])}
    missed = [check.name for check in judge(probes, conditions.test_labels, conditions.spec) if not check.passed]
    assert missed[0] == first


def test_pytorch_without_sabotage_misses_nothing(conditions):
    other = replace(conditions, order=np.concatenate([conditions.order[:, :1], conditions.order[:, 1:, ::-1]], axis=1))
    probes = {"libtorch": note(conditions, Sabotage()), "pytorch": note(other, Sabotage())}
    assert all(check.passed for check in judge(probes, conditions.test_labels, conditions.spec))


def test_no_kind_is_left_untested():
    assert set(KINDS) == set(FOUND_BY)
