# SPDX-License-Identifier: Apache-2.0
"""Write GroupNormalization of opsets 18 to 20 as the operators of which it is made.

It has a scale and a bias for each group, and from opset 21 on for each channel. ONNX deprecates the old form, and its
checker refuses it; ONNX Runtime runs it. It is an InstanceNormalization of groups.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ...protos import attribute, tensor
from ..card import Card
from ..notes import note
from .compare import check_same, copied, outcomes, trial
from .free_names import FreeNames
from .opset import stated_opset

if TYPE_CHECKING:
    import onnx

FIRST, OF_CHANNELS = 18, 21  # opsets
OPERATOR = "GroupNormalization"


def group_norm(model: onnx.ModelProto, card: Card, where: str) -> bool:
    """Replace the nodes, in place. Return whether there were any."""
    graph = model.graph
    if not FIRST <= stated_opset(model) < OF_CHANNELS or not any(_is_old(n) for n in graph.node):
        return False
    feeds = trial(model, card)
    before = outcomes(model, feeds)
    free = FreeNames({t.name for t in graph.initializer} | {o for n in graph.node for o in n.output})
    nodes = [made for n in graph.node for made in (_written(graph, n, free) if _is_old(n) else [copied(n)])]
    del graph.node[:]
    graph.node.extend(nodes)
    check_same(before, outcomes(model, feeds), f"the conversion of {OPERATOR}", where)
    note(model, f"converted: {OPERATOR} of opset 18, with a scale for each group, to InstanceNormalization of groups")
    return True


def _is_old(node: onnx.NodeProto) -> bool:
    return node.op_type == OPERATOR and node.domain in ("", "ai.onnx")


def _written(graph: onnx.GraphProto, node: onnx.NodeProto, free: FreeNames) -> list[onnx.NodeProto]:
    from onnx import helper

    x, scale, bias = node.input
    given = {a.name: attribute(a) for a in node.attribute}
    name = node.name or node.output[0]
    shape, sizes, groups, normal = (free.first(f"{name}.{part}") for part in ("shape", "sizes", "groups", "normal"))
    graph.initializer.append(tensor(shape, np.array([0, given["num_groups"], -1], np.int64)))
    return [
        helper.make_node("Shape", [x], [sizes], name=sizes),
        helper.make_node("Reshape", [x, shape], [groups], name=groups),
        helper.make_node(
            "InstanceNormalization", [groups, scale, bias], [normal], name=name, epsilon=given.get("epsilon", 1e-5)
        ),
        helper.make_node("Reshape", [normal, sizes], [*node.output], name=f"{name}.whole"),
    ]
