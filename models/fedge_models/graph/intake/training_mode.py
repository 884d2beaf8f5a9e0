# SPDX-License-Identifier: Apache-2.0
"""Take a network that was exported in training mode out of it.

It would still drop values and normalise by the batch where it is served.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...errors import ModelError
from ..card import Card
from ..notes import note
from ..onnx_file import array, tensors
from ..signature import PYTORCH

if TYPE_CHECKING:
    import onnx

NAMED = 8  # nodes that a note lists
MOVED = (
    "batch_norm: exported in training mode, in which tracing moves the running statistics towards the example before "
    "they are written. To keep those of the network: net.eval() and training=TrainingMode.PRESERVE"
)
DROPOUT = "would always drop values, also where it decides (training=True); it drops them in training only"


def for_serving(model: onnx.ModelProto, card: Card, where: str) -> bool:
    """Switch BatchNormalization and Dropout to inference, in place. Return whether any was in training mode.

    Raises ModelError when statistics of the batch are used elsewhere.
    """
    read = {n for node in model.graph.node for n in node.input} | {o.name for o in model.graph.output}
    constants, changed, always = tensors(model), False, list[str]()
    for node in model.graph.node:
        mode = next((a for a in node.attribute if a.name == "training_mode" and a.i), None)
        if node.op_type == "BatchNormalization" and mode is not None:
            if used := read.intersection(node.output[1:]):
                raise ModelError(f"{where}: node {node.name!r} (BatchNormalization): {used.pop()!r} is used elsewhere")
            mode.i, changed = 0, True
            del node.output[1:]
            if model.producer_name == PYTORCH:
                note(model, MOVED)
        if node.op_type == "Dropout" and len(node.input) > 2 and node.input[2] in constants:
            changed = True
            always += (
                [node.name or node.op_type]
                if array(node.input[2], constants[node.input[2]], where, False).any()
                else []
            )
            del node.input[2:]
    if always:
        named = f"{', '.join(always[:NAMED])}{f' and {len(always) - NAMED} more' if len(always) > NAMED else ''}"
        note(model, f"dropout: {named} {DROPOUT}")
    return changed
