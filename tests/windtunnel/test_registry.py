import pytest
from mlflow.exceptions import MlflowException

from tests.versions import make_version
from train_server.lenet5.model import Spec
from windtunnel.errors import WindtunnelError
from windtunnel.model import find_model
from windtunnel.registered import registered_version
from windtunnel.registry import fetch, get_version, list_versions, register, resolve
from windtunnel.run import Lineage
from windtunnel.tracking import created_once

SPEC = Spec(dataset="mnist", mean=0.1307, std=0.3081, samples=60_000)
LINEAGE = Lineage(dag_id="lenet5", run_id="manual__1", git_commit="c0ffee", mlflow_run="parent", frameworks=("pytorch",))


@pytest.fixture
def log_version(mlflow, tmp_path):
    """Makes a version, logs it to a new MLflow run, and returns its directory and the run's id."""

    def log(name, **kwargs):
        make_version(tmp_path / name, "pytorch", SPEC, **kwargs)
        run = mlflow.create_run(mlflow.get_experiment_by_name("lenet5").experiment_id)
        mlflow.log_artifacts(run.info.run_id, str(tmp_path / name), "version")
        return tmp_path / name, run.info.run_id

    return log


def test_a_version_is_registered_with_its_lineage_and_comes_back_whole(mlflow, log_version, tmp_path):
    directory, run = log_version("one", accuracy=0.9906)
    known = register(mlflow, directory, run, LINEAGE)
    assert (known.name, known.framework, known.value) == ("lenet5-pytorch", "pytorch", 0.9906)
    assert (known.dag_run, known.git_commit, known.data_fingerprint) == ("lenet5/manual__1", "c0ffee", "f" * 64)
    assert known in list_versions(mlflow)
    assert fetch(mlflow, known, tmp_path / "fetched").metrics.accuracy == 0.9906
    assert (tmp_path / "fetched/model.pt").read_bytes() == b"an export"


def test_a_version_in_json_has_the_names_that_it_always_had(mlflow, log_version):
    known = register(mlflow, *log_version("one", accuracy=0.9931), LINEAGE)
    assert known.measured == "accuracy 99.31%"
    found = known.as_dict()
    assert list(found) == [
        *("name", "version", "aliases", "framework", "accuracy", "dag_run", "git_commit", "data_fingerprint", "manifest_sha256"),
        *("mlflow_run", "source", "created", "dataset"),
    ]
    assert found["accuracy"] == 0.9931
    tags = mlflow.get_model_version(known.name, str(known.version)).tags
    assert tags["accuracy"] == "0.9931"
    assert set(tags) == {"framework", "accuracy", "dag_run", "git_commit", "data_fingerprint", "dataset", "manifest_sha256"}


@pytest.mark.usefixtures("extension")
def test_a_version_of_another_model_is_registered_with_its_metric(mlflow, tmp_path):
    make_version(tmp_path / "blobs", "numpy", find_model("blobs").spec(dataset="drawn", samples=320), accuracy=12.5)
    run = mlflow.create_run(mlflow.get_experiment_by_name("lenet5").experiment_id).info.run_id
    mlflow.log_artifacts(run, str(tmp_path / "blobs"), "version")
    known = register(mlflow, tmp_path / "blobs", run, LINEAGE)
    assert (known.name, known.value, known.measured) == ("blobs-numpy", 12.5, "error 12.500")
    assert known.as_dict()["error"] == 12.5
    tags = mlflow.get_model_version(known.name, str(known.version)).tags
    assert (tags["error"], "accuracy" in tags) == ("12.5", False)
    assert list_versions(mlflow, "blobs-numpy") == [known]
    mlflow.delete_registered_model("blobs-numpy")  # other tests share the registry, and have no package that declares its metric


def test_a_version_of_a_package_that_is_not_installed_has_no_value():
    unknown = registered_version("blobs-numpy", 1, (), {"error": "12.5"}, "", "", 0)
    assert (unknown.text, unknown.measured, unknown.as_dict()["accuracy"]) == ("", "", None)


def test_registering_again_changes_nothing_and_other_bytes_are_the_next_version(mlflow, log_version):
    directory, run = log_version("one", accuracy=0.981)
    first = register(mlflow, directory, run, LINEAGE)
    before = list_versions(mlflow)
    assert register(mlflow, directory, run, LINEAGE).version == first.version
    assert list_versions(mlflow) == before
    other, other_run = log_version("two", accuracy=0.982)
    assert register(mlflow, other, other_run, LINEAGE).version == first.version + 1


def test_a_changed_version_is_not_registered(mlflow, log_version):
    directory, run = log_version("one", accuracy=0.971)
    before = list_versions(mlflow)
    (directory / "model.pt").write_bytes(b"another export")
    with pytest.raises(WindtunnelError, match=r"model\.pt has SHA-256"):
        register(mlflow, directory, run, LINEAGE)
    assert list_versions(mlflow) == before


@pytest.mark.parametrize(("name", "accuracy"), [("model.pt", 0.961), ("manifest.json", 0.962)])
def test_what_was_changed_in_the_store_is_refused_when_it_is_read(mlflow, log_version, tmp_path, name, accuracy):
    directory, run = log_version("one", accuracy=accuracy)
    known = register(mlflow, directory, run, LINEAGE)
    changed = tmp_path / name
    changed.write_bytes((directory / name).read_bytes() + b" ")
    mlflow.log_artifact(run, str(changed), "version")
    with pytest.raises(WindtunnelError, match=rf"{name} .*has SHA-256 [0-9a-f]{{64}}, but"):
        fetch(mlflow, known, tmp_path / "fetched")
    assert not (tmp_path / "fetched").exists()
    assert not (tmp_path / "fetched.partial").exists()


def test_aliases_are_listed(mlflow, log_version):
    directory, run = log_version("one", accuracy=0.951)
    known = register(mlflow, directory, run, LINEAGE)
    mlflow.set_registered_model_alias(known.name, "champion", str(known.version))
    listed = {version.version: version.aliases for version in list_versions(mlflow, known.name)}
    assert listed[known.version] == ("champion",)


def test_a_version_is_found_by_number_alias_or_name_alone(mlflow, log_version):
    numbers = [
        register(mlflow, *log_version(name, accuracy=accuracy), LINEAGE).version for name, accuracy in (("one", 0.941), ("two", 0.942))
    ]
    mlflow.set_registered_model_alias("lenet5-pytorch", "challenger", str(numbers[0]))
    assert resolve(mlflow, "lenet5-pytorch").version == numbers[1]
    assert resolve(mlflow, f"lenet5-pytorch@{numbers[0]}").version == numbers[0]
    assert resolve(mlflow, "lenet5-pytorch@challenger").version == numbers[0]
    assert get_version(mlflow, "lenet5-pytorch", numbers[0]).value == 0.941
    for unknown in ("lenet5-pytorch@99", "lenet5-pytorch@best", "cats"):
        with pytest.raises(WindtunnelError, match=f"there is no '{unknown}' in the registry"):
            resolve(mlflow, unknown)
    with pytest.raises(WindtunnelError, match="there is no version 99 of 'lenet5-pytorch'"):
        get_version(mlflow, "lenet5-pytorch", 99)


def test_what_another_has_created_meanwhile_is_no_error_and_all_else_is(mlflow):
    with created_once():
        mlflow.create_experiment("lenet5")
    with pytest.raises(MlflowException), created_once():
        mlflow.create_experiment("")
