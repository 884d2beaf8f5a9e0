# SPDX-License-Identifier: Apache-2.0
"""Put the steps of a Loop or a Scan, which are known to be so many, in its place.

A weight that the body reads stays one tensor, which each step reads: its nodes are marked with the node of the body
that they are copies of (`loops` reads the mark). What is the same in each step is computed once, before the first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...protos import BOOL, attribute, messages, tensor
from .compare import copied
from .float32 import graphs
from .opset import stated_opset
from .subgraphs import reads, rename
from .trip_counts import body

if TYPE_CHECKING:
    import onnx

MARK = "fedge.step: "  # how the doc_string of a node begins that is a copy of a body's
LISTS_AS_INPUTS = 13  # opset from which on Split, Squeeze and Unsqueeze read them


def step_of(node: onnx.NodeProto) -> str:
    """The node of a loop's body that a node is a copy of; empty for a node that was in no loop."""
    return node.doc_string if node.doc_string.startswith(MARK) else ""


def _lift(top: onnx.GraphProto) -> None:
    """Let the tensors of graphs inside be those of the body, in place: each step has such a graph, and they are one."""
    for number, inner in enumerate([*graphs(top)][1:]):
        names = {t.name: f"{t.name}.{number}" for t in inner.initializer}
        for stored in inner.initializer:
            top.initializer.append(copied(stored))
            top.initializer[-1].name = names[stored.name]
        del inner.initializer[:]
        for node in inner.node:
            rename(node, names)
        for output in inner.output:
            output.name = names.get(output.name, output.name)


