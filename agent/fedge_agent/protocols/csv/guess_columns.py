# SPDX-License-Identifier: Apache-2.0
"""Guess what each column of a table is: times, values, tags, qualities, text. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from . import guess_parts, guess_qualities, guess_times
from .form import MARKERS, Form
from .numbers import Read

UNITS = frozenset(
    (
        *("°c", "c", "k", "°f", "bar", "mbar", "pa", "kpa", "mpa", "psi", "a", "ma", "v", "mv", "kv", "w", "kw", "mw"),
        *("kwh", "wh", "hz", "khz", "rpm", "1/min", "u/min", "m", "mm", "µm", "cm", "km", "s", "ms", "min", "h", "kg"),
        *("g", "t", "n", "nm", "l", "m/s", "mm/s", "m/s²", "g/s", "l/min", "m³/h", "%", "%rh", "db", "ppm"),
        *("real", "int", "bool", "dint", "float", "double", "string", "date", "time"),
    )
)
_TIME_NAME = re.compile(
    r"time|zeit|date|datum|stamp|uhr|epoch|^ts$|^t$|^dt$|hora|fecha|heure|ora\b|data\b|elapsed|second|serial", re.I
)
_TAG_NAME = re.compile(
    r"tag|name|point|variable|^var|signal|sensor|channel|item|kanal|messstelle|parameter|field|^id$|series|entity|metric"
    r"|topic|etiqueta|étiquette|señal|sinal|segnale|canal|nombre|nome|merker|bezeichnung|grandeur|grandezza|voie|grootheid",
    re.I,
)
_VALUE_NAME = re.compile(r"val|wert|reading|messung|measure|^state$|waarde|medida|misura|mesure", re.I)
_MOST = 0.8  # of the cells of a column of times: the others are words at the end, or wrong
_DAYTIME = re.compile(r"\d{1,2}:\d\d(:\d\d([.,]\d{1,9})?)?(\s*[AaPp]\.?[Mm]\.?)?")
_CLOCK = re.compile(r"\d{1,2}:\d\d(:\d\d([.,]\d{1,9})?)?(\s*[AaPp]\.?[Mm]\.?)?|[0-2]?\d[0-5]\d[0-5]\d")


_ZONE_NAME = re.compile(r"(?:GMT|UTC)\s?([+-])(\d{1,2})(?::?(\d\d))?(?!\d)")
_PERFMON = re.compile(r"\(PDH-CSV [\d.]+\).*\((-?\d{1,4})\)")  # minutes to be added for UTC
_LIKE_A_TIME = re.compile(r"(?=(?:\D*\d){6})(?=.*\d\D+\d)[^\n]{8,40}")
_TICKS = re.compile(r"milli|micro|nano|tick|^ms$", re.I)


def is_time_name(name: str) -> bool:
    """Whether a name is one of times."""
    return _TIME_NAME.search(name) is not None


def _zone(name: str) -> str:
    """The offset from UTC that a column's name says, as time_zone takes it."""
    if found := _ZONE_NAME.search(name):
        return f"{found[1]}{int(found[2]):02}:{found[3] or '00'}"
    if found := _PERFMON.search(name):
        minutes = -int(found[1])
        return f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}"
    return ""


class Roles(NamedTuple):
    """The keys that name columns, what each column is, and what is only a guess."""

    keys: dict[str, Any]
    kinds: list[str]
    doubts: list[str]


