# SPDX-License-Identifier: Apache-2.0
"""Refuse a graph of too many nodes before anything is done with it: functions within functions make them of a few."""

from __future__ import annotations

from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING

from ...errors import ModelError
from ..card import Card
from .float32 import graphs

if TYPE_CHECKING:
    import onnx

MOST_NODES = 50_000  # a recurrent layer of Keras, unrolled over a thousand steps, has 20,000
Key = tuple[str, str]  # domain and name of a function


def check_count(model: onnx.ModelProto, card: Card, where: str) -> bool:
    """Raise ModelError where there are more than MOST_NODES once functions are written out. Returns False.

    A function that calls another one twice, which calls another one twice, makes millions of a small file.
    """
    bodies = {(f.domain, f.name): f for f in model.functions}
    calls = {key: {_key(n) for g in graphs(body) for n in g.node} & bodies.keys() for key, body in bodies.items()}
    counts: dict[Key, int] = {}
    try:
        for key in TopologicalSorter(calls).static_order():
            counts[key] = _count(bodies[key], counts)
    except CycleError:
        return False  # it is refused where functions are written out
    if (found := _count(model.graph, counts)) > MOST_NODES:
        raise ModelError(
            f"{where}: has {found:,} nodes with those of its functions, expected at most {MOST_NODES:,}; export fewer "
            "layers, or a recurrent layer as one node (in Keras unroll=False)"
        )
    return False


def _count(graph: onnx.GraphProto | onnx.FunctionProto, counts: Mapping[Key, int]) -> int:
    return sum(counts.get(_key(node), 1) for inner in graphs(graph) for node in inner.node)


def _key(node: onnx.NodeProto) -> Key:
    return node.domain, node.op_type
