# SPDX-License-Identifier: Apache-2.0
"""Find parameters that no gradient reaches: ONNX has no `detach`, so a straight-through estimator trains nothing.

`x + (round(x) - x).detach()` is stored as `x + (round(x) - x)`. The gradients of the two x cancel, and rounding has
none. What an optimiser would make of the rest is noise. The graph alone decides: a gradient that happens to be zero (a
dead Relu, a head of zeros) is none of this.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..nodes import carrying

if TYPE_CHECKING:
    import onnx

Edge = tuple[int, int]  # a node and one of its inputs


def unreached(model: onnx.ModelProto) -> set[str]:
    """Names in the graph from which every path to an output is cancelled."""
    cut = _cancelled(model.graph)
    return carrying(model) - carrying(model, cut) if cut else set()


def _cancelled(graph: onnx.GraphProto) -> set[Edge]:
    """Both edges of x in x + (y - x), and in x - (x - y), if nothing else reads the difference."""
    makers = {o: i for i, n in enumerate(graph.node) for o in n.output}
    reads: dict[str, int] = {}
    for name in (n for node in graph.node for n in node.input):
        reads[name] = reads.get(name, 0) + 1
    found: set[Edge] = set()
    for i, node in enumerate(graph.node):
        for at, taken in {"Add": ((0, 1), (1, 1)), "Sub": ((0, 0),)}.get(node.op_type, ()):
            inner = makers.get(node.input[1 - at], -1)
            if inner >= 0 and reads[node.input[1 - at]] == 1 and _takes(graph.node[inner], taken, node.input[at]):
                found |= {(i, at), (inner, taken)}
    return found


def _takes(node: onnx.NodeProto, position: int, name: str) -> bool:
    return node.op_type == "Sub" and node.input[position] == name


def trained_by_nothing(model: onnx.ModelProto, kinds: Mapping[str, str], parameter: str) -> list[str]:
    """Parameters by what PyTorch says, that a node reads but on which no output depends smoothly."""
    read = {n for node in model.graph.node for n in node.input} - carrying(model)
    return [t.name for t in model.graph.initializer if t.name in read and kinds.get(t.name) == parameter]
