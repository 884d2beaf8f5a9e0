# SPDX-License-Identifier: Apache-2.0
"""Put the branch of an If in its place where only shapes decide, which are the same for every sample of a gateway.

TorchScript writes such nodes for `squeeze`, for `if x.dim() == 3` and for pooling to a size. The condition is run in
ONNX Runtime for one, two and three samples. A condition that depends on values, or on how many samples there are, stays
and is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from ..card import Card
from ..notes import note
from .compare import copied
from .order import own_node_names
from .subgraphs import behind_loops, inputs_by_value, rename, single, tried
from .unroll import step_of

if TYPE_CHECKING:
    import onnx


def without_branches(model: onnx.ModelProto, card: Card, where: str) -> bool:
    """Replace each If that shapes decide, in place. Return whether there was any."""
    found = 0
    while decided := _decided(model, card):
        _replace(model.graph, decided)
        found += len(decided)
    if found:
        note(model, f"branches: {found} If, which only shapes decide, became what runs for this window")
    return found > 0


def _decided(model: onnx.ModelProto, card: Card) -> dict[str, bool]:
    """The If nodes whose way is always the same, by their first output."""
    branching = [n for n in model.graph.node if n.op_type == "If"]
    if not branching:
        return {}
    unknown = inputs_by_value(model.graph) | behind_loops(model.graph)
    asked = [*dict.fromkeys(n.input[0] for n in branching if n.input[0] not in unknown)]
    found = tried(model, card, asked) if asked else None
    ways = {name: single(found, name) for name in asked}
    same = {name: bool(way.all()) for name, way in ways.items() if way is not None}
    return {n.output[0]: same[n.input[0]] for n in branching if n.input[0] in same}


def _replace(graph: onnx.GraphProto, decided: Mapping[str, bool]) -> None:
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.op_type == "If" and node.output[0] in decided:
            wanted = "then_branch" if decided[node.output[0]] else "else_branch"
            inner = next(a.g for a in node.attribute if a.name == wanted)
            nodes += _inlined(graph, node, inner, f"{node.name or node.output[0]}.")
        else:
            nodes.append(copied(node))
    del graph.node[:]
    graph.node.extend(nodes)
    own_node_names(graph)  # a branch may be there twice, in two steps of a loop


def _inlined(
    graph: onnx.GraphProto, node: onnx.NodeProto, inner: onnx.GraphProto, prefix: str
) -> Iterator[onnx.NodeProto]:
    """The nodes of a branch under names of their own; its tensors are added to the graph."""
    from onnx import helper

    made = {o for each in inner.node for o in each.output if o}
    names = {n: f"{prefix}{n}" for n in {*made, *(t.name for t in inner.initializer)}}
    for tensor in inner.initializer:
        graph.initializer.append(copied(tensor))
        graph.initializer[-1].name = names[tensor.name]
    for position, each in enumerate(inner.node):
        kept = copied(each)
        if step := step_of(node):
            kept.doc_string = f"{step}{inner.name}/{position};"
        rename(kept, names)
        yield kept
    for output, value in zip(node.output, inner.output, strict=True):
        if output:
            yield helper.make_node("Identity", [names.get(value.name, value.name)], [output])