class _Guesser:
    """The columns of one table."""

    def __init__(self, names: Sequence[str], rows: Sequence[Sequence[str]], number: Read) -> None:
        self.names = _unique(names)
        self.number = number
        self.columns = [[row[i] for row in rows if row[i]] for i in range(len(names))]
        self.kinds = [self._plain_kind(column) for column in self.columns]
        self.raw = list(names)
        self.rows = rows
        self.keys: dict[str, Any] = {}
        self.doubts: list[str] = []

    def _plain_kind(self, column: Sequence[str]) -> str:
        if not column:
            return "empty"
        known = [c for c in column if c.casefold() not in MARKERS]
        numbers = sum(self.number(c) is not None for c in known)
        return "number" if known and numbers * 2 > len(known) else "text"

    def find_time(self) -> None:
        """Set the columns and the format of the times."""
        candidates = [(score, -i, guess) for i in range(len(self.names)) for score, guess in self._time(i)]
        split = self._split()
        if split and (not candidates or max(candidates)[0] < 4):
            date, time, guess = split
            self._take_time(time, guess, date)
        elif candidates:
            _, at, guess = max(candidates, key=lambda c: c[:2])
            self._take_time(-at, guess)
        self._doubt_times()

    def find_time_by_name(self) -> None:
        """Set the column of the times of a table without rows; the others may be numbers."""
        at = next((i for i, name in enumerate(self.raw) if _TIME_NAME.search(name)), None)
        self.kinds = ["number" if name else "empty" for name in self.raw]
        if at is not None:
            self.keys["time_column"] = self.names[at]
            self.kinds[at] = "time"

    def _doubt_times(self) -> None:
        """Doubt about other columns that are times."""
        column = self.keys.get("time_column")
        if column is None:
            days = [self.names[i] for i, c in enumerate(self.columns) if c and all(map(_DAYTIME.fullmatch, c))]
            self.doubts += [f"column {n!r} has times without a date: rows are taken for when they come" for n in days]
            self._doubt_unknown_times(days)
        elif self.keys["time_format"] == "elapsed":
            self.doubts.append(f"column {column!r} is taken for seconds since the start of a recording")
        elif self.keys["time_format"] != "wincc" and "date_column" not in self.keys:
            texts = [i for i, kind in enumerate(self.kinds) if kind == "text" and guess_times.textual(self.columns[i])]
            self.doubts += [f"column {self.names[i]!r} is a time, too; rows are taken at {column!r}" for i in texts]

    def _doubt_unknown_times(self, known: Sequence[str]) -> None:
        """Doubt about columns that may be times in a form that is not understood."""
        for i, column in enumerate(self.columns):
            name, text = self.names[i], self.kinds[i] == "text"
            like = text and len(set(column)) > 1 and _share(column[:50], _LIKE_A_TIME) >= _MOST
            rises = i == 0 and len(column) > 2 and _rising(column, self.number) and column[0] != column[-1]
            ticks = not text and len(column) > 1 and (rises or _TIME_NAME.search(name) or _TICKS.search(name))
            if name not in known and (like or ticks):
                how = "its times are not understood" if like else "it may be the times"
                self.doubts.append(
                    f"column {name!r}: {how}, e.g. {guess_times.example(column)}; say time_column and time_format. "
                    "Without them, rows are taken to be 1 s apart (rate_hz)"
                )

    def _take_time(self, at: int, guess: guess_times.Guess, date: int | None = None) -> None:
        self.keys |= {"time_column": self.names[at], "time_format": guess.format}
        if zone := _zone(self.names[at]):
            self.keys["time_zone"] = zone
            self.doubts.append(f"time_zone = {zone!r} is from the name of column {self.names[at]!r}")
        self.kinds[at] = "time"
        if date is not None:
            self.keys["date_column"] = self.names[date]
            self.kinds[date] = "date"
        if guess.doubt:
            self.doubts.append(f"time_format {guess.doubt}")
        if date is None and (odd := self._odd_times(at, guess.format)):
            more = f" and {len(odd) - 1} more are no times" if len(odd) > 1 else " is no time"
            self.doubts.append(f"column {self.names[at]!r}: {odd[0][:40]!r}{more}: such rows are left out")

    def _odd_times(self, at: int, time_format: str) -> list[str]:
        """The cells of the column of times that are none."""
        if self._plain_kind(self.columns[at]) == "number":
            return [cell for cell in self.columns[at] if self.number(cell) is None]
        is_time = guess_times.reads(time_format)
        return [cell for cell in self.columns[at] if not is_time(cell)]

    def _time(self, i: int) -> list[tuple[int, guess_times.Guess]]:
        """(how sure, format) of a column that may be the times."""
        cells, named = self.columns[i][:200], bool(_TIME_NAME.search(self.names[i]))
        if not cells or any(cell.casefold() in MARKERS for cell in cells):
            return []
        if self.kinds[i] == "number":
            numbers = [cell for cell in cells if self.number(cell) is not None]
            return self._numeric_time(i, numbers if len(numbers) >= _MOST * len(cells) else cells, named)
        found = guess_times.textual(cells) or guess_times.most(cells, _MOST)
        if not found:
            return []
        if all(map(_date_only, cells)):
            return [(1, found)] if named else []
        return [(2 if len(cells) > 1 and len(set(cells)) == 1 else 4, found)]  # the same in all rows: of a query

    def _numeric_time(self, i: int, cells: Sequence[str], named: bool) -> list[tuple[int, guess_times.Guess]]:
        found = guess_times.numeric(cells, self.number)
        if found:
            first = i == 0 and len(set(cells)) > 1 and _rising(cells, self.number)
            sure = 5 if found.format == "wincc" and self.names[i].casefold() == "time_ms" else 3
            return [(sure, found)] if named or first else []
        packed = guess_times.textual(cells) if named else None
        if packed and packed.format:
            return [(3, packed)]
        recorded = named and self.names[i] != "T" and guess_times.elapsed(cells, self.number)
        return [(2, guess_times.Guess("elapsed"))] if recorded else []

    def _split(self) -> tuple[int, int, guess_times.Guess] | None:
        """A column of dates and one of times of day beside it."""
        dates = [
            i for i, c in enumerate(self.columns) if c and guess_times.textual(c[:200]) and all(map(_date_only, c))
        ]
        clocks = [i for i, c in enumerate(self.columns) if c and all(map(_CLOCK.fullmatch, c))]
        for date in dates:
            for time in clocks:
                joined = [f"{row[date]} {row[time]}" for row in self.rows if row[date] and row[time]][:200]
                guess = guess_times.textual(joined)
                if guess and time != date:
                    return date, time, guess
        return None

    def find_qualities(self) -> None:
        """Mark the columns of qualities, and set how they belong to the values."""
        found = guess_qualities.find(guess_qualities.Table(self.raw, self.names, self.columns, self.kinds))
        self.keys |= found.keys
        self.doubts += found.doubts
        for i in found.used:
            self.kinds[i] = "quality"

    def find_tags(self) -> None:
        """Set the columns of a table with a row a value."""
        texts = [i for i, kind in enumerate(self.kinds) if kind == "text" and _TAG_NAME.search(self.names[i])]
        if not texts:
            texts = self._like_tags()
        values = [i for i, kind in enumerate(self.kinds) if kind == "number"]
        named = [i for i in values if _VALUE_NAME.search(self.names[i])]
        if not texts or not values or (len(values) > 1 and len(named) != 1):
            return
        tag, value = texts[0], (named or values)[0]
        distinct = len(set(self.columns[tag]))
        if distinct < 2 and not named:
            return
        if distinct > max(500, len(self.rows) // 2) and len(self.rows) > 20:
            return
        self.keys |= {"tag_column": self.names[tag], "value_column": self.names[value]}
        self.kinds[tag], self.kinds[value] = "tag", "value"

    def _like_tags(self) -> list[int]:
        """The column whose texts tell apart rows of one time, as the tags of a table with a row a value do."""
        if "time" not in self.kinds or self.kinds.count("number") != 1:
            return []
        at = self.kinds.index("time")
        moments = Counter(row[at] for row in self.rows)
        several = sum(count for count in moments.values() if count > 1)
        for i in (i for i, kind in enumerate(self.kinds) if kind == "text"):
            distinct, pairs = len(set(self.columns[i])), len({(row[at], row[i]) for row in self.rows})
            if 2 * several >= len(self.rows) and 1 < distinct <= len(self.rows) // 2 and pairs == len(self.rows):
                self.doubts.append(
                    f"column {self.names[i]!r} is taken for names of tags: it tells apart rows of one time"
                )
                return [i]
        return []


def roles(names: Sequence[str], rows: Sequence[Sequence[str]], number: Read) -> Roles:
    """What each column is."""
    made = _Guesser(names, rows, number)
    if not rows:
        made.find_time_by_name()
        return Roles(made.keys, made.kinds, made.doubts)
    made.find_time()
    made.doubts += guess_parts.doubts(made.names, made.columns, made.kinds, made.keys.get("time_format"))
    made.find_qualities()
    own = made.keys.get("quality_column", "")
    of_values = "quality_columns" in made.keys or "{tag}" in own or own == "next"
    if not of_values:
        made.find_tags()
    return Roles(made.keys, made.kinds, made.doubts)


def tags(form: Form, names: Sequence[str], kinds: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The tags that can be channels."""
    if form.tag_column:
        at = kinds.index("tag")
        return list(dict.fromkeys(row[at] for row in rows if row[at]))
    unique = _unique(names)
    return [n for n, kind, name in zip(unique, kinds, names, strict=True) if kind == "number" and name]


def _unique(names: Sequence[str]) -> list[str]:
    """The names as tags: a name that comes again has its number behind it."""
    counts, seen, made = Counter(names), Counter[str](), []
    for name in names:
        seen[name] += 1
        made.append(f"{name}#{seen[name]}" if counts[name] > 1 else name)
    return made


def _date_only(cell: str) -> bool:
    return ":" not in cell and "T" not in cell and len(cell) <= 12


def _share(cells: Sequence[str], pattern: re.Pattern[str]) -> float:
    return sum(pattern.fullmatch(cell) is not None for cell in cells) / max(1, len(cells))


def _rising(cells: Sequence[str], number: Read) -> bool:
    values = [v for c in cells if (v := number(c)) is not None]
    return all(a <= b for a, b in pairwise(values))
