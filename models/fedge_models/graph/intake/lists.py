# SPDX-License-Identifier: Apache-2.0
"""Take lists of tensors out of a graph, where constants and shapes alone say what is at which place.

PyTorch writes them for lists in scripted modules and for torch.column_stack and its like. While the graph is read, a
list is the names of its tensors, so each tensor that is taken from one is read by its own name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...protos import BOOL, attribute, messages, tensor, values
from ..card import Card
from ..notes import note
from .compare import copied
from .free_names import FreeNames
from .opset import stated_opset
from .order import own_node_names
from .subgraphs import inputs_by_value, is_open, reads, rename, single, tried

if TYPE_CHECKING:
    import onnx

LISTS = (
    "ConcatFromSequence", "Optional", "OptionalGetElement", "OptionalHasElement", "SequenceAt", "SequenceConstruct",
    "SequenceEmpty", "SequenceErase", "SequenceInsert", "SequenceLength", "SequenceMap", "SplitToSequence",
)  # fmt: skip
LISTS_AS_INPUTS = 13  # opset from which on Split, Squeeze and Unsqueeze read lists of numbers
MOST = 4096  # tensors of a list


class _UnknownError(Exception):
    """What is at which place of a list is not known before it runs."""


def without_lists(model: onnx.ModelProto, card: Card, where: str) -> bool:
    """Replace all lists of tensors in place. Return whether there were any, and each is known."""
    count = sum(n.op_type in LISTS and not n.domain for n in model.graph.node)
    if not count:
        return False
    lists = _Lists(model, card)
    try:
        for node in model.graph.node:
            lists.take(node)
    except (_UnknownError, IndexError, KeyError):  # a loop may be left to unroll, else it is refused by its name
        return False
    if any(o.name in lists.known for o in model.graph.output):
        return False
    del model.graph.node[:]
    model.graph.node.extend(lists.nodes)
    model.graph.initializer.extend(lists.tensors)
    own_node_names(model.graph)  # a body may be there twice
    return note(model, f"lists: {count} operators on lists of tensors became operators on their tensors")


class _Lists:
    """The lists of a graph, by the names of their tensors, and the nodes that take their place."""

    def __init__(self, model: onnx.ModelProto, card: Card) -> None:
        self._model, self._card = model, card
        self.known: dict[str, list[str]] = {}
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[onnx.TensorProto] = []
        self._stored = {t.name: t for t in model.graph.initializer}
        self._varying = inputs_by_value(model.graph)
        self._opset = stated_opset(model)
        self._names = FreeNames([*self._stored, *(n for node in model.graph.node for n in (*node.input, *node.output))])

    def take(self, node: onnx.NodeProto) -> None:
        """Take in the next node. Raises _UnknownError, IndexError or KeyError when a list is not known."""
        make = _OPERATORS.get(node.op_type) if not node.domain else None
        if make is not None:
            make(self, node, {a.name: attribute(a) for a in node.attribute if not a.HasField("g")})
        elif node.op_type == "Identity" and node.input[0] in self.known:
            self.known[node.output[0]] = self.known[node.input[0]]
        elif not self.known.keys().isdisjoint(reads(node)):
            raise _UnknownError
        else:
            self.nodes.append(copied(node))

    def construct(self, node: onnx.NodeProto, given: dict[str, Any]) -> None:
        self.known[node.output[0]] = [*node.input]

    def insert(self, node: onnx.NodeProto, given: dict[str, Any]) -> None:
        made = [*self.known[node.input[0]]]
        made.insert(self._place(node, 2, len(made)), node.input[1])
        self._bounded(node.output[0], made)

    def erase(self, node: onnx.NodeProto, given: dict[str, Any]) -> None:
        made = [*self.known[node.input[0]]]
        del made[self._place(node, 1, -1)]
        self.known[node.output[0]] = made

    def at(self, node: onnx.NodeProto, given: dict[str, Any]) -> None:
        self._same(self.known[node.input[0]][self._place(node, 1, -1)], node.output[0])

    def length(self, node: onnx.NodeProto, given: dict[str, Any]) -> None:
        self.tensors.append(tensor(node.output[0], np.array(len(self.known[node.input[0]]), np.int64)))

    def concat(self, node: onnx.NodeProto, given: dict[str, Any]) -> None:
        parts, axis = self.known[node.input[0]], int(given["axis"])
        if given.get("new_axis", 0):
            parts = [self._write("Unsqueeze", [p], axes=[axis]) for p in parts]
        self._write("Concat", parts, node.output[0], axis=axis)

    def split(self, node: onnx.NodeProto, given: dict[str, Any]) -> None:
        """Parts of a size, or of each size, or slices; how many must not depend on the number of samples."""
        axis, (name, *more) = int(given.get("axis", 0)), node.input
        whole = self._shape(name)
        if not -len(whole) <= axis < len(whole) or whole[axis] < 0:
            raise _UnknownError
        size, squeezed = int(whole[axis]), not any(more) and not given.get("keepdims", 1)
        of = self._constant(more[0]) if any(more) else np.array(1)
        sizes = [min(int(of), size - i) for i in range(0, size, int(of))] if not of.ndim else of.tolist()
        made = [self._names.first(f"{node.output[0]}.{i}") for i in range(len(sizes))]
        self._bounded(node.output[0], made)
        self._write("Split", [name], *made, axis=axis, split=sizes)
        if squeezed:
            self.known[node.output[0]] = [self._write("Squeeze", [m], axes=[axis]) for m in made]

    def each(self, node: onnx.NodeProto, given: dict[str, Any]) -> None:
        """The body of a SequenceMap for each tensor of the first list."""
        inner = next(a.g for a in node.attribute if a.name == "body")
        results: list[list[str]] = [[] for _ in node.output]
        own = {o for n in inner.node for o in n.output if o} | {t.name for t in inner.initializer}
        for i in range(len(self.known[node.input[0]])):
            entries = [self.known[n][i] if n in self.known else n for n in node.input]
            names = {n: self._names.first(f"{node.output[0]}.{i}.{n}") for n in own}
            names |= dict(zip([v.name for v in inner.input], entries, strict=True))
            for stored in inner.initializer:
                self.tensors.append(copied(stored))
                self.tensors[-1].name = names[stored.name]
            for each in inner.node:
                made = copied(each)
                rename(made, names)
                self.take(made)
            for found, output in zip(results, inner.output, strict=True):
                found.append(names.get(output.name, output.name))
        self.known |= dict(zip(node.output, results, strict=True))

    def present(self, node: onnx.NodeProto, given: dict[str, Any]) -> None:
        """A value that may be absent, and is there."""
        name = node.input[0]
        if name in self.known:
            self.known[node.output[0]] = self.known[name]
        else:
            self._same(name, node.output[0])

    def is_present(self, node: onnx.NodeProto, given: dict[str, Any]) -> None:
        there = bool(node.input and node.input[0])
        self.tensors.append(messages().TensorProto(name=node.output[0], data_type=BOOL, raw_data=bytes([there])))

    def _bounded(self, name: str, parts: list[str]) -> None:
        if len(parts) > MOST:
            raise _UnknownError
        self.known[name] = parts

    def _place(self, node: onnx.NodeProto, position: int, default: int) -> int:
        """A place in a list, counted from its end where it is below zero."""
        if len(node.input) <= position or not node.input[position]:
            return default
        return int(self._constant(node.input[position]).item())

    def _constant(self, name: str) -> NDArray[Any]:
        """The value of a name that depends on no sample."""
        for stored in self.tensors:
            if stored.name == name:
                return values(stored)
        if name in self._stored:
            return values(self._stored[name])
        if name in self._varying:
            raise _UnknownError
        found = single(tried(self._model, self._card, [name]), name)
        if found is None or is_open(self._model, self._card):
            raise _UnknownError
        return found

    def _shape(self, name: str) -> list[int]:
        """The dimensions of a value; -1 for one that is not the same for any number of samples."""
        found = tried(self._model, self._card, [name])
        shapes = {f[name].shape for f in found or ()}
        if not shapes or len({len(s) for s in shapes}) > 1 or is_open(self._model, self._card):
            raise _UnknownError
        return [n.pop() if len(n) == 1 else -1 for n in map(set, zip(*shapes, strict=True))]

    def _same(self, name: str, output: str) -> None:
        self._write("Identity", [name], output)

    def _write(self, op: str, read: list[str], *written: str, **options: Any) -> str:
        """Add a node; return the name of its first output."""
        from onnx import helper

        outputs = written or (self._names.first(f"{read[0]}.{op.lower()}"),)
        lists = {k: v for k, v in options.items() if isinstance(v, list) and self._opset >= LISTS_AS_INPUTS}
        more = []
        for key, of in lists.items():
            more.append(self._names.first(f"{outputs[0]}.{key}"))
            self.tensors.append(tensor(more[-1], np.array(of, np.int64)))
        rest = {k: v for k, v in options.items() if k not in lists}
        name = self._names.first(f"{outputs[0]}.{op}")
        self.nodes.append(helper.make_node(op, [*read, *more], outputs, name=name, **rest))
        return outputs[0]


_OPERATORS: dict[str, Callable[[_Lists, onnx.NodeProto, dict[str, Any]], None]] = {
    "ConcatFromSequence": _Lists.concat,
    "Optional": _Lists.present,
    "OptionalGetElement": _Lists.present,
    "OptionalHasElement": _Lists.is_present,
    "SequenceAt": _Lists.at,
    "SequenceConstruct": _Lists.construct,
    "SequenceEmpty": _Lists.construct,
    "SequenceErase": _Lists.erase,
    "SequenceInsert": _Lists.insert,
    "SequenceLength": _Lists.length,
    "SequenceMap": _Lists.each,
    "SplitToSequence": _Lists.split,
}
