# SPDX-License-Identifier: Apache-2.0
"""Time stamps from outside, as integer nanoseconds since 1970: the one parser, and the one range of sensible times.

The range is 1970, where a clock without a battery begins, to the end of the next year. Promises: what is returned lies
in it, so that it fits into 64 bits with room for a tolerance. Leaves to the
caller where the text came from: every error is a ValueError in words.
"""

from __future__ import annotations

import math
import re
import time
from contextlib import suppress
from datetime import datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from typing import Literal

import msgspec

from .quoting import quote

UTC = timezone.utc
DAY_NS = 86_400 * 10**9
LARGEST_NS = (1 << 33) * 10**9  # the year 2242: no number of nanoseconds is larger
UNIT_NS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
# Numbers that count from another moment: the nanoseconds of one, and those from 0 to 1970.
COUNTS = {
    "excel": (DAY_NS, 25_569 * DAY_NS),  # days since 1900
    "matlab": (DAY_NS, 719_529 * DAY_NS),  # days since year 0
    "labview": (10**9, 2_082_844_800 * 10**9),  # seconds since 1904
    "since-2000": (10**9, -946_684_800 * 10**9),
    "since-2001": (10**9, -978_307_200 * 10**9),  # Apple
    "filetime": (100, 11_644_473_600 * 10**9),  # 100 ns since 1601: Windows
    "ticks": (100, 62_135_596_800 * 10**9),  # 100 ns since year 1: .NET
}

Unit = Literal["s", "ms", "us", "ns", "excel", "matlab", "labview", "since-2000", "since-2001", "filetime", "ticks"]
GUESSED_NS = 946_684_800 * 10**9  # 2000: a bare number that would be earlier is hardly Unix time
RELEASED_S = 1_767_225_600  # 2026: a machine whose clock is before it does not know the year
LASTS_YEARS = 30  # how long the program may be in use, for such a machine
_LATE_NS = 1_420_070_400 * 10**9  # 2015
_MILLISECOND_NS = 10**6  # as exact as day numbers are

