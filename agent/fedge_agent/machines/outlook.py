# SPDX-License-Identifier: Apache-2.0
"""Forecast when a machine reaches an alarm level: the soonest of its targets' trends. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from fedge_models.graph.card import Target

from .trend import Trend

HOURS = ("h", "hr", "hour", "hours")

Bounds = Mapping[str, tuple[float, float]]


class Left(NamedTuple):
    """Hours to the alarm level: as expected, and at least (both from the end of the window)."""

    hours: float
    at_least: float


class Outlook:
    """The forecast for one asset. A target in hours with a lower alarm level is the remaining time itself; of other
    targets the trend is followed."""

    def __init__(self, targets: Iterable[Target], hours: float, confidence: float) -> None:
        self._targets = [t for t in targets if t.alarm_below is not None or t.alarm_above is not None]
        self._trends = {t.name: Trend(hours, confidence) for t in self._targets if not _is_time(t)}

    def restart(self, history: Iterable[tuple[int, Mapping[str, float]]]) -> None:
        """Begin with another model's estimates of the same history: (time in ns, estimates), oldest first."""
        past = list(history)
        for name, trend in self._trends.items():
            trend.restart((time_ns, values[name]) for time_ns, values in past)

    def update(self, time_ns: int, values: Mapping[str, float], bounds: Bounds) -> Left | None:
        """Add an estimate; when the first target reaches its alarm level, None if no target approaches it."""
        for name, trend in self._trends.items():
            trend.add(time_ns, values[name])
        found = [left for t in self._targets if (left := self._left(time_ns, t, values[t.name], bounds)) is not None]
        return min(found, key=lambda left: left.at_least) if found else None

    def _left(self, now_ns: int, target: Target, value: float, known: Bounds) -> Left | None:
        bounds = known.get(target.name)
        if _is_time(target):
            return None if bounds is None else Left(max(0.0, value), max(0.0, bounds[0]))
        falling = target.alarm_below is not None
        limit = target.alarm_below if falling else target.alarm_above
        assert limit is not None
        margin = 0.0 if bounds is None else max(0.0, value - bounds[0] if falling else bounds[1] - value)
        until = self._trends[target.name].hours_until(now_ns, limit, falling, margin)
        return None if until is None else Left(*until)


def _is_time(target: Target) -> bool:
    return target.unit.lower() in HOURS and target.alarm_below is not None
