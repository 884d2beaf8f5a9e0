# SPDX-License-Identifier: Apache-2.0
"""ONNX Conv over one or more axes."""

from __future__ import annotations

from ..geometry import geometry
from ..operator import Array, Backprop, Node
from .tiled import TiledConv


def conv(node: Node, x: Array, w: Array, b: Array | None = None) -> tuple[Array, Backprop]:
    """ONNX Conv for x (batch, in, *spatial), w (out, in / group, *kernel), b (out,)."""
    shape = (*x.shape, *w.shape[2:])
    plan = node.plan(shape)
    if plan is None:
        places = geometry(node, x.shape[2:], w.shape[2:])
        if min(places.out) < 0:
            node.refuse(f"a kernel of {w.shape[2:]} is larger than the padded input of {x.shape[2:]}")
        plan = node.store_plan(shape, TiledConv(node, x, w, places))
    made: tuple[Array, Backprop] = plan(x, w, b)
    return made
