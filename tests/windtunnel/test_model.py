import dataclasses
import math
import subprocess
import sys

import pytest

from tests.extension import installed
from train_server.lenet5.model import LENET5
from windtunnel.errors import WindtunnelError
from windtunnel.metric import ACCURACY, Metric
from windtunnel.model import Input, Output, declarations, find_model, find_registered, load_any_spec, metric_of, models
from windtunnel.run import Lineage
from windtunnel.settings import load_settings

HEAVY = ("torch", "tensorflow", "airflow", "mlflow", "numpy")


def test_the_projects_models_are_declared():
    assert set(models()) >= {"lenet5", "speech_commands"}
    assert find_model("lenet5").default_frameworks == ("libtorch", "pytorch", "tensorflow")


def test_declarations_import_no_framework():
    script = f"import sys; from windtunnel.model import models; models(); print({{*{HEAVY}}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


@pytest.mark.parametrize("name", ["lenet5-libtorch", "lenet5-pytorch", "lenet5-tensorflow", "lenet5-native", "speech-commands"])
def test_registered_models_have_the_names_they_always_had(name):
    model, framework = find_registered(name)
    assert model.registered_name(framework.name) == name


@pytest.mark.parametrize("name", ["cats", "pytorch", "lenet5-cats", "speech_commands", "cats-pytorch", "no-op-baseline"])
def test_another_name_is_of_no_registered_model(name):
    assert find_registered(name) is None


def test_the_projects_models_declare_what_they_take_and_return():
    lenet5, speech = find_model("lenet5"), find_model("speech_commands")
    assert (lenet5.input.name, lenet5.input.shape, lenet5.input.size, lenet5.input.codec) == ("image", (28, 28, 1), 784, "image")
    assert (speech.input.name, speech.input.shape, speech.input.codec) == ("audio", (16_000,), "array")
    assert lenet5.outputs == (Output("logits", (10,)), Output("probabilities", (10,)))
    assert speech.outputs == (Output("logits", (None,)), Output("probabilities", (None,)))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"shape": ()}, "the input 'x' has the wrong shape: found (), expected one size or more, each above 0"),
        ({"shape": (4, 0)}, "the input 'x' has the wrong shape: found (4, 0)"),
        ({"codec": "image"}, "the image 'x' has the wrong shape: found (4,), expected (height, width, 1) or (height, width, 3)"),
        ({"codec": "image", "shape": (8, 8, 4)}, "the image 'x' has the wrong shape: found (8, 8, 4)"),
        ({"dark_background": True}, "the input 'x' has a dark background, but the codec 'array', expected 'image'. Remove one"),
    ],
)
def test_a_wrong_input_is_refused(changes, says):
    with pytest.raises(WindtunnelError) as raised:
        Input(**{"name": "x", "shape": (4,), "codec": "array", "reader": "a:b"} | changes)
    assert says in str(raised.value)


@pytest.mark.parametrize(
    ("names", "says"),
    [
        ((), "lenet5 has no outputs. Declare at least one: its arg-max is the label"),
        (("a", "a"), "found image, a, a, expected different ones, none of them label or version. Rename them"),
        (("image",), "found image, image"),
        (("label",), "found image, label"),
        (("logits", "words"), "lenet5 has an output 'words', a word that `windtunnel predict` uses. Rename it"),
    ],
)
def test_wrong_outputs_are_refused(names, says):
    with pytest.raises(WindtunnelError) as raised:
        dataclasses.replace(LENET5, outputs=tuple(Output(name, ()) for name in names))
    assert says in str(raised.value)


@pytest.mark.usefixtures("extension")
def test_another_package_adds_a_framework_and_a_model(monkeypatch, tmp_path):
    lenet5, blobs = find_model("lenet5"), find_model("blobs")
    assert lenet5.framework_names == ("libtorch", "pytorch", "tensorflow", "native", "numpy")
    assert lenet5.framework("numpy").command[1:] == ("-m", "extension_trainer")
    assert find_registered("lenet5-numpy") == (lenet5, lenet5.framework("numpy"))
    assert find_registered("blobs-numpy") == (blobs, blobs.framework("numpy"))
    (tmp_path / "spec.json").write_text('{"model": "blobs", "dataset": "drawn", "samples": 100, "blobs": 5}')
    assert type(spec := load_any_spec(tmp_path / "spec.json")) is blobs.spec
    assert spec.model_dump()["blobs"] == 5
    assert Lineage(dag_id="", run_id="", git_commit="", mlflow_run="", frameworks=("numpy",)).frameworks == ("numpy",)
    monkeypatch.setenv("WINDTUNNEL_QUEUES", '{"numpy": "big"}')
    assert load_settings().queues == {"numpy": "big"}


def test_a_queue_of_an_unknown_framework_is_refused(monkeypatch):
    monkeypatch.setenv("WINDTUNNEL_QUEUES", '{"numpy": "big"}')
    with pytest.raises(WindtunnelError, match=r"unknown framework, expected one of libtorch, .*found 'numpy'"):
        load_settings()


def test_an_unknown_model_is_refused_with_those_that_are_known(tmp_path):
    (tmp_path / "spec.json").write_text('{"model": "blobs", "dataset": "drawn", "samples": 100}')
    with pytest.raises(WindtunnelError, match="model 'blobs' is unknown: expected one of lenet5, speech_commands"):
        load_any_spec(tmp_path / "spec.json")


