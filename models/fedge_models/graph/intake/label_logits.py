# SPDX-License-Identifier: Apache-2.0
"""Take the logits of labels of which several may hold: what goes into the sigmoids, or gives the same probabilities.

Exporters end such a network in a Sigmoid, in one for each label, or in probabilities by other means. Training needs the
logits, and a gateway makes the probabilities itself. A Softmax is refused: its probabilities add up to one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...errors import ModelError
from ...protos import FLOAT
from ..card import Card
from ..notes import note
from .ends import ends_in_layers
from .one_output import LINEAR, run_output, set_output, sigmoid, through_shapes, without_copies, without_sigmoid
from .probability import LOGITS, logits_of, sources
from .pruning import prune

if TYPE_CHECKING:
    import onnx

TAKEN = "output: the logits before the sigmoids, of which each label has one; a gateway makes the probabilities itself"


def label_logits(model: onnx.ModelProto, card: Card, where: str) -> bool:
    """Let a model of several labels give a logit for each, in place. Return whether anything changed.

    Raises ModelError when its probabilities add up to one.
    """
    graph = model.graph
    if card.task != "multilabel" or len(graph.output) != 1 or graph.output[0].type.tensor_type.elem_type != FLOAT:
        return False
    makers = {o: n for n in graph.node for o in n.output}
    name = without_copies(graph.output[0].name, makers)
    if sigmoid(name, makers) is not None:
        name = without_sigmoid(graph, name, makers, where)
    elif (join := _of_sigmoids(name, makers)) is not None:
        name = _joined(graph, join, [without_sigmoid(graph, part, makers, where) for part in join.input])
    elif through_shapes(name, makers)[1] == "Softmax":
        raise ModelError(
            f"{where}: ends in a Softmax, whose probabilities add up to one: of several labels, one would deny the "
            "others. Export the logits or their sigmoids, or write task = 'classify' on the card"
        )
    elif _are_logits(graph, name, makers) or not _are_probabilities(model, card, name):
        return False
    else:
        name = logits_of(graph, name)
        note(model, "output: the logits of its probabilities, which are the same")
        return _ended(graph, name, card)
    note(model, TAKEN)
    return _ended(graph, name, card)


def _ended(graph: onnx.GraphProto, name: str, card: Card) -> bool:
    set_output(graph, name, len(card.labels))
    prune(graph)
    return True


def _of_sigmoids(name: str, makers: dict[str, onnx.NodeProto]) -> onnx.NodeProto | None:
    """The node that joins the sigmoids of the labels; None when `name` is no such thing."""
    node = makers.get(name)
    joins = node is not None and node.op_type == "Concat" and len(set(node.input)) == len(node.input)
    return node if joins and node is not None and all(sigmoid(part, makers) for part in node.input) else None


def _joined(graph: onnx.GraphProto, join: onnx.NodeProto, parts: list[str]) -> str:
    """Join the logits as the sigmoids were joined; return the name."""
    from onnx import helper

    axis = next(a.i for a in join.attribute if a.name == "axis")
    graph.node.append(helper.make_node("Concat", parts, [LOGITS], axis=axis))
    return LOGITS


def _are_logits(graph: onnx.GraphProto, name: str, makers: dict[str, onnx.NodeProto]) -> bool:
    """Whether the graph tells that no probabilities are given, whatever the values are."""
    return not sources(graph, name, makers) - {*LINEAR} or ends_in_layers(graph, name, makers)


def _are_probabilities(model: onnx.ModelProto, card: Card, name: str) -> bool:
    """Whether every value lies between 0 and 1, for a few samples."""
    found = run_output(model, card, name)
    return found is not None and found.dtype.kind == "f" and bool(((found >= 0) & (found <= 1)).all())
