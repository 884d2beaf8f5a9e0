# SPDX-License-Identifier: Apache-2.0
"""The times of a server's answers: their own, as long as that moves with the values. Pure; moments are monotonic s.

A time that is coarse, or that stands still while values change, goes on with the time that passed here, from the moment
when it was new. Where no value changes either, the answer is the one before: it may come out of a cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

STANDS_S = 2.0  # a time that is the same for longer while values change stands still; a shorter one is coarse
MOVES = 20  # answers in a row with a new time, until one that stood still is used again
BACK_NS = 1_000_000_000  # a time that goes back further was set back


class AnswerTime(NamedTuple):
    """When the values of an answer are of."""

    time_ns: int
    replaced: bool  # it is not the answer's own, as that stands still


class AnswerClock:
    """The answers of one address."""

    def __init__(self) -> None:
        self.stands = False  # its time stands still while values change
        self._stamp: int | None = None  # the answer's own time
        self._new = 0.0  # when that was new
        self._last = 0  # the time that was used
        self._values: tuple[object, ...] = ()
        self._moves = 0  # answers in a row with a new time

    def take(self, stamp_ns: int, values: Sequence[object], now: float) -> AnswerTime:
        """The time of an answer."""
        moved, other, self._values = stamp_ns != self._stamp, self._values != tuple(values), tuple(values)
        if moved:
            self._stamp, self._new, self._moves = stamp_ns, now, self._moves + 1
            self.stands = self.stands and self._moves < MOVES
            self._last = self._last + 1 if 0 <= self._last - stamp_ns < BACK_NS else stamp_ns
        elif other:
            passed = now - self._new
            self._moves, self.stands = 0, self.stands or passed > STANDS_S
            self._last = max(stamp_ns + round(passed * 1e9), self._last + 1)
        return AnswerTime(self._last, other and not moved and self.stands)
