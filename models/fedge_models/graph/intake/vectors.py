# SPDX-License-Identifier: Apache-2.0
"""Write the product with a vector, such as the scores of an attention, as a product with a matrix of one column.

ONNX Runtime moves a Transpose in front of a product into it, and is wrong where the other side is a vector. Where the
samples lie is told from the end of both shapes, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ...protos import attribute, tensor, values
from ..card import Card

if TYPE_CHECKING:
    import onnx

COLUMN = ".column"  # how the names of nodes end that only give a vector its second dimension
UNARY = ("Abs", "Cast", "Clip", "Erf", "Exp", "Identity", "LogSoftmax", "Neg", "Relu", "Sigmoid", "Softmax", "Softplus")
AS_LARGE = {*UNARY, "Sqrt", "Tanh", "Add", "Sub", "Mul", "Div", "Pow"}  # the result has the dimensions of its inputs

ADDING = {"Reshape": 1, "Squeeze": -1, "Unsqueeze": 1}  # dimensions for each number of the second input


def without_vectors(model: onnx.ModelProto, card: Card, where: str) -> bool:
    """Give each stored vector that MatMul reads, or what is computed of one, a second dimension, in place.

    Return whether there was any.
    """
    graph = model.graph
    ranks = _ranks(graph)
    found = [i for i, n in enumerate(graph.node) if n.op_type == "MatMul" and _is_vector(n, ranks)]
    if not found:
        return False
    nodes = []
    for position, node in enumerate(graph.node):
        made = type(node)()
        made.CopyFrom(node)
        nodes += _as_matrix(graph, made, ranks) if position in found else [made]
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)
    return True


def columns_of(graph: onnx.GraphProto) -> dict[str, onnx.NodeProto]:
    """The nodes that only give a vector its second dimension, by what they write; each has one reader."""
    return {n.output[0]: n for n in graph.node if n.name.endswith(COLUMN)}


def _is_vector(node: onnx.NodeProto, ranks: dict[str, int]) -> bool:
    """Whether one side is a vector, and the other is not known to be one as well."""
    return sum(ranks.get(n) == 1 for n in node.input) == 1


def _as_matrix(graph: onnx.GraphProto, node: onnx.NodeProto, ranks: dict[str, int]) -> list[onnx.NodeProto]:
    """The product, between a node that makes a matrix of the vector and one that takes the dimension away again."""
    from onnx import helper

    side = 0 if ranks.get(node.input[0]) == 1 else 1
    name, stem = node.output[0], node.name or node.output[0]
    axes = {f"{name}.new": side, f"{name}.gone": -2 if side == 0 else -1}
    graph.initializer.extend(tensor(n, np.array([a], np.int64)) for n, a in axes.items())
    new, gone = axes
    before = helper.make_node("Unsqueeze", [node.input[side], new], [f"{name}{COLUMN}"], name=f"{stem}{COLUMN}")
    after = helper.make_node("Squeeze", [f"{name}.product", gone], [name], name=f"{stem}.product")
    before.metadata_props.extend(node.metadata_props)
    node.input[side], node.output[0] = f"{name}{COLUMN}", f"{name}.product"
    return [before, node, after]


def _ranks(graph: onnx.GraphProto) -> dict[str, int]:
    """How many dimensions what is stored has, and what is computed from it only, as far as it is plain to see."""
    stored = {t.name: t for t in graph.initializer}
    ranks = {name: len(t.dims) for name, t in stored.items()}
    for node in graph.node:
        if node.input and all(n in ranks for n in node.input if n) and (rank := _rank(node, ranks, stored)) is not None:
            ranks[node.output[0]] = rank
    return ranks


def _rank(node: onnx.NodeProto, ranks: dict[str, int], stored: dict[str, onnx.TensorProto]) -> int | None:
    given = ranks[node.input[0]]
    kept = node.op_type.startswith("Reduce") and all(a.name != "keepdims" or attribute(a) for a in node.attribute)
    if node.op_type in AS_LARGE:
        return max(ranks[n] for n in node.input if n)
    if node.op_type in ("Slice", "Transpose") or kept:
        return given
    if node.op_type == "Gather":
        return given + ranks[node.input[1]] - 1
    if node.op_type not in ADDING or len(node.input) < 2 or node.input[1] not in stored:
        return None
    return ADDING[node.op_type] * values(stored[node.input[1]]).size + (0 if node.op_type == "Reshape" else given)
