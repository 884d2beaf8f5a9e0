# SPDX-License-Identifier: Apache-2.0
"""Choose between three ways to convolve over one or more axes. All of them work channels-last."""

from __future__ import annotations

from ..geometry import geometry
from ..operator import Array, Backprop, Node
from .depthwise import DepthwiseConv, is_depthwise
from .flat import FlatConv, is_flat
from .gathered import GatheredConv


def conv(node: Node, x: Array, w: Array, b: Array | None = None) -> tuple[Array, Backprop]:
    """ONNX Conv for x (batch, in, *spatial), w (out, in / group, *kernel), b (out,)."""
    plan = node.plan(x.shape)
    if plan is None or plan.w is not w or plan.b is not b:
        places = geometry(node, x.shape[2:], w.shape[2:])
        plan = node.store_plan(x.shape, _way(node, x, w)(node, x, w, b, places))
    return plan.forward(x), plan.backprop


def _way(node: Node, x: Array, w: Array) -> type[FlatConv] | type[DepthwiseConv] | type[GatheredConv]:
    if is_flat(node, w.shape[2:]):
        return FlatConv
    return DepthwiseConv if is_depthwise(node, x, w) else GatheredConv
