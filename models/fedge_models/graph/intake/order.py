# SPDX-License-Identifier: Apache-2.0
"""Sort the nodes so that each comes after those whose results it reads, and give each a name of its own.

The standard asks for both. Some tools (a conversion to float16 that keeps the types of inputs and outputs) append nodes
at the end, and ONNX Runtime sorts them itself; it refuses two nodes of one name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..card import Card
from ..notes import note
from .compare import copied

if TYPE_CHECKING:
    import onnx


def in_order(model: onnx.ModelProto, card: Card, where: str) -> bool:
    """Sort nodes and rename repeated names, in place. Return whether anything changed.

    Nodes that read each other in a circle stay as they are: the check of the file refuses them.
    """
    renamed = own_node_names(model.graph)
    order = _order(model.graph)
    if order is None or order == sorted(order):
        return renamed
    nodes = [copied(model.graph.node[i]) for i in order]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return note(model, "nodes: put into the order in which they are calculated")


def _order(graph: onnx.GraphProto) -> list[int] | None:
    """Positions of the nodes, each after those it reads and else as in the file; None where there is no such order."""
    writer = {name: i for i, node in enumerate(graph.node) for name in node.output if name}
    readers: dict[int, list[int]] = {}
    missing = []  # how many nodes each waits for
    for i, node in enumerate(graph.node):
        needed = {writer[n] for n in _read(node) if n in writer}
        missing.append(len(needed))
        for k in needed:
            readers.setdefault(k, []).append(i)
    if all(k < i for k, after in readers.items() for i in after):
        return [*range(len(graph.node))]
    ready, order = [i for i, n in enumerate(missing) if not n][::-1], []
    while ready:
        order.append(ready.pop())
        for i in readers.get(order[-1], ()):
            missing[i] -= 1
            if not missing[i]:
                ready.append(i)
    return order if len(order) == len(graph.node) else None


def _read(node: onnx.NodeProto) -> set[str]:
    """What a node reads, in graphs inside it too."""
    inside = [n for a in node.attribute for g in (a.g, *a.graphs) for n in g.node]
    return {*node.input} | {name for n in inside for name in _read(n)}


def own_node_names(graph: onnx.GraphProto) -> bool:
    """Number the names that more than one node has. Return whether there were any."""
    taken = {n.name for n in graph.node}
    if len(taken - {""}) == sum(bool(n.name) for n in graph.node):
        return False
    uses: dict[str, int] = {}
    for node in graph.node:
        name = node.name
        while node.name and uses.setdefault(name, 0) and node.name in taken:
            uses[name] += 1
            node.name = f"{name}.{uses[name]}"
        uses[name] = uses.get(name, 0) or 1
        taken.add(node.name)
    return True
