# SPDX-License-Identifier: Apache-2.0
"""Know by the graph that an output is of logits: it is a sum, a mean or a part of what layers give, and nothing else.

Values do not tell. A head of zeros, whose bias holds the classes' priors, gives rows that add up to one; so it does for
some time in training, because the gradients of all classes add up to zero.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

import numpy as np

from ...protos import attribute, values
from .probability import MOVING, sources

if TYPE_CHECKING:
    import onnx

LAYERS = ("BatchNormalization", "Conv", "ConvTranspose", "Einsum", "Gemm", "MatMul")
PASSING = (
    *("Add", "AveragePool", "Clip", "Concat", "Dropout", "GlobalAveragePool", "Mean", "ReduceMean", "ReduceSum", "Sub"),
    *("Sum", *MOVING),
)
SCALING = ("Div", "Mul")
FIRST = (*MOVING, "AveragePool", "Clip", "Dropout", "GlobalAveragePool", "ReduceMean", "ReduceSum")  # read no others
OF_ONE = {"Sigmoid", "Softmax"}


def ends_in_layers(graph: onnx.GraphProto, name: str, makers: Mapping[str, onnx.NodeProto]) -> bool:
    """Whether layers give all that the value is made of, and none of them mixes probabilities to such."""
    stored = {t.name: t for t in graph.initializer}
    fixed = _fixed(graph, stored)
    waiting, seen, layers = [name], {name}, 0
    while waiting:
        node = makers.get(waiting.pop())
        if node is None:
            return False
        given = [n for n in node.input[: 1 if node.op_type in FIRST else None] if n and n not in fixed]
        if node.op_type in LAYERS and len(given) == 1:
            if _mixes(graph, node, given[0], stored, makers):
                return False
            layers += 1
        elif node.op_type in PASSING or (node.op_type in SCALING and len(given) == 1):
            waiting += [n for n in given if n not in seen]
            seen.update(given)
        else:
            return False
    return layers > 0


def _fixed(graph: onnx.GraphProto, stored: Collection[str]) -> set[str]:
    """Names of what does not depend on the input."""
    found = {"", *stored}
    for node in graph.node:
        if found.issuperset(node.input):
            found.update(node.output)
    return found


def _mixes(
    graph: onnx.GraphProto,
    node: onnx.NodeProto,
    data: str,
    stored: Mapping[str, onnx.TensorProto],
    makers: Mapping[str, onnx.NodeProto],
) -> bool:
    """Whether a layer makes probabilities of probabilities: by a matrix, each row of which adds up to one."""
    matrix = stored.get(node.input[1]) if len(node.input) > 1 else None
    if node.op_type not in ("Gemm", "MatMul") or matrix is None or len(matrix.dims) != 2:
        return False
    made_of = sources(graph, data, makers)
    bias = stored.get(node.input[2]) if len(node.input) > 2 else None
    if not made_of or not made_of <= OF_ONE or (bias is not None and values(bias).any()):
        return False
    turned = any(a.name == "transB" and attribute(a) for a in node.attribute)
    rows = values(matrix).T if turned else values(matrix)
    return bool((rows >= 0).all() and np.allclose(rows.sum(axis=1), 1, atol=1e-4))
