# SPDX-License-Identifier: Apache-2.0
"""Find what brings a network's values back into units: rows behind its last layer, and statistics inside of it.

A learnt factor and shift stand there as often, so names decide where they say anything. Where none does, only a pair
behind a layer that has a bias of its own is taken for one: learnt, it could as well be part of that layer.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from math import prod
from typing import TYPE_CHECKING, TypeAlias

from ..signature import PYTORCH
from .name_words import is_measured, says_learnt

if TYPE_CHECKING:
    import onnx

Stored: TypeAlias = "Mapping[str, onnx.TensorProto]"
UNSCALER = "a factor or shift of the output, as of what brings targets back into units"
INSIDE = "a statistic inside the network, by its name"
MOVES = ("Cast", "Expand", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")
BENDS = ("Clip", "Exp", "Max", "Min", "Pow", "Relu")  # between an un-scaler and the output
SHIFTS, FACTORS = ("Add", "Sub"), ("Div", "Mul")
OF_ROWS = (*MOVES, *SHIFTS, *FACTORS, "Pow", "Sqrt")
WHOLE = ("Conv", "ConvTranspose", "Gemm")  # with an own bias
PRODUCTS = (*WHOLE, "MatMul")
MOST = 3  # steps of an un-scaler: a factor, a shift, and those of a whole range


class Behind:
    """The rows of one graph that are met behind its layers."""

    def __init__(self, model: onnx.ModelProto, stored: Stored) -> None:
        self._graph, self._stored, self._pytorch = model.graph, stored, model.producer_name == PYTORCH
        self._makers = {o: n for n in model.graph.node for o in n.output}
        self._rows: dict[str, tuple[str, ...]] = {n: (n,) for n, t in stored.items() if sum(d > 1 for d in t.dims) <= 1}
        self._rows |= {t.name: () for t in model.graph.initializer if not prod(t.dims) > 1 and t.name not in stored}
        for node in model.graph.node:
            if node.op_type == "Constant":
                self._rows[node.output[0]] = ()
            elif node.op_type in OF_ROWS and all(n in self._rows for n in node.input if n):
                self._rows[node.output[0]] = tuple(dict.fromkeys(r for n in node.input for r in self._rows[n]))

    def unscalers(self, attributes: Collection[str]) -> Iterator[tuple[str, str]]:
        """Each row that brings an output back into units, with what it is.

        attributes: what modules that scale the input call their rows; others of their kind call them so, too.
        """
        for output in self._graph.output:
            found, ops, maker = self._chain(output.name)
            alike = all(n.rpartition(".")[2] in attributes for n in found)
            named = found if alike else [n for n in found if is_measured(n, True)]
            pair = bool({*ops} & {*SHIFTS}) and bool({*ops} & {*FACTORS}) and not any(map(says_learnt, found))
            if pair and (named or (not self._pytorch and self._is_layer(maker))):
                named = found
            yield from ((n, UNSCALER) for n in named)

    def _chain(self, name: str) -> tuple[list[str], list[str], onnx.NodeProto | None]:
        """Rows from an output backwards, the operators that meet them, and the node in front of them."""
        found, ops = list[str](), list[str]()
        while (node := self._makers.get(name)) is not None:
            rows = [n for n in node.input if n in self._rows]
            others = [n for n in node.input if n and n not in self._rows]
            if len(others) != 1 or len(ops) > MOST:
                break
            if node.op_type in SHIFTS + FACTORS:
                if self._is_bias(node, others[0]):
                    break
                ops.append(node.op_type)
                found += [r for n in rows for r in self._rows[n]]
            elif node.op_type not in (*MOVES, *BENDS):
                break
            name = others[0]
        return [*dict.fromkeys(found)], ops, self._makers.get(name)

    def _is_bias(self, node: onnx.NodeProto, data: str) -> bool:
        """Whether a row is added to a product that has no bias yet."""
        made = self._makers.get(data)
        return node.op_type == "Add" and made is not None and made.op_type in PRODUCTS and len(made.input) == 2

    def _is_layer(self, node: onnx.NodeProto | None) -> bool:
        """Whether a node ends a layer with weights and a bias."""
        if node is None:
            return False
        if node.op_type in WHOLE:
            return len(node.input) > 2 and node.input[1] in self._stored
        return any(self._is_bias(node, n) for n in node.input)

    def inside(self) -> Iterator[tuple[str, str]]:
        """Two rows that are called statistics: one that is subtracted, and one by which the difference is divided."""
        less = {n.output[0]: self._measured(n.input[1]) for n in self._graph.node if n.op_type == "Sub"}
        for node in self._graph.node:
            first = less.get(node.input[0], ()) if node.op_type in FACTORS else ()
            second = self._measured(node.input[1]) if first else ()
            yield from ((n, INSIDE) for n in (*first, *second) if second)

    def _measured(self, name: str) -> tuple[str, ...]:
        rows = self._rows.get(name, ())
        return rows if all(map(is_measured, rows)) else ()
