# SPDX-License-Identifier: Apache-2.0
"""The net for tables, made so that a failure can only become more likely while some columns rise.

The ramps of these columns go to the logits by a layer of their own, whose weights are squared, so never negative. All
other columns go through the dense layers as before.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx
from fedge_models.graph.card import Card
from fedge_models.graph.zoo import table
from onnx import helper, numpy_helper

RAMPS = 16
BEGIN = 0.3  # of each weight before it is squared: all ramps together give a logit of 1.4


def rising(card: Card, inputs: int, seed: int, columns: Collection[str]) -> bytes:
    """The model. `columns` and their weights (`dense2.rise`) are left out of the dense layers."""
    model = table(card, inputs, ramps=RAMPS, seed=seed)
    names = [c.name for c in card.input_channels]  # derived ones, too
    ruled = np.repeat([name in columns for name in names], RAMPS).astype(np.float32)[:, None]
    graph, flat = model.graph, next(n for n in model.graph.node if n.op_type == "Flatten").output[0]
    last = graph.node[-1]
    tensors = {"dense2.rise": BEGIN * ruled, "rule.kept": ruled, "rule.left": 1 - ruled.T, "rule.sides": [[-0.5, 0.5]]}
    graph.initializer.extend(numpy_helper.from_array(np.asarray(v, np.float32), n) for n, v in tensors.items())
    next(n for n in graph.node if n.op_type == "Gemm").input[0] = "others"
    last.output[0] = "rest"
    first = [n.output[0] for n in graph.node].index(flat) + 1
    made = helper.make_node("Mul", [flat, "rule.left"], ["others"])
    nodes = [*graph.node[:first], made, *graph.node[first:], *_branch(flat)]
    del graph.node[:]
    graph.node.extend(nodes)
    return model.SerializeToString()


def _branch(flat: str) -> list[onnx.NodeProto]:
    """From the ramps to the logits, by squared weights."""
    return [
        helper.make_node("Mul", ["dense2.rise", "dense2.rise"], ["squared"]),
        helper.make_node("Mul", ["squared", "rule.kept"], ["positive"]),
        helper.make_node("MatMul", [flat, "positive"], ["sum"]),
        helper.make_node("Mul", ["sum", "rule.sides"], ["pulled"]),
        helper.make_node("Add", ["rest", "pulled"], ["y"]),
    ]
