# SPDX-License-Identifier: Apache-2.0
"""Which time a picture has: its own, or, where that does not fit those before it, that of its arrival. Pure.

A picture is never dropped. One whose time does not fit waits for the next pictures, which say whether it was wrong or
the clock was set (`votes`), but no longer than `WAIT_NS`: then it is given out as of now, and only its time waits on.
"""

from __future__ import annotations

from ..types import Reading, Window
from .channel import NEVER_NS
from .facts import ChannelFacts
from .votes import Votes

LEAP_NS = 60_000_000_000  # a time that is further away may be wrong
STEPS = 4  # usual steps between two pictures that are no surprise
SMOOTH = 8  # steps over which the usual one is averaged
WAIT_NS = 2_000_000_000  # monotonic; a folder that is read in one go says more within it
MAX_HELD = 16  # pictures that wait


class PictureClock:
    """The times of one channel's pictures."""

    def __init__(self, facts: ChannelFacts) -> None:
        self.newest = NEVER_NS
        self.implausible = self.jumps = 0  # times that were wrong; how often the clock was set
        self._facts, self._votes = facts, Votes()
        self._usual, self._came_ns, self._given_ns = 0.0, 0, NEVER_NS
        self._held: list[tuple[Reading, Window]] = []  # oldest first

    def take(self, window: Window) -> list[tuple[Window, bool]]:
        """Take a picture; those to decide on now, in their order, and whether the time of each is its own."""
        time, now = window.end_ns, window.received_ns
        reading = Reading("", time, 0.0)
        if self._fits(time, now):
            given = [found for wrong in self._votes.agree() for found in self._dismiss(wrong, now)]
            self._advance(time, now)
            return [*given, (window, True)]
        self._held.append((reading, window))
        forgotten = self._votes.doubt(reading, self._step)
        given = self._dismiss(forgotten, now) if forgotten else []
        run = self._votes.new_clock(self.newest, self._step)
        if run:
            given += self._follow(run[0].time_ns, run[-1].time_ns, now)
        return given + self.overdue(now)

    def overdue(self, now: int, all_of_them: bool = False) -> list[tuple[Window, bool]]:
        """The pictures that waited long enough, as of now; now: monotonic ns."""
        given = []
        while self._held and (
            all_of_them or len(self._held) > MAX_HELD or now - self._held[0][1].received_ns >= WAIT_NS
        ):
            given.append((self._as_of_now(self._held.pop(0)[1], now), False))
        return given

    @property
    def _step(self) -> float:
        """How far a time may be ahead of the one before."""
        return max(LEAP_NS, STEPS * self._usual)

    def _fits(self, time: int, now: int) -> bool:
        """Whether a time may be of the clock as it is known: what passed here explains one that is as far ahead."""
        if self.newest == NEVER_NS:
            return True
        since = now - self._came_ns
        ahead = time - self.newest
        return -LEAP_NS <= ahead <= self._step + max(since, self._votes.elapsed(time, self._usual, self._step))

    def _advance(self, time: int, now: int) -> None:
        if self.newest != NEVER_NS and time > self.newest:
            step = time - self.newest
            self._usual += (step - self._usual) / SMOOTH if self._usual else step
        if time > self.newest:
            self.newest, self._came_ns = time, now

    def _follow(self, first: int, last: int, now: int) -> list[tuple[Window, bool]]:
        """The clock was set, or nothing was seen for long: the doubts between two times have their own times."""
        given: list[tuple[Window, bool]] = []
        doubts = self._votes.dismiss()
        fitting = [r for r in doubts if first - LEAP_NS <= r.time_ns <= last]
        for wrong in [r for r in doubts if r not in fitting]:
            given += self._dismiss(wrong, now)
        if first <= self.newest:
            self.jumps, self.newest, self._given_ns = self.jumps + 1, NEVER_NS, NEVER_NS
        self._votes.begin()
        for reading in fitting:
            self._votes.agree()
            self._advance(reading.time_ns, now)
            given += [(window._replace(received_ns=now), True) for window in self._release(reading)]
        return given

    def _dismiss(self, wrong: Reading, now: int) -> list[tuple[Window, bool]]:
        """A time was wrong: its picture, unless that was given out before, is one of now."""
        self.implausible += 1
        self._facts.note_implausible(wrong.time_ns, self.newest)
        return [(self._as_of_now(window, now), False) for window in self._release(wrong)]

    def _release(self, reading: Reading) -> list[Window]:
        """Take a picture out of those that wait; [] if it was given out before."""
        found = [window for held, window in self._held if held is reading]
        self._held = [(held, window) for held, window in self._held if held is not reading]
        return found

    def _as_of_now(self, window: Window, now: int) -> Window:
        """The picture with the time at which it came, which no other one has."""
        since = max(0, window.received_ns - self._came_ns)
        self._given_ns = 1 + max(self.newest + since, self._given_ns)
        return window._replace(end_ns=self._given_ns, received_ns=now)
