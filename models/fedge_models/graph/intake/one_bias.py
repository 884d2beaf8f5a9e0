# SPDX-License-Identifier: Apache-2.0
"""Leave a recurrent layer the one bias that its network has, where ONNX has room for two.

ONNX adds a bias of the input and one of the state. PyTorch has both. Keras (LSTM, SimpleRNN, GRU with
`reset_after=False`), MATLAB and others have one, and their exporters fill the other half with zeros. Both halves get
the same gradient, so the bias would learn twice as fast. A half of exact zeros becomes a Pad of the other half, which
computes the same and is no parameter.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...protos import FLOAT, attribute, messages, tensor, values
from ..card import Card
from ..notes import note
from ..signature import PYTORCH, kinds
from .free_names import FreeNames
from .provenance import CONSTANT, is_marked

if TYPE_CHECKING:
    import onnx

RECURRENT = ("GRU", "LSTM", "RNN")
BIAS = 3  # its input of a recurrent layer
OF_KERAS = ("keras2onnx", "tf2onnx")
NAMED_BY_PYTORCH = re.compile(r"(^|/)onnx::|(^|[._/])bias_(ih_|hh_)?l\d")
LAID_OUT = ("Concat", "Identity", "Reshape", "Squeeze", "Unsqueeze")
NAMED = 8  # that the note lists
NONE = "a bias of zeros, in place of none: in Keras, that of an LSTM begins with ones at its forget gates"
ABSENT = "the half of a recurrent layer's bias that the network has not"


class Half(NamedTuple):
    """The part of a stored bias that is a parameter."""

    values: NDArray[Any]  # (directions, gates * hidden)
    pads: tuple[int, int]  # zeros before and behind it


def one_bias(model: onnx.ModelProto, card: Card, where: str) -> bool:
    """Let Pad make the half that is zero, in place. Return whether there was one."""
    if kinds(model) or model.producer_name == PYTORCH:
        return False
    graph = model.graph
    readers = _read_as_bias(graph)
    stored = {t.name: t for t in graph.initializer if t.data_type == FLOAT and t.name in readers}
    found = {
        name: half
        for name, t in stored.items()
        if (half := _half(values(t), readers[name], model.producer_name)) is not None
        and not NAMED_BY_PYTORCH.search(name)
    }
    _mark_halves(model)
    if found:
        _pad(graph, found)
        none = {n for n in found if model.producer_name in OF_KERAS and _has_none(found[n], readers[n])}
        for t in (t for t in graph.initializer if t.name in none):
            t.doc_string = CONSTANT + NONE
        _say(model, [n for n in found if n not in none])
    return bool(found)


def _say(model: onnx.ModelProto, found: list[str]) -> None:
    if found:
        names = ", ".join(found[:NAMED]) + (f" and {len(found) - NAMED} more" if len(found) > NAMED else "")
        note(
            model, f"bias: {names}: one for each gate, as the network has; the other half was zero and is no parameter"
        )


def _read_as_bias(graph: onnx.GraphProto) -> dict[str, list[onnx.NodeProto]]:
    """The recurrent layers of each name that nothing else reads, and these as their bias only."""
    found: dict[str, list[onnx.NodeProto]] = {}
    others = {v.name for v in graph.output}
    for node in graph.node:
        for position, name in enumerate(node.input):
            if node.op_type in RECURRENT and position == BIAS and name:
                found.setdefault(name, []).append(node)
            else:
                others.add(name)
    return {name: nodes for name, nodes in found.items() if name not in others}


def _half(bias: NDArray[Any], readers: list[onnx.NodeProto], producer: str) -> Half | None:
    """The half that is a parameter; None where both are.

    Of two that are zero, as a layer begins, the exporter tells: its networks have one.
    """
    if bias.ndim != 2 or bias.shape[1] % 2:
        return None
    size = bias.shape[1] // 2
    first, second = bias[:, :size], bias[:, size:]
    if first.any() and not second.any():
        return Half(first, (0, size))
    if second.any() and not first.any():
        return Half(second, (size, 0))
    fresh = not bias.any() and producer in OF_KERAS and not any(_resets_after(node) for node in readers)
    return Half(first, (0, size)) if fresh else None


def _has_none(half: Half, readers: list[onnx.NodeProto]) -> bool:
    """Whether an LSTM of Keras has no bias (`use_bias=False`): its exporter fills both halves with zeros."""
    return not half.values.any() and all(node.op_type == "LSTM" for node in readers)


def _resets_after(node: onnx.NodeProto) -> bool:
    """Whether a GRU resets behind the product with the state, for which Keras has a second bias."""
    return any(a.name == "linear_before_reset" and attribute(a) for a in node.attribute)


def _pad(graph: onnx.GraphProto, found: dict[str, Half]) -> None:
    """Store the halves, and give their layers what Pad makes of them."""
    free = FreeNames(
        {n for node in graph.node for n in (*node.input, *node.output)} | {t.name for t in graph.initializer}
    )
    made: dict[str, str] = {}
    for stored in [t for t in graph.initializer if t.name in found]:
        half, name = found[stored.name], stored.name
        stored.CopyFrom(tensor(name, half.values))
        made[name], pads = free.first(f"{name}/Pad"), free.first(f"{name}/pads")
        graph.initializer.append(tensor(pads, np.array([0, half.pads[0], 0, half.pads[1]], np.int64)))
        node = messages().NodeProto(op_type="Pad", name=made[name], input=[name, pads], output=[made[name]])
        graph.node.insert(0, node)
    for node in graph.node:
        if node.op_type in RECURRENT and len(node.input) > BIAS:
            node.input[BIAS] = made.get(node.input[BIAS], node.input[BIAS])


def _mark_halves(model: onnx.ModelProto) -> None:
    """Mark stored zeros that are joined with other values to a bias."""
    graph = model.graph
    makers = {o: n for n in graph.node if n.op_type in LAID_OUT for o in n.output}
    stored = {t.name: t for t in graph.initializer if t.data_type == FLOAT}
    reads = Counter(name for node in graph.node for name in node.input)
    for name in _read_as_bias(graph):
        parts = [stored[n] for n in joined_of(name, makers) if n in stored]
        zeros = [t for t in parts if not values(t).any()]
        for t in zeros if len(zeros) < len(parts) else ():
            if reads[t.name] == 1 and not is_marked(t):
                t.doc_string = CONSTANT + ABSENT


def joined_of(name: str, makers: dict[str, onnx.NodeProto]) -> set[str]:
    """What a value is joined of, and all that lies between; makers: of the nodes that only lay out."""
    waiting, seen = [name], {name}
    while waiting:
        node = makers.get(waiting.pop())
        if node is not None:
            new = {*(node.input if node.op_type == "Concat" else node.input[:1])} - seen
            seen |= new
            waiting += new
    return seen
