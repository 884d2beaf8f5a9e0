# SPDX-License-Identifier: Apache-2.0
"""The grid of an asset's samples: tick k lies at origin + k periods. Pure.

Times are integers and the origin is one: a float of nanoseconds since 1970 is exact to 256 ns only, a hundredth of the
period at 50 kHz.
"""

from __future__ import annotations

import math
from fractions import Fraction

SLACK_NS = 1  # a time stamp is rounded to nanoseconds: at 3 Hz it may lie just beside its tick
SLACK = 1e-6  # of a period
MAX_DENOMINATOR = 10**6  # 0.01 Hz is a hundredth, and not the float next to it


class Grid:
    """Ticks of one rate. `origin`: time of tick 0, ns."""

    __slots__ = ("origin", "period")

    def __init__(self, origin: int, period: float) -> None:
        self.origin, self.period = origin, period

    @classmethod
    def from_time(cls, time_ns: int, rate_hz: float, period: float) -> Grid:
        """A grid whose first tick is the next whole multiple of the period since 1970."""
        num, den = Fraction(rate_hz).limit_denominator(MAX_DENOMINATOR).as_integer_ratio()
        ticks = -(-time_ns * num // (den * 10**9))
        return cls((ticks * den * 10**9 + num // 2) // num, period)

    def time(self, tick: int) -> int:
        """Time of a tick, ns."""
        return self.origin + round(tick * self.period)

    def last_until(self, time_ns: float) -> int:
        """The last tick at or before a time."""
        return math.floor((time_ns + SLACK_NS - self.origin) / self.period + SLACK)

    def first_from(self, time_ns: int) -> int:
        """The first tick at which a value of that time counts."""
        return math.ceil((time_ns - SLACK_NS - self.origin) / self.period)

    def nearest(self, time_ns: float) -> int:
        """The tick that is closest to a time."""
        return round((time_ns - self.origin) / self.period)