@pytest.mark.parametrize(
    ("entry_points", "says"),
    [
        ("[windtunnel.models]\nblobs = extension:NOTHING", "blobs = extension:NOTHING (windtunnel.models) of extension cannot be loaded"),
        ("[windtunnel.models]\nblobs = extension:A_NUMBER", "of extension is of type int, expected Model"),
        ("[windtunnel.models]\nspots = extension:BLOBS", "of extension declares the model 'blobs', expected 'spots'"),
        ("[windtunnel.frameworks]\ncats.numpy = extension:NUMPY", "the model 'cats', expected one of lenet5, speech_commands"),
        ("[windtunnel.frameworks]\nlenet5.jax = extension:NUMPY", "declares the framework 'numpy', expected 'jax'"),
        ("[windtunnel.models]\nblobs = extension:BLOBS\n[windtunnel.frameworks]\nblobs.numpy = extension:NUMPY", "which blobs has already"),
    ],
)
def test_a_wrong_declaration_is_an_error_that_names_its_package(tmp_path, entry_points, says):
    with installed(tmp_path / "extension", entry_points):
        [(name, problem)] = declarations().problems.items()
        assert says in str(problem)
        assert models()["lenet5"].framework_names == ("libtorch", "pytorch", "tensorflow", "native")  # as without the package
        if "." not in name and name not in models():
            with pytest.raises(WindtunnelError, match="extension") as raised:
                find_model(name)
            assert raised.value is problem


MORE = """
import dataclasses

from extension import BLOBS, NUMPY

UNSERVED = dataclasses.replace(NUMPY, backend="triton")
ALONE = dataclasses.replace(BLOBS, registered="blobs", frameworks=(dataclasses.replace(NUMPY, name="first"),))
BOTH = dataclasses.replace(BLOBS, registered="blobs", frameworks=(NUMPY, dataclasses.replace(NUMPY, name="other")))
NAMED = dataclasses.replace(BLOBS, registered="{nothing}")
UNSERVED_BLOBS = dataclasses.replace(BLOBS, frameworks=(UNSERVED,))
OF_LENET5 = dataclasses.replace(BLOBS, registered="lenet5-pytorch")
"""
MODEL, FRAMEWORK = "[windtunnel.models]\nblobs = more_models:", "[windtunnel.frameworks]\n"


@pytest.mark.parametrize(
    ("entry_points", "says"),
    [
        (f"{FRAMEWORK}lenet5.numpy = more_models:UNSERVED", "of extension is wrong: server 'triton' is unknown: expected one of speech"),
        (f"{MODEL}UNSERVED_BLOBS", "of extension is wrong: server 'triton' is unknown"),
        (
            f"{MODEL}BLOBS\n{FRAMEWORK}speech_commands.numpy = extension:NUMPY",
            "would register its versions as 'speech-commands', the name of another framework's. Add it to a model of your own",
        ),
        (f"{MODEL}ALONE\n{FRAMEWORK}blobs.numpy = extension:NUMPY", "would register its versions as 'blobs'"),
        (f"{MODEL}BOTH", "would register its versions as 'blobs'"),
        (f"{MODEL}OF_LENET5", "would register its versions as 'lenet5-pytorch'"),
        (f"{MODEL}NAMED", "of extension is wrong: KeyError('nothing'). Repair or uninstall the package"),
        (
            f"{FRAMEWORK}lenet5.numpy = more_models:UNSERVED\n[windtunnel.backends]\ntriton = extension:NOTHING",
            "is wrong: the entry point triton = extension:NOTHING (windtunnel.backends) of extension cannot be loaded",
        ),
    ],
)
def test_a_framework_has_a_server_and_a_registered_name_of_its_own(tmp_path, entry_points, says):
    with installed(tmp_path / "extension", entry_points):
        (tmp_path / "extension/more_models.py").write_text(MORE)
        [(name, problem)] = declarations().problems.items()
        assert says in str(problem)
        assert find_registered("lenet5-pytorch")[0].name == "lenet5"
        model, _, framework = name.partition(".")
        if framework:
            with pytest.raises(WindtunnelError) as raised:
                find_model(model).framework(framework)
            assert raised.value is problem


def test_two_wrong_declarations_of_one_name_are_both_told(tmp_path):
    both = "[windtunnel.models]\nx.numpy = extension:NOTHING\n[windtunnel.frameworks]\nx.numpy = extension:NUMPY"
    with installed(tmp_path / "extension", both):
        [problem] = declarations().problems.values()
        assert "(windtunnel.models) of extension cannot be loaded" in str(problem)
        assert "(windtunnel.frameworks) of extension adds a framework to the model 'x'" in str(problem)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("loss", "the name of another value of a version: choose another name"),
        ("data_fingerprint", "the name of another value of a version"),
        ("Word error", "expected lower-case letters, digits and _, such as word_error_rate"),
    ],
)
def test_a_metric_has_a_name_of_its_own_that_can_be_a_key(name, says):
    with pytest.raises(ValueError, match=f"the metric's name is '{name}', .*{says}"):
        Metric(name, higher_is_better=True, format="{}")


def test_a_value_is_finite_and_within_the_bounds_of_its_metric():
    error = Metric("error", higher_is_better=False, format="{:.3f}")
    assert (ACCURACY.checked(1), error.checked(-700.5)) == (1, -700.5)
    for metric, value in ((ACCURACY, 99.06), (ACCURACY, -0.1), (error, math.inf), (error, math.nan)):
        with pytest.raises(ValueError, match=f"{metric.name} is {value}, expected a finite number from"):
            metric.checked(value)


@pytest.mark.usefixtures("extension")
def test_a_registered_model_has_the_metric_that_its_model_declares():
    assert [metric_of(name).name for name in ("lenet5-numpy", "blobs-numpy", "nobody-knows")] == ["accuracy", "error", "accuracy"]
