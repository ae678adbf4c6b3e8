"""The graph of an exported model, as TensorBoard draws it: `GraphDef`, from TorchScript and from a SavedModel.

https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/framework/graph.proto
"""

from collections import Counter
from pathlib import Path
from typing import Any

from google.protobuf.empty_pb2 import Empty
from google.protobuf.unknown_fields import UnknownFieldSet
from tensorboard.compat.proto.graph_pb2 import GraphDef
from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef
from tensorboard.compat.proto.node_def_pb2 import NodeDef

INPUT, WEIGHT = "input", "weight"


def exported_graph(version: Path) -> GraphDef:
    """The graph of the export in a version's directory, whichever framework wrote it."""
    torchscript = version / "model.pt"
    return torchscript_graph(torchscript) if torchscript.exists() else saved_model_graph(version / "saved_model")


def torchscript_graph(file: Path) -> GraphDef:
    """The operations of a TorchScript module, each in the scope of the layer whose weights it uses, and constants left out.

    `torch.utils.tensorboard` traces the module first, which it cannot do with one that C++ has written.
    """
    import torch

    graph = torch.jit.load(str(file), map_location="cpu").inlined_graph
    nodes: dict[str, NodeDef] = {}  # by the value that each gives
    scopes: dict[str, str] = {}  # of the modules, by value
    used: Counter[str] = Counter()

    def add(value: Any, name: str, operation: str, inputs: list[str]) -> None:
        used[name] += 1
        unique = name if used[name] == 1 else f"{name}_{used[name]}"
        nodes[value.debugName()] = NodeDef(name=unique, op=operation, input=inputs)

    this, *arguments = graph.inputs()
    scopes[this.debugName()] = ""
    for value in arguments:
        add(value, value.debugName().partition(".")[0], INPUT, [])
    for node in graph.nodes():
        sources = [value.debugName() for value in node.inputs()]
        if node.kind() == "prim::GetAttr":
            path = f"{scopes[sources[0]]}/{node.s('name')}".removeprefix("/")
            if node.output().type().kind() == "ClassType":
                scopes[node.output().debugName()] = path
            elif node.output().type().kind() in ("TensorType", "OptionalType"):  # PyTorch's convolutions may do without a bias
                add(node.output(), path, WEIGHT, [])
            continue
        if inputs := [nodes[source] for source in sources if source in nodes]:
            layer = next((given.name.rpartition("/")[0] for given in inputs if given.op == WEIGHT), "")
            operation = node.kind().rpartition(":")[2]
            add(node.output(), f"{layer}/{operation}".removeprefix("/"), operation, [given.name for given in inputs])
    return GraphDef(node=nodes.values())


def saved_model_graph(directory: Path) -> GraphDef:
    """The operations of a SavedModel: the body of the one function in it that convolves, with constants left out."""
    # SavedModel is {int64 saved_model_schema_version = 1; repeated MetaGraphDef meta_graphs = 2;}; its class is in TensorFlow alone
    fields = UnknownFieldSet(Empty.FromString((directory / "saved_model.pb").read_bytes()))
    meta_graph = MetaGraphDef.FromString(next(field.data for field in fields if field.field_number == 2))
    body = next(each for each in meta_graph.graph_def.library.function if any(node.op == "Conv2D" for node in each.node_def))
    image, *weights = (argument.name for argument in body.signature.input_arg)
    graph = GraphDef(node=[NodeDef(name=image, op=INPUT), *(NodeDef(name=name, op=WEIGHT) for name in weights)])
    operations = [node for node in body.node_def if node.op not in ("Const", "NoOp")]
    known = {image, *weights, *(node.name for node in operations)}
    for node in operations:
        sources = [source.partition(":")[0] for source in node.input]  # NODE:OUTPUT:INDEX
        graph.node.add(name=node.name, op=node.op, input=[source for source in sources if source in known])
    return graph
