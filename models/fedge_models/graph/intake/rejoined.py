# SPDX-License-Identifier: Apache-2.0
"""Let what PyTorch's exporter folded from one parameter again and again be one tensor.

It computes a transposed weight for every call of a layer. It merges equal results of up to 1024 values, and stores the
larger ones as often as the layer is called, where they would train apart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ...protos import values
from .provenance import Origins

if TYPE_CHECKING:
    import onnx


def rejoin(model: onnx.ModelProto, origin: Origins) -> bool:
    """Leave the first of such tensors, in place. Return whether there were any."""
    graph, outputs = model.graph, {o.name for o in model.graph.output}
    first: dict[tuple[object, ...], onnx.TensorProto] = {}
    same: dict[str, str] = {}
    for tensor in graph.initializer:
        made_of = origin.parameters(tensor.name) if tensor.name in origin.folded else []
        if not made_of or tensor.name in outputs:
            continue
        kind = (*made_of, tensor.data_type, *tensor.dims)
        other = first.setdefault(kind, tensor)
        if other is not tensor and np.array_equal(values(other), values(tensor)):
            same[tensor.name] = other.name
    for node in graph.node if same else ():
        node.input[:] = [same.get(n, n) for n in node.input]
    for listed in (graph.initializer, graph.value_info):
        for position in reversed(range(len(listed) if same else 0)):
            if listed[position].name in same:
                del listed[position]
    return bool(same)
