import pytest

from train_server.lenet5.model import LENET5
from train_server.reporting.graphs import exported_graph


@pytest.mark.parametrize("framework", LENET5.framework_names)
def test_the_graph_of_an_export_leads_from_the_image_through_every_layer(trained, framework):
    nodes = {node.name: node for node in exported_graph(trained(framework) / LENET5.framework(framework).export).node}
    operations = [node.op.lower() for node in nodes.values()]
    assert operations.count("input") == 1
    assert operations.count("conv2d") == 2
    assert operations.count("matmul") + operations.count("linear") == 3  # C5 is a matrix product
    assert operations.count("weight") == 10
    assert operations.count("softmax") == 1
    assert all(source in nodes for node in nodes.values() for source in node.input)

    reached, new = set(), ["softmax" if "softmax" in nodes else "Softmax"]
    while new:
        reached.add(name := new.pop())
        new += nodes[name].input
    assert {"image", *(name for name, node in nodes.items() if node.op == "weight")} <= reached
