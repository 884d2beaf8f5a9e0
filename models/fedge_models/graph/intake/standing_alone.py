# SPDX-License-Identifier: Apache-2.0
"""Find tensors called `weight` or `bias` that no layer of PyTorch reads so: they may be buffers of a user's module.

A weight of a layer is read by a product, a normalisation or a lookup. A factor and shift of a normalisation that was
written as arithmetic come behind its quotient; the others are a user's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

ARITHMETIC = ("Add", "Div", "Mul", "Sub")
NORMALISED = (
    *("BatchNormalization", "Div", "GroupNormalization", "InstanceNormalization", "LayerNormalization", "Mul"),
    *("RMSNormalization", "Reciprocal", "Reshape"),
)
WEIGHT, BIAS = "weight", "bias"


def standing_alone(graph: onnx.GraphProto) -> set[str]:
    """Return the names of such weights, and of the biases that are added to their products."""
    makers = {o: n for n in graph.node for o in n.output}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    weights = [t.name for t in graph.initializer if t.name.endswith(WEIGHT) and t.name in readers]
    found = {n for n in weights if all(_is_alone(node, n, makers) for node in readers[n])}
    biases = {f"{n.removesuffix(WEIGHT)}{BIAS}": n for n in found}
    behind = {n: _products(readers, n) for n in found}
    return found | {
        bias
        for bias, weight in biases.items()
        if bias in readers and all(behind[weight].intersection(node.input) for node in readers[bias])
    }


def _products(readers: dict[str, list[onnx.NodeProto]], name: str) -> set[str]:
    """What a weight is multiplied to, also where a factor comes behind, as `addcmul` writes it."""
    first = {o for node in readers[name] for o in node.output}
    return first | {o for n in first for node in readers.get(n, ()) if node.op_type == "Mul" for o in node.output}


def _is_alone(node: onnx.NodeProto, name: str, makers: dict[str, onnx.NodeProto]) -> bool:
    """Whether a node multiplies a tensor with what is not normalised."""
    others = [makers[n].op_type for n in node.input if n != name and n in makers]
    return node.op_type in ARITHMETIC and not any(op in NORMALISED for op in others)
