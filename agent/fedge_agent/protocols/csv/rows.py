# SPDX-License-Identifier: Apache-2.0
"""Turn rows of a table into readings. What cannot be used is counted by what is wrong with it, and stops nothing.

A row with another number of cells than the header, or without a time, is left out: its values may be those of other
columns. An empty cell or a marker of no value is a bad reading (a gap). A cell without a number, in a column that had
numbers, is counted and passed on as text: an asset uses it as a label, and counts it as a channel.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path

from fedge_models.errors import ConfigError, DataError
from fedge_models.system.choices import hint

from ...types import Quality, Reading
from .clock import Clock
from .faults import Faults
from .form import Form, TableForm
from .numbers import reader

MAX_CELL = 131_072  # characters, as the csv module's own limit
UNSEEN = 1000  # rows after which a tag of which none was is a problem
SHOWN = 60


class Header:
    """The names of a table's columns. Raises ConfigError for one that is asked for and is not there once."""

    def __init__(self, path: Path | str, names: Sequence[str]) -> None:
        self._path, self.names = path, list(map(one_line, names))
        while self.names and not self.names[-1]:  # of a delimiter at the line's end
            self.names.pop()
        self.names = numbered(self.names)

    def at(self, name: str) -> int:
        """The position of a column; "name#2" is the second of this name."""
        places = [i for i, other in enumerate(self.names) if other == name]
        if len(places) > 1:
            raise ConfigError(
                f"{self._path}: has {len(places)} columns {name!r}: {_listed(places)}. Rename one, or say which: "
                f"{name}#1 {'or' if len(places) == 2 else 'to'} {name}#{len(places)}"
            )
        if places:
            return places[0]
        plain, _, number = name.rpartition("#")
        places = [i for i, other in enumerate(self.names) if other == plain]
        if number.isdigit() and 0 < int(number) <= len(places):
            return places[int(number) - 1]
        raise ConfigError(f"{self._path}: has no column {name!r}; {hint(name, self.names, none='no column')}")


class Times:
    """Where in a row its time is, and how it is written."""

    def __init__(self, header: Header, form: TableForm) -> None:
        self._at = header.at(form.time_column)
        self._date = header.at(form.date_column) if form.date_column else None
        self.clock, self.column = Clock(form), form.time_column

    def text(self, row: Sequence[str]) -> str:
        """The cell, or the date's and the time's with a space between."""
        cell = row[self._at].strip()
        return cell if self._date is None else f"{row[self._date].strip()} {cell}"

    def parse(self, row: Sequence[str], tag: str = "") -> int:
        """Nanoseconds since 1970. Raises ValueError."""
        return self.clock.parse(self.text(row), tag)


