# SPDX-License-Identifier: Apache-2.0
"""Graphs inside nodes, which are branches and loops: what they read, and the part of a model that some values need."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...protos import messages
from ..card import Card
from ..nodes import SHAPES
from .compare import real_inputs, results, samples
from .float32 import graphs

if TYPE_CHECKING:
    import onnx

COUNTING = (*SHAPES, "SequenceLength")  # what they give depends on no measured value
COUNTS = (1, 2, 3)  # of samples
ENDLESS = ("Loop", "Scan")  # may never end, so such a node is not run
Values = list[dict[str, NDArray[Any]]]


def reads(node: onnx.NodeProto) -> set[str]:
    """Names that a node reads, and the graphs inside it."""
    return {*node.input, *_outer(node)} - {""}


def _outer(node: onnx.NodeProto) -> Iterator[str]:
    for inner in (g for a in node.attribute if a.HasField("g") for g in graphs(a.g)):
        yield from (name for each in inner.node for name in each.input)
        yield from (o.name for o in inner.output)


def operators(nodes: Iterable[onnx.NodeProto]) -> set[str]:
    """The operators of nodes and of the graphs inside them."""
    inner = {
        n.op_type for node in nodes for a in node.attribute if a.HasField("g") for g in graphs(a.g) for n in g.node
    }
    return {n.op_type for n in nodes} | inner


def inputs_by_value(graph: onnx.GraphProto) -> set[str]:
    """Every name that depends on the values of an input, and not only on their shape."""
    return behind(graph.node, {v.name for v in real_inputs(graph)}, COUNTING)


def behind_loops(graph: onnx.GraphProto) -> set[str]:
    """Every name that a loop is needed for."""
    return behind(graph.node, {o for n in graph.node if not operators([n]).isdisjoint(ENDLESS) for o in n.output})


def behind(nodes: Iterable[onnx.NodeProto], names: Collection[str], ends: Collection[str] = ()) -> set[str]:
    """The names, and every name that depends on them but through operators where the way `ends`."""
    found = {*names}
    for node in nodes:
        if node.op_type not in ends and not found.isdisjoint(reads(node)):
            found.update(o for o in node.output if o)
    return found


def needed(nodes: Sequence[onnx.NodeProto], names: Collection[str]) -> tuple[list[onnx.NodeProto], set[str]]:
    """The nodes that some values need, in their order, and every name that is read for them."""
    wanted, found = {*names}, []
    for node in reversed(nodes):
        if not wanted.isdisjoint(node.output):
            wanted |= reads(node)
            found.append(node)
    return found[::-1], wanted


def part(model: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    """A copy with only what some values need, which become its outputs."""
    made: onnx.ModelProto = messages().ModelProto(ir_version=max(model.ir_version, 4))
    made.opset_import.extend(model.opset_import)
    nodes, wanted = needed(model.graph.node, names)
    made.graph.name = "part"
    made.graph.node.extend(nodes)
    made.graph.input.extend(v for v in real_inputs(model.graph) if v.name in wanted)
    made.graph.initializer.extend(t for t in model.graph.initializer if t.name in wanted)
    made.graph.output.extend(messages().ValueInfoProto(name=n) for n in names)
    return made


def tried(model: onnx.ModelProto, card: Card, names: Sequence[str]) -> Values | None:
    """These values for one, two and three samples; once where no input is read. None where they cannot be known."""
    return tried_part(part(model, names), model, card)


def tried_part(small: onnx.ModelProto, model: onnx.ModelProto, card: Card) -> Values | None:
    """What a part of the model gives, in the same way. It may have no loop, which may never end."""
    read, names = [v.name for v in small.graph.input], [o.name for o in small.graph.output]
    if not read:
        found = [results(small, {}, names)]
    else:
        fed = [samples(model, card, count) for count in COUNTS]
        found = [results(small, f and {n: f[n] for n in read}, names) for f in fed]
    whole = [f for f in found if f is not None]
    return whole if len(whole) == len(found) else None


def is_open(model: onnx.ModelProto, card: Card) -> bool:
    """Whether a dimension behind the batch is open and not known to be the window's length."""
    for value in real_inputs(model.graph):
        unknown = sum(d.dim_value == 0 for d in value.type.tensor_type.shape.dim[1:])
        if unknown > 1 or (unknown and card.features):
            return True
    return False


def single(found: Values | None, name: str) -> NDArray[Any] | None:
    """A value that is the same however many samples there are; None for another."""
    if not found or any(not np.array_equal(found[0][name], f[name]) for f in found):
        return None
    return found[0][name]


def rename(node: Any, names: Mapping[str, str]) -> None:
    """Rename what a node reads and writes, and what the graphs inside it read, in place."""
    for names_of in (node.input, node.output):
        for position, name in enumerate(names_of):
            names_of[position] = names.get(name, name)
    for inner in (a.g for a in node.attribute if a.HasField("g")):
        for each in inner.node:
            rename(each, names)
        for output in inner.output:
            output.name = names.get(output.name, output.name)
