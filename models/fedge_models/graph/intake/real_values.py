# SPDX-License-Identifier: Apache-2.0
"""A graph while its quantised values become real ones: the new nodes, names and tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...protos import values
from ..onnx_file import tensors

if TYPE_CHECKING:
    import onnx

RANGES = {2: (0, 255), 3: (-128, 127), 4: (0, 65535), 5: (-32768, 32767), 21: (0, 15), 22: (-8, 7)}
SUFFIX = "_quantized"  # of weights, by ONNX Runtime's quantiser


class Work:
    """One graph while its quantised values become real ones."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.graph = model.graph
        self.stored = tensors(model)
        self.made: dict[str, NDArray[Any]] = {}  # dequantised tensors by their new name
        self.nodes: list[onnx.NodeProto] = []
        self.left_out: set[str] = set()  # outputs of nodes that are not needed any more
        self.other: dict[str, str] = {}  # values that have another name now
        self.makers = {o: n for n in self.graph.node for o in n.output}
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

    def within(self, source: str, scale: str, zero: str, to: str, end: bool) -> None:
        """Limit a value to the range that its quantised form has."""
        s, z = self.number(scale).astype(np.float64), self.number(zero).astype(np.float64) if zero else np.zeros(1)
        lowest, highest = RANGES[self.stored[zero].data_type if zero else 2]
        low, high = ((b - z) * s for b in (lowest, highest))
        if s.size != 1:
            raise ValueError("a value has a scale for each channel")
        bounds = [float(low.item()), float(high.item())]
        kept = [b if not end or b == 0 else None for b in bounds]
        if kept == [None, None] or self._is_stored(source):
            self.same(source, to)
            return
        names = ["" if b is None else self.bound(b) for b in kept]
        self.add("Clip", source, *names, to=[to])

    def _is_stored(self, source: str) -> bool:
        """Whether a value is a tensor: what bounds it was there when it was quantised, and must not bound a weight."""
        while source in self.makers and self.makers[source].op_type in ("DequantizeLinear", "Identity"):
            source = self.makers[source].input[0]
        return source in self.stored or source in self.made

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
