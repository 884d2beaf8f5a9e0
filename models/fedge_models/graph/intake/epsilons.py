# SPDX-License-Identifier: Apache-2.0
"""Find epsilons: single small numbers that keep a root, a logarithm or a divisor away from zero, and are no weights.

Exporters that write a normalisation as arithmetic (Keras by tf2onnx) may store its epsilon with axes, (1, 1, 1), as
they store a bias. Trained, it becomes negative, and the root is not a number from then on.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from ...protos import DOUBLE, FLOAT, FLOAT16, values

if TYPE_CHECKING:
    import onnx

LARGEST = 0.1
ROOTS = ("Log", "Reciprocal", "Sqrt")
PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")  # what a bias is added to
POWERS = (0.5, -0.5, -1.0)


def epsilons(graph: onnx.GraphProto) -> set[str]:
    """Return the names of initializers with axes that are epsilons, wherever they are read."""
    floats = (FLOAT, FLOAT16, DOUBLE)
    stored = {t.name: t for t in graph.initializer if t.data_type in floats and prod(t.dims) == 1}
    small = {n for n, t in stored.items() if len(t.dims) and 0 < float(values(t).ravel()[0]) <= LARGEST}
    if not small:
        return set()
    readers: dict[str, list[onnx.NodeProto]] = {}
    makers = {o: n.op_type for n in graph.node for o in n.output}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)

    def guards(node: onnx.NodeProto) -> bool:
        """Whether a node adds to what goes into a root, a logarithm or a divisor, and to nothing else."""
        behind = [(n, node.output[0]) for n in readers.get(node.output[0], [])]
        beside = {makers.get(n, "") for n in node.input}
        return node.op_type in ("Add", "Max") and bool(behind) and beside.isdisjoint(PRODUCTS) and all(
            n.op_type in ROOTS
            or (n.op_type == "Div" and n.input[1] == name != n.input[0])
            or (n.op_type == "Pow" and n.input[0] == name and _value(stored, n.input[1]) in POWERS)
            for n, name in behind
        )  # fmt: skip

    return {n for n in small if n in readers and all(guards(node) for node in readers[n])}


def _value(stored: dict[str, onnx.TensorProto], name: str) -> float | None:
    return float(values(stored[name]).ravel()[0]) if name in stored else None
