# SPDX-License-Identifier: Apache-2.0
"""Any convolution as products over the columns of tiles, with bias and Relu while a tile is in the cache.

Three products: weights and columns (forwards), slopes and columns (the gradient by the weights), weights and slopes
(the gradient by the columns). A depthwise convolution is the same with one channel a group. Nothing is kept for the
backward pass but the input and the output: columns are gathered again, which costs a tenth of the products.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..geometry import Geometry
from ..layout import batch_first, in_batch_last
from ..operator import Array, Backprop, Grads, Node
from ..pool_tiles import maxima
from .backwards import FromSlopes, is_cheaper
from .columns import Columns, Tile, add_product

Slopes = Callable[[Tile], Array]


class TiledConv:
    """A convolution, with or without Relu and MaxPool over tiles, for one shape of input.

    The maxima are taken first, so that bias and Relu run on a half or a quarter of the values.
    """

    def __init__(self, node: Node, x: Array, w: Array, places: Geometry) -> None:
        self._node, self._shape = node, (len(w), *places.out, len(x))
        group = node.attr("group", 1)
        self._columns = Columns(node, x.shape[1], x.shape[2:], len(x), group, places)
        self._by_group = (group, len(w) // group)
        pool = node.follows("MaxPool")
        self._kernel = pool.attr("kernel_shape", None) if pool else None
        self._relu = node.follows("Relu") is not None
        widest = max((t.width for t in self._columns.tiles), default=0)
        largest = self._columns.groups * widest * self._by_group[1]
        self._slopes = node.workspace.scratch("slopes", largest, node.dtype)
        self._alive = node.workspace.scratch("alive", largest, np.bool_)
        self._ones = np.ones((widest, 1), node.dtype)
        self._from_slopes = FromSlopes(node, x, w, places) if is_cheaper(node, x, w, places) else None

    def __call__(self, x: Array, w: Array, b: Array | None) -> tuple[Array, Backprop]:
        """x (batch, channels, *spatial) to (batch, outputs, *out), a view of memory with the batch last."""
        node, memory = self._node, self._node.workspace
        values, h = in_batch_last(node, x), memory.array(self._shape, node.dtype)
        weights, flat = w.reshape(*self._by_group, -1), h.reshape(*self._by_group, -1)
        each = None if b is None else b.reshape(*self._by_group, 1)
        for tile in self._columns.tiles:
            part = flat[tile.groups, :, tile.span]
            np.matmul(weights[tile.groups], tile.gather(values), out=part)
            if self._kernel is None:
                self._finish(part, None if each is None else each[tile.groups])
        if self._kernel is None:
            y = h if self._relu else None
            return batch_first(h), lambda dy: self._finished(dy, y, values, w, b)
        return self._pooled(h, self._kernel, values, w, b)

    def _pooled(self, h: Array, kernel: Sequence[int], x: Array, w: Array, b: Array | None) -> tuple[Array, Backprop]:
        """Take the maxima of products h, and add the bias to these."""
        node, memory = self._node, self._node.workspace
        y, unpool = maxima(h, kernel, memory)
        pooled = y.reshape(len(y), -1)
        self._finish(pooled, None if b is None else b[:, None])

        def backprop(dy: Array) -> Grads:
            slopes = in_batch_last(node, dy)
            if self._relu:
                alive = np.greater(y, 0, out=memory.array(y.shape, np.bool_))
                slopes = np.multiply(slopes, alive, out=memory.array(y.shape, node.dtype))
            dh = memory.array(self._shape, node.dtype)
            if any(n % k for n, k in zip(self._shape[1:-1], kernel, strict=True)):
                dh.fill(0)  # where no window reaches
            unpool(slopes, dh)
            return self._back(dh, x, w, b)

        return batch_first(y), backprop

    def _finish(self, h: Array, bias: Array | None) -> None:
        """Add the bias to h (..., outputs, positions), and take the Relu, in place."""
        if bias is not None:
            np.add(h, bias, out=h)
        if self._relu:
            np.maximum(h, self._node.workspace.zeros(h.shape[-1], h.dtype), out=h)

    def _finished(self, dy: Array, y: Array | None, x: Array, w: Array, b: Array | None) -> Grads:
        """Return the gradients; y (outputs, *out, batch): what Relu gave, if there is one."""
        node, slopes = self._node, in_batch_last(self._node, dy)
        if y is None:
            return self._back(slopes, x, w, b)
        if self._from_slopes is not None:
            alive = np.greater(y, 0, out=node.workspace.array(y.shape, np.bool_))
            return self._back(np.multiply(slopes, alive, out=node.workspace.array(y.shape, node.dtype)), x, w, b)
        outputs, whole = y.reshape(*self._by_group, -1), slopes.reshape(*self._by_group, -1)
        room, mask = self._slopes, self._alive

        def of(tile: Tile) -> Array:
            part = outputs[tile.groups, :, tile.span]
            alive = np.greater(part, 0, out=mask[: part.size].reshape(part.shape))
            masked: Array = room[: part.size].reshape(part.shape)
            return np.multiply(whole[tile.groups, :, tile.span], alive, out=masked)

        return self._through(of, x, w, b)

    def _back(self, slopes: Array, x: Array, w: Array, b: Array | None) -> Grads:
        """Return the gradients, from those by the products (outputs, *out, batch)."""
        if self._from_slopes is not None:
            return self._from_slopes(slopes, x, w, b)
        whole = slopes.reshape(*self._by_group, -1)
        return self._through(lambda tile: whole[tile.groups, :, tile.span], x, w, b)

    def _through(self, slopes: Slopes, x: Array, w: Array, b: Array | None) -> Grads:
        """Return the gradients by input, weights and bias, tile by tile."""
        node, memory = self._node, self._node.workspace
        dx = memory.array(x.shape, node.dtype) if node.needs(0) else None
        dw = node.gradient(1, w.shape) if node.needs(1) else None
        db = node.gradient(2, b.shape) if b is not None and node.needs(2) else None
        weights = w.reshape(*self._by_group, -1).transpose(0, 2, 1)
        for tile in self._columns.tiles:
            dz = slopes(tile)
            if dw is not None:
                onto = dw.reshape(*self._by_group, -1)[tile.groups]
                add_product(node, tile, dz, tile.gather(x).transpose(0, 2, 1), onto)
            if db is not None:
                add_product(node, tile, dz, self._ones[: tile.width], db.reshape(*self._by_group, 1)[tile.groups])
            if dx is not None:
                tile.scatter(weights[tile.groups], dz, dx)
        return (None if dx is None else batch_first(dx), dw, db)
