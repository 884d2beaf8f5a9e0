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

from ..types import Array, Quality, Reading
from .facts import ChannelFacts

NEVER_NS = -(1 << 62)
LARGEST = 1e30  # no quantity is larger in any unit; devices send the largest float32 where they have no value


@dataclass
class Channel:
    """One row of the window, or the label. Times are ns of the source's clock, ticks those of the asset's grid."""

    waveform: bool
    index: int | None  # row of a two-dimensional block; None: the blocks have one dimension
    facts: ChannelFacts  # what became of its readings
    label: bool = False  # not a row: may be text
    pending: deque[tuple[int, float | str]] = field(default_factory=deque)  # scalar: (time, value)
    blocks: deque[tuple[int, Array]] = field(default_factory=deque)  # waveform: (tick of first sample, samples)
    value: float | str = math.nan
    time: int = NEVER_NS  # of `value`
    newest: int = NEVER_NS  # of the last reading
    next_tick: int | None = None  # waveform: tick after the last block
    alive: int = NEVER_NS  # until then unchanged, if not heard
    old: int | None = None  # the first time of a clock that has been set since, if one came after that
    ended: bool = False  # the connection was lost and the channel not heard since
    range: tuple[float, float] | None = None  # numbers outside of it are no values
    outside: int = 0  # how many there were

    def holds(self, number: float) -> bool:
        """Whether a number lies in the range; one that is none (NaN) is not judged here."""
        return self.range is None or not (number < self.range[0] or number > self.range[1])

    def end(self) -> None:
        """The connection was lost: what it delivered is known until it was last alive, and not beyond."""
        if not self.waveform and not self.ended and self.newest > 0:
            self.pending.append((max(self.newest, self.alive) + 1, math.nan))
            self.ended = True

    def resume(self, reading: Reading) -> None:
        """Bridge a lost connection: the new one sends the same value with the same time, so it did not change."""
        self.ended = False
        if self.pending and not known(self.pending[-1][1]):
            self.pending.pop()
        elif reading.quality is not Quality.BAD and isinstance(reading.value, (int, float, str)):
            self.pending.append((max(self.time, self.alive) + 1, reading.value))

    def leaps(self, now: int, limit: float) -> bool:
        """Whether a source that was alive all along is suddenly far ahead: its clock was set."""
        return self.alive > 0 and not self.ended and now - max(self.alive, self.newest) > limit

    def restart(self, now: int) -> None:
        """The clock was set to `now`. The value stays; most tags will not change because of it."""
        value = self.pending[-1][1] if self.pending else self.value
        self.pending.clear()
        self.blocks.clear()
        if known(value):
            self.pending.append((now, value))
        self.value, self.next_tick, self.ended = math.nan, None, False
        self.time = self.newest = self.alive = NEVER_NS
        self.old = None

    def carry(self, now: int, value: float | str) -> None:
        """A value of an earlier time is that of `now` (ns), and what came before it does not matter any more."""
        self.pending.clear()
        self.pending.append((now, value))

    def good_until(self, hold: float) -> float:
        """Until when (ns) the value now is good, if nothing newer comes."""
        if self.waveform or self.time < 0 or not known(self.value):
            return -math.inf
        return max(self.time, self.alive) + hold

    def take_until(self, now: float) -> bool:
        """Make the newest pending value of a time up to `now` (ns) the value; whether it is another than before."""
        before = self.value
        while self.pending and self.pending[0][0] <= now + 1:
            self.time, self.value = self.pending.popleft()
        return self.value != before

    def hold_values(self, out: Array, start: float, period: float, hold: float) -> None:
        """The value at each tick from `start` (ns), NaN where it is older than `hold` and not known to be unchanged."""
        i, n = 0, len(out)
        while i < n:
            self.take_until(start + i * period)
            following = math.ceil((self.pending[0][0] - 1 - start) / period) if self.pending else n
            stop = min(max(following, i + 1), n)
            until = (self.time if self.time > self.alive else self.alive) + hold
            good = stop
            if until < start + (stop - 1) * period:
                good = max(math.floor((until - start) / period) + 1, i)
                out[good:stop] = np.nan
            out[i:good] = self.value
            i = stop

    def copy_blocks(self, out: Array, tick: int) -> None:
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


def known(value: float | str) -> bool:
    """Whether it is a value, not NaN."""
    return isinstance(value, str) or not math.isnan(value)
