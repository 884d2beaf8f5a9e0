# SPDX-License-Identifier: Apache-2.0
"""Recognise a graph that is a chain of dense layers, all trained: training has a faster way for these.

What is only reshaped in front of the first layer or behind the last one does not matter, since rows stay rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ..ops.operator import Node
from .layout import Tensor

ACTIVATIONS = ("Relu", "Sigmoid", "Tanh")
RESHAPING = ("Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze")


class Layer(NamedTuple):
    """A dense layer of a chain, and the operator type of the activation that follows it ("": none)."""

    weight: Tensor  # (inputs, outputs); (outputs, inputs) where `swapped`
    bias: Tensor | None  # (outputs,)
    swapped: bool
    activation: str = ""

    @property
    def inputs(self) -> int:
        """Values of a row that goes in."""
        return self.weight.shape[1 if self.swapped else 0]

    @property
    def outputs(self) -> int:
        """Values of a row that comes out."""
        return self.weight.shape[0 if self.swapped else 1]


def dense_chain(
    nodes: Sequence[Node],
    tensors: Sequence[Tensor],
    ends: tuple[str, str],
    shapes: tuple[tuple[int, ...], tuple[int, ...]],
) -> tuple[Layer, ...]:
    """Return the layers of a chain between the two `ends`; empty where the nodes are anything else.

    shapes: of one sample, at both ends. Nodes are fused already (fusion.py).
    """
    (value, last), known = ends, {t.name: t for t in tensors}
    layers: list[Layer] = []
    reshaped = len(shapes[0]) == 1
    for node in nodes:
        if node.inputs[0] != value or len(node.outputs) != 1 or value == last:
            return ()
        value = node.outputs[0]
        if node.op_type in RESHAPING and not known.keys() & {*node.inputs}:
            if layers and value != last:
                return ()
            reshaped = True
        elif node.op_type in ACTIVATIONS and layers and not layers[-1].activation and value != last:
            layers[-1] = layers[-1]._replace(activation=node.op_type)
        elif (layer := _layer(node, known)) is not None and reshaped:
            layers.append(layer)
        else:
            return ()
    return tuple(layers) if value == last and _fit(layers, tensors, shapes) else ()


def _layer(node: Node, known: Mapping[str, Tensor]) -> Layer | None:
    """A Gemm or MatMul whose weights, and bias if there is one, are trained."""
    read = [name for name in node.inputs[1:] if name]
    if node.op_type not in ("Gemm", "MatMul") or not read or not {*read} <= known.keys():
        return None
    if node.attr("alpha", 1.0) != 1.0 or node.attr("beta", 1.0) != 1.0 or node.attr("transA", 0):
        return None
    weight, bias = known[read[0]], known[read[1]] if len(read) > 1 else None
    if len(weight.shape) != 2:
        return None
    layer = Layer(weight, bias, bool(node.attr("transB", 0)), "Relu" if node.follows("Relu") else "")
    return layer if bias is None or bias.shape == (layer.outputs,) else None


def _fit(layers: Sequence[Layer], tensors: Sequence[Tensor], shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> bool:
    """Whether the sizes fit together, each trained tensor is read once, and no activation is left at the end."""
    if not layers or layers[-1].activation:
        return False
    widths = [math.prod(shapes[0]), *(layer.outputs for layer in layers)]
    read = [t.name for layer in layers for t in (layer.weight, layer.bias) if t is not None]
    return (
        [layer.inputs for layer in layers] == widths[:-1]
        and widths[-1] == math.prod(shapes[1])
        and sorted(read) == sorted(t.name for t in tensors)
    )
