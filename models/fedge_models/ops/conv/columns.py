# SPDX-License-Identifier: Apache-2.0
"""The windows of a convolution as columns, tile by tile (im2col: Chellapilla et al. 2006), and their gradients back.

Values are (channels, *spatial, batch). A tile is some rows of the output (positions along its first axis) for some
groups of channels, as many as stay in the processor's cache: columns are copied in long runs, multiplied while they are
there, and never stored. The order of a column, channels before taps, is that of ONNX's weights: these are read, and
their gradient written, in place.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from ..geometry import Geometry
from ..layout import items
from ..operator import Array, Node
from ..taps import gaps, taps

TILE = 600_000  # values of a tile (measured: half of it costs 10 % more, four times 5 %, on 1 MiB of level-2 cache)
SHORT = 32  # values of a run, up to which copying it as one item is faster


class Tile:
    """Windows of some rows and some groups.

    `groups`: which of (groups, outputs / groups, positions); `span`: which of the positions.
    """

    def __init__(self, columns: Columns, groups: tuple[int, int], rows: tuple[int, int]) -> None:
        places, each, batch = columns.places, columns.each, columns.batch
        line = prod(places.out[1:]) * batch
        count, sizes = groups[1] - groups[0], (rows[1] - rows[0], *places.out[1:])
        self.groups, self.span = slice(*groups), slice(rows[0] * line, rows[1] * line)
        self.width = self.span.stop - self.span.start
        self._channels = slice(groups[0] * each, groups[1] * each)
        self._shape = (count, each * prod(places.kernel), self.width)
        self._room = columns.room
        self._parts: list[tuple[Any, Any]] = []  # for each tap, its place in the columns and the index of its values
        self._blank: list[Any] = []
        self._short = places.strides[-1] > 1 and batch <= SHORT
        if self._room is not None:
            self._lay_out(columns, rows, sizes)

    def _lay_out(self, columns: Columns, rows: tuple[int, int], sizes: tuple[int, ...]) -> None:
        """Find the places of each tap in the columns, and of what lies in the padding."""
        self._matrix = self._room[: prod(self._shape)].reshape(self._shape)
        whole = self._matrix.reshape(self._shape[0] * columns.each, -1, *sizes, columns.batch)
        by_tap = [whole[:, number] for number in range(whole.shape[1])]
        found = {tap.number: tap for tap in taps(columns.places, columns.spatial, rows)}
        self._parts = [(by_tap[n][tap.onto], (self._channels, *tap.source[1:])) for n, tap in found.items()]
        around = {n: gaps(tap, sizes) for n, tap in found.items()}
        self._blank = [part[index] for n, part in enumerate(by_tap) for index in around.get(n, [...])]
        self._fresh = columns.fresh(rows)

    def gather(self, values: Array) -> Array:
        """Return the windows of values (channels, *spatial, batch) as (groups, channels / group * taps, width)."""
        if self._room is None:
            flat = values.reshape(len(values), -1)[self._channels, self.span]
            return flat.reshape(self._shape)
        for part in self._blank:
            part.fill(0)
        for part, source in self._parts:
            if self._short:
                np.copyto(items(part), items(values[source]))
            else:
                np.copyto(part, values[source])
        return self._matrix

    def scatter(self, left: Array, right: Array, values: Array) -> None:
        """Add the product, gradients by the columns, to the gradients by the values (channels, *spatial, batch).

        Rows of the values that no tile before wrote to are set to 0 first.
        """
        if self._room is None:
            flat = values.reshape(len(values), -1)[self._channels, self.span]
            np.matmul(left, right, out=flat.reshape(self._shape))
            return
        if right.shape[1] == 1:  # one output a group: BLAS is slow at outer products
            np.multiply(left, right, out=self._matrix)
        else:
            np.matmul(left, right, out=self._matrix)
        values[self._channels, self._fresh].fill(0)
        for part, source in self._parts:
            onto = values[source]
            np.add(onto, part, out=onto)


class Columns:
    """The tiles of a convolution for one shape of values."""

    def __init__(
        self, node: Node, channels: int, spatial: tuple[int, ...], batch: int, group: int, places: Geometry
    ) -> None:
        self.places, self.spatial, self.batch, self.each = places, spatial, batch, channels // group
        once = set(places.kernel) | set(places.strides) == {1}
        direct = once and not any(places.before) and not any(places.after)
        row = self.each * prod(places.kernel) * prod(places.out[1:]) * batch
        rows = max(1, min(places.out[0], TILE // max(1, row)))
        self.groups = groups = max(1, min(group, TILE // max(1, row * rows)))
        self.room: Any = None if direct else node.workspace.scratch("columns", groups * row * rows, node.dtype)
        self.tiles = [
            Tile(self, (g, min(g + groups, group)), (r, min(r + rows, places.out[0])))
            for g in range(0, group, groups)
            for r in range(0, places.out[0], rows)
        ]

    def fresh(self, rows: tuple[int, int]) -> slice:
        """Return the rows of the values that windows of these rows reach, and windows of the rows before do not."""
        begin, end = (self._reach(n) for n in rows)
        return slice(begin, end if rows[1] < self.places.out[0] else self.spatial[0])

    def _reach(self, rows: int) -> int:
        """Return how many rows of the values the first windows reach."""
        kernel, stride, dilation, before = (part[0] for part in self.places[:4])
        reached = (rows - 1) * stride + (kernel - 1) * dilation + 1 - before
        return max(0, min(self.spatial[0], reached)) if rows else 0


def add_product(node: Node, tile: Tile, left: Array, right: Array, onto: Array) -> None:
    """Add left @ right to a gradient, or write it there from the first tile."""
    if not tile.span.start:
        np.matmul(left, right, out=onto)
        return
    part = node.workspace.scratch("part", onto.size, onto.dtype).reshape(onto.shape)
    np.add(onto, np.matmul(left, right, out=part), out=onto)
