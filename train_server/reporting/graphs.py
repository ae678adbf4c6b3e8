"""Make TensorBoard's graph of an exported model, a `GraphDef`, from TorchScript or a SavedModel.

https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/framework/graph.proto
"""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from google.protobuf.empty_pb2 import Empty
from google.protobuf.unknown_fields import UnknownFieldSet
from tensorboard.compat.proto.graph_pb2 import GraphDef
from tensorboard.compat.proto.meta_graph_pb2 import MetaGraphDef
from tensorboard.compat.proto.node_def_pb2 import NodeDef

INPUT, WEIGHT = "input", "weight"
SAVED_MODEL = "saved_model.pb"  # in a SavedModel's directory


def exported_graph(export: Path) -> GraphDef | None:
    """Return the graph of the export in a version's directory: of TorchScript, or of a SavedModel with convolutions or matrix products."""
    if export.suffix == ".pt":
        return torchscript_graph(export)
    return saved_model_graph(export) if (export / SAVED_MODEL).exists() else None


def torchscript_graph(file: Path) -> GraphDef:
    """Return the operations of a TorchScript module, each in the scope of the layer whose weights it uses, without constants.

    `torch.utils.tensorboard` traces the module first, which fails for a module written by C++.
    """
    import torch

    graph = torch.jit.load(str(file), map_location="cpu").inlined_graph
    nodes: dict[str, NodeDef] = {}  # by the name of their output value
    drawn: list[NodeDef] = []
    scopes: dict[str, str] = {}  # of the modules, by the name of their value
    used: Counter[str] = Counter()

    def add(values: Iterable[Any], name: str, operation: str, inputs: list[str]) -> None:
        used[name] += 1
        unique = name if used[name] == 1 else f"{name}_{used[name]}"
        drawn.append(NodeDef(name=unique, op=operation, input=inputs))
        nodes.update((value.debugName(), drawn[-1]) for value in values)

    this, *arguments = graph.inputs()
    scopes[this.debugName()] = ""
    for value in arguments:
        add([value], value.debugName().partition(".")[0], INPUT, [])
    for node in graph.nodes():
        sources = [value.debugName() for value in node.inputs()]
        if node.kind() == "prim::GetAttr":
            path = f"{scopes[sources[0]]}/{node.s('name')}".removeprefix("/")
            if node.output().type().kind() == "ClassType":
                scopes[node.output().debugName()] = path
            elif node.output().type().kind() in ("TensorType", "OptionalType"):  # the bias of PyTorch's convolutions is optional
                add([node.output()], path, WEIGHT, [])
            continue
        if inputs := [nodes[source] for source in sources if source in nodes]:
            layer = next((given.name.rpartition("/")[0] for given in inputs if given.op == WEIGHT), "")
            operation = node.kind().rpartition(":")[2]
            add(node.outputs(), f"{layer}/{operation}".removeprefix("/"), operation, [given.name for given in inputs])
    return GraphDef(node=drawn)


def saved_model_graph(directory: Path) -> GraphDef | None:
    """Return the operations of a SavedModel: the body of its function that contains the convolutions, without constants.

    Without convolutions it is the function that contains matrix products; None if there is none either.
    """
    # SavedModel is {int64 saved_model_schema_version = 1; repeated MetaGraphDef meta_graphs = 2;}; only TensorFlow has its class
    fields = UnknownFieldSet(Empty.FromString((directory / SAVED_MODEL).read_bytes()))
    meta_graph = MetaGraphDef.FromString(next(field.data for field in fields if field.field_number == 2))
    functions = [(each, {node.op for node in each.node_def}) for each in meta_graph.graph_def.library.function]
    body = next((each for wanted in ("Conv2D", "MatMul") for each, operations in functions if wanted in operations), None)
    if body is None:
        return None
    image, *weights = (argument.name for argument in body.signature.input_arg)
    graph = GraphDef(node=[NodeDef(name=image, op=INPUT), *(NodeDef(name=name, op=WEIGHT) for name in weights)])
    operations = [node for node in body.node_def if node.op not in ("Const", "NoOp")]
    known = {image, *weights, *(node.name for node in operations)}
    for node in operations:
        sources = [source.partition(":")[0] for source in node.input]  # NODE:OUTPUT:INDEX
        graph.node.add(name=node.name, op=node.op, input=[source for source in sources if source in known])
    return graph