class Unrolled:
    """The nodes of one loop, and the tensors that they need, which are added to the graph."""

    def __init__(self, model: onnx.ModelProto, node: onnx.NodeProto, count: int, number: int) -> None:
        """number: of the loop, among the nodes; for a name where it has none."""
        _lift(body(node))
        self._graph, self._node, self._body, self._count = model.graph, node, body(node), count
        self._opset = stated_opset(model)
        self._taken = {n for each in self._graph.node for n in (*each.output, *each.input)}
        self._taken |= {v.name for v in (*self._graph.input, *self._graph.initializer)}
        self._node_names = {n.name for n in self._graph.node}
        self._prefix = self._free(node.name or f"{node.op_type}_{number}")
        self._mark = step_of(node) or f"{MARK}{self._prefix}"
        self._varying: list[onnx.NodeProto] = []  # of the body: those that each step has
        self.nodes: list[onnx.NodeProto] = []
        if node.op_type == "Scan":
            self._scan()
        else:
            self._loop()

    def _free(self, name: str) -> str:
        while any(n.startswith(f"{name}.") for n in self._taken):
            name += "_"
        return name

    def _loop(self) -> None:
        """Steps with their number, and `true` for the condition, which held before each of them."""
        states = [*self._node.input[2:]]
        true = f"{self._prefix}.true"
        self._graph.initializer.append(messages().TensorProto(name=true, data_type=BOOL, raw_data=b"\x01"))
        numbers = [self._tensor(f"{k}", np.array(k, np.int64)) for k in range(self._count)]
        gathered = self._steps([[n, true] for n in numbers], states, 1)
        self._give(states, [(each, 0) for each in gathered])

    def _scan(self) -> None:
        """Steps with a slice of each input that is taken apart."""
        given = {a.name: attribute(a) for a in self._node.attribute if a.name != "body"}
        count = int(given["num_scan_inputs"])
        states, whole = [*self._node.input[:-count]], self._node.input[len(self._node.input) - count :]
        axes = given.get("scan_input_axes", [0] * count)
        backward = given.get("scan_input_directions", [0] * count)
        slices = [self._slices(i, *each) for i, each in enumerate(zip(whole, axes, backward, strict=True))]
        gathered = self._steps([*map(list, zip(*slices, strict=True))], states, 0)
        axes = given.get("scan_output_axes", [0] * len(gathered))
        backward = given.get("scan_output_directions", [0] * len(gathered))
        turned = [each[::-1] if back else each for each, back in zip(gathered, backward, strict=True)]
        self._give(states, [*zip(turned, axes, strict=True)])

    def _steps(self, entries: Sequence[list[str]], states: list[str], lead: int) -> list[list[str]]:
        """Write a step for each of the entries; change the states in place. Return what each step gives besides.

        lead: outputs of the body before its states. Entries of a Loop come before the states, those of a Scan after.
        """
        fixed = self._fixed()
        inner = self._body
        gathered: list[list[str]] = [[] for _ in inner.output[lead + len(states) :]]
        for k, given in enumerate(entries):
            read = [*given, *states] if lead else [*states, *given]
            names = fixed | dict(zip([v.name for v in inner.input], read, strict=True))
            names |= {o: f"{self._prefix}.{k}.{o}" for n in self._varying for o in n.output if o}
            for position, node in enumerate(self._varying):
                self._add(node, names, k, f"{self._mark}/{position};")
            found = [names.get(o.name, o.name) for o in inner.output]
            states[:] = found[lead : lead + len(states)]
            for each, name in zip(gathered, found[lead + len(states) :], strict=True):
                each.append(name)
        return gathered

    def _fixed(self) -> dict[str, str]:
        """Add the tensors of the body, and the nodes that are the same in each step; return their names."""
        names: dict[str, str] = {}
        for stored in self._body.initializer:
            names[stored.name] = stored.name if stored.name not in self._taken else f"{self._prefix}.{stored.name}"
            self._graph.initializer.append(copied(stored))
            self._graph.initializer[-1].name = names[stored.name]
        changing = {v.name for v in self._body.input}
        for node in self._body.node:
            if changing.isdisjoint(reads(node)):
                names |= {o: f"{self._prefix}.{o}" for o in node.output if o}
                self._add(node, names, 0, "")
            else:
                changing.update(node.output)
                self._varying.append(node)
        return names

    def _add(self, node: onnx.NodeProto, names: Mapping[str, str], step: int, mark: str) -> None:
        made = copied(node)
        rename(made, names)
        made.name = f"{node.name}.{step}" if node.name and (step or node.name in self._node_names) else node.name
        while made.name and made.name in self._node_names:
            made.name += "_"
        self._node_names.add(made.name)
        if mark:
            made.doc_string = mark
        self.nodes.append(made)

    def _slices(self, number: int, name: str, axis: int, backward: int) -> list[str]:
        """Take a value apart along an axis, which is left out of each slice."""
        parts = [f"{self._prefix}.in{number}.{k}" for k in range(self._count)]
        self._write("Split", [name], [f"{p}.whole" for p in parts], axis=axis, split=[1] * self._count)
        for part in parts:
            self._write("Squeeze", [f"{part}.whole"], [part], axes=[axis])
        return parts[::-1] if backward else parts

    def _give(self, states: Sequence[str], gathered: Sequence[tuple[Sequence[str], int]]) -> None:
        """Write the outputs: the states as the last step left them, and what each step gave, one behind another."""
        for output, name in zip(self._node.output, states, strict=False):
            if output:
                self._write("Identity", [name], [output])
        for output, (names, axis) in zip(self._node.output[len(states) :], gathered, strict=False):
            if output:
                parts = [f"{output}.{k}" for k in range(len(names))]
                for name, part in zip(names, parts, strict=True):
                    self._write("Unsqueeze", [name], [part], axes=[axis])
                self._write("Concat", parts, [output], axis=axis)

    def _tensor(self, name: str, values: NDArray[np.int64]) -> str:
        """Add whole numbers to the graph; return their name."""
        full = f"{self._prefix}.{name}"
        if full not in self._taken:
            self._taken.add(full)
            self._graph.initializer.append(tensor(full, values))
        return full

    def _write(self, op: str, read: list[str], written: list[str], **options: int | list[int]) -> None:
        """Add a node. Its lists are inputs of Split, Squeeze and Unsqueeze from one opset on, and attributes before."""
        from onnx import helper

        lists = {k: v for k, v in options.items() if isinstance(v, list) and self._opset >= LISTS_AS_INPUTS}
        more = [self._tensor(f"{k}{v[0]}x{len(v)}", np.array(v, np.int64)) for k, v in lists.items()]
        rest = {k: v for k, v in options.items() if k not in lists}
        self.nodes.append(helper.make_node(op, [*read, *more], written, **rest))
