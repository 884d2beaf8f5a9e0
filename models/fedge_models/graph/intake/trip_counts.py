# SPDX-License-Identifier: Apache-2.0
"""Know how often a Loop or a Scan repeats its steps, where constants and shapes alone decide it.

Exporters write a fixed number of steps in many ways: a constant count, a condition that compares a counter with a
constant, a window's length read from its shape. The condition is run with its counters alone, in ONNX Runtime, for one,
two and three samples, and never further than the limit, so that a loop that does not end is not waited for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ...protos import attribute, messages, tensor
from ..card import Card
from ..nodes import SHAPES
from .compare import copied
from .opset import stated_opset
from .subgraphs import (
    ENDLESS,
    behind,
    behind_loops,
    inputs_by_value,
    is_open,
    needed,
    operators,
    part,
    single,
    tried,
    tried_part,
)

if TYPE_CHECKING:
    import onnx

COUNTED = "fedge.counted"
OLDEST_SCAN = 9  # opset; before, a Scan had a batch of its own


class Trips(NamedTuple):
    """How often a loop repeats; why this cannot be known, where it cannot."""

    steps: int = -1
    why: str = ""


BY_VALUES = Trips(why="measured values decide how often it repeats")
BY_BATCH = Trips(why="the number of samples decides how often it repeats")
UNKNOWN = Trips(why="nothing before the loop tells how often it repeats")
OPEN = Trips(why="a shape decides how often it repeats, and the file leaves open more of it than the window's length")


class Control(NamedTuple):
    """What decides in the body of a Loop whether it goes on."""

    nodes: list[onnx.NodeProto]
    states: list[int]  # positions of the loop-carried values that are needed
    outer: set[str]  # names that these nodes read from outside


def body(node: onnx.NodeProto) -> onnx.GraphProto:
    """The graph of one step. Raises StopIteration for a loop without."""
    return next(a.g for a in node.attribute if a.name == "body")


def trips(model: onnx.ModelProto, node: onnx.NodeProto, card: Card, most: int) -> Trips:
    """How often a loop of the graph repeats; one more than `most` stands for any larger number."""
    return _scan(model, node, card) if node.op_type == "Scan" else _loop(model, node, card, most)


def _scan(model: onnx.ModelProto, node: onnx.NodeProto, card: Card) -> Trips:
    """A Scan has a step for each slice of what it takes apart."""
    given = {a.name: attribute(a) for a in node.attribute if a.name != "body"}
    count = int(given["num_scan_inputs"])
    names = [*dict.fromkeys(node.input[len(node.input) - count :])]
    if stated_opset(model) < OLDEST_SCAN or count < 1 or behind_loops(model.graph).intersection(names):
        return UNKNOWN
    axes = [*given.get("scan_input_axes", [0] * count)]
    small = part(model, names)
    found = tried_part(small, model, card)
    if found is None:
        return UNKNOWN
    lengths = {f[n].shape[axis] for f in found for n, axis in zip(node.input[-count:], axes, strict=True)}
    if len(lengths) > 1:
        return BY_BATCH
    return OPEN if small.graph.input and is_open(model, card) else Trips(lengths.pop())


def _loop(model: onnx.ModelProto, node: onnx.NodeProto, card: Card, most: int) -> Trips:
    """A Loop goes on up to its count and as long as its condition holds; both may be left out."""
    control, values = _control(body(node)), inputs_by_value(model.graph)
    asked = [n for n in node.input[:2] if n]
    if values.intersection(asked) or _by_value(node, control, values):
        return BY_VALUES
    starts = [node.input[2 + i] for i in control.states]
    names = [*dict.fromkeys([*asked, *starts, *control.outer])]
    if behind_loops(model.graph).intersection(names) or not operators(control.nodes).isdisjoint(ENDLESS):
        return UNKNOWN
    limit = single(tried(model, card, [node.input[0]]), node.input[0]) if node.input[0] else np.array(most + 1)
    if limit is None:
        return BY_BATCH if tried(model, card, [node.input[0]]) else UNKNOWN
    small = _counting(model, node, control, names, min(int(limit.item()), most + 1))
    found = tried_part(small, model, card)
    if found is None:
        return UNKNOWN
    counts = {len(f[COUNTED]) for f in found}
    if len(counts) > 1:
        return BY_BATCH
    by_shape = bool(part(model, names).graph.input) and is_open(model, card)
    return OPEN if by_shape else Trips(counts.pop())


def _control(inner: onnx.GraphProto) -> Control:
    """Follow the condition of a body back, through its loop-carried values."""
    entries, wanted = [v.name for v in inner.input], {inner.output[0].name}
    while True:
        nodes, read = needed(inner.node, wanted)
        states = [i for i, name in enumerate(entries[2:]) if name in read]
        more = {inner.output[1 + i].name for i in states}
        if more <= wanted:
            break
        wanted |= more
    own = {*entries, *(t.name for t in inner.initializer), *(o for n in nodes for o in n.output)}
    return Control(nodes, states, read - own)


def _by_value(node: onnx.NodeProto, control: Control, values: set[str]) -> bool:
    """Whether the condition depends on values of an input, and not only on their shape."""
    inner, known = body(node), {*values}
    while True:
        found = behind(control.nodes, known, SHAPES)
        more = {
            inner.input[2 + i].name
            for i in control.states
            if node.input[2 + i] in values or inner.output[1 + i].name in found
        }
        if more <= known:
            return inner.output[0].name in found
        known |= more


def _counting(
    model: onnx.ModelProto, node: onnx.NodeProto, control: Control, names: list[str], limit: int
) -> onnx.ModelProto:
    """A model that runs the condition of a Loop alone, and gives a value for each step."""
    made, inner, step = part(model, names), body(node), messages().GraphProto(name="step")
    step.input.extend([*inner.input[:2], *(inner.input[2 + i] for i in control.states)])
    step.output.extend([inner.output[0], *(inner.output[1 + i] for i in control.states)])
    step.initializer.extend(inner.initializer)
    step.node.extend(control.nodes)
    step.node.add(op_type="Identity", input=[inner.input[0].name], output=[f"{COUNTED}.step"])
    step.output.append(copied(inner.input[0]))
    step.output[-1].name = f"{COUNTED}.step"
    made.graph.initializer.append(tensor(f"{COUNTED}.limit", np.array(limit, np.int64)))
    starts = [node.input[2 + i] for i in control.states]
    after = [f"{COUNTED}.{i}" for i in control.states]
    loop = made.graph.node.add(op_type="Loop", input=[f"{COUNTED}.limit", node.input[1], *starts])
    loop.output.extend([*after, COUNTED])
    loop.attribute.add(name="body", type=5).g.CopyFrom(step)
    del made.graph.output[:]
    made.graph.output.append(messages().ValueInfoProto(name=COUNTED))
    return made
