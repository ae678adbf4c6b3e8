"""What the Python trainers share."""

import dataclasses
import json

import numpy as np
import pytest

from train_server.contract import note_epoch, verify_golden
from train_server.lenet5.model import LENET5, Spec
from windtunnel.errors import WindtunnelError
from windtunnel.model import Output, find_model

SPEC = Spec(dataset="mnist", mean=0.1307, std=0.3081, samples=128)
LOSSES = np.array([0.5, 0.25], np.float32)
FILE_NAME = "model.pt"
SCORED = dataclasses.replace(LENET5, outputs=(Output("scores", (3,)), Output("distance", ())))
SCORES = np.array([[0, 1, 2], [5, 1, 0]], np.float32)
GOLDEN = {"image": np.zeros((2, 28, 28, 1), np.float32), "scores": SCORES, "distance": np.ones(2, np.float32), "label": np.array([2, 0])}


def test_an_epoch_is_noted_and_told(tmp_path, capsys):
    for epoch, accuracy in ((1, 0.25), (2, 0.99056)):
        note_epoch(tmp_path, SPEC, epoch, LOSSES, accuracy, 2.0, 3.0)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    shared = {"loss": 0.375, "seconds": 2.0, "samples_per_second": 64.0}
    assert [json.loads(line) for line in lines] == [
        {"epoch": 1, "accuracy": 0.25, "setup_seconds": 3.0, **shared},
        {"epoch": 2, "accuracy": 0.99056, **shared},
    ]
    assert lines[1] == '{"epoch": 2, "loss": 0.375, "accuracy": 0.99056, "seconds": 2.0, "samples_per_second": 64.0}'
    assert capsys.readouterr().out.splitlines()[1] == "epoch 2/5  loss 0.3750  accuracy 99.06 %  2.0 s  64 samples/s"


@pytest.mark.usefixtures("extension")
def test_an_epoch_of_another_model_has_the_metric_that_the_model_declares(tmp_path, capsys):
    note_epoch(tmp_path, find_model("blobs").spec(dataset="drawn", samples=128), 1, LOSSES, 12.5, 2.0, 3.0)
    assert json.loads((tmp_path / "metrics.jsonl").read_text())["error"] == 12.5
    assert "  error 12.500  " in capsys.readouterr().out


def test_a_loss_that_is_not_finite_is_refused(tmp_path):
    with pytest.raises(WindtunnelError, match="the loss is inf in epoch 1, step 2: train with a lower learning_rate"):
        note_epoch(tmp_path, SPEC, 1, np.array([0.5, np.inf]), 0.1, 2.0, 3.0)
    assert list(tmp_path.iterdir()) == []


def test_an_export_with_its_golden_sets_outputs_is_verified(tmp_path, capsys):
    verify_golden(tmp_path / FILE_NAME, {"scores": SCORES, "distance": GOLDEN["distance"]}, GOLDEN, SCORED)
    assert capsys.readouterr().out == "model.pt verified against the golden set  largest difference 0.0e+00\n"


@pytest.mark.parametrize(
    ("changes", "golden", "says"),
    [
        (
            {"distance": GOLDEN["distance"] + 0.5},
            {},
            "differs from its golden set by 5.0e-01 (expected at most 1e-05, absolute and relative)",
        ),
        ({"scores": SCORES * np.nan}, {}, "differs from its golden set by nan"),
        ({}, {"label": np.array([2, 1])}, "and in 1 of 2 labels: train again"),
        ({"distance": GOLDEN["distance"][:, None]}, {}, "answers distance of shape [2, 1], expected shape [2]: train again"),
        ({"distance": None}, {}, "answers distance of nothing, expected shape [2]: train again"),
    ],
)
def test_an_export_that_differs_is_an_error(tmp_path, changes, golden, says):
    outputs = {"scores": SCORES, "distance": GOLDEN["distance"]} | changes
    with pytest.raises(WindtunnelError) as raised:
        verify_golden(
            tmp_path / FILE_NAME, {name: values for name, values in outputs.items() if values is not None}, GOLDEN | golden, SCORED
        )
    assert str(raised.value).startswith(f"{tmp_path / FILE_NAME} ")
    assert says in str(raised.value)
