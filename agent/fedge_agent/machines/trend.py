# SPDX-License-Identifier: Apache-2.0
"""Forecast when an estimate reaches its alarm level, from its recent trend. Pure; the time is that of the decisions.

A straight line through the means of equal spans of time, by Theil and Sen: a third of them may be outliers. Its
confidence interval comes from the ranks of all slopes (Sen 1968, "Estimates of the Regression Coefficient Based on
Kendall's Tau", JASA 63). Spans that depend on each other make it too narrow, so it is a bound under that assumption.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

HOUR_NS = 3600 * 10**9
SPANS = 96  # most points of the line
LEAST = 12  # fewer points give no forecast


class Line(NamedTuple):
    """slope, low and high per hour; level at hour `at`."""

    slope: float
    low: float
    high: float
    level: float
    at: float


class Trend:
    """The course of one quantity over `hours` hours, in SPANS means."""

    def __init__(self, hours: float, confidence: float) -> None:
        from statistics import NormalDist  # a megabyte, only for models with a trend

        self._width, self._z = hours / SPANS, NormalDist().inv_cdf((1 + confidence) / 2)
        self._means: deque[tuple[float, float]] = deque(maxlen=SPANS)
        self._sum = self._count = 0.0
        self._span: int | None = None
        self.line: Line | None = None  # None: not enough is known

    def restart(self, history: Iterable[tuple[int, float]]) -> None:
        """Begin again with (time in ns, value), oldest first: another model's estimates of the same history."""
        self._means.clear()
        self._span, self.line = None, None
        for time_ns, value in history:
            self.add(time_ns, value)

    def add(self, time_ns: int, value: float) -> None:
        """Add an estimate; one that is older than the newest span is left out."""
        span = int(time_ns / HOUR_NS // self._width)
        if self._span is not None and span < self._span:
            return
        if span != self._span:
            self._close()
            self._span, self._sum, self._count = span, 0.0, 0
        self._sum, self._count = self._sum + value, self._count + 1

    def hours_until(self, now_ns: int, limit: float, falling: bool, margin: float = 0.0) -> tuple[float, float] | None:
        """(expected hours, least hours) from now to `limit`; None when the trend does not lead there.

        margin: how much nearer to the limit the truth may be than the estimates.
        """
        if self.line is None:
            return None
        sign = -1.0 if falling else 1.0
        distance = sign * (limit - self.line.level)
        slowest, fastest = sorted((sign * self.line.low, sign * self.line.high))
        if distance <= 0:
            return 0.0, 0.0
        if slowest <= 0:  # the trend may be flat
            return None
        since = now_ns / HOUR_NS - self.line.at
        return max(0.0, distance / (sign * self.line.slope) - since), max(0.0, (distance - margin) / fastest - since)

    def _close(self) -> None:
        if self._span is None:
            return
        self._means.append(((self._span + 0.5) * self._width, self._sum / self._count))
        oldest = self._means[-1][0] - SPANS * self._width
        while self._means[0][0] < oldest:
            self._means.popleft()
        self.line = theil_sen(np.array(self._means), self._z) if len(self._means) >= LEAST else None


def theil_sen(points: np.ndarray, z: float) -> Line:
    """The line through points (n, 2) of time and value, with the slopes z standard deviations of Kendall's S away."""
    t, v = points[:, 0], points[:, 1]
    first, second = np.triu_indices(len(t), 1)
    slopes = np.sort((v[second] - v[first]) / (t[second] - t[first]))
    n, pairs = len(t), len(slopes)
    reach = z * math.sqrt(n * (n - 1) * (2 * n + 5) / 18)
    low, high = math.floor((pairs - reach) / 2), math.ceil((pairs + reach) / 2)
    slope, at = float(np.median(slopes)), float(t[-1])
    level = float(np.median(v - slope * (t - at)))
    return Line(slope, float(slopes[max(0, low)]), float(slopes[min(pairs - 1, high)]), level, at)
