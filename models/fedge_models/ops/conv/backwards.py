# SPDX-License-Identifier: Apache-2.0
"""The gradients of a convolution with stride 1, both from columns of the slopes: gathered once, and nothing scattered.

Such a convolution's gradient by its input is a convolution of the slopes with the reversed kernel, and its gradient by
a weight pairs the input with the same shifted slopes. Both need the weights in another order, which costs more than it
saves where there are few positions for each weight.
"""

from __future__ import annotations

from math import prod

import numpy as np

from ..geometry import Geometry
from ..layout import batch_first
from ..operator import Array, Grads, Node
from .columns import Columns, add_product

POSITIONS = 32  # for each output of a group, from which on reordering the weights pays (measured)


def is_cheaper(node: Node, x: Array, w: Array, places: Geometry) -> bool:
    """Whether `FromSlopes` can do it, in less time: with more outputs than channels there is more to gather."""
    group = node.attr("group", 1)
    many = len(x) * prod(places.out) > POSITIONS * len(w) // group and len(w) <= x.shape[1]
    return many and set(places.strides) == {1} != set(places.kernel) and any(node.wanted) and node.needs(0)


class FromSlopes:
    """The backward pass for one shape of input."""

    def __init__(self, node: Node, x: Array, w: Array, places: Geometry) -> None:
        self._node, group = node, node.attr("group", 1)
        back = places._replace(
            dilations=tuple(-d for d in places.dilations), before=tuple(-b for b in places.before), out=x.shape[2:]
        )
        self._columns = Columns(node, len(w), places.out, len(x), group, back)
        self._groups, self._each, self._outputs = group, x.shape[1] // group, len(w) // group
        self._ones = np.ones(prod(places.out) * len(x), node.dtype)

    def __call__(self, slopes: Array, x: Array, w: Array, b: Array | None) -> Grads:
        """slopes (outputs, *out, batch) and x (channels, *spatial, batch) to the gradients by x, weights and bias."""
        node, group = self._node, self._groups
        parts = w.reshape(group, self._outputs, self._each, -1).swapaxes(1, 2)
        weights = parts.reshape(group, self._each, -1)  # (group, channels, outputs * taps)
        dx = node.workspace.array(x.shape, node.dtype)
        values, onto = (a.reshape(group, self._each, -1) for a in (x, dx))
        dweights = node.workspace.array(weights.shape, node.dtype) if node.needs(1) else None
        for tile in self._columns.tiles:
            columns = tile.gather(slopes)
            np.matmul(weights[tile.groups], columns, out=onto[tile.groups, :, tile.span])
            if dweights is not None:
                part = values[tile.groups, :, tile.span]
                add_product(node, tile, part, columns.transpose(0, 2, 1), dweights[tile.groups])
        dw = db = None
        if dweights is not None:
            dw = node.gradient(1, w.shape)
            ordered = dweights.reshape(parts.shape).swapaxes(1, 2)
            np.copyto(dw.reshape(ordered.shape), ordered)
        if b is not None and node.needs(2):
            db = node.gradient(2, b.shape)
            np.matmul(slopes.reshape(len(slopes), -1), self._ones, out=db)
        return (batch_first(dx), dw, db)
