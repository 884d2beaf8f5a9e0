# SPDX-License-Identifier: Apache-2.0
"""Turn rows of a CSV file into readings. Malformed cells are counted by column and stop nothing.

An empty or missing cell is a bad reading (a gap). A cell without a number, in a column that had numbers, is counted and
passed on as text: an asset uses it as a label, and counts it as a channel.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Sequence
from pathlib import Path

from fedge_models.errors import ConfigError, DataError
from fedge_models.system import times
from fedge_models.system.choices import hint

from ...types import Quality, Reading

Count = Callable[[str], None]


class Rows:
    """The columns of one file. Raises ConfigError when a wanted column is missing."""

    def __init__(self, path: Path, header: list[str], tags: Sequence[str], time_column: str, count: Count) -> None:
        self._tags, self._count, self._width = tags, count, len(header)
        self._columns = [_column(path, header, tag) for tag in tags]
        self._clock = _column(path, header, time_column) if time_column else None
        self._time_column = time_column
        self._numbers = [False] * len(tags)  # columns in which there was a number

    def seconds(self, row: list[str]) -> float | None:
        """The row's time, seconds since 1970 (UTC without an offset); None and counted when it has no usable time."""
        cell = row[self._clock] if self._clock is not None and self._clock < len(row) else ""
        try:
            return times.parse(cell.strip()) / 1e9
        except ValueError:
            self._count(f"column {self._time_column!r}: neither ISO 8601 nor Unix seconds")
            return None

    def readings(self, row: list[str], time_ns: int) -> list[Reading]:
        """One reading per tag."""
        if len(row) > self._width:
            self._count("rows with more cells than the header")
        return [self._reading(i, row, time_ns) for i in range(len(self._tags))]

    def _reading(self, i: int, row: list[str], time_ns: int) -> Reading:
        tag, column = self._tags[i], self._columns[i]
        if column >= len(row):
            self._count(f"column {tag!r}: missing in a row that is too short")
            return Reading(tag, time_ns, math.nan, Quality.BAD)
        cell = row[column].strip()
        value = times.number(cell)
        if value is not None:
            self._numbers[i] = True
            return Reading(tag, time_ns, float(value))
        if not cell:
            return Reading(tag, time_ns, math.nan, Quality.BAD)
        if self._numbers[i]:
            self._count(f"column {tag!r}: no number")
        return Reading(tag, time_ns, cell)


def parse(line: str, delimiter: str, strict: bool = False) -> list[str]:
    """The cells of one line, [] of an empty one. Raises DataError for a line that is not CSV.

    strict: also for a quote that is not closed, or not followed by a delimiter. A NUL (power cuts leave blocks of them)
    is refused under every Python; the csv module itself accepts it from 3.11 on.
    """
    if "\0" in line:
        raise DataError("not CSV: it contains a NUL byte")
    try:
        return next(csv.reader([line], delimiter=delimiter, strict=strict), [])
    except csv.Error as e:
        # The module's own words for it advise the programmer.
        why = "it contains a carriage return outside quotes" if "\r" in line else e
        raise DataError(f"not CSV: {why}") from e


def _column(path: Path, header: list[str], name: str) -> int:
    if name in header:
        return header.index(name)
    raise ConfigError(f"{path}: has no column {name!r}; {hint(name, header)}")
