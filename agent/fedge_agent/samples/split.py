# SPDX-License-Identifier: Apache-2.0
"""Which part of time is held back for evaluation while there are no whole units to hold back (`units`). Pure.

Whole blocks of time are held back, and a window that straddles two parts belongs to neither, so that overlapping
windows never sit on both sides.
"""

from __future__ import annotations

from typing import NamedTuple


class Split(NamedTuple):
    """Every `every`-th block of `block_ns` is held back."""

    block_ns: int
    every: int

    def held(self, start_ns: int, end_ns: int) -> bool | None:
        """Whether the window from start to end is held back; None when it straddles both parts."""
        first = start_ns // self.block_ns % self.every == self.every - 1
        last = end_ns // self.block_ns % self.every == self.every - 1
        return first if first == last else None


def split(rate_hz: float, length: int, hop: int, holdout: float) -> Split:
    """Blocks of twenty windows' worth of time, and never shorter than four windows; holdout: fraction held back."""
    samples = max(20 * hop, 4 * length)
    return Split(round(samples / rate_hz * 1e9), max(2, round(1 / holdout)) if holdout > 0 else 1 << 60)
