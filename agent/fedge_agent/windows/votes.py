# SPDX-License-Identifier: Apache-2.0
"""Whether a clock was set, or a time is wrong: what the readings of one channel say. Pure.

A reading whose time does not fit those before it waits as a doubt. One that fits speaks for the clock as it is known,
one that does not speaks against it. Once nothing is left for the known clock, the longest run of doubts that fit each
other is the new one. So a few wrong times change nothing, even if they are wrong by the same, and a clock that was set
is followed after `MOST` readings at the latest.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from ..types import Reading

MOST = 12  # readings that speak against a clock that was right for long
KEPT = 16  # doubts that wait
FEW = 3  # readings that speak against a clock of which little is known
FEWEST = 2  # readings that are a clock where nothing is known of another
ENOUGH = 4  # readings that agree are a clock
RECOVERED = 2  # readings against that one for the clock makes up for


class Votes:
    """What speaks for the clock as it is known, and the readings that speak against it."""

    __slots__ = ("doubts", "level", "standing")

    def __init__(self) -> None:
        self.standing = self.level = 0  # readings that ever spoke for it, and what is left of them; at most `MOST`
        self.doubts: list[Reading] = []

    @property
    def most(self) -> int:
        """What speaks for the clock while nothing speaks against it."""
        return max(FEW, self.standing)

    def agree(self) -> list[Reading]:
        """A reading fits. Returns the doubts that are wrong for certain by now."""
        self.standing = min(MOST, self.standing + 1)
        self.level = min(self.most, self.level + RECOVERED) if self.standing > 1 else FEW
        return self.dismiss() if self.doubts and self.level == self.most else []

    def restore(self) -> list[Reading]:
        """Something else says that the clock is as it was. Returns the doubts, which are wrong."""
        self.level = self.most
        return self.dismiss()

    def dismiss(self) -> list[Reading]:
        """Return the doubts, and have none."""
        doubts, self.doubts = self.doubts, []
        return doubts

    def doubt(self, reading: Reading) -> Reading | None:
        """A reading does not fit. Returns the doubt that waited longest, if there are too many."""
        self.level = max(0, self.level - 1)
        self.doubts.append(reading)
        return self.doubts.pop(0) if len(self.doubts) > KEPT else None

    def new_clock(self, newest_ns: int, reach: float, near: float = 0.0) -> list[Reading]:
        """The doubts that are a new clock; [] while they are none.

        newest_ns: of the known one; reach: between two readings; near: so little ahead, readings were only missing.
        """
        if near and len(self.doubts) >= ENOUGH:
            ahead = newest_ns + 1.5 * near
            found = longest_run([r for r in self.doubts if newest_ns < r.time_ns <= ahead], near)
            if len(found) >= ENOUGH and found[0].time_ns <= newest_ns + near:
                return self._in_order(found, newest_ns)
        if self.level:
            return []
        found = longest_run(self.doubts, reach)
        if len(found) >= max(FEWEST, min(ENOUGH, self.standing + 1)):
            return self._in_order(found, newest_ns)
        times = [newest_ns, *(r.time_ns for r in self.doubts)]  # rows far apart, as of parts: each is a hole
        apart = len(self.doubts) >= MOST and all(a < b for a, b in pairwise(times))
        return list(self.doubts) if apart else []

    def _in_order(self, clock: Sequence[Reading], newest_ns: int) -> list[Reading]:
        """A new clock with the doubts before and between whose times are in the order in which they came: they were
        only far apart."""
        found, rest, last = list[Reading](), list(clock), newest_ns
        for reading in self.doubts:
            if not rest:
                break
            if reading is rest[0] or last < reading.time_ns < rest[0].time_ns:
                found.append(reading)
                last = reading.time_ns
            if reading is rest[0]:
                rest.pop(0)
        return found

    def begin(self) -> None:
        """Another clock begins."""
        self.standing = self.level = 0
        self.doubts = []


def longest_run(readings: Sequence[Reading], reach: float) -> list[Reading]:
    """The most readings of which each is later than the one before, by `reach` ns at most; of equals the last."""
    length, before = [1] * len(readings), [-1] * len(readings)
    for i, reading in enumerate(readings):
        for j in range(i):
            if 0 < reading.time_ns - readings[j].time_ns <= reach and length[j] >= length[i]:
                length[i], before[i] = length[j] + 1, j
    at = max(range(len(readings)), key=lambda i: (length[i], i), default=-1)
    run: list[Reading] = []
    while at >= 0:
        run.append(readings[at])
        at = before[at]
    return run[::-1]
