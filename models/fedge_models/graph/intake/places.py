# SPDX-License-Identifier: Apache-2.0
"""Where the samples of a batch lie in every value of a graph that was exported for a fixed batch.

The graph is run once with its own batch, so every shape is known. From the input on, the rule of each operator
(`following`) says in which dimension of its result the samples lie, and which constants of it hold the size of the
batch. A Reshape may leave a choice between dimensions of size one; wrong ones lead into an operator that cannot take
them, and the next is tried.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...protos import attribute, tensor
from .runtime import Values

if TYPE_CHECKING:
    import onnx

END = np.iinfo(np.int64).max


class Place(NamedTuple):
    """The dimension that holds the samples: `outer` values before each sample index, `inner` behind it."""

    axis: int
    outer: int = 1
    inner: int = 1


class MismatchError(Exception):
    """An operator mixes samples, or it is not known where it puts them."""


class Places:
    """One attempt to follow the samples through a graph, which is edited on the way."""

    def __init__(self, model: onnx.ModelProto, name: str, values: Values, batch: int, choices: list[int]) -> None:
        self.model, self.graph, self.batch = model, model.graph, batch
        self.values = dict(values)  # of the run with the graph's own batch, stored tensors among them
        self.found: dict[str, Place] = {name: Place(0)}
        self.choices = choices  # at each Reshape that leaves one
        self.options: list[int] = []  # how many there were at each
        self.edits: dict[int, list[onnx.NodeProto]] = {}  # nodes to put before the one at this position
        self.notes: list[str] = []  # what is to be said of it
        self.at = 0

    def shape(self, name: str) -> tuple[int, ...]:
        return self.values[name].shape

    def integers(self, node: onnx.NodeProto, position: int, name: str) -> list[int] | None:
        """Constant integers that are an input in newer opsets, an attribute in older ones; None: not given."""
        if len(node.input) > position and node.input[position]:
            if node.input[position] in self.found:
                raise MismatchError(f"{name} depends on the samples")
            return [int(v) for v in self.values[node.input[position]].ravel()]
        given = self.attribute(node, name)
        return None if given is None else [int(v) for v in given]

    def attribute(self, node: onnx.NodeProto, name: str, default: Any = None) -> Any:
        found = next((a for a in node.attribute if a.name == name), None)
        return default if found is None else attribute(found)

    def number(self, node: onnx.NodeProto, name: str, default: int) -> int:
        return int(self.attribute(node, name, default))

    def constant(self, node: onnx.NodeProto, position: int, values: list[int]) -> None:
        """Give a node other constant integers."""
        name = self.stored(node, position, np.array(values, np.int64))
        while len(node.input) <= position:
            node.input.append("")
        node.input[position] = name

    def stored(self, node: onnx.NodeProto, position: int, values: NDArray[Any]) -> str:
        """Store another constant for an input of a node; return its name."""
        name = f"{node.output[0]}.{node.op_type.lower()}{position}"
        self.graph.initializer.append(tensor(name, values))
        return name

    def put(self, node: onnx.NodeProto, place: Place) -> None:
        for name in node.output:
            if name:
                self.found[name] = place

    def one(self, node: onnx.NodeProto) -> Place:
        """The place in the first input, the only one that may hold samples."""
        if any(n in self.found for n in node.input[1:]) or node.input[0] not in self.found:
            raise MismatchError("samples lie in an input that is a parameter of it")
        return self.found[node.input[0]]

    def check_constants(self, node: onnx.NodeProto, place: Place, rank: int, repeats: bool = True) -> None:
        """A constant must be the same for all samples; one for the parts of a sample is repeated for each sample."""
        if place.outer * place.inner == 1 and self.batch == 1:
            return
        for position, name in enumerate(node.input):
            if not name or name in self.found:
                continue
            axis = place.axis - (rank - len(self.shape(name)))
            if 0 <= axis < len(self.shape(name)) and self.shape(name)[axis] != 1:
                if not repeats or place.outer != 1:
                    raise MismatchError("a constant of it differs between samples")
                if self.batch > 1:
                    self.one_sample(node, position, axis, place.inner)
                if place.inner > 1:
                    self.tile(node, position, axis, next(n for n in node.input if n in self.found))

    def tile(self, node: onnx.NodeProto, position: int, axis: int, like: str) -> None:
        """Repeat a constant that holds the parts of one sample, such as its heads, for as many as `like` has."""
        from onnx import helper

        shape, place, stem = self.shape(node.input[position]), self.found[like], f"{node.output[0]}.{position}"
        names = [
            f"{stem}.{part}" for part in ("sizes", "parts", "count", "times", "tiled", "at", "inner", "pre", "post")
        ]
        sizes, parts, count, times, tiled, at, inner, pre, post = names
        ones = [1] * len(shape)
        for name, integers in (
            (at, [place.axis]), (inner, [place.inner]), (pre, ones[:axis]), (post, ones[axis + 1 :]),
        ):  # fmt: skip
            self.graph.initializer.append(tensor(name, np.array(integers, np.int64)))
        self._before(
            helper.make_node("Shape", [like], [sizes]),
            helper.make_node("Gather", [sizes, at], [parts], axis=0),
            helper.make_node("Div", [parts, inner], [count]),
            helper.make_node("Concat", [pre, count, post], [times], axis=0),
            helper.make_node("Tile", [node.input[position], times], [tiled]),
        )
        node.input[position] = tiled

    def repeat(self, node: onnx.NodeProto, position: int, axis: int, like: str) -> None:
        """Expand a constant that is the same for each sample to as many as `like` has."""
        from onnx import helper

        shape, stem = [*self.shape(node.input[position])], f"{node.output[0]}.{position}"
        if shape[axis] != 1:
            self.one_sample(node, position, axis)
        whole, repeated = self._counted(stem, like, shape[:axis], shape[axis + 1 :]), f"{stem}.repeated"
        self._before(helper.make_node("Expand", [node.input[position], whole], [repeated]))
        node.input[position] = repeated

    def one_sample(self, node: onnx.NodeProto, position: int, axis: int, inner: int = 1) -> None:
        """Take of a constant what it has for the first sample, `inner` rows; it must have the same for the others.

        A stored tensor that nothing else reads becomes that: PyTorch expands a learnt state before it stores it.
        """
        from onnx import helper

        name, first = node.input[position], f"{node.output[0]}.{position}.row"
        rows = np.moveaxis(self.values[name], axis, 0)
        stored = next((t for t in self.graph.initializer if t.name == name), None)
        own = rows[:inner].reshape(inner, -1)
        same = np.array_equal if stored is not None else np.allclose  # rows of one product may be rounded differently
        if len(rows) != self.batch * inner or not all(same(r, own) for r in rows.reshape(self.batch, inner, -1)):
            raise MismatchError("a constant of it differs between samples")
        kept = np.ascontiguousarray(np.moveaxis(rows[:inner], 0, axis))
        if stored is not None and sum(n == name for other in self.graph.node for n in other.input) == 1:
            words = stored.doc_string  # the mark of what is no parameter
            stored.CopyFrom(tensor(name, kept))
            stored.doc_string = words
            self.values[name] = kept
            return
        ends = [f"{first}.{part}" for part in ("start", "end", "axis")]
        for end, number in zip(ends, (0, inner, axis), strict=True):
            self.graph.initializer.append(tensor(end, np.array([number], np.int64)))
        self._before(helper.make_node("Slice", [name, *ends], [first]))
        node.input[position], self.values[first] = first, kept

    def sizes(self, node: onnx.NodeProto, position: int, sizes: list[int], axis: int, like: str) -> None:
        """Give a node sizes of which the one at `axis` is how many samples `like` has."""
        node.input[position] = self._counted(f"{node.output[0]}.{position}", like, sizes[:axis], sizes[axis + 1 :])

    def _counted(self, stem: str, like: str, before: list[int], after: list[int]) -> str:
        """The name of integers: those before, how many samples `like` has, and those after."""
        from onnx import helper

        if self.found[like].outer * self.found[like].inner != 1:
            raise MismatchError("samples lie beside others")
        sizes, count, whole, at, head, tail = (
            f"{stem}.{part}" for part in ("sizes", "count", "shape", "first", "before", "after")
        )
        for name, integers in ((at, [self.found[like].axis]), (head, before), (tail, after)):
            self.graph.initializer.append(tensor(name, np.array(integers, np.int64)))
        self._before(
            helper.make_node("Shape", [like], [sizes]),
            helper.make_node("Gather", [sizes, at], [count], axis=0),
            helper.make_node("Concat", [head, count, tail], [whole], axis=0),
        )
        return whole

    def _before(self, *nodes: onnx.NodeProto) -> None:
        """Put nodes before the one that is looked at."""
        self.edits.setdefault(self.at, []).extend(nodes)
