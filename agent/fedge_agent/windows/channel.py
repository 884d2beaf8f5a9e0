# SPDX-License-Identifier: Apache-2.0
"""One channel of an asset: its pending readings and its present value. Pure.

A scalar channel holds its value from reading to reading; a waveform channel joins blocks of samples. What is known of a
channel ends when its source's connection does, and begins again with the next one's first reading.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

import numpy as np

from ..types import Quality, Reading, Values
from .facts import ChannelFacts
from .grid import Grid
from .votes import Votes

NEVER_NS = -(1 << 62)
LARGEST = 1e30  # no quantity is larger in any unit; devices send the largest float32 where they have no value


@dataclass
class Channel:
    """One row of the window, or the label. Times are ns of the source's clock, ticks those of the asset's grid."""

    waveform: bool
    index: int | None  # row of a two-dimensional block; None: the blocks have one dimension
    facts: ChannelFacts
    label: bool = False  # not a row: may be text
    pending: deque[tuple[int, float | str]] = field(default_factory=deque)  # scalar: (time, value)
    blocks: deque[tuple[int, Values]] = field(default_factory=deque)  # waveform: (tick of first sample, samples)
    value: float | str = math.nan
    time: int = NEVER_NS  # of `value`
    newest: int = NEVER_NS  # of the last reading
    next_tick: int | None = None  # waveform: tick after the last block
    alive: int = NEVER_NS  # until then unchanged, if not heard
    ended: bool = False  # the connection was lost and the channel not heard since
    votes: Votes = field(default_factory=Votes)  # whether its times fit
    agreed: int = 0  # the batch in which one last did, since some did not
    trusted: bool = False  # its times have fitted for long, all of them
    range: tuple[float, float] | None = None  # numbers outside of it are no values
    outside: int = 0  # how many there were

    def holds(self, number: float) -> bool:
        """Whether a number lies in the range; one that is none (NaN) is not judged here."""
        return holds(self.range, number)

    def end(self) -> None:
        """The connection was lost: what it delivered is known until it was last alive, and not beyond."""
        if not self.waveform and not self.ended and self.newest > NEVER_NS:
            self.pending.append((max(self.newest, self.alive) + 1, math.nan))
            self.ended = True

    def resume(self, reading: Reading) -> None:
        """Bridge a lost connection: the new one sends the same value with the same time, so it did not change."""
        self.ended = False
        if self.pending and not known(self.pending[-1][1]):
            self.pending.pop()
        elif reading.quality is not Quality.BAD and isinstance(reading.value, (int, float, str)):
            self.pending.append((max(self.time, self.alive) + 1, reading.value))

    def put(self, time_ns: int, value: float | str, passed: bool = False) -> None:
        """Add a value. passed: the grid is beyond it, so that of those before it none counts any more."""
        if passed:
            self.pending.clear()
        self.pending.append((time_ns, value))

    def restart(self, now: int, good: bool) -> None:
        """The clock was set to `now`. A value that was good stays; most tags will not change because of it."""
        value = self.pending[-1][1] if self.pending else self.value
        self.pending.clear()
        self.blocks.clear()
        if good and known(value):
            self.pending.append((now, value))
        self.value, self.next_tick, self.ended = math.nan, None, False
        self.votes.begin()
        self.trusted = False
        self.time = self.newest = self.alive = NEVER_NS

    def good_until(self, hold: float) -> float:
        """Until when (ns) the newest value is good, if nothing newer comes."""
        time, value = self.pending[-1] if self.pending else (self.time, self.value)
        return max(time, self.alive) + hold if known(value) and not self.waveform else -math.inf

    def take_until(self, grid: Grid, tick: int) -> bool:
        """Make the newest pending value that counts at a tick the value; whether it is another than before."""
        before = self.value
        while self.pending and grid.first_from(self.pending[0][0]) <= tick:
            self.time, self.value = self.pending.popleft()
        return self.value != before

    def hold_values(self, out: Values, grid: Grid, tick: int, hold: float) -> None:
        """The value at each tick from `tick`, NaN where it is older than `hold` and not known to be unchanged."""
        i, n = 0, len(out)
        while i < n:
            self.take_until(grid, tick + i)
            following = grid.first_from(self.pending[0][0]) - tick if self.pending else n
            stop = good = min(following, n)
            until = grid.last_until((self.time if self.time > self.alive else self.alive) + hold) - tick
            if until < stop - 1:
                good = max(until + 1, i)
                out[good:stop] = np.nan
            out[i:good] = self.value
            i = stop

    def copy_blocks(self, out: Values, tick: int) -> None:
        """Samples of the blocks that cover ticks from `tick`; NaN between them."""
        out.fill(np.nan)
        end = tick + len(out)
        while self.blocks:
            first, block = self.blocks[0]
            low, high = max(first, tick), min(first + len(block), end)
            if low < high:
                out[low - tick : high - tick] = block[low - first : high - first]
            if first + len(block) > end:
                return
            self.blocks.popleft()


def unnoted(_: float | str) -> None:
    """Note no label."""


def known(value: float | str) -> bool:
    """Whether it is a value, not NaN."""
    return isinstance(value, str) or not math.isnan(value)


def holds(span: tuple[float, float] | None, number: float) -> bool:
    """Whether a range holds a number; without a range any, and NaN is not judged here."""
    return span is None or not (number < span[0] or number > span[1])