PLAIN = 26  # characters of an RFC 3339 time to the microsecond, which msgspec reads ten times as fast
_PARTS = ("year", "month", "day", "hour", "minute", "second", "fraction", "offset")
_DATE_TIME = re.compile(
    r"""(?P<year>\d{4})(?P<dash>-?)(?P<month>\d\d)(?P=dash)(?P<day>\d\d)
    (?:[Tt\ ](?P<hour>\d\d)(?:(?P<colon>:?)(?P<minute>\d\d)(?:(?P=colon)(?P<second>\d\d)(?:[.,](?P<fraction>\d+))?)?)?
    (?:\ (?P<zone>UTC|GMT)|\ ?(?P<offset>[Zz]|[+-]\d\d(?::?\d\d(?::?\d\d)?)?)(?:\ UTC)?)?)?""",
    re.ASCII | re.VERBOSE,
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class OutOfRangeError(ValueError):
    """A time outside of the range: often a number of another unit, or a clock that is wrong."""


def parse(value: object, unit: Unit | None = "s", zone: tzinfo = UTC) -> int:
    """Nanoseconds since 1970 of ISO 8601 text, of a number, or of a number written as text. Raises ValueError.

    unit: of numbers; None tells seconds, milli-, micro- and nanoseconds apart by their size, and refuses those that
    would be before 2000 or after the next year. zone: of ISO 8601 text without an offset.
    """
    found = number(value) if isinstance(value, str) else value
    if found is None and isinstance(value, str):
        return in_range(_iso(value, zone), value)
    if isinstance(found, bool) or not isinstance(found, (int, float)):
        raise _unreadable(value, unit)
    if isinstance(found, float) and not math.isfinite(found):
        raise _unreadable(value, unit)
    if found < 0 or found > LARGEST_NS:
        raise _out_of_range(value)
    if unit in COUNTS:
        return in_range(_counted(found, *COUNTS[unit]), value)
    scale = UNIT_NS[unit] if unit else _scale(found)
    time_ns = found * scale if isinstance(found, int) else round(found * scale)
    return in_range(time_ns, value) if unit else _guessed(time_ns, value)


def latest_ns() -> int:
    """The end of the next year: no source has a later time. A clock before the program's release is not believed."""
    return _end_of_next_year(int(time.time()) // 86_400)


def in_range(time_ns: int, given: object = None) -> int:
    """The time itself. Raises OutOfRangeError; given: what it was made from."""
    if is_sensible(time_ns):
        return time_ns
    raise _out_of_range(f"{time_ns} ns" if given is None else given, time_ns)


def is_sensible(time_ns: int) -> bool:
    """Whether a time lies in the range."""
    return 0 <= time_ns < latest_ns()


def years() -> str:
    """The range in words: "1970 to 2027"."""
    return f"1970 to {shown(latest_ns() - 1)[:4]}"


def of(moment: datetime) -> int:
    """Nanoseconds since 1970, exactly; a time without an offset is UTC. May lie outside the range."""
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (aware - _EPOCH) // timedelta(microseconds=1) * 1000


def number(text: str) -> float | None:
    """A number as machines write it, or None: Python's 1_000 and digits of other scripts are no numbers."""
    if not text.isascii() or "_" in text:
        return None
    try:
        return int(text) if text.isdigit() and len(text) < 20 else float(text)
    except ValueError:
        return None


def find_zone(name: str) -> tzinfo:
    """The time zone of that name, e.g. Europe/Berlin, or of an offset, e.g. +01:00.

    Raises ValueError when this machine does not know it.
    """
    if name == "UTC":
        return UTC
    if fixed := re.fullmatch(r"([+-])(\d\d):(\d\d)", name, re.ASCII):
        minutes = int(fixed[2]) * 60 + int(fixed[3])
        if minutes >= 24 * 60 or int(fixed[3]) > 59:
            raise ValueError(f"{name!r} is no offset from UTC; expected -23:59 to +23:59")
        return timezone(timedelta(minutes=-minutes if fixed[1] == "-" else minutes))
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as e:
        raise ValueError(f"{name!r} is not known here, e.g. Europe/Berlin") from e


def shown(time_ns: int) -> str:
    """A time for people, UTC, to the second; one that no calendar has, in nanoseconds."""
    try:
        return datetime.fromtimestamp(time_ns // 10**9, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return f"{time_ns} ns"


def _iso(text: str, zone: tzinfo) -> int:
    """Read ISO 8601 alike on every Python: extended or basic form, comma or point, and an offset of any precision."""
    stripped = text.strip()
    if len(stripped) <= PLAIN:
        with suppress(msgspec.ValidationError):
            plain = msgspec.convert(stripped, datetime)
            return of(plain if plain.tzinfo else plain.replace(tzinfo=zone))
    found = _DATE_TIME.fullmatch(stripped)
    if found is None:
        raise _unreadable(text, "s")
    year, month, day, hour, minute, second, fraction, offset = found.group(*_PARTS)
    fraction_ns = int(fraction[:9].ljust(9, "0")) if fraction else 0
    try:
        time_of_day, behind_s = _time_of_day(int(hour or 0), int(minute or 0), int(second or 0), fraction_ns)
        written = UTC if found["zone"] else _offset(offset)
        moment = datetime(int(year), int(month), int(day), *time_of_day, tzinfo=written or zone)
    except ValueError:
        raise _unreadable(text, "s") from None
    try:
        return of(moment) + fraction_ns + behind_s * 10**9
    except OverflowError:
        raise _out_of_range(text) from None


def _time_of_day(hour: int, minute: int, second: int, fraction_ns: int) -> tuple[tuple[int, int, int], int]:
    """(a time of day that a calendar has, seconds behind it): 24:00:00 is the end of a day, :60 a leap second."""
    if (hour, minute, second, fraction_ns) == (24, 0, 0, 0):
        return (0, 0, 0), 86_400
    return ((hour, minute, 59), 1) if second == 60 else ((hour, minute, second), 0)


def _offset(text: str | None) -> tzinfo | None:
    """The zone of "Z", "+02", "+0200", "+02:00" or "+02:00:30"; None: none is given. Raises ValueError from 24 h on."""
    if text is None or text in "Zz":
        return None if text is None else UTC
    digits = text[1:].replace(":", "").ljust(6, "0")
    hours, minutes, seconds = int(digits[:2]), int(digits[2:4]), int(digits[4:6])
    if minutes > 59 or seconds > 59:
        raise ValueError(text)
    size = timedelta(hours=hours, minutes=minutes, seconds=seconds)
    return timezone(-size if text[0] == "-" else size)


def _scale(value: float) -> int:
    """Nanoseconds of the unit that puts a number at or below the year 2242: the largest such unit."""
    return next(scale for scale in UNIT_NS.values() if value * scale <= LARGEST_NS)


@lru_cache(maxsize=1)
def _end_of_next_year(day: int) -> int:
    now = datetime.fromtimestamp(max(day * 86_400, RELEASED_S), UTC)
    years = 2 if day * 86_400 > RELEASED_S else LASTS_YEARS
    return of(datetime(now.year + years, 1, 1))


def _counted(value: float, one_ns: int, zero_ns: int) -> int:
    """The time of a number that counts from another moment; day numbers to the millisecond."""
    made = value * one_ns if isinstance(value, int) else round(value * one_ns)
    return (round(made / _MILLISECOND_NS) * _MILLISECOND_NS if one_ns == DAY_NS else made) - zero_ns


def _guessed(time_ns: int, value: object) -> int:
    """The time of a number whose unit was guessed. Raises OutOfRangeError for one that is hardly Unix time."""
    if GUESSED_NS <= time_ns < latest_ns():
        return time_ns
    raise OutOfRangeError(
        f"time stamp {quote(value)} is out of range: as Unix time it would be {shown(time_ns)}; expected 2000 to "
        f"{shown(latest_ns() - 1)[:4]}{_counts(value)}"
    )


def _counts(value: object) -> str:
    """Words about the other units that make it a time of our days; and about digits that are a date."""
    text = str(value).strip()
    found = number(text)
    if found is None:
        return ""
    if re.fullmatch(r"20\d\d[01]\d[0-3]\d([0-2]\d[0-5]\d([0-5]\d)?)?", text):
        return "; its digits look like a date: send it as ISO 8601, 20261124T080000Z"
    fit = [name for name in COUNTS if _fits(found, name)]
    return f"; its unit may be {' or '.join(map(repr, fit))}" if fit else ""


def _fits(value: float, name: str) -> bool:
    """Whether a number of this unit is a time of our days; counts from 2000 on, small numbers, only of late years."""
    first = GUESSED_NS if not name.startswith("since") else _LATE_NS
    return first <= _counted(value, *COUNTS[name]) < latest_ns()


def _unreadable(value: object, unit: Unit | None) -> ValueError:
    of_unit = {"s": "Unix seconds", None: "Unix seconds"}.get(unit, f"a number of {unit}")
    return ValueError(f"time stamp {quote(value)} is neither ISO 8601 nor {of_unit}")


def _out_of_range(value: object, time_ns: int | None = None) -> OutOfRangeError:
    would = own = ""
    if time_ns is not None and 0 <= time_ns < LARGEST_NS:
        would = f" would be {shown(time_ns)} UTC, which"
        own = f" by this machine's clock, {shown(time.time_ns())[:10]}"
    return OutOfRangeError(f"time stamp {quote(value)}{would} is out of range: expected {years()}{own}")
