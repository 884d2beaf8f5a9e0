# SPDX-License-Identifier: Apache-2.0
"""Give a graph a float32 input, which is what a gateway feeds; one of integers that are no values is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...errors import ModelError
from ...protos import DOUBLE, FLOAT, FLOAT16, attribute
from ..card import Card
from ..notes import note

if TYPE_CHECKING:
    import onnx

BFLOAT16 = 16
FLOATS = (FLOAT, FLOAT16, DOUBLE, BFLOAT16)
NAMES = {2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 8: "text", 9: "bool"}


def float_input(model: onnx.ModelProto, card: Card, where: str) -> bool:
    """Declare an integer input as float32 where the graph turns it into that first, in place.

    Return whether it did. Raises ModelError for integers that are used as such: numbers of words, of classes.
    """
    graph, stored = model.graph, {t.name for t in model.graph.initializer}
    changed = False
    for value in (v for v in graph.input if v.name not in stored):
        kind = value.type.tensor_type.elem_type
        if kind in FLOATS or not kind:
            continue
        readers = [n for n in graph.node if value.name in n.input]
        if not readers or not all(to_float(n) for n in readers):
            uses = ", ".join(dict.fromkeys(n.op_type for n in readers)) or "nothing"
            raise ModelError(
                f"{where}: the input {value.name!r} is {NAMES.get(kind, f'of type {kind}')} and is read by {uses}; a "
                "gateway gives float32: export the network for float32 inputs, after any look-up by number"
            )
        value.type.tensor_type.elem_type = FLOAT
        note(model, f"input: {value.name} was declared {NAMES.get(kind, kind)} and turned into float32; it is that now")
        changed = True
    return changed


def to_float(node: onnx.NodeProto) -> bool:
    """Whether a node turns integers into float32."""
    return node.op_type == "Cast" and any(a.name == "to" and attribute(a) == FLOAT for a in node.attribute)