class Rows:
    """The wanted columns of one file. Raises ConfigError when one is missing or not unique."""

    def __init__(self, path: Path, header: Sequence[str], tags: Sequence[str], form: Form, faults: Faults) -> None:
        self._path, self._form, self._faults, self._tags = path, form, faults, list(tags)
        self._number = reader(form)
        self._markers = {m.strip().casefold() for m in form.markers}
        self._qualities = dict.fromkeys((q.strip().casefold() for q in form.uncertain), Quality.UNCERTAIN)
        self._qualities |= dict.fromkeys((q.strip().casefold() for q in form.good), Quality.GOOD)
        self._textual = set(tags)  # columns in which there was no number yet
        self._wanted = frozenset(tags)
        self._unseen, self._others, self._rows = set(tags) if form.tag_column else set(), dict[str, None](), 0
        self.renamed = 0  # headers within the file that changed the columns
        self._map(Header(path, header))

    def _map(self, found: Header) -> None:
        """Find the wanted columns."""
        form = self._form
        times = Times(found, form) if form.time_column else None
        self._tag_at = found.at(form.tag_column) if form.tag_column else None
        self._places = [] if self._tag_at is not None else [found.at(tag) for tag in self._tags]
        self._value_at = found.at(form.value_column) if form.value_column else 0
        self._names, self._width = found.names, len(found.names)
        self._quality_at = (
            [self._quality_place(found, i) for i in range(len(self._tags))] if form.quality_column else []
        )
        self._plan = list(zip(self._tags, self._places, strict=False))
        self._times = times
        self._untimed_at = self._places[0] if times is None and self._places else None

    def _is_header(self, row: Sequence[str]) -> bool:
        """Whether a row has names of columns, as where a writer began again: it is counted, and the rows behind it are
        read by its names."""
        cells, form = list(map(one_line, row)), self._form
        while cells and not cells[-1]:
            cells.pop()
        if numbered(cells) == self._names:
            self._faults.note("header lines among the rows", repr(form.delimiter.join(cells)[:SHOWN]))
            return True
        wanted = form.time_column or form.value_column or (self._tags[0] if self._tags else "")
        if wanted not in cells or any(self._number(cell) is not None for cell in cells):
            return False
        self._faults.note("header lines among the rows that change the columns", repr(",".join(cells)[:SHOWN]))
        self.renamed += 1
        self.rename(cells)
        return True

    def rename(self, names: Sequence[str]) -> None:
        """Read on by these names; while a wanted one is missing, all rows are left out, and that is a problem."""
        try:
            self._map(Header(self._path, names))
        except ConfigError as e:
            self._width = -1
            self._faults.state("header", f"another header came within the file: {e}; its rows are left out")
        else:
            self._faults.state("header", None)

    def _quality_place(self, header: Header, i: int) -> int:
        if self._form.quality_column == "next":
            if self._places[i] + 1 >= self._width:
                raise ConfigError(f'column {self._tags[i]!r} is the last: quality_column = "next" has none behind it')
            return self._places[i] + 1
        return header.at(self._form.quality_column.replace("{tag}", self._tags[i]))

    def fits(self, row: list[str]) -> bool:
        """Whether the row has the header's cells, but for empty ones at its end; else it is counted."""
        if len(row) == self._width:
            if self._untimed_at is not None and row[self._untimed_at] in self._wanted and self._is_header(row):
                return False
            self._faults.end("cells")
            return True
        if self._is_header(row):
            return False
        if self._width < 0:
            self._faults.note("rows behind a header without a wanted column", repr(",".join(row)[:SHOWN]))
            return False
        if len(row) > self._width and not any(map(str.strip, row[self._width :])):
            self._faults.end("cells")
            return True
        self._faults.add(
            "rows with another number of cells than the header",
            f"{len(row)} cells instead of {self._width}: {self._form.delimiter.join(row)[:SHOWN]!r}",
            "cells",
        )
        return False

    def time_ns(self, row: list[str]) -> int | None:
        """The time of a row that fits; None and counted when it cannot be read."""
        assert self._times is not None
        before = self._times.clock.repeated
        try:
            found = self._times.parse(row, row[self._tag_at] if self._tag_at is not None else "")
        except ValueError as e:
            if not self._is_header(row):
                self._faults.add(f"column {self._times.column!r}: no time", str(e), "time")
            return None
        self._faults.end("time")
        if self._times.clock.repeated > before:
            kind = f"times in the hour that {self._form.time_zone} has twice, told apart by their order"
            self._faults.note(kind, self._times.text(row))
        return found

    def readings(self, row: list[str], time_ns: int) -> list[Reading]:
        """One reading per tag, of a row that fits; a row a value: that of its tag if it is wanted."""
        if self._tag_at is not None:
            return self._long(row, time_ns, row[self._tag_at].strip())
        made, number = [], self._number
        for tag, place in self._plan:
            value = number(row[place])
            made.append(self._odd(tag, row[place], time_ns) if value is None else Reading(tag, time_ns, value))
        if self._textual:
            self._note_numeric(made)
        if self._faults.lasting:
            self._end(made)
        if self._quality_at:
            return [self._rated(r, row[at].strip()) for r, at in zip(made, self._quality_at, strict=True)]
        return made

    def _note_numeric(self, made: list[Reading]) -> None:
        """Remember in which columns there was a number."""
        for reading in made:
            if isinstance(reading.value, float) and reading.quality is Quality.GOOD:
                self._textual.discard(reading.tag)

    def _end(self, made: list[Reading]) -> None:
        for reading in made:
            if not isinstance(reading.value, str):
                self._faults.end(reading.tag)

    def _long(self, row: list[str], time_ns: int, tag: str) -> list[Reading]:
        if tag not in self._wanted:
            self._look_for_unseen(tag)
            return []
        self._unseen.discard(tag)
        value = self._number(row[self._value_at])
        if value is None:
            made = self._odd(tag, row[self._value_at], time_ns)
        else:
            self._textual.discard(tag)
            self._faults.end(tag)
            made = Reading(tag, time_ns, value)
        return [self._rated(made, row[self._quality_at[0]].strip())] if self._quality_at else [made]

    def _look_for_unseen(self, tag: str) -> None:
        """State a problem when wanted tags are in none of many rows."""
        self._rows += 1
        if len(self._others) < SHOWN:
            self._others[tag] = None
        if self._unseen and self._rows % UNSEEN == 0:
            name = min(self._unseen)
            more = f" and {len(self._unseen) - 1} more" if len(self._unseen) > 1 else ""
            self._faults.state(
                "tags",
                f"tag {name!r}{more}: in none of the rows so far; {hint(name, self._others)}",
            )
        elif not self._unseen:
            self._faults.state("tags", None)

    def _odd(self, tag: str, cell: str, time_ns: int) -> Reading:
        """The reading of a cell without a number."""
        if cell != (bare := cell.strip()) and (value := self._number(bare)) is not None:
            return Reading(tag, time_ns, value)
        known = bare.casefold()
        numeric = tag not in self._textual
        if not bare or known == "nan" or (numeric and known in self._markers):
            return Reading(tag, time_ns, math.nan, Quality.BAD)
        if numeric:
            self._faults.add(f"column {tag!r}: no number", bare[:SHOWN], tag)
        return Reading(tag, time_ns, bare)

    def _rated(self, reading: Reading, cell: str) -> Reading:
        quality = self._qualities.get(cell.casefold())
        if quality is None:
            self._faults.note("values of a quality that is not good", f"{reading.tag}: {cell[:SHOWN]!r}")
            return reading._replace(value=math.nan, quality=Quality.BAD)
        return (
            reading if quality is Quality.GOOD or reading.quality is Quality.BAD else reading._replace(quality=quality)
        )


