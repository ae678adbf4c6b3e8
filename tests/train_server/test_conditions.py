"""What the conditions of all models have in common; LeNet-5's own are in `lenet5/`."""

import json
from dataclasses import replace

import pytest

from train_server import conditions
from train_server.conditions import choose_frameworks, draw_declared, main, parse_fields, write_conditions
from windtunnel.errors import WindtunnelError
from windtunnel.files import sha256
from windtunnel.model import find_model
from windtunnel.run import Run


@pytest.fixture
def blobs(extension):
    return find_model("blobs")


@pytest.fixture
def noted(monkeypatch):
    """What is told to MLflow of the run, which is not there."""
    calls = []
    monkeypatch.setattr(conditions, "note_lineage", lambda *arguments: calls.append(arguments))
    return calls


def draw(model, run, **chosen):
    data = model.load(model.data)("auto")
    return write_conditions(run, data, lambda directory: draw_declared(model, data, chosen, directory))


def test_frameworks_are_those_named():
    lenet5 = find_model("lenet5")
    assert choose_frameworks(lenet5, "tensorflow,libtorch") == ("libtorch", "tensorflow")
    assert choose_frameworks(lenet5, "") == ("libtorch", "pytorch", "tensorflow")
    with pytest.raises(WindtunnelError, match="framework 'jax' is unknown: choose from libtorch, pytorch, tensorflow, native"):
        choose_frameworks(lenet5, "pytorch,jax")


def test_fields_are_json_or_text():
    given = ["epochs=2", "rate=1e-3", "schedule=cosine", 'name="3"', "path=a=b", "words=[1, 2]", "samples=null", "tune=false"]
    assert parse_fields(given) == {
        **{"epochs": 2, "rate": 0.001, "schedule": "cosine", "name": "3", "path": "a=b", "words": [1, 2]},
        "tune": False,  # and `samples` is not chosen
    }
    with pytest.raises(WindtunnelError, match="--param epochs: found no '=', expected name=value"):
        parse_fields(["epochs"])


def test_a_model_without_conditions_of_its_own_shares_its_spec(blobs, tmp_path, noted, capsys):
    main(tmp_path / "run", "blobs", "blobs", "manual__1", "numpy", "auto", ["epochs=1", "blobs=7"])
    here = Run(tmp_path / "run")
    spec = here.spec()
    assert spec == blobs.spec(dataset="drawn", samples=320, epochs=1, blobs=7)
    content = json.loads((here.conditions / "conditions.json").read_text())
    data = blobs.load(blobs.data)("drawn")
    assert content == {"files": {"spec.json": sha256(here.spec_file)}, "dataset": data.lineage()}
    assert noted == [(here, "blobs", "manual__1", ("numpy",), data.fingerprint)]
    assert capsys.readouterr().out.splitlines() == [
        "auto: blobs are drawn",
        f"drawn, fingerprint {data.fingerprint[:12]}: 320 training samples",
        "1 epochs of 5 steps, batch 64, threads 1, seed 1",
    ]
    with pytest.raises(WindtunnelError, match="samples is 321, expected at most 320, the training samples of drawn, or all"):
        draw(blobs, Run(tmp_path / "other"), samples=321)


def test_what_a_model_declares_as_its_conditions_is_shared(blobs, tmp_path):
    run, other = Run(tmp_path / "run"), replace(blobs, conditions="extension:conditions")
    assert draw(other, run, blobs=2) == blobs.spec(dataset="drawn", samples=320, blobs=2)
    content = json.loads((run.conditions / "conditions.json").read_text())
    assert content["files"] == {"spec.json": sha256(run.spec_file), "order.txt": sha256(run.conditions / "order.txt")}
    with pytest.raises(WindtunnelError, match=r"the spec is invalid: blobs: Input should be a valid integer.*found 'many'"):
        draw(other, Run(tmp_path / "other"), blobs="many")
    assert list((tmp_path / "other").iterdir()) == []


@pytest.mark.parametrize(
    ("conditions", "says"),
    [
        ("extension:nothing", "extension:nothing, which blobs declares, cannot be loaded .*Repair the package"),
        ("no_such_module:draw", "no_such_module:draw, which blobs declares, cannot be loaded"),
        ("builtins:print", "builtins:print returned no spec of blobs: found NoneType, expected BlobSpec. Repair the package"),
    ],
)
def test_wrong_conditions_name_the_declaration(blobs, tmp_path, conditions, says):
    with pytest.raises(WindtunnelError, match=says):
        draw(replace(blobs, conditions=conditions), Run(tmp_path / "run"))


def test_data_without_a_part_to_train_on_is_refused(blobs, tmp_path, monkeypatch):
    data = blobs.load(blobs.data)("auto")
    monkeypatch.setattr(data, "counts", lambda: {"all": 3}, raising=False)
    with pytest.raises(WindtunnelError, match="data set drawn has no part named train: found all"):
        draw_declared(blobs, data, {}, tmp_path)
