# SPDX-License-Identifier: Apache-2.0
"""Write the product with a vector, such as the scores of an attention, as a product with a matrix of one column.

ONNX Runtime moves a Transpose in front of a product into it, and is wrong where the other side is a vector. Where the
samples lie is told from the end of both shapes, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ...protos import tensor
from ..card import Card
from ..skeleton import large, skeleton

if TYPE_CHECKING:
    import onnx

COLUMN = ".column"  # how the names of nodes end that only give a vector its second dimension


def without_vectors(model: onnx.ModelProto, card: Card, where: str) -> bool:
    """Give each stored vector that MatMul reads, or what is computed of one, a second dimension, in place.

    Return whether there was any.
    """
    graph = model.graph
    ranks = _ranks(model)
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


def _ranks(model: onnx.ModelProto) -> dict[str, int]:
    """How many dimensions what is stored has, and what is computed from it only."""
    graph = model.graph
    ranks = {t.name: len(t.dims) for t in graph.initializer}
    known = {"", *ranks}
    for node in graph.node:
        if known.issuperset(node.input):
            known.update(node.output)
    products = {n for node in graph.node if node.op_type == "MatMul" for n in node.input}
    if products & known <= ranks.keys():
        return ranks
    from onnx import shape_inference

    found = shape_inference.infer_shapes(skeleton(model, large(model)), data_prop=True).graph
    return {v.name: len(v.type.tensor_type.shape.dim) for v in found.value_info if v.name in known} | ranks
