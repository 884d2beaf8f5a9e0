# SPDX-License-Identifier: Apache-2.0
"""Read whole columns of a table: numbers as arrays, texts as lists, each row with its number in the file.

Strict: whatever a follower would count and leave out is a DataError with line and column.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from fedge_models.errors import ConfigError, DataError
from numpy.typing import NDArray

from ...types import Quality, Reading
from .cells import Header, Times
from .faults import Faults
from .form import Form
from .lines import Row, WholeFile
from .numbers import instead_of_words
from .rows import Rows

SHOWN = 40  # characters of a cell in a message
MAX_ROWS = 1 << 25  # of a table with a row a value, on its grid
HELD = 3  # samples for which a value holds, as the gateway's default


class Columns(NamedTuple):
    """Some columns of a table."""

    names: list[str]  # of all columns, or tags
    numbers: dict[str, NDArray[np.float64]]  # (rows,); NaN: no value
    texts: dict[str, list[str]]
    lines: Sequence[int]  # each row's number in the file


def read(path: Path, form: Form, numbers: Sequence[str], texts: Sequence[str], rate_hz: float) -> Columns:
    """Read the columns that are there; those of `numbers` must be.

    rate_hz: of the rows that a table with a row a value is turned into: each value holds for three of them at most.
    Raises DataError.
    """
    faults = Faults(_refuse)
    try:
        file = WholeFile(path, form, faults, strict=True)
        try:
            if form.tag_column:
                return _long(path, form, file, numbers, rate_hz)
            return _wide(path, form, file, numbers, texts)
        finally:
            file.close()
    except ConfigError as e:
        raise DataError(str(e)) from e
    except _RefusedError as e:
        raise DataError(f"{path}: {e}") from e


class _RefusedError(Exception):
    """Something that a follower would count."""


def _refuse(what: str, by: int = 1, example: str = "") -> None:
    raise _RefusedError(f"{what}: {example}" if example else what)


def _wide(path: Path, form: Form, file: WholeFile, numbers: Sequence[str], texts: Sequence[str]) -> Columns:
    if not file.header:
        raise DataError(f"{path}: is empty; expected a header line with the channels' names")
    header = Header(path, file.header)
    faults = Faults()
    for name in numbers:
        if name not in header.names and "#" not in name:
            raise DataError(f"{path}: no column {name!r}; has {', '.join(header.names)}")
    rows = Rows(path, file.header, numbers, form, faults)
    at = [header.at(name) for name in numbers]
    here = [name for name in texts if name in header.names]
    text_at = [header.at(name) for name in here]
    values, found = [array("d") for _ in numbers], [list[str]() for _ in here]
    lines, width, markers = array("q"), len(header.names), _markers(form)
    for row in file:
        _check_width(path, row, width, form)
        lines.append(row.number)
        for column, place, reading in zip(values, at, rows.readings(row.cells, 0), strict=True):
            column.append(_value(path, row, header.names[place], reading, markers))
        for text, place in zip(found, text_at, strict=True):
            text.append(row.cells[place].strip())
    made = [np.array(column, np.float64) for column in values]
    return Columns(header.names, dict(zip(numbers, made, strict=True)), dict(zip(here, found, strict=True)), lines)


def _markers(form: Form) -> frozenset[str]:
    return frozenset(marker.strip().casefold() for marker in form.markers)


def _check_width(path: Path, row: Row, width: int, form: Form) -> None:
    if len(row.cells) < width or any(map(str.strip, row.cells[width:])):
        raise DataError(f"{path}: line {row.number} has {len(row.cells)} columns, the header {width}")


def _value(path: Path, row: Row, name: str, reading: Reading, markers: frozenset[str]) -> float:
    value = reading.value
    if reading.quality is Quality.BAD or (isinstance(value, str) and value.casefold() in markers):
        return math.nan
    if isinstance(value, str):
        advice = instead_of_words(value, name)
        raise DataError(f"{path}: line {row.number}, column {name!r}: {value[:SHOWN]!r} is not a number{advice}")
    assert isinstance(value, float)
    return value


def _long(path: Path, form: Form, file: WholeFile, tags: Sequence[str], rate_hz: float) -> Columns:
    """A row a value: each tag's values, held on a grid from the first to the last time."""
    if not form.time_column:
        raise DataError(f"{path}: a table with a row a value needs time_column")
    header = Header(path, file.header)
    rows, times = Rows(path, file.header, tags, form, Faults()), Times(header, form)
    tag_at, width = header.at(form.tag_column), len(header.names)
    stamps, values = {tag: array("q") for tag in tags}, {tag: array("d") for tag in tags}
    seen: dict[str, None] = {}
    markers = _markers(form)
    for row in file:
        _check_width(path, row, width, form)
        tag = row.cells[tag_at].strip()
        seen[tag] = None
        if tag not in stamps:
            continue  # also those that a logger writes about itself: $RT_COUNT$ has no time
        try:
            at = times.parse(row.cells, row.cells[tag_at])
        except ValueError as e:
            raise DataError(f"{path}: line {row.number}, column {form.time_column!r}: {e}") from e
        for reading in rows.readings(row.cells, at):
            stamps[reading.tag].append(at)
            values[reading.tag].append(_value(path, row, form.value_column, reading, markers))
    for tag in tags:
        if not stamps[tag]:
            raise DataError(f"{path}: no tag {tag!r} in column {form.tag_column!r}; has {', '.join(list(seen)[:20])}")
    grid = _grid(path, stamps, rate_hz)
    held = {}
    for tag in tags:
        held[tag] = _held(np.array(stamps[tag], np.int64), np.array(values[tag], np.float64), grid, rate_hz)
    return Columns(list(seen), held, {}, range(2, 2 + len(grid)))


def _grid(path: Path, stamps: dict[str, array[int]], rate_hz: float) -> NDArray[np.int64]:
    first, last = min(map(min, stamps.values())), max(map(max, stamps.values()))
    count = int((last - first) / 1e9 * rate_hz) + 1
    if count > MAX_ROWS:
        raise DataError(f"{path}: spans {count} samples at {rate_hz:g} Hz, expected at most {MAX_ROWS}; split the file")
    return first + np.round(np.arange(count) * (1e9 / rate_hz)).astype(np.int64)


def _held(
    stamps: NDArray[np.int64], values: NDArray[np.float64], grid: NDArray[np.int64], rate_hz: float
) -> NDArray[np.float64]:
    """The newest value at each time of the grid; NaN where it is too old."""
    order = np.argsort(stamps, kind="stable")
    stamps, values = stamps[order], values[order]
    at = np.searchsorted(stamps, grid, side="right") - 1
    old = (at < 0) | (grid - stamps[np.maximum(at, 0)] > HELD * 1e9 / rate_hz)
    return np.where(old, np.float64(np.nan), values[np.maximum(at, 0)])
