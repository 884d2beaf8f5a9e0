# SPDX-License-Identifier: Apache-2.0
"""Fill the ticks of a grid with what the channels hold, and cut windows out of them. Pure.

It leaves to `assembler` which ticks may be filled, and which grid they are of.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..types import Values
from .channel import Channel, known
from .grid import Grid


class Cut(NamedTuple):
    """A window."""

    end_ns: int
    values: Values  # (channels, length)
    missing: float  # share of the values that are NaN
    label: float | str | tuple[float, ...] | None


class Cutter:
    """The ticks of one asset. tick: the next one of the grid; filled: how many there are since the grid began."""

    __slots__ = ("_at", "_buffer", "_hold", "_hop", "_label_run", "_labels", "_length", "_measured", "_rows", "filled",
                 "tick")  # fmt: skip

    def __init__(
        self, rows: Sequence[Channel], labels: Sequence[Channel], length: int, hop: int, hold_ns: int, measured: bool
    ) -> None:
        self._rows, self._labels, self._length, self._hop = rows, labels, length, hop
        self._hold, self._measured = hold_ns, measured
        self._buffer: Values = np.empty((len(rows), 4 * max(length, hop)))
        self.restart()

    def restart(self) -> None:
        """Begin with another grid."""
        self.tick = self.filled = self._at = self._label_run = 0

    def skip_to(self, tick: int) -> None:
        """Begin a window at this tick; those before are of none."""
        self.tick, self.filled = tick, 0

    def to_next(self) -> int:
        """Ticks that the next window lacks."""
        done = self.filled - self._length
        return -done if done < 0 else self._hop - done % self._hop

    def fill(self, grid: Grid, most: int) -> Cut | None:
        """Write the next ticks of every channel, `most` or as many as the next window lacks; that one if it is
        complete."""
        lacking = self.to_next()
        self._write(grid, min(lacking, most))
        return self._cut(grid) if most >= lacking else None

    def _write(self, grid: Grid, count: int) -> None:
        if self._at + count > self._buffer.shape[1]:
            keep = min(self._at, self._length - 1)
            self._buffer[:, :keep] = self._buffer[:, self._at - keep : self._at].copy()
            self._at = keep
        for row, channel in enumerate(self._rows):
            out = self._buffer[row, self._at : self._at + count]
            if channel.waveform:
                channel.copy_blocks(out, self.tick)
            else:
                channel.hold_values(out, grid, self.tick, self._hold)
        if self._labels:
            self._follow_labels(grid, count)
        self._at += count
        self.tick += count
        self.filled += count

    def _follow_labels(self, grid: Grid, count: int) -> None:
        """Advance the labels tick by tick, counting for how many all have been the same."""
        for i in range(count):
            changed = [label.take_until(grid, self.tick + i) for label in self._labels]
            self._label_run = 1 if any(changed) else self._label_run + 1

    def _cut(self, grid: Grid) -> Cut:
        values = self._buffer[:, self._at - self._length : self._at].copy()
        missing = int(np.count_nonzero(np.isnan(values))) / values.size
        return Cut(grid.time(self.tick - 1), values, missing, self._label())

    def _label(self) -> float | str | tuple[float, ...] | None:
        """What is known of the newest window; of several values each may be NaN."""
        if len(self._labels) > 1 and not self._measured and self._label_run < self._length:
            return None
        if len(self._labels) > 1:
            return tuple(c.value if isinstance(c.value, float) else math.nan for c in self._labels)
        if self._labels and (self._measured or self._label_run >= self._length) and known(self._labels[0].value):
            return self._labels[0].value
        return None
