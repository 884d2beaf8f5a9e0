# SPDX-License-Identifier: Apache-2.0
"""Find what a network does to its input before its first weight: scalers, limits, what fills gaps, a PCA.

From the input on, values are followed as long as nothing learnt has met them. A row that is subtracted there, or that
divides, is one of a scaler, and so is what lies before it; a row that multiplies or is added may be a learnt gain, and
is a scaler's only where a difference lies before it, or its name says so.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from ...protos import INT64, attribute, values
from ..signature import ATTRIBUTE, PYTORCH
from .known_filters import are_orthogonal
from .layers import is_generated
from .name_words import is_measured, says_learnt
from .own_scaling import SCALER

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

Stored: TypeAlias = "Mapping[str, onnx.TensorProto]"
Look: TypeAlias = "Callable[[str], NDArray[Any] | None]"  # the values of a tensor, where they can be read
LIMIT = "a limit of the input, or what fills its gaps"
AXES = "the axes of a PCA of the input"
ELEMENTWISE = ("Add", "Sub", "Mul", "Div")
LIMITS = ("Max", "Min", "Where")
PRODUCTS = ("Gemm", "MatMul")
LAYOUT = (
    *("Cast", "Concat", "Expand", "Flatten", "Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze"),
    *("Transpose", "Unsqueeze"),
)
EACH = ("Abs", "Clip", "Exp", "IsNaN", "Log", "Neg", "Pow", "Sign", "Sqrt", *ELEMENTWISE, *LIMITS)  # value by value
OF_ROWS = (*LAYOUT, *ELEMENTWISE, "Abs", "Clip", "Max", "Min", "Neg", "Pow", "Reciprocal", "Sqrt")  # max - min, √var
UNKNOWN = ("Equal", "IsNaN", "Not")  # by which gaps are found


class Step(NamedTuple):
    """A node that meets stored tensors with values of the input."""

    node: onnx.NodeProto
    rows: tuple[str, ...]
    data: str  # what of the input it reads
    plain: bool  # that is the input itself, laid out or changed value by value


class Preparation:
    """What happens to the input of one graph before its first weight."""

    def __init__(self, model: onnx.ModelProto, stored: Stored, tables: Collection[str], look: Look) -> None:
        """tables: tensors that are known to be no weights; a product with them is none of a layer."""
        graph = model.graph
        self._stored, self._look, self._pytorch = stored, look, model.producer_name == PYTORCH
        self._sizes = {v.name: prod(d.dim_value for d in v.type.tensor_type.shape.dim[1:]) for v in graph.input}
        self._makers = {o: n for n in graph.node for o in n.output}
        held = {
            n.output[0]: a.t for n in graph.node if n.op_type == "Constant" for a in n.attribute if a.name == "value"
        }
        self._integer = {
            n: t for n, t in (held | {t.name: t for t in graph.initializer}).items() if t.data_type == INT64
        }
        self._added = {name for n in graph.node if n.op_type == "Add" for name in n.input}
        self._fixed: dict[str, tuple[str, ...]] = {t.name: () for t in graph.initializer}  # of which rows it is made
        self._fixed |= {name: (name,) for name in stored if name not in tables}
        inputs = [v for v in graph.input if v.name not in self._fixed]
        self._plain = {v.name for v in inputs}
        self._behind: dict[str, frozenset[int]] = {v.name: frozenset() for v in inputs}  # numbers of the steps behind
        self._ranks = {v.name: len(v.type.tensor_type.shape.dim) for v in inputs}
        self._open: set[str] = set()  # with a new last dimension, along which a row would be repeated
        self.steps: list[Step] = []
        for node in graph.node:
            self._follow(node)

    def found(self) -> Iterator[tuple[str, str]]:
        """Each tensor that prepares the input, with what it is."""
        sure = {i for i, step in enumerate(self.steps) if self._prepares(step)}
        before = {j for i in sure for j in self._behind[self.steps[i].data]}
        for step in (self.steps[i] for i in sorted(sure | before)):
            op = step.node.op_type
            what = AXES if op in PRODUCTS else SCALER if op in ELEMENTWISE else LIMIT
            yield from ((n, what) for n in step.rows)

    def _follow(self, node: onnx.NodeProto) -> None:
        """Take a node into account: what it gives is a constant, free of weights, or neither."""
        given = [n for n in node.input if n]
        rows = tuple(dict.fromkeys(s for n in given for s in self._fixed.get(n, ())))
        data = [n for n in given if n in self._behind]
        if not data and self._fixed.keys() >= {*given}:
            if not rows or node.op_type in OF_ROWS:
                self._fixed |= dict.fromkeys(node.output, rows)
            return
        if not data or any(n not in self._behind and n not in self._fixed for n in given):
            return
        behind = frozenset[int]().union(*(self._behind[n] for n in data))
        plain = self._plain.issuperset(data) and node.op_type in (*LAYOUT, *EACH)
        if rows:
            step = Step(node, rows, data[-1] if node.op_type == "Where" else data[0], plain)
            if not (self._is_axes(step) if node.op_type in PRODUCTS else self._is_step(step, data)):
                return
            behind |= {len(self.steps)}
            self.steps.append(step)
        self._behind |= dict.fromkeys(node.output, behind)
        if plain:
            self._plain.update(node.output)
        self._open.update(node.output if self._opens(node, data[0]) or self._open.intersection(data) else ())

    def _is_step(self, step: Step, data: Collection[str]) -> bool:
        """Whether a node meets the input with one value for each column, or with a whole sample, as a mean picture."""
        op, sizes = step.node.op_type, [prod(self._stored[n].dims) for n in step.rows]
        if op not in (*ELEMENTWISE, *LIMITS) or (len({*data}) > 1 and op != "Where"):
            return False
        if step.data in self._open and max(sizes) > 1:
            return False
        whole = {*self._sizes.values()} if op in ("Sub", "Div") and step.node.input[0] == step.data else set()
        return all(_is_row(self._stored[n]) or size in whole for n, size in zip(step.rows, sizes, strict=True))

    def _is_axes(self, step: Step) -> bool:
        """Whether a centred input is multiplied by an orthogonal matrix, without a bias."""
        centred = any(self.steps[i].node.op_type == "Sub" for i in self._behind[step.data])
        biased = step.node.output[0] in self._added or len(step.node.input) > 2
        if not centred or biased or len(step.rows) > 1 or says_learnt(step.rows[0]):
            return False
        matrix = self._look(step.rows[0])
        return matrix is not None and are_orthogonal(matrix)

    def _prepares(self, step: Step) -> bool:
        """Whether a step is one of preparation by itself."""
        op = step.node.op_type
        if any(says_learnt(n) for n in step.rows):
            return False
        if op in PRODUCTS or all(is_measured(n, step.plain) for n in step.rows):
            return True
        if op in LIMITS:
            return op == "Where" and (made := self._makers.get(step.node.input[0])) is not None and (
                made.op_type in UNKNOWN
            )  # fmt: skip
        if op in ("Sub", "Div") and step.node.input[0] == step.data:
            return step.plain or self._is_pair(step)
        if op == "Mul" and self._is_of(step.data, ("Sub",)):
            return True
        return step.plain and not all(self._may_be_learnt(n) for n in step.rows)

    def _may_be_learnt(self, name: str) -> bool:
        """Whether a factor or shift is as training begins, or PyTorch's older exporter took it from a module."""
        row = self._look(name)
        fresh = row is not None and row.size > 1 and row.min() == row.max()
        return fresh or (self._pytorch and (ATTRIBUTE.match(name) is not None or is_generated(name)))

    def _is_pair(self, step: Step) -> bool:
        """Whether a difference is divided or multiplied at once, or a quotient is of a difference, or of a PCA."""
        if step.node.op_type == "Div":
            return self._is_of(step.data, ("Sub", *PRODUCTS))
        behind = [s.node.op_type for s in self.steps if s.data == step.node.output[0]]
        return bool(behind) and {*behind} <= {"Div", "Mul"}

    def _is_of(self, name: str, operators: Collection[str]) -> bool:
        """Whether a value is what such a step gives."""
        return any(s.node.output[0] == name and s.node.op_type in operators for s in self.steps)

    def _opens(self, node: onnx.NodeProto, data: str) -> bool:
        """Whether a node adds a last dimension of one; ranks are known as long as nothing else changes them."""
        rank = self._ranks.get(data, 0)
        axes = self._integers(node, 1, "axes") if node.op_type == "Unsqueeze" else []
        shape = self._integers(node, 1, "shape") if node.op_type == "Reshape" else []
        if rank and node.op_type in ("Identity", "Transpose", "Unsqueeze", *EACH):
            self._ranks |= dict.fromkeys(node.output, rank + len(axes))
        elif shape:
            self._ranks |= dict.fromkeys(node.output, len(shape))
        return shape[-1:] == [1] or -1 in axes or bool(rank and rank + len(axes) - 1 in axes)

    def _integers(self, node: onnx.NodeProto, position: int, name: str) -> list[int]:
        """Constant integers that are an input or an attribute; none where they are computed."""
        if given := next((attribute(a) for a in node.attribute if a.name == name), None):
            return [int(v) for v in given]
        tensor = self._integer.get(node.input[position]) if len(node.input) > position else None
        return [] if tensor is None else [int(v) for v in values(tensor).ravel()]


def _is_row(tensor: onnx.TensorProto) -> bool:
    return sum(d > 1 for d in tensor.dims) <= 1
