"""The shapes of values that may be fed to a graph.

TensorFlow Serving feeds any value that it is sent, and TensorFlow's runtime does not check the shapes that placeholders declare: the
operations are expected to reject what they cannot compute. Not all of them do. A picture of rank 3 ends the whole process in a convolution
of oneDNN, and so does an empty batch in a normalisation; a picture of 900 x 900 pixels computes for seconds before a later layer rejects
it. So the declared shapes are required, except if a signature uses only operations that can be trusted with any shape.
"""

from collections.abc import Iterable, Mapping, Sequence

from tensorflow.core.framework import graph_pb2, node_def_pb2
from tensorflow.core.protobuf import meta_graph_pb2

from serving.tfserving_embedded.serving_error import invalid_argument

MAX_RANK = 12  # oneDNN's limit; with more dimensions x * sigmoid(x) ends the process
OLD_PRODUCER = 21  # up to this graph version, a placeholder of unknown shape has an empty one, like that of a scalar

_TRUSTED = """
    Const Identity IdentityN NoOp PartitionedCall Placeholder PlaceholderWithDefault ReadVariableOp Snapshot StatefulPartitionedCall
    StopGradient VarHandleOp Variable VariableV2
    Abs Acos Acosh Add AddV2 Asin Asinh Atan Atan2 Atanh Cast Ceil ClipByValue Cos Cosh Div DivNoNan Equal Erf Erfc Exp Expm1 Floor
    FloorDiv FloorMod Greater GreaterEqual IsFinite IsInf IsNan Less LessEqual Lgamma Log Log1p LogicalAnd LogicalNot LogicalOr Maximum
    Minimum Mod Mul MulNoNan Neg NotEqual OnesLike Pow RealDiv Reciprocal Rint Round Rsqrt SelectV2 Sigmoid Sign Sin Sinh Softplus
    Softsign Sqrt Square Sub Tan Tanh TruncateDiv TruncateMod Xdivy Xlogy ZerosLike
    All Any Max Min Prod Sum
    AsString ParseExample ParseExampleV2 StringJoin StringLength StringLower StringStrip StringToNumber StringUpper
"""
"""Operations that compute or reject any shape, alone and in every combination that TensorFlow fuses: element-wise operations, sums and
strings. Not `Mean`: fused with the normalisation of a picture, it divides by the rows of an empty batch."""

Shape = tuple[int, ...]


def required_shapes(meta_graph: meta_graph_pb2.MetaGraphDef) -> dict[str, dict[str, Shape]]:
    """Return the shapes that values must have: by signature, by input, with -1 for an open size. Missing inputs are unrestricted."""
    graph = meta_graph.graph_def
    declared = _declared_shapes(graph)
    nodes = {node.name: node for node in graph.node}
    functions = {function.signature.name: function.node_def for function in graph.library.function}
    trusted = set(_TRUSTED.split())
    required: dict[str, dict[str, Shape]] = {}
    for name, signature in meta_graph.signature_def.items():
        shapes = {alias: declared[info.name] for alias, info in signature.inputs.items() if info.name in declared}
        operations = _operations(_reached(nodes, [info.name for info in signature.outputs.values()]), functions)
        required[name] = {} if operations <= trusted else shapes
    return required


def _declared_shapes(graph: graph_pb2.GraphDef) -> dict[str, Shape]:
    """Return the shapes of a graph's placeholders by the tensor's name, except those of unknown rank."""
    shapes = {
        f"{node.name}:0": tuple(dim.size for dim in node.attr["shape"].shape.dim)
        for node in graph.node
        if node.op == "Placeholder" and "shape" in node.attr and not node.attr["shape"].shape.unknown_rank
    }
    return {name: shape for name, shape in shapes.items() if shape or graph.versions.producer > OLD_PRODUCER}


def _reached(nodes: Mapping[str, node_def_pb2.NodeDef], tensors: Iterable[str]) -> list[node_def_pb2.NodeDef]:
    """Return the nodes from which some tensors are computed."""
    names = [_node_name(tensor) for tensor in tensors]
    reached: dict[str, node_def_pb2.NodeDef] = {}
    while names:
        name = names.pop()
        if name in nodes and name not in reached:
            reached[name] = nodes[name]
            names.extend(map(_node_name, nodes[name].input))
    return list(reached.values())


def _node_name(tensor: str) -> str:
    return tensor.removeprefix("^").partition(":")[0]


def _operations(nodes: Iterable[node_def_pb2.NodeDef], functions: Mapping[str, Sequence[node_def_pb2.NodeDef]]) -> set[str]:
    """Return the operations of nodes and, recursively, of the functions that they call. The name of a missing function counts as one."""
    operations: set[str] = set()
    called: set[str] = set()
    waiting = [nodes]
    while waiting:
        for node in waiting.pop():
            callees = {value.func.name for value in node.attr.values() if value.HasField("func")}
            callees |= {function.name for value in node.attr.values() for function in value.list.func}
            operations |= (callees | {node.op}) - functions.keys()
            new = (callees | {node.op}) & functions.keys() - called
            called |= new
            waiting += [functions[name] for name in new]
    return operations


def check_shape(alias: str, found: Sequence[int], declared: Sequence[int] | None) -> None:
    """Reject a value of the wrong shape.

    Args:
        alias: the input's name.
        found: the value's shape.
        declared: the required shape, with -1 for an open size; None for any shape.

    Raises:
        ServingError: INVALID_ARGUMENT.
    """
    if declared is None:
        if len(found) > MAX_RANK:
            raise invalid_argument(f"Cannot feed value of shape {list(found)} for input {alias}: it has more than {MAX_RANK} dimensions")
        return
    if len(found) != len(declared) or any(size not in (-1, given) for given, size in zip(found, declared, strict=True)):
        raise invalid_argument(f"Cannot feed value of shape {list(found)} for input {alias}, which has shape {list(declared)}")
    if 0 in found and 0 not in declared:  # not all operations support this
        raise invalid_argument(f"Cannot feed value of shape {list(found)} for input {alias}: it is empty")
