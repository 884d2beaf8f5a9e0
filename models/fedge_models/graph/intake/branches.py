# SPDX-License-Identifier: Apache-2.0
"""Put the branch of an If in its place where only shapes decide, which are the same for every sample of a gateway.

TorchScript writes such nodes for `squeeze`, for `if x.dim() == 3` and for pooling to a size. The condition is run in
ONNX Runtime for one, two and three samples. A condition that depends on values, or on how many samples there are, stays
and is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ..card import Card
from ..nodes import SHAPES
from ..notes import note
from .compare import check_same, copied, results, samples
from .float32 import graphs
from .pruning import prune

if TYPE_CHECKING:
    import onnx

COUNTS = (1, 2, 3)  # of samples
ENDLESS = ("Loop", "Scan")  # may never end, so such a file is not run


def without_branches(model: onnx.ModelProto, card: Card, where: str) -> bool:
    """Replace each If that shapes decide, in place. Return whether there was any."""
    kinds = {n.op_type for graph in graphs(model.graph) for n in graph.node}
    if "If" not in kinds or not kinds.isdisjoint(ENDLESS):
        return False
    before, found = results(model, samples(model, card)), 0
    while decided := _decided(model, card):
        _replace(model.graph, decided)
        found += len(decided)
    if found and not any(n.op_type == "If" for n in model.graph.node):  # else it is refused
        prune(model.graph)
        check_same(before, results(model, samples(model, card)), "a branch that shapes decide", where)
        note(model, f"branches: {found} If, which only shapes decide, became what runs for this window")
    return found > 0


def _decided(model: onnx.ModelProto, card: Card) -> dict[str, bool]:
    """The If nodes whose way is always the same, by their first output."""
    by_value = _by_value(model.graph)
    asked = {n.input[0]: n for n in model.graph.node if n.op_type == "If" and n.input[0] not in by_value}
    if not asked:
        return {}
    tried = [results(model, samples(model, card, count), [*asked]) for count in COUNTS]
    ways = {name: {bool(t[name].all()) for t in tried if t is not None} for name in asked}
    same = {name: way.pop() for name, way in ways.items() if len(way) == 1 and None not in tried}
    return {n.output[0]: same[n.input[0]] for n in model.graph.node if n.op_type == "If" and n.input[0] in same}


def _by_value(graph: onnx.GraphProto) -> set[str]:
    """Every name that depends on the values of an input, and not only on their shape."""
    names = {v.name for v in graph.input} - {t.name for t in graph.initializer}
    for node in graph.node:
        if node.op_type not in SHAPES and names.intersection([*node.input, *_outer(node)]):
            names.update(node.output)
    return names


def _outer(node: onnx.NodeProto) -> Iterator[str]:
    """Names that the graphs inside a node read."""
    for inner in (g for a in node.attribute if a.HasField("g") for g in graphs(a.g)):
        yield from (name for each in inner.node for name in each.input)
        yield from (o.name for o in inner.output)


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
    for each in inner.node:
        kept = copied(each)
        _rename(kept, names)
        yield kept
    for output, value in zip(node.output, inner.output, strict=True):
        if output:
            yield helper.make_node("Identity", [names.get(value.name, value.name)], [output])


def _rename(node: Any, names: Mapping[str, str]) -> None:
    for part in (node.input, node.output):
        for position, name in enumerate(part):
            part[position] = names.get(name, name)
    for inner in (a.g for a in node.attribute if a.HasField("g")):
        for each in inner.node:
            _rename(each, names)
        for output in inner.output:
            output.name = names.get(output.name, output.name)
