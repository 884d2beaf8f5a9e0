# SPDX-License-Identifier: Apache-2.0
"""Remove what no output depends on."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx


def prune(graph: onnx.GraphProto) -> None:
    """Remove nodes and tensors that no output depends on."""
    wanted, needed = {o.name for o in graph.output}, []
    for node in reversed(graph.node):
        if wanted.intersection(node.output):
            wanted.update(node.input)
            needed.append(node)
    del graph.node[:]
    graph.node.extend(reversed(needed))
    for position in reversed(range(len(graph.initializer))):  # a new list would be a copy of all weights
        if graph.initializer[position].name not in wanted:
            del graph.initializer[position]
