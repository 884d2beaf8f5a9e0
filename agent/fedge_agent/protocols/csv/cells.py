# SPDX-License-Identifier: Apache-2.0
"""Lines to cells, and the names of a table's columns: which place a column, and the time of a row, has. Pure."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from fedge_models.errors import ConfigError, DataError
from fedge_models.system.choices import hint

from .clock import Clock
from .form import TableForm

MAX_CELL = 131_072  # characters, as the csv module's own limit


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
        if not self.names:
            raise ConfigError(f"{self._path}: is empty: it has no header yet; expected a column {name!r}")
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

    def cells(self, row: Sequence[str]) -> list[str]:
        """The cells of the time that a row has, be it long enough or not."""
        return [row[at] for at in (self._at, self._date) if at is not None and at < len(row)]

    def parse(self, row: Sequence[str], tag: str = "") -> int:
        """Nanoseconds since 1970. Raises ValueError."""
        return self.clock.parse(self.text(row), tag)


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
        made = csv.reader([line.strip() if spaces else line], delimiter=delimiter, strict=strict, skipinitialspace=True)
        return next(made, [])
    except csv.Error as e:
        # The module's own words for it advise the programmer.
        why = "it contains a carriage return outside quotes" if "\r" in line else e
        raise DataError(f"not CSV: {why}") from e


def _listed(places: Sequence[int]) -> str:
    return " and ".join(str(i + 1) for i in places) if len(places) < 4 else f"{places[0] + 1} to {places[-1] + 1}"
