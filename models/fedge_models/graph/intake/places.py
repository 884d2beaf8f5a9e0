# SPDX-License-Identifier: Apache-2.0
"""Where the samples of a batch lie in every value of a graph that was exported for a fixed batch.

The graph is run once with its own batch, so every shape is known. From the input on, each operator says in which
dimension of its result the samples lie, and which constants of it hold the size of the batch. A Reshape may leave a
choice between dimensions of size one; wrong ones lead into an operator that cannot take them, and the next is tried.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ...protos import attribute, tensor
from .constants import made_up
from .runtime import Values

if TYPE_CHECKING:
    import onnx

END = np.iinfo(np.int64).max
FIRST = {
    *("AveragePool", "BatchNormalization", "Conv", "ConvTranspose", "DepthToSpace", "GlobalAveragePool", "LpPool"),
    *("GlobalLpPool", "GlobalMaxPool", "GroupNormalization", "InstanceNormalization", "LRN", "MaxPool", "STFT"),
    "SpaceToDepth",
}  # need the samples in dimension 0
RECURRENT = ("GRU", "LSTM", "RNN")
SHAPES = ("Shape", "Size")


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
        self.values = values  # of the run with the graph's own batch, stored tensors among them
        self.found: dict[str, Place] = {name: Place(0)}
        self.choices = choices  # at each Reshape that leaves one
        self.options: list[int] = []  # how many there were at each
        self.edits: dict[int, list[onnx.NodeProto]] = {}  # nodes to put before the one at this position
        self.at = 0

    def follow(self) -> None:
        """Follow the samples through all nodes. Raises MismatchError."""
        for position, node in enumerate(self.graph.node):
            self.at = position
            batched = [i for i, n in enumerate(node.input) if n in self.found]
            if not batched or node.op_type in SHAPES:
                continue
            rule = getattr(self, f"_{node.op_type.lower()}", None)
            if node.op_type in FIRST:
                self._first(node)
            elif node.op_type in RECURRENT:
                self._recurrent(node)
            elif node.op_type.startswith(("Reduce", "Arg")):
                self._reduce(node)
            elif rule is not None:
                rule(node)
            else:
                self._elementwise(node)

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
        name = f"{node.output[0]}.{node.op_type.lower()}{position}"
        self.graph.initializer.append(tensor(name, np.array(values, np.int64)))
        while len(node.input) <= position:
            node.input.append("")
        node.input[position] = name

    def put(self, node: onnx.NodeProto, place: Place) -> None:
        for name in node.output:
            if name:
                self.found[name] = place

    def _one(self, node: onnx.NodeProto) -> Place:
        """The place in the first input, the only one that may hold samples."""
        if any(n in self.found for n in node.input[1:]) or node.input[0] not in self.found:
            raise MismatchError("samples lie in an input that is a parameter of it")
        return self.found[node.input[0]]

    def _first(self, node: onnx.NodeProto) -> None:
        place = self._one(node)
        if place.axis:
            raise MismatchError("expects the samples first")
        self.put(node, place)

    def _elementwise(self, node: onnx.NodeProto) -> None:
        """Operators that work on each value, or along one dimension, and broadcast their inputs."""
        rank = len(self.shape(node.output[0]))
        places = {n: self.found[n] for n in node.input if n in self.found}
        aligned = {p._replace(axis=p.axis + rank - len(self.shape(n))) for n, p in places.items()}
        if len(aligned) != 1:
            raise MismatchError("samples meet in different dimensions")
        place = aligned.pop()
        largest = np.broadcast_shapes(*(self.shape(n) for n in places))
        if self.shape(node.output[0]) != largest and not self._broadcast(node, largest):
            raise MismatchError("not known where it puts the samples")
        axis = self.attribute(node, "axis")
        if isinstance(axis, int):
            at = axis % rank
            if at == place.axis or (at < place.axis and node.op_type.endswith("LayerNormalization")):
                raise MismatchError("works across samples")
        elif node.op_type.endswith("Softmax") and place.axis == rank - 1:
            raise MismatchError("works across samples")
        self._check_constants(node, place, rank)
        self.put(node, place)

    def _broadcast(self, node: onnx.NodeProto, largest: tuple[int, ...]) -> bool:
        """Whether the result has the shape to which all inputs broadcast, samples or not."""
        try:
            shapes = [self.shape(n) for n in node.input if n]
            return np.broadcast_shapes(largest, *shapes) == self.shape(node.output[0])
        except ValueError:
            return False

    def _check_constants(self, node: onnx.NodeProto, place: Place, rank: int, repeats: bool = True) -> None:
        """A constant must be the same for all samples; one for the parts of a sample is repeated for each sample."""
        if place.outer * place.inner == 1 and self.batch == 1:
            return
        for position, name in enumerate(node.input):
            if not name or name in self.found:
                continue
            axis = place.axis - (rank - len(self.shape(name)))
            if 0 <= axis < len(self.shape(name)) and self.shape(name)[axis] != 1:
                if not (repeats and self.batch == place.outer == 1 and self.shape(name)[axis] == place.inner):
                    raise MismatchError("a constant of it differs between samples")
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
        self.edits.setdefault(self.at, []).extend(
            [
                helper.make_node("Shape", [like], [sizes]),
                helper.make_node("Gather", [sizes, at], [parts], axis=0),
                helper.make_node("Div", [parts, inner], [count]),
                helper.make_node("Concat", [pre, count, post], [times], axis=0),
                helper.make_node("Tile", [node.input[position], times], [tiled]),
            ]
        )
        node.input[position] = tiled

    def _castlike(self, node: onnx.NodeProto) -> None:
        """The second input gives only its type."""
        if node.input[0] in self.found:
            self.put(node, self.found[node.input[0]])

    def _transpose(self, node: onnx.NodeProto) -> None:
        place, rank = self._one(node), len(self.shape(node.input[0]))
        perm = self.attribute(node, "perm") or [*range(rank)][::-1]
        self.put(node, place._replace(axis=list(perm).index(place.axis)))

    def _aligned(self, node: onnx.NodeProto) -> list[tuple[int, Place]]:
        """Dimensions of the result where the samples may lie, by row-major order, the simplest first."""
        place, given, made = self._one(node), self.shape(node.input[0]), self.shape(node.output[0])
        behind, before = place.inner * prod(given[place.axis + 1 :]), place.outer * prod(given[: place.axis])
        options = []
        for axis, size in enumerate(made):
            post = prod(made[axis + 1 :])
            if behind % post or size % (self.batch * (behind // post)):
                continue
            inner = behind // post
            outer = size // (self.batch * inner)
            if prod(made[:axis]) * outer == before:
                options.append((axis, Place(axis, outer, inner)))
        return sorted(options, key=lambda o: (o[1].outer * o[1].inner > 1, o[0] != place.axis, o[0]))

    def _reshape(self, node: onnx.NodeProto) -> None:
        options = self._aligned(node)
        if not options:
            raise MismatchError("takes samples apart")
        if len(options) > 1:
            turn = len(self.options)
            self.options.append(len(options))
            options = options[self.choices[turn] if turn < len(self.choices) else 0 :]
        axis, place = options[0]
        sizes = [*self.shape(node.output[0])]
        sizes[axis] = -1
        self.constant(node, 1, sizes)
        self.put(node, place)

    def _flatten(self, node: onnx.NodeProto) -> None:
        rank = len(self.shape(node.input[0]))
        axis = self.number(node, "axis", 1)
        side = 0 if self._one(node).axis < (axis if axis >= 0 else axis + rank) else 1
        place = next((p for a, p in self._aligned(node) if a == side), None)
        if place is None:
            raise MismatchError("takes samples apart")
        self.put(node, place)

    def _unsqueeze(self, node: onnx.NodeProto) -> None:
        place, rank = self._one(node), len(self.shape(node.output[0]))
        new = {a % rank for a in self.integers(node, 1, "axes") or ()}
        self.put(node, place._replace(axis=[a for a in range(rank) if a not in new][place.axis]))

    def _squeeze(self, node: onnx.NodeProto) -> None:
        place, shape = self._one(node), self.shape(node.input[0])
        given = self.integers(node, 1, "axes")
        axes = {a % len(shape) for a in given} if given else {a for a, n in enumerate(shape) if n == 1}
        if place.axis in axes:
            if node.output[0] not in {o.name for o in self.graph.output}:
                raise MismatchError("removes the dimension of the samples")
            axes.discard(place.axis)
        if not axes:
            node.op_type = "Identity"
            del node.input[1:], node.attribute[:]
        elif len(node.input) > 1 or not given:
            self.constant(node, 1, sorted(axes))
        self.put(node, place._replace(axis=[a for a in range(len(shape)) if a not in axes].index(place.axis)))

    def _matmul(self, node: onnx.NodeProto) -> None:
        left, right = (self.shape(n) for n in node.input[:2])
        rank, places = len(self.shape(node.output[0])), []
        if min(len(left), len(right)) < 2:
            raise MismatchError("multiplies a vector")
        for name, shape, rows in ((node.input[0], left, True), (node.input[1], right, False)):
            place = self.found.get(name)
            if place is None:
                continue
            from_end = len(shape) - place.axis
            if from_end == (1 if rows else 2):
                raise MismatchError("sums over samples")
            if from_end <= 2 and sum(n in self.found for n in node.input[:2]) > 1:
                raise MismatchError("multiplies samples with each other")
            places.append(place._replace(axis=rank - from_end))
        if len(set(places)) != 1:
            raise MismatchError("samples meet in different dimensions")
        place = places[0]
        if place.axis < rank - 2:
            self._check_constants(node, place, rank)
        self.put(node, place)

    def _gemm(self, node: onnx.NodeProto) -> None:
        place = self.found.get(node.input[0])
        if place is None or node.input[1] in self.found or place.axis != self.number(node, "transA", 0):
            raise MismatchError("sums over samples")
        made = place._replace(axis=0)
        if len(node.input) > 2 and node.input[2]:
            if self.found.get(node.input[2], made) != made:
                raise MismatchError("samples meet in different dimensions")
            self._check_constants(node.__class__(input=node.input[2:]), made, 2, repeats=False)
        self.put(node, made)

    def _concat(self, node: onnx.NodeProto) -> None:
        rank = len(self.shape(node.output[0]))
        axis, places = self.number(node, "axis", 0) % rank, {self.found[n] for n in node.input if n in self.found}
        place = places.pop()
        if places or axis == place.axis:
            raise MismatchError("joins samples")
        for position, name in enumerate(node.input):
            if name not in self.found:
                self.repeat(node, position, place.axis, next(n for n in node.input if n in self.found))
        self.put(node, place)

    def repeat(self, node: onnx.NodeProto, position: int, axis: int, like: str) -> None:
        """Expand a constant of one sample to as many as `like` has."""
        from onnx import helper

        shape, stem = [*self.shape(node.input[position])], f"{node.output[0]}.{position}"
        if shape[axis] != 1 or self.found[like].outer * self.found[like].inner != 1:
            raise MismatchError("a constant of it differs between samples")
        names = [f"{stem}.{part}" for part in ("sizes", "count", "shape", "repeated", "first", "before", "after")]
        sizes, count, whole, repeated, first, before, after = names
        for name, integers in ((first, [self.found[like].axis]), (before, shape[:axis]), (after, shape[axis + 1 :])):
            self.graph.initializer.append(tensor(name, np.array(integers, np.int64)))
        self.edits.setdefault(self.at, []).extend(
            [
                helper.make_node("Shape", [like], [sizes]),
                helper.make_node("Gather", [sizes, first], [count], axis=0),
                helper.make_node("Concat", [before, count, after], [whole], axis=0),
                helper.make_node("Expand", [node.input[position], whole], [repeated]),
            ]
        )
        node.input[position] = repeated

    def _split(self, node: onnx.NodeProto) -> None:
        place, rank = self._one(node), len(self.shape(node.input[0]))
        if self.number(node, "axis", 0) % rank == place.axis:
            if len(node.output) != 1:
                raise MismatchError("takes samples apart")
            node.op_type = "Identity"
            del node.input[1:], node.attribute[:]
        self.put(node, place)

    def _slice(self, node: onnx.NodeProto) -> None:
        place, shape = self._one(node), self.shape(node.input[0])
        starts, ends = self.integers(node, 1, "starts") or [], self.integers(node, 2, "ends") or []
        axes = [a % len(shape) for a in self.integers(node, 3, "axes") or range(len(starts))]
        steps = self.integers(node, 4, "steps") or [1] * len(axes)
        if place.axis in axes:
            at = axes.index(place.axis)
            if starts[at] != 0 or steps[at] != 1 or ends[at] < shape[place.axis]:
                raise MismatchError("picks samples")
            ends[at] = END
            self.constant(node, 2, ends)
        self.put(node, place)

    def _gather(self, node: onnx.NodeProto) -> None:
        data, indices = node.input[:2]
        axis = self.number(node, "axis", 0) % len(self.shape(data))
        if indices in self.found:
            if data in self.found:
                raise MismatchError("looks samples up in samples")
            place = self.found[indices]
            self.put(node, place._replace(axis=place.axis + axis))
            return
        place = self.found[data]
        if axis == place.axis:
            raise MismatchError("picks samples")
        self.put(node, place._replace(axis=place.axis + (len(self.shape(indices)) - 1 if axis < place.axis else 0)))

    def _gathernd(self, node: onnx.NodeProto) -> None:
        """The last dimension of the indices chooses places in the first dimensions of the data."""
        data, indices = node.input[:2]
        if self.number(node, "batch_dims", 0) or (data in self.found and indices in self.found):
            raise MismatchError("looks samples up in samples")
        depth, ahead = self.shape(indices)[-1], len(self.shape(indices)) - 1
        place = self.found[indices if indices in self.found else data]
        if (place.axis == ahead) if indices in self.found else (place.axis < depth):
            raise MismatchError("picks samples")
        self.put(node, place if indices in self.found else place._replace(axis=place.axis - depth + ahead))

    def _gatherelements(self, node: onnx.NodeProto) -> None:
        """Inputs of the same dimensions; a constant of one sample is repeated."""
        found = {self.found[n] for n in node.input if n in self.found}
        place = found.pop()
        if found or self.number(node, "axis", 0) % len(self.shape(node.input[0])) == place.axis:
            raise MismatchError("works across samples")
        for position, name in enumerate(node.input):
            if name not in self.found:
                self.repeat(node, position, place.axis, next(n for n in node.input if n in self.found))
        self.put(node, place)

    _scatterelements = _gatherelements

    def _topk(self, node: onnx.NodeProto) -> None:
        place = self._one(node)
        if self.number(node, "axis", -1) % len(self.shape(node.input[0])) == place.axis:
            raise MismatchError("works across samples")
        self.put(node, place)

    def _dft(self, node: onnx.NodeProto) -> None:
        """The axis is an attribute before opset 20 and an input since; of three dimensions both defaults are one."""
        place, rank = self._one(node), len(self.shape(node.input[0]))
        given = self.integers(node, 2, "axis") if len(node.input) > 2 else None
        axis = given[0] if given else self.number(node, "axis", 1 if rank == 3 else -2)
        if place.axis in (axis % rank, rank - 1):
            raise MismatchError("works across samples")
        self.put(node, place)

    def _reduce(self, node: onnx.NodeProto) -> None:
        place, rank = self._one(node), len(self.shape(node.input[0]))
        if node.op_type.startswith("Arg"):
            axes: list[int] | None = [self.number(node, "axis", 0)]
        else:
            axes = self.integers(node, 1, "axes")
        if not axes and not self.number(node, "noop_with_empty_axes", 0):
            raise MismatchError("works across samples")
        gone = {a % rank for a in axes or ()}
        if place.axis in gone:
            raise MismatchError("works across samples")
        before = 0 if self.number(node, "keepdims", 1) else sum(a < place.axis for a in gone)
        self.put(node, place._replace(axis=place.axis - before))

    def _expand(self, node: onnx.NodeProto) -> None:
        place, sizes = self._one(node), [*self.shape(node.output[0])]
        axis = place.axis + len(sizes) - len(self.shape(node.input[0]))
        sizes[axis] = 1
        self.constant(node, 1, sizes)
        self.put(node, place._replace(axis=axis))

    def _tile(self, node: onnx.NodeProto) -> None:
        place = self._one(node)
        if (self.integers(node, 1, "repeats") or [])[place.axis] != 1:
            raise MismatchError("repeats samples")
        self.put(node, place)

    def _pad(self, node: onnx.NodeProto) -> None:
        place, rank = self._one(node), len(self.shape(node.input[0]))
        if self.shape(node.output[0])[place.axis] != self.shape(node.input[0])[place.axis] or rank < 1:
            raise MismatchError("adds samples")
        self.put(node, place)

    def _resize(self, node: onnx.NodeProto) -> None:
        from onnx import helper

        place, shape = self._one(node), self.shape(node.input[0])
        if len(node.input) > 3 and node.input[3] and self.attribute(node, "axes") is None:
            rest = [a for a in range(len(shape)) if a != place.axis]
            sizes = self.integers(node, 3, "sizes") or []
            if max(o.version for o in self.model.opset_import if o.domain in ("", "ai.onnx")) < 18:
                raise MismatchError("has the batch in its sizes")
            self.constant(node, 3, [sizes[a] for a in rest])
            node.attribute.append(helper.make_attribute("axes", rest))
        self.put(node, place)

    def _recurrent(self, node: onnx.NodeProto) -> None:
        last = self.number(node, "layout", 0)
        wanted = Place(0 if last else 1)
        if self.found.get(node.input[0]) != wanted or any(n in self.found for n in node.input[1:4]):
            raise MismatchError("expects the samples elsewhere")
        steps = self.shape(node.input[0])[1 if last else 0]
        for position, name in enumerate(node.input):
            if position == 4 and name:
                if name in self.found or (self.values[name] != steps).any():
                    raise MismatchError("has sequences of unequal length")
                node.input[position] = ""
            if position in (5, 6) and name:
                if name in self.found:
                    if self.found[name] != wanted:
                        raise MismatchError("expects the samples elsewhere")
                elif not self.values[name].any() and made_up(name):
                    node.input[position] = ""  # zero is what it begins with anyway
                else:
                    self.repeat(node, position, wanted.axis, node.input[0])
        for position, name in enumerate(node.output):
            if name:
                self.found[name] = Place(0 if last else 2 if position == 0 else 1)

    def _einsum(self, node: onnx.NodeProto) -> None:
        equation: bytes = self.attribute(node, "equation", b"")
        left, arrow, right = equation.decode().replace(" ", "").partition("->")
        terms = left.split(",")
        letters = {t[self.found[n].axis] for t, n in zip(terms, node.input, strict=True) if n in self.found}
        places = {self.found[n][1:] for n in node.input if n in self.found}
        letter = letters.pop()
        if letters or len(places) != 1 or "." in left or not arrow or letter not in right:
            raise MismatchError("sums over samples")
        for term, name in zip(terms, node.input, strict=True):
            if name not in self.found and letter in term:
                raise MismatchError("a constant of it differs between samples")
        self.put(node, Place(right.index(letter), *places.pop()))
