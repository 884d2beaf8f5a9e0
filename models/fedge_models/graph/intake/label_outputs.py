# SPDX-License-Identifier: Apache-2.0
"""Join the outputs of a network that has one for each label, of which several may hold, to one output.

scikit-learn's MultiOutputClassifier is exported with a sequence of two probabilities for each label, a network with a
head for each label with one value for each. Outputs that are named as the card's labels come in the card's order; where
only some are, the file is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ...errors import ModelError
from ...protos import DOUBLE, FLOAT, FLOAT16, messages, tensor, value_info
from ..card import Card
from ..notes import note
from ..refusals import refuse
from .compare import results, samples
from .own_scaling import LEARNERS
from .pruning import prune

if TYPE_CHECKING:
    import onnx

MADE = "fedge.labels"
FLOATS = (FLOAT, FLOAT16, DOUBLE)


def join_labels(model: onnx.ModelProto, card: Card, where: str) -> bool:
    """Join one output for each label to one, in place. Return whether there were some.

    Raises ModelError when it is not known which output is that of which label.
    """
    graph = model.graph
    pairs = _pairs(graph)
    if pairs and model.producer_name not in LEARNERS and card.task != "multilabel":
        return _as_outputs(graph)
    if pairs and (card.task != "multilabel" or len(pairs) != len(card.labels)):
        refuse("label list", where, count=len(pairs))
    if card.task != "multilabel" or card.output:
        return False
    if pairs:
        _check_pairs(model, card, pairs, where)
        named, kind, parts = [*card.labels], FLOAT, _of_pairs(graph, pairs)
    elif heads := _heads(graph, card.labels, where):
        named = [one if one == name else f"{one} ({name})" for one, name in zip(card.labels, heads, strict=True)]
        kind, parts = graph.output[0].type.tensor_type.elem_type, _of_heads(graph, heads)
    else:
        return False
    _join(graph, parts, kind)
    note(model, f"output: one value for each label, joined in the order {', '.join(named)}")
    return True


def _pairs(graph: onnx.GraphProto) -> list[str]:
    """The values of which a sequence for each label is made, where the output is one."""
    outputs = {o.name for o in graph.output}
    ends = [n for n in graph.node if n.op_type == "SequenceConstruct" and outputs.intersection(n.output)]
    return [*ends[0].input] if len(ends) == 1 else []


def _as_outputs(graph: onnx.GraphProto) -> bool:
    """Let each value of a list that is an output be an output of its own: a list of one is that one."""
    ends = {o for n in graph.node if n.op_type == "SequenceConstruct" for o in n.output}
    old = [messages().ValueInfoProto.FromString(o.SerializeToString()) for o in graph.output]
    makers = {o: n for n in graph.node for o in n.output}
    names = list(dict.fromkeys(n for o in old for n in (makers[o.name].input if o.name in ends else [o.name])))
    del graph.output[:]
    graph.output.extend(next((o for o in old if o.name == n), None) or value_info(n, None) for n in names)
    prune(graph)
    return True


def _check_pairs(model: onnx.ModelProto, card: Card, pairs: list[str], where: str) -> None:
    """Raise ModelError for a label that has other than two classes: its second is not "yes"."""
    found = results(model, samples(model, card), pairs) or {}
    for label, name in zip(card.labels, pairs, strict=True):
        if name in found and found[name].shape[1:] != (2,):
            raise ModelError(
                f"{where}: gives {found[name].shape[1:]} probabilities for the label {label!r} ({name}), expected two, "
                "of no and of yes: each label of task multilabel holds or not. Train it on 0 and 1, both in the data"
            )


def _of_pairs(graph: onnx.GraphProto, pairs: list[str]) -> list[str]:
    """The probability of yes of each label, whose outputs are those of no and of yes."""
    from onnx import helper

    graph.initializer.append(tensor("fedge.yes", np.array([1], np.int64)))
    found = [f"{MADE}.{i}" for i in range(len(pairs))]
    for pair, name in zip(pairs, found, strict=True):
        graph.node.append(helper.make_node("Gather", [pair, "fedge.yes"], [name], axis=1))
    return found


def _heads(graph: onnx.GraphProto, labels: tuple[str, ...], where: str) -> list[str]:
    """The output of each label, in the card's order, where every label has one; else none."""
    names = [o.name for o in graph.output if _is_single(o)]
    if len(names) != len(labels) or len(graph.output) != len(labels):
        return []
    if set(names) == set(labels):
        return [*labels]
    if both := set(names) & set(labels):
        raise ModelError(
            f"{where}: the outputs are {names}, the card's labels {[*labels]}: {sorted(both)} are in both, and of the "
            "others it is not known which output is which label. Give the labels the names of the outputs"
        )
    return names


def _of_heads(graph: onnx.GraphProto, names: list[str]) -> list[str]:
    from onnx import helper

    graph.initializer.append(tensor("fedge.column", np.array([-1, 1], np.int64)))
    found = [f"{MADE}.{i}" for i in range(len(names))]
    for value, name in zip(names, found, strict=True):
        graph.node.append(helper.make_node("Reshape", [value, "fedge.column"], [name]))
    return found


def _is_single(output: onnx.ValueInfoProto) -> bool:
    """Whether an output is a float for each sample."""
    kind, dims = output.type.tensor_type, output.type.tensor_type.shape.dim
    return kind.elem_type in FLOATS and len(dims) in (1, 2) and (len(dims) == 1 or dims[1].dim_value == 1)


def _join(graph: onnx.GraphProto, parts: list[str], kind: int) -> None:
    from onnx import helper

    graph.node.append(helper.make_node("Concat", parts, [MADE], axis=1))
    del graph.output[:]
    graph.output.append(value_info(MADE, ("n", len(parts))))
    graph.output[0].type.tensor_type.elem_type = kind
    prune(graph)
