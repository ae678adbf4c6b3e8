"""Which shapes are required of a graph's inputs, from its operations alone."""

import pytest
from google.protobuf import text_format

from serving.tfserving_embedded.runtime.shapes import required_shapes
from serving.tfserving_protos import messages_alone

with messages_alone():
    from tensorflow.core.protobuf import meta_graph_pb2

ROWS = "dim { size: -1 } dim { size: 2 }"


def node(name: str, op: str, *inputs: str, attr: str = "") -> str:
    return f"node {{ name: '{name}' op: '{op}' {' '.join(f'input: {tensor!r}' for tensor in inputs)} {attr} }}"


def call(name: str, op: str, function: str, *inputs: str) -> str:
    return node(name, op, *inputs, attr=f"attr {{ key: 'f' value {{ func {{ name: '{function}' }} }} }}")


def function(name: str, *nodes: str) -> str:
    return f"function {{ signature {{ name: '{name}' }} {' '.join(text.replace('node', 'node_def', 1) for text in nodes)} }}"


def required(nodes: str, functions: str = "", shape: str = ROWS, producer: int = 1087) -> dict[str, tuple[int, ...]]:
    """What is required of a signature from the placeholder `x` to the node `y`."""
    placeholder = node("x", "Placeholder", attr=f"attr {{ key: 'shape' value {{ shape {{ {shape} }} }} }}")
    text = f"""
        graph_def {{ {placeholder} {nodes} library {{ {functions} }} versions {{ producer: {producer} }} }}
        signature_def {{ key: "s" value {{
            inputs {{ key: "in" value {{ name: "x:0" }} }} outputs {{ key: "out" value {{ name: "y:0" }} }}
        }} }}"""
    return required_shapes(text_format.Parse(text, meta_graph_pb2.MetaGraphDef()))["s"]


F = call("y", "PartitionedCall", "f", "x")
MULTIPLY, MATRIX = node("a", "Mul"), node("a", "MatMul")
GRAPHS = {
    "element by element": (node("y", "Mul", "x", "x"), "", False),
    "a matrix": (node("y", "MatMul", "x", "x"), "", True),
    "a matrix before": (node("m", "MatMul", "x:0", "x:0") + node("y", "Mul", "m:0", "m:0"), "", True),
    "a matrix it waits for": (node("m", "MatMul", "x", "x") + node("y", "Mul", "x", "x", "^m"), "", True),
    "a matrix elsewhere": (node("m", "MatMul", "x", "x") + node("y", "Mul", "x", "x"), "", False),
    "an operation of somebody": (node("y", "ByTheUser", "x"), "", True),
    "a function": (F, function("f", MULTIPLY), False),
    "a matrix in a function": (F, function("f", MATRIX), True),
    "a matrix in its function": (F, function("f", call("b", "PartitionedCall", "g")) + function("g", MATRIX), True),
    "a function that calls itself": (F, function("f", call("b", "PartitionedCall", "f")), False),
    "a function as an operation": (node("y", "f", "x"), function("f", MATRIX), True),
    "a function that is not there": (F, "", True),
    "a loop": (call("y", "While", "f", "x"), function("f", MULTIPLY), True),
}


@pytest.mark.parametrize("case", GRAPHS)
def test_a_declared_shape_is_required_where_an_operation_needs_it(case: str) -> None:
    nodes, functions, needed = GRAPHS[case]
    assert required(nodes, functions) == ({"in": (-1, 2)} if needed else {})


def test_shapes_that_are_not_known() -> None:
    matrix = node("y", "MatMul", "x", "x")
    assert required(matrix, shape="unknown_rank: true") == {}
    assert required(matrix, shape="") == {"in": ()}
    assert required(matrix, shape="", producer=21) == {}
    assert required(matrix, producer=21) == {"in": (-1, 2)}
