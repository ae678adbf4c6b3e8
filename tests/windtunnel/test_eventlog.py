from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer
from tensorboard.compat.proto.graph_pb2 import GraphDef
from tensorboard.plugins.hparams.metadata import PLUGIN_NAME, parse_experiment_plugin_data, parse_session_start_info_plugin_data
from tensorboard.util import tensor_util

from windtunnel.eventlog import EventLog


def test_what_is_written_is_what_tensorboard_reads(tmp_path):
    log = EventLog(tmp_path / "lenet5/1/pytorch")
    log.add_hyperparameters({"framework": "pytorch", "epochs": 5, "learning_rate": 0.01}, "1/pytorch", "accuracy")
    log.add_scalar("epoch/loss", 0.5, 1, wall_time=1000.0)
    log.add_scalar("epoch/loss", 0.25, 2)
    log.add_picture("misclassified", b"a PNG", 6, 2)
    log.add_graph(GraphDef(node=[{"name": "image", "op": "input"}]))
    log.close()

    read = EventMultiplexer().AddRunsFromDirectory(str(tmp_path)).Reload()
    loss = read.Tensors("lenet5/1/pytorch", "epoch/loss")
    assert [(point.step, float(tensor_util.make_ndarray(point.tensor_proto))) for point in loss] == [(1, 0.5), (2, 0.25)]
    assert loss[0].wall_time == 1000
    picture = read.Tensors("lenet5/1/pytorch", "misclassified")[0].tensor_proto
    assert list(tensor_util.make_ndarray(picture)) == [b"6", b"2", b"a PNG"]
    assert [node.name for node in read.Graph("lenet5/1/pytorch").node] == ["image"]

    hyperparameters = read.PluginRunToTagToContent(PLUGIN_NAME)["lenet5/1/pytorch"]
    row = parse_session_start_info_plugin_data(hyperparameters["_hparams_/session_start_info"])
    assert {name: value.number_value or value.string_value for name, value in row.hparams.items()} == {
        "framework": "pytorch",
        "epochs": 5,
        "learning_rate": 0.01,
    }
    assert row.group_name == "1/pytorch"
    columns = parse_experiment_plugin_data(hyperparameters["_hparams_/experiment"]).metric_infos
    assert [(column.name.tag, column.display_name) for column in columns][:2] == [
        ("final/accuracy", "test accuracy"),
        ("final/seconds", "training time, s"),
    ]
