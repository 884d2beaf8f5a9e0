# SPDX-License-Identifier: Apache-2.0
"""A graph while its quantised values become real ones: the new nodes, names and tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...protos import DOUBLE, FLOAT, FLOAT16, attribute, values
from ..onnx_file import tensors

if TYPE_CHECKING:
    import onnx

RANGES = {
    **{2: (0, 255), 3: (-128, 127), 4: (0, 65535), 5: (-32768, 32767), 21: (0, 15), 22: (-8, 7)},
    **{17: (-448, 448), 18: (-240, 240), 19: (-57344, 57344), 20: (-57344, 57344)},  # floats of 8 bits
}
UINT8, FLOATS = 2, (FLOAT, FLOAT16, DOUBLE)
SUFFIX = "_quantized"  # of weights, by ONNX Runtime's quantiser


class Work:
    """One graph while its quantised values become real ones."""

    def __init__(self, model: onnx.ModelProto, logits: bool = False) -> None:
        """logits: whether the graph gives those of labels, which nothing bounds."""
        self.logits, self.graph = logits, model.graph
        self.stored = tensors(model)
        self.made: dict[str, NDArray[Any]] = {}  # dequantised tensors by their new name
        self.nodes: list[onnx.NodeProto] = []
        self.left_out: set[str] = set()  # outputs of nodes that are not needed any more
        self.other: dict[str, str] = {}  # values that have another name now
        self.makers = {o: n for n in self.graph.node for o in n.output}
        self.fixed = set(self.stored)  # what no input reaches
        for node in self.graph.node:
            if node.input and self.fixed.issuperset(n for n in node.input if n):
                self.fixed.update(node.output)
        self.rounded: dict[str, None] = {}  # names of stored floats that were rounded while the graph ran
        self.ends = {v.name for v in (*self.graph.input, *self.graph.output)}

    def name(self, quantised: str) -> str:
        """The name of a stored tensor once it is real; empty for what is not stored."""
        return quantised.removesuffix(SUFFIX) if quantised in self.stored else ""

    def add(
        self, op: str, *inputs: str, to: Any, like: onnx.NodeProto | None = None, leave: tuple[str, ...] = ()
    ) -> None:
        """Add a node with the attributes of another but for those to `leave` out."""
        from onnx import helper

        made = helper.make_node(op, [self.other.get(n, n) for n in inputs], list(to))
        if like is not None:
            made.name, made.domain = like.name, like.domain if op == like.op_type else ""
            made.attribute.extend(a for a in like.attribute if a.name not in leave)
        self.nodes.append(made)

    def number(self, name: str) -> NDArray[Any]:
        """A stored scale, zero point or quantised tensor. Raises KeyError for one that is computed."""
        return values(self.stored[name])

    def real(self, quantised: str, scale: str, zero: str, axis: int = 0, block: int = 0) -> str:
        """A stored quantised tensor as a real one; return its name. A computed one is real already."""
        if quantised not in self.stored:
            return quantised
        q, s = self.number(quantised).astype(np.float64), self.number(scale).astype(np.float64)
        z = self.number(zero).astype(np.float64) if zero else np.zeros_like(s)
        s, z = (along(v, q.shape, axis, block) for v in (s, z))
        return self.keep(quantised, (q - z) * s)

    def keep(self, quantised: str, real: NDArray[Any]) -> str:
        """Store a real tensor; return its name."""
        name = self.name(quantised)
        values_ = real.astype(np.float32)
        while self._is_other(name, quantised, values_):
            name += "_real"
        self.made[name] = values_
        return name

    def _is_other(self, name: str, quantised: str, real: NDArray[Any]) -> bool:
        """Whether a name is that of something else."""
        if name in self.made:
            return not np.array_equal(self.made[name], real)
        maker = self.makers.get(name)
        return (name in self.stored and name != quantised) or (
            maker is not None and maker.op_type != "DequantizeLinear"
        )

    def within(self, source: str, scale: str, zero: str, to: str, end: bool, kind: int = 0) -> None:
        """Limit a value to the range that its quantised form has."""
        s, z = self.number(scale).astype(np.float64), self.number(zero).astype(np.float64) if zero else np.zeros(1)
        lowest, highest = RANGES[self._kind(zero, kind)]
        low, high = ((b - z) * s for b in (lowest, highest))
        if s.size != 1:
            raise ValueError("a value has a scale for each channel")
        is_last = end and source not in self.ends
        keeps_low = not end or (low.item() == 0 and not (is_last and self.logits))
        kept = [float(low.item()) if keeps_low else None, None if end else float(high.item())]
        if kept == [None, None]:
            self.same(source, to)
            return
        names = ["" if b is None else self.bound(b) for b in kept]
        self.add("Clip", source, *names, to=[to])

    def as_it_is(self, source: str, node: onnx.NodeProto) -> None:
        """Let the rounded form of a weight, or of what is computed of weights, be that itself.

        What bounds it was there when it was quantised, and must not bound a weight that is trained. A stored float
        that lies beyond the bounds is brought within them once, if nothing else reads it.
        """
        if source in self.stored and self.stored[source].data_type in FLOATS:
            self.rounded[source] = None
            limited = self._limited(source, node)
            if limited is not None and sum(source in n.input for n in self.graph.node) == 1:
                self.made[source] = limited
        self.same(source, node.output[0])

    def _limited(self, source: str, node: onnx.NodeProto) -> NDArray[Any] | None:
        """The values of a stored float within the range of its quantised form; None where all are."""
        zero = node.input[2] if len(node.input) > 2 else ""
        given = {a.name: attribute(a) for a in node.attribute}
        lowest, highest = RANGES[self._kind(zero, given.get("output_dtype", 0))]
        real, s = self.number(source), self.number(node.input[1]).astype(np.float64)
        z = self.number(zero).astype(np.float64) if zero else np.zeros_like(s)
        s, z = (along(v, real.shape, given.get("axis", 1), given.get("block_size", 0)) for v in (s, z))
        low, high = (lowest - z - 0.5) * s, (highest - z + 0.5) * s  # what is rounded to the bounds is within
        if np.all((real >= low) & (real <= high)):
            return None
        return np.clip(real, (lowest - z) * s, (highest - z) * s).astype(np.float32)

    def _kind(self, zero: str, said: int) -> int:
        """The type of quantised values: of their zero point, else as the node says, else 8 bits without a sign."""
        return self.stored[zero].data_type if zero else said or UINT8

    def same(self, source: str, to: str) -> None:
        """Let a value be another one."""
        if to in self.ends:
            self.add("Identity", source, to=[to])
        else:
            self.other[to] = self.other.get(source, source)

    def bound(self, value: float) -> str:
        """A stored scalar."""
        name = f"fedge.bound.{value:.9g}"
        self.made[name] = np.array(value, np.float32)
        return name


def along(v: NDArray[Any], shape: tuple[int, ...], axis: int, block: int) -> NDArray[Any]:
    """Scales as they are broadcast: one, one for each place of an axis, or one for each block of it."""
    if block:
        return np.repeat(v, block, axis=axis)[tuple(slice(0, n) for n in shape)]
    if v.size == 1:
        return v.reshape(())
    return v.reshape([-1 if i == axis % len(shape) else 1 for i in range(len(shape))])
