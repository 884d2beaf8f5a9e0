# SPDX-License-Identifier: Apache-2.0
"""Whether a clock was set, or a time is wrong: what the readings of one channel say. Pure.

A reading whose time does not fit those before it waits as a doubt. A clock that was set is one step, after which no
reading has the old time: `MOST` doubts in a row that fit each other are the new clock. Where readings with the old time
come in between, two clocks write the same tag: then only a clear majority over a longer stretch is followed, and a
minority is wrong, however long it goes on. A new channel knows neither clock: the one that leads by `MOST` readings is
taken, and until then nothing is dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from ..types import Reading

MOST = 12  # readings in a row that speak against a clock
FEW = 6  # against one of which little is known
FEWEST = 2  # readings that are a clock where nothing is known of another
ENOUGH = 4  # readings that agree are a clock
HOLE = 8  # readings in a row, of which `ENOUGH` are a little ahead: some were missing
LONGER = 4  # times as many speak against a clock, once readings of two came in turns
MIXED = 2  # times that the old clock came back after doubts: two clocks come in turns
CALM = 64  # readings that agree without a doubt: they do so no more
RECOVERED = 2  # readings against that one for the clock makes up for
TURN = 0.75  # usual steps that a doubt takes the place of
TRIES = 8  # readings until doubts that are no clock are looked at again


class Votes:
    """What speaks against the clock as it is known, and the readings that do."""

    __slots__ = ("against", "calm", "doubts", "fits", "in_a_row", "mixed", "passed", "returns", "young")

    def __init__(self) -> None:
        self.returns = 0  # how often a clock that was left came back
        self.mixed = self.calm = 0  # how often doubts ended, and the readings since
        self.begin()

    def begin(self) -> None:
        """Another clock begins."""
        self.fits = 0  # readings that spoke for it
        self.against = 0  # how many more speak against it, or, in a new channel, for it (negative)
        self.in_a_row = 0  # doubts since the last reading that fits
        self.passed = 0  # ns that passed on the clock of those doubts
        self.young = True  # it does not lead by `MOST` yet
        self.doubts: list[Reading] = []

    @property
    def standing(self) -> int:
        """How much is known of the clock, at most `MOST`."""
        return min(MOST, self.fits)

    @property
    def sure(self) -> bool:
        """Whether nothing speaks against the clock, and nothing did for long."""
        return not (self.young or self.doubts or self.mixed or self.against)

    def agree(self) -> list[Reading]:
        """A reading fits. Returns the doubts that are wrong for certain by now."""
        self.fits += 1
        if self.in_a_row:
            self.mixed, self.calm, self.in_a_row, self.passed = min(MIXED, self.mixed + 1), 0, 0, 0
        elif self.mixed:
            self.calm += 1
            self.mixed = 0 if self.calm >= CALM else self.mixed
        if self.young:
            self.against -= 1
            if self.against > -MOST:
                return []
            self.young = False
        self.against = max(0, self.against - RECOVERED)
        return self.dismiss() if self.doubts and not self.against else []

    def restore(self) -> list[Reading]:
        """Something else says that the clock is as it was. Returns the doubts, which are wrong."""
        self.against, self.in_a_row, self.passed = min(0, self.against), 0, 0
        return self.dismiss()

    def dismiss(self) -> list[Reading]:
        """Return the doubts, and have none."""
        doubts, self.doubts = self.doubts, []
        return doubts

    def doubt(self, reading: Reading, step: float) -> Reading | None:
        """A reading does not fit. Returns the doubt that waited longest, if there are too many.

        step: as far apart, ns, two times of one clock are at most.
        """
        if self.in_a_row and self.doubts and 0 < (passed := reading.time_ns - self.doubts[-1].time_ns) <= step:
            self.passed += passed
        self.against = min(self._in_turns, self.against + 1)
        self.in_a_row += 1
        self.doubts.append(reading)
        most = self._in_turns if self.mixed or self.young or self.returns > 1 else MOST
        return self.doubts.pop(0) if len(self.doubts) > most + ENOUGH else None

    def elapsed(self, time_ns: int, usual: float, step: float) -> float:
        """How much time passed for the known clock, ns, while only another one's readings came; 0 if this time goes on
        with those. usual: step between two readings; step: the longest."""
        if not (self.in_a_row and self.doubts) or 0 < time_ns - self.doubts[-1].time_ns <= step:
            return 0.0
        return max(self.passed, TURN * usual * self.in_a_row)

    def new_clock(self, newest_ns: int, reach: float, near: float = 0.0) -> list[Reading]:
        """The doubts that are a new clock; [] while they are none.

        newest_ns: of the known one; reach: between two readings; near: so little ahead, readings were only missing.
        """
        if near and self.mixed < MIXED and self.in_a_row >= HOLE:
            ahead = newest_ns + 1.5 * near
            found = longest_run([r for r in self.doubts if newest_ns < r.time_ns <= ahead], near)
            if len(found) >= ENOUGH and found[0].time_ns <= newest_ns + near:
                return self._in_order(found, newest_ns)
        if not self._is_refuted():
            return []
        found = longest_run(self.doubts, reach)
        if len(found) >= max(FEWEST, min(ENOUGH, self.standing + 1)) and self._prevails(len(found)):
            return self._in_order(found, newest_ns)
        times = [newest_ns, *(r.time_ns for r in self.doubts)]  # rows far apart, as of parts: each is a hole
        apart = len(self.doubts) >= MOST and all(a < b for a, b in pairwise(times))
        return list(self.doubts) if apart else []

    def _is_refuted(self) -> bool:
        """Whether enough speaks against the clock."""
        if self.mixed < MIXED:
            return self.in_a_row >= self._in_one
        return self.against >= (MOST if self.young else self._in_turns)

    @property
    def _in_one(self) -> int:
        """Doubts in a row that are enough: more of them once clocks that were left come back again and again."""
        return MOST * LONGER ** min(2, self.returns - 1) if self.returns > 1 else max(FEW, self.standing)

    @property
    def _in_turns(self) -> int:
        """How many more readings speak against the clock than for it, where two clocks come in turns."""
        return max(LONGER * MOST, self._in_one)

    def _prevails(self, count: int) -> bool:
        """Whether so many of the doubts, which agree, are the clock of the majority."""
        if self.mixed < MIXED:
            return self.in_a_row >= MOST or 6 * count >= 5 * self.in_a_row
        if self.young and count - self.fits >= MOST:
            return True
        share = 2 / 4 if self.in_a_row >= LONGER * MOST else 3 / 4  # nothing fits the old clock any more
        if count >= share * len(self.doubts):
            return True
        self.against -= 2 if self.young else TRIES
        return False

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
