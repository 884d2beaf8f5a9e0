# SPDX-License-Identifier: Apache-2.0
"""Guess how a column writes its times: names of `time_format`, or a format of strptime that reads every cell. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import pairwise
from typing import NamedTuple

from fedge_models.system import times

from .clock import PLAUSIBLE_NS, Clock
from .form import TableForm
from .numbers import Read, exact
from .strptime import Format

# Numbers whose range of plausible times is no other's. Seconds since 2000 are Unix time of the nineties: not guessed.
_COUNTED = ("excel", "matlab", "labview", "filetime", "ticks")
_WINCC = 10**6  # day numbers are written times a million
_DATE = re.compile(
    r"(?P<iso>\d{4}([-/.])\d{1,2}\2\d{1,2})|(?P<first>\d{1,2}([-/.])\d{1,2}\4(\d{4}|\d{2}))"
    r"|(?P<named>\d{1,2}[- ./]{0,2}[^\W\d_]{3,9}\.?[- /]?(\d{4}|\d{2}))|(?P<packed>(19|20)\d{6})"
    r"|(?P<month>[^\W\d_]{3,9}\.? \d{1,2},? \d{4})|(?P<ordinal>\d{4}-\d{3}(?!\d))"
)
_CTIME = re.compile(
    r"(?P<day>[^\W\d_]{2,4} )?[^\W\d_]{3,9} +\d{1,2} (?P<time>\d\d:\d\d:\d\d(?:[.,]\d{1,9})?)"
    r"(?P<zone> (?:UTC|GMT))?(?P<offset> [+-]\d{4})? \d{4}"
)
_UTC = re.compile(r"(?<=\d)(?P<space>\s*)(?:UTC|GMT)$")
_IEC = re.compile(r"(?:L?DT|L?DATE_AND_TIME)#")
_WEEKDAY = re.compile(r"[^\W\d_]{2,10}\.?(,?)\s+(?=\d)")
_TIME = re.compile(
    r"(?P<time>\d{1,2}:\d\d(:\d\d([.,:]\d{1,9})?)?)(?P<half>\s*[AaPp]\.?[Mm]\.?)?(?P<zone>\s*(Z|[+-]\d\d:?\d\d))?"
    r"|(?P<packed>[0-2]\d[0-5]\d[0-5]\d)(?P<fraction>[.,]\d{1,9})?"
    r"|(?P<dotted>\d{1,2}\.\d\d\.\d\d)(?!\d)"
)


class Guess(NamedTuple):
    """A format, and what else it could be: empty if it is sure."""

    format: str
    doubt: str = ""


def format_of(cells: Sequence[str]) -> str:
    """The format of strptime that reads every cell; empty: none does."""
    guess = textual(cells)
    return guess.format if guess else ""


def textual(cells: Sequence[str]) -> Guess | None:
    """The format of times that are text, "" for ISO 8601; None: they are no times."""
    if not cells:
        return None
    if all(map(reads(""), cells)) and not any(map(_digits_only, cells)):
        return Guess("")
    for cell in (cells[0], max(cells, key=len)):
        found = [f for f in _formats(cell) if all(map(reads(f), cells))]
        if found:
            # Of days and months that could be each other, the nearer ones; with a.m. and p.m. the month is first.
            found.sort(key=lambda f: (_span(f, cells), "%p" in f and f.startswith("%d")))
            return Guess(found[0], next((d for f in found[1:] if (d := _doubt(found[0], f, cells))), ""))
    return None


def most(cells: Sequence[str], least: float) -> Guess | None:
    """The format of at least this share of the cells; the others are words at the end of a table, or wrong times."""
    for first in dict.fromkeys((cells[0], max(cells, key=len), cells[-1])):
        for name in ("", *_formats(first)):
            fit = list(filter(reads(name), cells))
            if len(fit) >= least * len(cells) and (found := textual(fit)):
                return found
    return None


def example(cells: Sequence[str]) -> str:
    """A cell that is a time as none is known, and the first one that is written in another way."""
    name = format_of(cells[:1])
    other = next((c for c in cells if not reads(name)(c)), None) if textual(cells[:1]) else None
    return repr(cells[0][:40]) if other is None else f"{other[:40]!r} beside {cells[0][:40]!r}"


def numeric(cells: Sequence[str], number: Read) -> Guess | None:
    """The format of times that are numbers; None: they are in no plausible range, or go back."""
    values = [exact(cell, number) for cell in cells]
    known = [v for v in values if v is not None]
    if len(known) < len(values) or not known:
        return None
    if all(map(_is_unix, known)):
        return Guess("")
    if all(_is_counted(v / _WINCC, "excel") for v in known):
        return Guess("wincc")
    return next((Guess(name) for name in _COUNTED if all(_is_counted(v, name) for v in known)), None)


def _is_unix(value: float) -> bool:
    with suppress(ValueError):
        return times.parse(value, None) > 0
    return False


def _is_counted(value: float, name: str) -> bool:
    one_ns, zero_ns = times.COUNTS[name]
    return times.GUESSED_NS <= value * one_ns - zero_ns < times.latest_ns()


def elapsed(cells: Sequence[str], number: Read) -> bool:
    """Whether the cells are numbers from about 0 that rise row by row."""
    values = [number(cell) for cell in cells]
    known = [v for v in values if v is not None]
    if len(known) < len(values) or len(known) < 2 or not 0 <= known[0] <= 86_400:
        return False
    return all(a < b for a, b in pairwise(known))


def reads(name: str) -> Callable[[str], bool]:
    """Whether a format of this name reads a cell as a time of our days."""
    clock = Clock(TableForm(time_format=name))

    def is_time(cell: str) -> bool:
        try:
            return clock.parse(cell) >= PLAUSIBLE_NS
        except ValueError:
            return False

    return is_time


def _digits_only(cell: str) -> bool:
    return cell.replace(".", "").isdigit()


def _span(name: str, cells: Sequence[str]) -> int:
    made = Format(name)
    local = [made.parse(cell)[0] for cell in cells]
    return max(local) - min(local)


def _doubt(one: str, other: str, cells: Sequence[str]) -> str:
    """Words about two formats that give different times and are both in use: nobody writes 11.24.2026."""
    first, second = Format(one), Format(other)
    if "%d.%m" in one:
        return ""
    for cell in cells:
        taken, could = first.parse(cell)[0], second.parse(cell)[0]
        if taken != could:
            return (
                f"{one!r} is a guess: {cell!r} is taken for {times.shown(taken)[:10]}; if it is "
                f"{times.shown(could)[:10]}, say time_format = {other!r}"
            )
    return ""


def _formats(cell: str) -> list[str]:
    """The formats of one cell, the likeliest first."""
    if iec := _IEC.match(cell):
        return [iec[0] + made for made in _formats(cell[iec.end() :])]
    if utc := _UTC.search(cell):
        return [f"{made}{utc['space'][:1]}%Z" for made in _formats(cell[: utc.start()])]
    if found := _CTIME.fullmatch(cell):
        return [_ctime(found)]
    day = _WEEKDAY.match(cell)
    if day is not None and (behind_day := _formats(cell[day.end() :])):
        return [f"%a{day[1]} {made}" for made in behind_day]
    return _dated(cell)


def _dated(cell: str) -> list[str]:
    """The formats of a cell that begins with a date."""
    date = _DATE.match(cell)
    if date is None:
        return []
    rest = cell[date.end() :]
    time = _TIME.search(rest)
    if time is None:
        return [] if rest else _dates(date)
    between, behind = rest[: time.start()], rest[time.end() :]
    if behind or any(c.isalnum() and c != "T" for c in between):
        return []
    return [d + between.replace("%", "%%") + _time(time) for d in _dates(date)]


def _ctime(found: re.Match[str]) -> str:
    """Of asctime and `date`: Tue Nov 24 08:00:00 UTC 2026."""
    fraction = re.search(r"[.,]", found["time"])
    clock = "%H:%M:%S" + (f"{fraction[0]}%f" if fraction else "")
    zone = (" %Z" if found["zone"] else "") + (" %z" if found["offset"] else "")
    return ("%a " if found["day"] else "") + f"%b %d {clock}{zone} %Y"


def _dates(found: re.Match[str]) -> list[str]:
    text = found[0]
    if found["packed"]:
        return ["%Y%m%d"]
    if found["ordinal"]:
        return ["%Y-%j"]
    if found["month"]:
        return ["%b %d" + ("," if "," in text else "") + " %Y"]
    if found["iso"]:
        sign = found[2]
        return [f"%Y{sign}%m{sign}%d"]
    if found["named"]:
        month = re.search(r"[^\W\d_]+", text)
        assert month is not None
        year = "%Y" if re.search(r"\d{4}$", text) else "%y"
        signs = re.sub(r"[^\W_]", "", text[: month.start()]), re.sub(r"\d", "", text[month.end() :])
        return [f"%d{signs[0]}%b{signs[1].removeprefix('.')}{year}"]
    sign, year = found[4], "%Y" if len(found[5]) == 4 else "%y"
    made = [f"%d{sign}%m{sign}{year}", f"%m{sign}%d{sign}{year}"]
    if year == "%y":
        made.append(f"%y{sign}%m{sign}%d")
    return made


def _time(found: re.Match[str]) -> str:
    if found["packed"]:
        return "%H%M%S" + (f"{found['fraction'][0]}%f" if found["fraction"] else "")
    if found["dotted"]:
        return "%H.%M.%S"
    text = found["time"]
    fraction = re.search(r"[.,]|(?<=:\d\d:\d\d):", text)
    made = ("%I" if found["half"] else "%H") + ":%M" + (":%S" if text.count(":") > 1 else "")
    made += f"{fraction[0]}%f" if fraction else ""
    if found["half"]:
        made += " %p" if found["half"][0].isspace() else "%p"
    if found["zone"]:
        made += " %z" if found["zone"][0].isspace() else "%z"
    return made
