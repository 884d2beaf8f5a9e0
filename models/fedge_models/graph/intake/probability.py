# SPDX-License-Identifier: Apache-2.0
"""Know which outputs are made of probabilities, and take the logits of those."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from ...protos import tensor

if TYPE_CHECKING:
    import onnx

LEAST = 1e-7  # probability: what is below counts as this, so that its logarithm is finite
SHAPED = ("Flatten", "Identity", "Cast", "Reshape", "Squeeze", "Unsqueeze")
MOVING = (*SHAPED, "Gather", "Slice", "Split", "Transpose")
COMBINING = ("Add", "Concat", "Div", "Mean", "Mul", "ReduceMean", "ReduceSum", "Sub", "Sum")
PRODUCT = "a product of values"
LOGITS = "fedge.label_logits"


def sources(graph: onnx.GraphProto, name: str, makers: Mapping[str, onnx.NodeProto]) -> set[str]:
    """The operators that make the values of which `name` is a part, a mean, a sum or a product; no weight lies between.

    PRODUCT is among them where values are multiplied by, or divided by, each other.
    """
    plain = {t.name for t in graph.initializer if not t.dims}
    plain |= {name for name, maker in makers.items() if maker.op_type == "Constant"}
    found, waiting, seen = set[str](), [name], {name}
    while waiting:
        node = makers.get(waiting.pop())
        if node is None:
            continue
        given = [n for n in node.input if n and n not in plain]
        if node.op_type in MOVING or node.op_type.startswith("Reduce"):
            given = [*node.input[:1]]
        if node.op_type not in (*MOVING, *COMBINING) or not all(n in makers for n in given):
            found.add(node.op_type)
            continue
        if node.op_type in ("Div", "Mul") and len(given) > 1:
            found.add(PRODUCT)
        waiting += [n for n in given if n not in seen]
        seen.update(given)
    return found


def logits_of(graph: onnx.GraphProto, p: str) -> str:
    """Add log(p / (1 - p)), bounded where p is 0 or 1; return its name."""
    from onnx import helper

    for name, value in (("fedge.least", LEAST), ("fedge.most", 1 - LEAST), ("fedge.one", 1.0)):
        graph.initializer.append(tensor(name, np.array(value, np.float32)))
    steps = (
        ("Clip", [p, "fedge.least", "fedge.most"], "fedge.clip"),
        ("Log", ["fedge.clip"], "fedge.log"),
        ("Sub", ["fedge.one", "fedge.clip"], "fedge.rest"),
        ("Log", ["fedge.rest"], "fedge.log_rest"),
        ("Sub", ["fedge.log", "fedge.log_rest"], LOGITS),
    )
    graph.node.extend([helper.make_node(op, inputs, [made]) for op, inputs, made in steps])
    return LOGITS
