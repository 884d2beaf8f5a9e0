# SPDX-License-Identifier: Apache-2.0
"""Join the outputs of a network that has one for each label, of which several may hold, to one output.

scikit-learn's MultiOutputClassifier is exported with a sequence of two probabilities for each label, a network with a
head for each label with one value for each. Outputs that are named as the card's labels come in the card's order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ...protos import FLOAT, tensor, value_info
from ..card import Card
from ..notes import note
from .pruning import prune

if TYPE_CHECKING:
    import onnx

MADE = "fedge.labels"


def join_labels(model: onnx.ModelProto, card: Card, where: str) -> bool:
    """Join one output for each label to one, in place. Return whether there were some."""
    graph = model.graph
    if card.task != "multilabel" or card.output:
        return False
    parts = _of_sequence(graph, len(card.labels)) or _of_heads(graph, card.labels)
    if not parts:
        return False
    _join(graph, parts)
    note(model, f"output: one value for each label, joined in the order {', '.join(card.labels)}")
    return True


def _of_sequence(graph: onnx.GraphProto, labels: int) -> list[str]:
    """The probability of each label, where the output is a sequence of those of "no" and "yes"."""
    from onnx import helper

    outputs = {o.name for o in graph.output}
    ends = [n for n in graph.node if n.op_type == "SequenceConstruct" and outputs.intersection(n.output)]
    if len(ends) != 1 or len(ends[0].input) != labels:
        return []
    graph.initializer.append(tensor("fedge.yes", np.array([1], np.int64)))
    found = [f"{MADE}.{i}" for i in range(labels)]
    for pair, name in zip(ends[0].input, found, strict=True):
        graph.node.append(helper.make_node("Gather", [pair, "fedge.yes"], [name], axis=1))
    return found


def _of_heads(graph: onnx.GraphProto, labels: tuple[str, ...]) -> list[str]:
    """The value of each label, where every label has an output of its own."""
    from onnx import helper

    names = [o.name for o in graph.output if _is_single(o)]
    if len(names) != len(labels) or len(graph.output) != len(labels):
        return []
    ordered = list(labels) if set(names) == set(labels) else names
    graph.initializer.append(tensor("fedge.column", np.array([-1, 1], np.int64)))
    found = [f"{MADE}.{i}" for i in range(len(labels))]
    for value, name in zip(ordered, found, strict=True):
        graph.node.append(helper.make_node("Reshape", [value, "fedge.column"], [name]))
    return found


def _is_single(output: onnx.ValueInfoProto) -> bool:
    """Whether an output is a float for each sample."""
    kind, dims = output.type.tensor_type, output.type.tensor_type.shape.dim
    return kind.elem_type == FLOAT and len(dims) in (1, 2) and (len(dims) == 1 or dims[1].dim_value == 1)


def _join(graph: onnx.GraphProto, parts: list[str]) -> None:
    from onnx import helper

    graph.node.append(helper.make_node("Concat", parts, [MADE], axis=1))
    del graph.output[:]
    graph.output.append(value_info(MADE, ("n", len(parts))))
    prune(graph)
