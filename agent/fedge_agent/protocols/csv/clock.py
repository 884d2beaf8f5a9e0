# SPDX-License-Identifier: Apache-2.0
"""The times of a table's rows: ISO 8601, Unix time, formats, day numbers of Excel and WinCC, in a time zone.

The hour that a zone repeats in autumn is told apart by the order of the rows, and counted; an hour that it leaves out
in spring is no time. Pure but for what was read before.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timedelta, timezone, tzinfo

from fedge_models.system import times

from .form import TableForm
from .numbers import exact, reader
from .strptime import SECOND_NS, Format

PLAUSIBLE_NS = 631_152_000 * SECOND_NS  # 1990: the times of a table are later, unless its writer's clock is wrong
SPAN_S = 900  # the offset of a zone changes at full quarters of an hour only
HOUR_NS = 3600 * SECOND_NS
MILLISECOND_NS = 10**6  # as exact as day numbers are
_DAY_ZERO = {"excel": -25_569, "excel-1904": -24_107, "matlab": -719_529}  # days from 1970 to day 0
_WINCC = 10**6  # day numbers are written times a million
_UNITS: dict[str, times.Unit] = {
    **{"unix": "s", "unix-ms": "ms", "unix-us": "us", "unix-ns": "ns"},
    **{"labview": "labview", "since-2000": "since-2000", "since-2001": "since-2001", "filetime": "filetime"},
}
_TICK_NS, _TICKS_NS = times.COUNTS["ticks"]
OFFSET = re.compile(r"(?:[Zz]| UTC| GMT|[+-]\d\d(?::?\d\d(?::?\d\d)?)?)$")
_DATE = 10  # characters of an ISO date


class MissingHourError(ValueError):
    """A time that the zone's clocks jump over in spring."""


class Zone:
    """Local times to UTC, in order."""

    def __init__(self, zone: tzinfo, name: str) -> None:
        self._zone, self._name = zone, name
        self._span, self._first, self._second = -1, 0, 0  # offsets in this quarter of an hour
        self.repeated = 0  # local times that stood for two moments

    def utc(self, local_ns: int, last: int | None, step: int) -> int:
        """The moment of a local time. last: of the row before; step: between the last two. Raises ValueError."""
        span = local_ns // (SPAN_S * SECOND_NS)
        if span != self._span:
            self._first, self._second = self._offsets(span)
            self._span = span
        if self._first == self._second:
            return local_ns - self._first
        if self._first < self._second:
            raise MissingHourError(
                f"{times.shown(local_ns)} does not exist in {self._name}: clocks go forward there. "
                'If the writer\'s clock does not, say its offset, e.g. time_zone = "+01:00"'
            )
        self.repeated += 1
        return _nearest(local_ns - self._first, local_ns - self._second, last, step)

    def _offsets(self, span: int) -> tuple[int, int]:
        """The offsets of the first and of the second moment with this local time, ns."""
        try:
            local = datetime(1970, 1, 1) + timedelta(seconds=span * SPAN_S)
            found = [local.replace(tzinfo=self._zone, fold=fold).utcoffset() for fold in (0, 1)]
        except OverflowError:
            raise times.OutOfRangeError(f"it lies outside of {times.years()}") from None
        first, second = ((offset or timedelta()) // timedelta(microseconds=1) * 1000 for offset in found)
        return first, second


def _nearest(first: int, second: int, last: int | None, step: int) -> int:
    """Which of two moments follows the last row's: the one that continues it."""
    if last is None:
        return first
    if first == last:  # rows of an hour's distance repeat the time itself
        return second if step >= HOUR_NS // 2 else first
    return second if abs(second - last) <= abs(first - last) else first


class Clock:
    """The times of one file's rows; of one tag's, in a table with a row a value."""

    def __init__(self, form: TableForm) -> None:
        self._number = reader(form)
        self._zone = Zone(times.find_zone(form.time_zone), form.time_zone)
        self._fixed = form.time_zone == "UTC" or isinstance(times.find_zone(form.time_zone), timezone)
        self._zone_of_day = times.find_zone(form.time_zone)
        self._read: Callable[[str, int | None, int], int] = self._reader(form.time_format)
        self._last: dict[str, tuple[int, int]] = {}  # tag -> its newest time, and the step before it

    @property
    def repeated(self) -> int:
        """Local times that stood for two moments."""
        return self._zone.repeated

    def parse(self, cell: str, tag: str = "") -> int:
        """Nanoseconds since 1970 of a cell; elapsed: since the recording's beginning. Raises ValueError in words."""
        last, step = self._last.get(tag, (None, 0))
        try:
            found = self._read(cell, last, step)
        except times.OutOfRangeError as e:
            if "time_format" in str(e):
                raise
            raise times.OutOfRangeError(f"{e}; say another time_format, or set the writer's clock") from e
        if last is None or found != last:
            self._last[tag] = (found, abs(found - last) if last is not None else 0)
        return found

    def _reader(self, name: str) -> Callable[[str, int | None, int], int]:
        if name in _UNITS:
            unit = _UNITS[name]
            return lambda cell, last, step: times.parse(self._exact(cell), unit)
        if name == "elapsed":
            return lambda cell, last, step: round(self._exact(cell) * SECOND_NS)
        if name in _DAY_ZERO or name == "wincc":
            return self._day_reader(name)
        if name == "ticks":
            return lambda cell, last, step: self._utc(round(self._exact(cell)) * _TICK_NS - _TICKS_NS, last, step, cell)
        return self._formatted(Format(name)) if name else self._any

    def _exact(self, cell: str) -> float:
        found = exact(cell, self._number)
        if found is None:
            raise ValueError(f"{cell[:60]!r} is not a number")
        return found

    def _day_reader(self, name: str) -> Callable[[str, int | None, int], int]:
        zero, scale = _DAY_ZERO.get(name, _DAY_ZERO["excel"]), _WINCC if name == "wincc" else 1

        def read(cell: str, last: int | None, step: int) -> int:
            days = self._exact(cell) / scale + zero
            if not times.is_sensible(round(days * times.DAY_NS)):
                raise times.OutOfRangeError(f"{cell[:60]!r} is no day number of {times.years()}")
            return self._utc(round(days * times.DAY_NS / MILLISECOND_NS) * MILLISECOND_NS, last, step, cell)

        return read

    def _formatted(self, made: Format) -> Callable[[str, int | None, int], int]:
        def read(cell: str, last: int | None, step: int) -> int:
            local, offset = made.parse(cell)
            return self._utc(local, last, step, cell) if offset is None else times.in_range(local - offset, cell)

        return read

    def _utc(self, local_ns: int, last: int | None, step: int, cell: str) -> int:
        return times.in_range(self._zone.utc(local_ns, last, step), cell)

    def _any(self, cell: str, last: int | None, step: int) -> int:
        """ISO 8601 text, or Unix time in the unit that its size tells."""
        found = exact(cell, self._number)
        if found is None:
            if self._fixed or OFFSET.search(cell, _DATE):
                return times.parse(cell, None, self._zone_of_day)
            return self._utc(times.parse(cell, None), last, step, cell)
        try:
            return times.parse(found, None)
        except times.OutOfRangeError as e:
            raise times.OutOfRangeError(
                f'{e}; say time_format, e.g. "excel" (day numbers), "elapsed" (seconds since the start of a recording) '
                'or "unix" if it is right'
            ) from e
