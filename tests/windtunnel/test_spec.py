import pytest
from pydantic import ValidationError

from train_server.lenet5.model import Spec
from windtunnel.errors import WindtunnelError
from windtunnel.spec import load_spec

FIELDS = {"dataset": "mnist", "mean": 0.1307, "std": 0.3081, "samples": 1000}


def test_defaults_are_the_reference_run():
    spec = Spec(**FIELDS)
    assert (spec.epochs, spec.batch_size, spec.learning_rate, spec.schedule) == (5, 64, 0.01, "cosine")
    assert (spec.beta1, spec.beta2, spec.epsilon) == (0.9, 0.999, 1e-8)


def test_steps_are_full_batches():
    assert Spec(**FIELDS, epochs=3).steps_per_epoch == 15
    assert Spec(**FIELDS, epochs=3).steps == 45


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("epochs", 0), ("batch_size", 0), ("std", 0), ("epsilon", 0), ("threads", 0)],
        *[("learning_rate", 0), ("learning_rate", float("nan")), ("learning_rate", float("inf"))],
        *[("beta1", 1), ("seed", -1), ("schedule", "linear"), ("dropout", 0.5)],
    ],
)
def test_what_cannot_be_trained_is_refused(field, value):
    with pytest.raises(ValidationError, match=field):
        Spec(**FIELDS | {field: value})


def test_less_than_a_batch_is_refused():
    with pytest.raises(ValidationError, match="samples is 1000, less than one batch of 1001"):
        Spec(**FIELDS, batch_size=1001)


def test_load_spec_reads_what_was_written(tmp_path):
    spec = Spec(**FIELDS, seed=7)
    file = tmp_path / "spec.json"
    file.write_text(spec.model_dump_json())
    assert load_spec(file, Spec) == spec


@pytest.mark.parametrize(("content", "says"), [("{", "Invalid JSON"), ('{"dataset": "mnist"}', "samples: Field required")])
def test_load_spec_names_file_and_problem(tmp_path, content, says):
    file = tmp_path / "spec.json"
    file.write_text(content)
    with pytest.raises(WindtunnelError, match=rf"spec\.json: .*{says}"):
        load_spec(file, Spec)


def test_load_spec_names_a_missing_file(tmp_path):
    with pytest.raises(WindtunnelError, match=r"spec\.json cannot be read: No such file"):
        load_spec(tmp_path / "spec.json", Spec)
