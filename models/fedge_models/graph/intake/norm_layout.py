# SPDX-License-Identifier: Apache-2.0
"""Give each input of a BatchNormalization nodes of its own where it is laid out first.

PyTorch writes an InstanceNorm that tracks statistics as a BatchNormalization of tiled inputs. In a fresh network, scale
and variance are the same ones, so one Tile makes both, and training the scale would change the variance.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from ..nodes import LAID_OUT

if TYPE_CHECKING:
    import onnx

OF_NORM = range(1, 5)  # scale, bias, mean, variance


def own_layout(graph: onnx.GraphProto, stored: Collection[str]) -> dict[str, int]:
    """Part them, in place. Return which input of a BatchNormalization each such node makes, by the node's output.

    stored: what tensors are called.
    """
    makers = {o: n for n in graph.node if n.op_type in LAID_OUT for o in n.output}
    norms = [n for n in graph.node if n.op_type == "BatchNormalization" and makers.keys() & {*n.input[1:5]}]
    made: dict[str, int] = {}
    for norm in norms:
        for position in OF_NORM:
            chain = _chain(norm.input[position], makers, stored)
            if any(node.output[0] in made for node in chain):
                chain = _copied(graph, chain, norm, position)
            made |= {node.output[0]: position for node in chain}
    return made


def _chain(name: str, makers: dict[str, onnx.NodeProto], stored: Collection[str]) -> list[onnx.NodeProto]:
    """The nodes that lay out a stored tensor until it has that name, the last first; none when it is computed."""
    chain = []
    while name in makers:
        chain.append(makers[name])
        name = makers[name].input[0]
    return chain if name in stored else []


def _copied(
    graph: onnx.GraphProto, chain: list[onnx.NodeProto], norm: onnx.NodeProto, position: int
) -> list[onnx.NodeProto]:
    """Put a copy of the nodes in front of the BatchNormalization, for this input of it."""
    copies: list[onnx.NodeProto] = []
    read = ""
    for node in reversed(chain):
        copy = type(node)()
        copy.CopyFrom(node)
        copy.output[0] = f"{norm.output[0]}.{position}.{len(copies)}"
        copy.name = f"{node.name}.{position}" if node.name else ""
        copy.input[0] = read or node.input[0]
        copies.append(copy)
        read = copy.output[0]
    norm.input[position] = read
    at = next(i for i, n in enumerate(graph.node) if n is norm or n.output[0] == norm.output[0])
    for copy in reversed(copies):
        graph.node.insert(at, copy)
    return [next(n for n in graph.node if n.output[0] == c.output[0]) for c in copies]
