import shutil

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from flatbuffers import flexbuffers
from safetensors.numpy import load_file
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel
from tensorflow.lite.tools import flatbuffer_utils

from tests.job import run
from tests.train_server.lenet5.adam import follow
from train_server.lenet5 import litert
from train_server.lenet5.model import LENET5
from train_server.lenet5.tensorflow import TensorFlow, from_pytorch, tf, to_pytorch
from train_server.lenet5.trainer import load_conditions

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
def lite(trained):
    return trained("tensorflow") / "saved_model" / "model.tflite"


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


@pytest.mark.parametrize("count", [1, 8, 64])
def test_litert_answers_any_number_of_images(lite, golden, count):
    runner = Interpreter(str(lite)).get_signature_runner("serving_default")
    wanted = {name: np.concatenate([value, value])[:count] for name, value in golden.items()}
    outputs = runner(image=wanted["image"])
    assert {(name, output.dtype.name, output.shape) for name, output in outputs.items()} == {
        ("logits", "float32", (count, 10)),
        ("probabilities", "float32", (count, 10)),
    }
    for name, output in outputs.items():
        assert np.abs(output - wanted[name]).max() <= 1e-5


@pytest.mark.parametrize("form", ["SavedModel", "LiteRT"])
@pytest.mark.parametrize("pixel", [np.nan, np.inf, -np.inf], ids=["NaN", "infinity", "minus infinity"])
def test_an_image_that_holds_no_numbers_gets_none_and_the_others_theirs(serve, lite, golden, form, pixel):
    """TensorFlow's max-pooling and ReLU drop NaN: ten probabilities would come back, as of a digit."""
    images = golden["image"][:8].copy()
    images[2, 14, 14] = images[5] = pixel
    if form == "SavedModel":
        outputs = {name: output.numpy() for name, output in serve(image=tf.constant(images)).items()}
    else:
        outputs = Interpreter(str(lite)).get_signature_runner("serving_default")(image=images)
    for name in ("logits", "probabilities"):
        assert np.isnan(outputs[name][[2, 5]]).all()
        rest = [0, 1, 3, 4, 6, 7]
        assert np.abs(outputs[name][rest] - golden[name][rest]).max() <= 1e-5


def test_litert_has_the_signature_where_tensorflow_serving_reads_it(lite):
    model = flatbuffer_utils.read_model(str(lite))
    (buffer,) = (metadata.buffer for metadata in model.metadata if metadata.name == b"signature_defs_metadata")
    signatures = flexbuffers.GetRoot(bytes(model.buffers[buffer].data)).AsMap
    assert [key.AsKey for key in signatures.Keys] == ["serving_default"]
    assert signatures["serving_default"].IsString
    signature = SignatureDef.FromString(signatures["serving_default"].AsStringBytes)
    graph = SavedModel.FromString((lite.parent / "saved_model.pb").read_bytes()).meta_graphs[0]
    assert signature == graph.signature_def["serving_default"]
    # the names by which the signature finds its tensors
    (subgraph,) = model.subgraphs
    names = {subgraph.tensors[tensor].name.decode() for tensor in [*subgraph.inputs, *subgraph.outputs]}
    assert {info.name for info in [*signature.inputs.values(), *signature.outputs.values()]} == names


def test_litert_is_the_same_bytes_again(lite):
    assert litert.convert(lite.parent) == lite.read_bytes()


def test_a_litert_form_that_answers_otherwise_is_refused(trained, tmp_path):
    shutil.copytree(trained("tensorflow"), tmp_path, dirs_exist_ok=True)
    file = tmp_path / "saved_model" / "model.tflite"
    model = flatbuffer_utils.read_model(str(file))
    weights = max((buffer for buffer in model.buffers if buffer.data is not None), key=lambda buffer: len(buffer.data))  # C5's
    weights.data = (-weights.data.view(np.float32)).view(np.uint8)
    flatbuffer_utils.write_model(model, str(file))
    done = run([*LENET5.framework("tensorflow").command, "--verify", str(tmp_path)])
    assert done.returncode == 1
    assert f"error: {file} differs from its golden set by" in done.stderr


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