def numbered(names: Sequence[str]) -> list[str]:
    """The names; a column without one is called by its number: column1."""
    return [name or f"column{i}" for i, name in enumerate(names, 1)]


def one_line(name: str) -> str:
    """A name without spaces around it, and with a space for a line break."""
    return name.strip() if "\n" not in name else " ".join(name.split())


def delimiter_of(form: TableForm, header: str) -> str:
    """The configured delimiter, or that of comma, semicolon and tab which a header has most."""
    return form.delimiter or max(",;\t", key=header.count)


def parse(line: str, delimiter: str, strict: bool = False) -> list[str]:
    """The cells of one line, [] of an empty one. Raises DataError for a line that is not CSV.

    strict: also for a quote that is not closed, or not followed by a delimiter. A NUL (power cuts leave blocks of them)
    is refused under every Python; the csv module itself accepts it from 3.11 on.
    """
    if len(line) <= MAX_CELL and delimiter != " " and not ('"' in line or "\0" in line or "\r" in line):
        return line.split(delimiter) if line else []
    if "\0" in line:
        raise DataError("not CSV: it contains a NUL byte")
    spaces = delimiter == " "  # any number of them
    try:
        made = csv.reader(
            [line.strip() if spaces else line], delimiter=delimiter, strict=strict, skipinitialspace=spaces
        )
        return next(made, [])
    except csv.Error as e:
        # The module's own words for it advise the programmer.
        why = "it contains a carriage return outside quotes" if "\r" in line else e
        raise DataError(f"not CSV: {why}") from e


def _listed(places: Sequence[int]) -> str:
    return " and ".join(str(i + 1) for i in places) if len(places) < 4 else f"{places[0] + 1} to {places[-1] + 1}"
