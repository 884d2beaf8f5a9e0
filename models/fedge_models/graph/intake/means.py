# SPDX-License-Identifier: Apache-2.0
"""Find the running mean of a BatchNormalization that is written out: what is subtracted before a scale and a shift.

Keras with PyTorch under it writes one so, as `(x - mean) * factor + shift`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

MEAN = "the running mean of a BatchNormalization that is written out"


def written_means(graph: onnx.GraphProto, stored: Mapping[str, onnx.TensorProto]) -> Iterator[str]:
    """The tensors that are subtracted so, each read once."""
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    for node in graph.node:
        if node.op_type != "Sub" or node.input[1] not in stored or len(readers[node.input[1]]) > 1:
            continue
        mean = node.input[1]
        size, value = prod(stored[mean].dims), node.output[0]
        for op in ("Mul", "Add"):
            follows = readers.get(value, [])
            only = follows[0] if len(follows) == 1 and follows[0].op_type == op else None
            others = [n for n in only.input if n in stored and prod(stored[n].dims) == size] if only is not None else []
            value = only.output[0] if only is not None and len(others) == 1 else ""
        if value and size > 1:
            yield mean
