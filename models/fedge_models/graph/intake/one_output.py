# SPDX-License-Identifier: Apache-2.0
"""Reduce a classifier to one float output: labels, maps of names and a sigmoid for two classes are removed.

skl2onnx adds the label to the probabilities (as a tensor, or as a map from names); tf2onnx and others give one sigmoid
for two classes. Training needs one output with a value for each class, with at most a Softmax at the end. The resulting
graph computes the same probabilities.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ...protos import FLOAT, tensor, value_info
from ..card import Card
from .pruning import prune

if TYPE_CHECKING:
    import onnx


def one_output(model: onnx.ModelProto, card: Card, where: str) -> bool:
    """Reduce a classifier to one float output, in place. Return whether anything changed."""
    if card.task != "classify":
        return False
    graph, classes = model.graph, len(card.labels)
    found = _scores(graph)
    if found is None:
        return False
    name, width = found
    makers = {o: n for n in graph.node for o in n.output}
    while (maker := makers.get(name)) is not None and maker.op_type in ("Identity", "Cast"):
        name = maker.input[0]
    inner = _sigmoid(name, makers)
    if inner is not None and classes == 2:
        name = _two_classes(graph, inner)
    elif len(graph.output) == 1 and width != 0:
        return False
    _set_output(graph, name, classes)
    prune(graph)
    return True


def _scores(graph: onnx.GraphProto) -> tuple[str, int] | None:
    """Return (name, declared width) of the output with scores; None when several could be it."""
    floats = [o for o in graph.output if o.type.tensor_type.elem_type == FLOAT]
    if len(floats) == 1:
        dims = floats[0].type.tensor_type.shape.dim
        return floats[0].name, dims[-1].dim_value if len(dims) else 0
    maps = [n for n in graph.node if n.op_type == "ZipMap"]
    return (maps[0].input[0], 0) if not floats and len(maps) == 1 else None


def _sigmoid(name: str, makers: dict[str, onnx.NodeProto]) -> str | None:
    """Return z when `name` is sigmoid(z), or the two columns 1 - sigmoid(z) and sigmoid(z); else None."""
    maker = makers.get(name)
    if maker is not None and maker.op_type == "Concat" and len(maker.input) == 2:
        left, right = (makers.get(i) for i in maker.input)
        if left is not None and left.op_type == "Sub" and left.input[1] == maker.input[1]:
            maker = right
    return maker.input[0] if maker is not None and maker.op_type == "Sigmoid" else None


def _two_classes(graph: onnx.GraphProto, z: str) -> str:
    """Add a Softmax of the columns 0 and z, which gives the same two probabilities; return its name."""
    from onnx import helper

    graph.initializer.append(tensor("fedge.zero", np.array(0, np.float32)))
    graph.node.extend(
        [
            helper.make_node("Mul", [z, "fedge.zero"], ["fedge.none"]),
            helper.make_node("Concat", ["fedge.none", z], ["fedge.logits"], axis=1),
            helper.make_node("Softmax", ["fedge.logits"], ["fedge.probabilities"], axis=1),
        ]
    )
    return "fedge.probabilities"


def _set_output(graph: onnx.GraphProto, name: str, classes: int) -> None:
    del graph.output[:]
    graph.output.append(value_info(name, ("n", classes)))
