"""The DAGs of models that another package declares, as Airflow reads them."""

import json
import os
import subprocess
import sys
from itertools import pairwise

import pytest

from tests.dags.texts import check_texts
from tests.extension import write_extension
from windtunnel.settings import ROOT

BAG = """
import json, sys
from airflow.dag_processing.dagbag import DagBag

bag = DagBag(sys.argv[1], collect_dags=False)
bag.process_file(sys.argv[1], only_if_updated=False)
print("FOUND" + json.dumps({"dags": sorted(bag.dags), "errors": list(bag.import_errors.values())}))
"""


@pytest.fixture
def blobs(read_dag, extension):
    return read_dag("declared", "blobs", PYTHONPATH=f"{ROOT}{os.pathsep}{extension}")


@pytest.fixture
def read(tmp_path):
    """Reads a file of dags/ as Airflow does, with the package that is installed in the folder `extension`."""
    environment = os.environ | {"AIRFLOW_HOME": str(tmp_path), "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path / 'extension'}"}

    def read(file):
        done = subprocess.run([sys.executable, "-c", BAG, str(ROOT / "dags" / file)], capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.partition("FOUND")[2])

    return read


def test_it_imports_little_and_no_framework(blobs):
    assert len(blobs["modules"]) < 150  # Airflow reads the file again and again
    assert blobs["heavy"] == []


def test_its_tasks_are_those_of_lenet5_without_a_certificate(blobs, read_dag):
    lenet5 = read_dag("lenet5")
    downstream = lenet5["downstream"]
    assert blobs["downstream"] == {
        task: sorted({"publication.publish" if name == "parity" else name for name in names})
        for task, names in downstream.items()
        if task != "parity"
    }
    for what in ("rules", "pools", "outlets"):
        assert blobs[what] == {task: found for task, found in lenet5[what].items() if task != "parity"}
    assert blobs["schedule"] == "None"


def test_a_person_reads_what_it_does_and_whose_it_is(blobs):
    check_texts(blobs)
    assert "not worse than the champion, in error" in blobs["doc"]
    assert blobs["owners"] == ["extension"]
    assert blobs["tags"] == ["declared", "release", "train"]


def test_its_form_has_the_fields_of_the_spec_and_what_all_releases_have(blobs):
    assert blobs["params"] == {
        **{"frameworks": ["numpy"], "dataset": "auto", "samples": None, "epochs": 5, "batch_size": 64, "learning_rate": 0.01},
        **{"seed": 1, "threads": 1, "blobs": 4, "margin": 0.0, "benchmark_seconds": 0.1, "speed_margin": 0.1, "speed_gate": False},
        **{"approve": False, "fire_drill": False},
    }
    assert blobs["choices"] == ["numpy"]
    largest, forms = 2**63 - 1, blobs["forms"]
    assert forms["samples"] == {
        **{"type": ["null", "integer"], "exclusiveMinimum": 0, "maximum": largest, "title": "Samples", "section": "Training"},
        "description": "Number of training samples. Empty: all.",
    }
    assert forms["seed"] == {
        **{"type": "integer", "minimum": 0, "maximum": largest, "title": "Seed", "section": "Training"},
        "description": "Seed of everything that is drawn at random.",
    }
    assert forms["learning_rate"] == {
        **{"type": "number", "exclusiveMinimum": 0, "maximum": largest, "title": "Learning rate", "section": "Training"},
        "description": "The learning rate.",
    }
    assert forms["blobs"] == {"type": "integer", "maximum": largest, "title": "Blobs", "section": "Training", "description": None}
    assert (forms["margin"]["maximum"], forms["margin"]["title"]) == (largest, "Error margin")


def test_its_conditions_are_told_the_fields_of_the_spec(blobs):
    command = blobs["conditions"]
    fields = [word.partition("=")[0] for flag, word in pairwise(command) if flag == "--param"]
    assert fields == ["samples", "epochs", "batch_size", "learning_rate", "seed", "threads", "blobs"]
    assert command[command.index("--model") + 1] == "blobs"


