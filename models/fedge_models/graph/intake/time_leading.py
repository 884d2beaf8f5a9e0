# SPDX-License-Identifier: Apache-2.0
"""Turn recurrent layers of layout 1, in which the samples come first, into the layout that ONNX Runtime runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...protos import attribute
from ..card import Card
from ..notes import note
from .compare import copied
from .free_names import FreeNames

if TYPE_CHECKING:
    import onnx

RECURRENT = ("GRU", "LSTM", "RNN")
INPUTS, STATES = (0, 5, 6), (1, 0, 2)  # inputs that have the samples first, and the axes by which they are turned
OUTPUTS = ((2, 0, 1, 3), STATES, STATES)  # axes by which each output is turned back


def time_leading(model: onnx.ModelProto, card: Card, where: str) -> bool:
    """Put Transposes around each such layer, in place. Return whether there was any."""
    found = sum(map(_is_turned, model.graph.node))
    if not found:
        return False
    names = FreeNames(n for node in model.graph.node for n in (node.name, *node.input, *node.output))
    nodes = [made for n in model.graph.node for made in (_with_turns(n, names) if _is_turned(n) else [copied(n)])]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return note(model, f"layout: of {found} recurrent layers of layout 1, the input and the outputs are turned")


def _is_turned(node: onnx.NodeProto) -> bool:
    return node.op_type in RECURRENT and any(a.name == "layout" and attribute(a) for a in node.attribute)


def _with_turns(node: onnx.NodeProto, names: FreeNames) -> list[onnx.NodeProto]:
    """The layer with time first, and the Transposes before and behind it."""
    from onnx import helper

    made, before, behind = copied(node), [], []
    stem = node.name or next(o for o in node.output if o)
    kept = [copied(a) for a in node.attribute if a.name != "layout"]
    del made.attribute[:]
    made.attribute.extend(kept)
    for position in INPUTS:
        if position < len(node.input) and node.input[position]:
            made.input[position] = names.first(f"{stem}.turned")
            before.append((node.input[position], made.input[position], STATES))
    for position, perm in enumerate(OUTPUTS[: len(node.output)]):
        if node.output[position]:
            made.output[position] = names.first(f"{stem}.given")
            behind.append((made.output[position], node.output[position], perm))

    def turn(read: str, written: str, perm: tuple[int, ...]) -> onnx.NodeProto:
        return helper.make_node("Transpose", [read], [written], name=names.first(f"{stem}.turn"), perm=perm)

    return [*(turn(*of) for of in before), made, *(turn(*of) for of in behind)]
