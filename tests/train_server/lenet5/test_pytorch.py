import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from tests.train_server.lenet5.adam import follow
from train_server.lenet5.pytorch import PyTorch
from train_server.lenet5.trainer import load_conditions


@pytest.fixture(scope="module")
def model(trained):
    return torch.jit.load(trained("pytorch") / "model.pt")


@pytest.mark.parametrize("count", [1, 8, 64])
def test_the_export_answers_any_number_of_images(trained, model, count):
    golden = {name: np.concatenate([value, value])[:count] for name, value in load_file(trained("pytorch") / "golden.safetensors").items()}
    outputs = model(torch.from_numpy(golden["image"]))
    assert outputs.keys() == {"logits", "probabilities"}
    for name, output in outputs.items():
        assert output.dtype == torch.float32
        assert np.abs(output.numpy(force=True) - golden[name]).max() <= 1e-5


def test_the_export_has_a_typed_forward(model):
    assert str(model.forward.schema) == "forward(__torch__.Served self, Tensor image) -> Dict(str, Tensor)"
    assert sum(weight.numel() for weight in model.parameters()) == 61_706


def test_the_step_is_the_contracts_adam(make_job):
    job = make_job()
    conditions = load_conditions(job.spec_file, job.data, job.conditions)
    trainer = PyTorch(conditions, "float32")
    wanted = follow(trainer, conditions, steps=10)
    for name, weight in trainer.model.named_parameters():
        assert np.abs(weight.numpy(force=True) - wanted[name]).max() <= 1e-7, name
        assert np.abs(wanted[name] - conditions.weights[name]).max() > 1e-3, name
