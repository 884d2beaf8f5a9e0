# SPDX-License-Identifier: Apache-2.0
"""Take a network that was exported in training mode out of it.

It would still drop values and normalise by the batch where it is served.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...errors import ModelError
from ..card import Card
from ..onnx_file import tensors

if TYPE_CHECKING:
    import onnx


def for_serving(model: onnx.ModelProto, card: Card, where: str) -> bool:
    """Switch BatchNormalization and Dropout to inference, in place. Return whether any was in training mode.

    Raises ModelError when statistics of the batch are used elsewhere.
    """
    read = {n for node in model.graph.node for n in node.input} | {o.name for o in model.graph.output}
    constants, changed = tensors(model), False
    for node in model.graph.node:
        mode = next((a for a in node.attribute if a.name == "training_mode" and a.i), None)
        if node.op_type == "BatchNormalization" and mode is not None:
            if used := read.intersection(node.output[1:]):
                raise ModelError(f"{where}: node {node.name!r} (BatchNormalization): {used.pop()!r} is used elsewhere")
            mode.i, changed = 0, True
            del node.output[1:]
        if node.op_type == "Dropout" and len(node.input) > 2 and node.input[2] in constants:
            changed = True
            del node.input[2:]
    return changed
