import numpy as np
import pytest
from adam import follow
from safetensors.numpy import load_file

from train_server.lenet5.tensorflow import TensorFlow, from_pytorch, tf, to_pytorch
from train_server.trainer import load_conditions

# As the trainer sets them for one thread: TensorFlow, once it has run anything, lets nobody change them.
tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)


@pytest.fixture(scope="module")
def serve(trained):
    model = tf.saved_model.load(str(trained("tensorflow") / "saved_model"))
    serve = model.signatures["serving_default"]
    serve.keep = model  # its variables live as long as the model does
    return serve


@pytest.fixture(scope="module")
def golden(trained):
    return load_file(trained("tensorflow") / "golden.safetensors")


@pytest.mark.parametrize("count", [1, 8, 64])
def test_the_export_answers_any_number_of_images(serve, golden, count):
    wanted = {name: np.concatenate([value, value])[:count] for name, value in golden.items()}
    outputs = serve(image=tf.constant(wanted["image"]))
    for name, output in outputs.items():
        assert np.abs(output.numpy() - wanted[name]).max() <= 1e-5


def test_the_signature_names_its_input_and_outputs(serve):
    assert serve.structured_input_signature == ((), {"image": tf.TensorSpec([None, 28, 28, 1], tf.float32, name="image")})
    assert {name: (spec.shape.as_list(), spec.dtype) for name, spec in serve.structured_outputs.items()} == {
        "logits": ([None, 10], tf.float32),
        "probabilities": ([None, 10], tf.float32),
    }


def test_the_warm_up_record_is_a_request_that_the_signature_answers(trained, serve, golden):
    from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

    file = trained("tensorflow") / "saved_model" / "assets.extra" / "tf_serving_warmup_requests"
    (record,) = tf.data.TFRecordDataset(str(file))
    request = PredictionLog.FromString(record.numpy()).predict_log.request
    assert (request.model_spec.name, request.model_spec.signature_name) == ("lenet5-tensorflow", "serving_default")
    image = tf.make_ndarray(request.inputs["image"])
    assert np.array_equal(image, golden["image"][:1])
    assert np.abs(serve(image=tf.constant(image))["logits"].numpy() - golden["logits"][:1]).max() <= 1e-5


def test_layouts_convert_there_and_back(make_job):
    job = make_job()
    for name, weight in load_conditions(job.spec_file, job.data, job.conditions).weights.items():
        assert np.array_equal(to_pytorch(name, from_pytorch(name, weight)), weight)


def test_the_step_is_the_contracts_adam(make_job):
    job = make_job()
    conditions = load_conditions(job.spec_file, job.data, job.conditions)
    trainer = TensorFlow(conditions, "float32")
    wanted = follow(trainer, conditions, steps=10)
    for name, weight in trainer.model.weights.items():
        assert np.abs(to_pytorch(name, weight.numpy()) - wanted[name]).max() <= 1e-7, name
        assert np.abs(wanted[name] - conditions.weights[name]).max() > 1e-3, name