FORM = """
import json
from typing import Literal
from dags.form import spec_params
from pydantic import Field
from windtunnel.metric import ACCURACY
from windtunnel.model import Input, Model, Output
from windtunnel.spec import Training

class Spec(Training):
    model: Literal["many"] = "many"
    kind: Literal["a", "b"] = Field("a", description="The kind.")
    rate: float | None = Field(None, gt=0, le=1)
    words: tuple[str, ...] = ("yes", "no")
    others: dict[str, str] = Field(default_factory=dict)
    mean: float

found = {}
for conditions in (None, "many:conditions"):
    taken, given = Input("sample", (3,), "array", "many:read"), (Output("scores", (2,)),)
    params = spec_params(Model("many", "Many", Spec, "many:locate", ACCURACY, (), taken, given, conditions=conditions))
    rules = {name: {key: value for key, value in param.schema.items() if key not in ("title", "section")} for name, param in params.items()}
    found[str(conditions)] = {name: [param.dump()["value"], rules[name], param.description] for name, param in params.items()}
print(json.dumps(found))
"""


def test_a_form_has_the_types_bounds_and_defaults_of_a_spec(tmp_path):
    environment = os.environ | {"AIRFLOW_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", FORM], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    largest, forms = 2**63 - 1, json.loads(done.stdout.splitlines()[-1])
    alone, filled = forms["None"], forms["many:conditions"]
    assert alone["kind"] == ["a", {"type": "string", "enum": ["a", "b"]}, "The kind."]
    assert alone["rate"] == [None, {"type": ["null", "number"], "exclusiveMinimum": 0, "maximum": 1}, None]
    assert alone["words"] == [["yes", "no"], {"type": "array", "items": {"type": "string"}}, None]
    assert alone["others"] == [{}, {"type": "object", "additionalProperties": {"type": "string"}}, None]
    assert alone["mean"] == [None, {"type": "number", "maximum": largest}, None]  # has to be given
    assert filled["mean"] == [None, {"type": ["null", "number"], "maximum": largest}, None]  # the conditions may know it
    assert alone["samples"][0] is filled["samples"][0] is None


def test_right_declarations_are_no_import_error(tmp_path, read):
    write_extension(tmp_path / "extension")
    assert read("wrong_declarations.py") == {"dags": [], "errors": []}


@pytest.mark.parametrize(
    ("entry_points", "change", "says"),
    [
        (
            "[windtunnel.models]\nspots = extension:NOTHING\nblobs = extension:BLOBS",
            "",
            "spots = extension:NOTHING (windtunnel.models) of extension",
        ),
        (
            "[windtunnel.models]\nblobs = extension:BLOBS\nspots = extension:SPOTS",
            "import dataclasses\nSPOTS = dataclasses.replace(BLOBS, name=3)",
            "declares the model 3, expected 'spots'",
        ),
        (
            "[windtunnel.models]\nblobs = extension:BLOBS\nspots = extension:SPOTS",
            "import dataclasses\nSPOTS = dataclasses.replace(BLOBS, name='spots', metric=None)",
            "the model spots of extension has no DAG (AttributeError(",
        ),
        (
            "[windtunnel.models]\nblobs = extension:BLOBS\nspots = extension:SPOTS",
            "import dataclasses\nclass Spec(Training):\n    margin: int = 3\nSPOTS = dataclasses.replace(BLOBS, name='spots', spec=Spec)",
            "its spec has a field 'margin', which is a parameter of every run: rename the field",
        ),
        (
            "[windtunnel.models]\nblobs = extension:BLOBS\n[windtunnel.backends]\necho = extension:NOTHING",
            "",
            "echo = extension:NOTHING (windtunnel.backends) of extension",
        ),
    ],
    ids=["nothing", "a strange model", "no metric", "a field of every run", "a backend"],
)
def test_a_wrong_declaration_is_an_import_error_that_names_its_package(tmp_path, read, entry_points, change, says):
    write_extension(tmp_path / "extension", entry_points)
    with (tmp_path / "extension/extension.py").open("a") as module:
        module.write(change)
    assert read("declared.py") == {"dags": ["blobs"], "errors": []}  # an error would put it out of use
    found = read("wrong_declarations.py")
    assert found["dags"] == []
    [error] = found["errors"]
    assert says in error
    assert read("lenet5.py") == {"dags": ["lenet5"], "errors": []}
