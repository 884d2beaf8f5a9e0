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
    tensors = [t for t in graph.initializer if t.name in wanted]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(reversed(needed))
    graph.initializer.extend(tensors)
