# SPDX-License-Identifier: Apache-2.0
"""Guess where a table begins: the line of names among preambles, units and types, and the rows behind it. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from typing import Any, NamedTuple

from .cells import numbered
from .guess_columns import UNITS, is_time_name
from .sample import Sample, data_like

_UNIT = re.compile(r"[\[(].{0,14}[\])]|[%°‰µΩ]?[A-Za-z°µ²³/%*·^0-9-]{1,7}|-", re.A)
ABOVE = 4  # lines of names, units and types
SHORT = 4  # a preamble has at most one of so many rows of the table

Line = tuple[int, list[str]]  # its number, its cells


class Found(NamedTuple):
    """The keys about the header, the names, the rows behind it, and what is only a guess."""

    keys: dict[str, Any]
    names: list[str]
    rows: list[list[str]]
    doubts: list[str]


def body(lines: list[Line]) -> list[Line]:
    """The lines with the table's number of cells; rows may lack nothing, but have empty cells behind."""
    widths = Counter(len(cells) for _, cells in lines)
    if not widths:
        return []
    width = max(widths, key=lambda w: (widths[w], w))
    # A delimiter at the end of each row but not of the header gives a column that has nothing.
    while width > 1 and not any(cells[width - 1] for _, cells in lines if len(cells) >= width):
        width -= 1
    return [(n, c[:width]) for n, c in lines if len(c) == width or (len(c) > width and not any(c[width:]))]


def find(read: Sample, table: list[Line]) -> Found:
    """The header of the lines of a table."""
    data = [any(map(data_like, cells)) for _, cells in table]
    if not any(data):
        return Found({"skip_rows": _skipped(read, table[0][0])}, _named(table[0][1]), [c for _, c in table[1:]], [])
    first, last = (
        _first_row(data, [cells for _, cells in table]),
        len(data) - data[::-1].index(True),
    )  # words at its end
    rows = [cells for _, cells in table[first:last]]
    if first == 0:
        found = _without(read, table[0], rows)
        return found._replace(doubts=found.doubts + _late_names(read, table, data))
    at = _names_at(table, data, first)
    number, names = table[at]
    keys = {"skip_rows": _skipped(read, number)}
    between = [n for n, _ in read.lines if number < n < table[first][0]]
    if between:
        keys["skip_after"] = between[-1] - number
    named = _named(names)
    return Found(keys, named, [row for row in rows if row != names], [])


def _first_row(data: Sequence[bool], table: Sequence[list[str]]) -> int:
    """The first row of the table: a preamble may have numbers and times, too, but few lines of them, or elsewhere."""
    runs, at = [], 0
    for is_data, group in groupby(data):
        length = len(list(group))
        if is_data:
            runs.append((at, length))
        at += length
    begin, longest = max(runs, key=lambda run: run[1])
    shapes = set(map(_shape, table[begin : begin + longest]))
    return next(
        at
        for at, length in runs
        if length * SHORT >= longest and not shapes.isdisjoint(map(_shape, table[at : at + length]))
    )


def _shape(cells: Sequence[str]) -> tuple[bool, ...]:
    """In which places a row has numbers and times."""
    return tuple(map(data_like, cells))


def _without(read: Sample, first: Line, rows: list[list[str]]) -> Found:
    """A table without a header that fits."""
    width, number = len(first[1]), first[0]
    named = read.names if len(read.names) == width else numbered([""] * width)
    before = next((cells for n, cells in reversed(read.lines) if n < number), [])
    doubts = []
    if len(before) > 1 and before and named is not read.names and not any(map(data_like, before)):
        doubts = [f"line {number - 1} has {len(before)} cells, the rows {width}: columns are called by their numbers"]
        if read.delimiter == "," and len(before) < width < 2 * len(before):
            what = "numbers with a decimal comma, without quotes, are cut into two columns (21,50 into 21 and 50)"
            doubts.append(
                f"perhaps {what}: if so, it cannot be read; have it written with another delimiter or in quotes"
            )
    return Found({"columns": tuple(named), "skip_rows": _skipped(read, number)}, named, rows, doubts)


def _late_names(read: Sample, table: list[Line], data: Sequence[bool]) -> list[str]:
    """Doubt about a line among the rows that looks like one of names."""
    width = len(read.names or ())
    for (number, cells), is_data in zip(table, data, strict=True):
        if not is_data and not width and len(cells) > 2 and all(cells) and any(map(is_time_name, cells)):
            shown = read.delimiter.join(cells)[:60]
            return [f"line {number} may have the names ({shown!r}), and rows stand above it: if so, say skip_rows"]
    return []


def _names_at(table: list[Line], data: Sequence[bool], first: int) -> int:
    """Which of the lines above the rows has the names."""
    at = first - 1
    if at and not data[at - 1] and _is_units(table[at][1]) and _is_full(table[at - 1][1]):
        at -= 1
    times = [j for j, cell in enumerate(table[first][1]) if data_like(cell) and not _is_plain(cell)]
    for i in range(max(0, first - ABOVE), at):
        cells = table[i][1]
        near = not any(data[i:first]) and table[first][0] - table[i][0] <= ABOVE + 1
        if near and len(cells) > 2 and _is_full(cells) and any(is_time_name(cells[j]) for j in times):
            return i
    return at


def _is_plain(cell: str) -> bool:
    """Whether a cell is a number and no time."""
    return cell.replace(".", "", 1).lstrip("+-").isdigit()


def _named(names: Sequence[str]) -> list[str]:
    """The names as the reader has them: those at the end that are empty are none."""
    end = len(names)
    while end and not names[end - 1]:
        end -= 1
    return [*numbered(names[:end]), *names[end:]]


def _skipped(read: Sample, number: int) -> int:
    """How many lines before this one are no comment and not empty; 0: none, so that nothing is to be left out."""
    return number - 1 if any(n < number for n, _ in read.lines) else 0


def _is_full(cells: Sequence[str]) -> bool:
    named = [cell for cell in cells if cell]
    return len(named) >= max(1, len(cells) - 1)


def _is_units(cells: Sequence[str]) -> bool:
    """Whether the cells are units or types, and no names."""
    named = [cell for cell in cells if cell]
    if not named or len(named) < len(cells) - 1 or len(set(named)) < len(named):
        return bool(named) and all(map(_UNIT.fullmatch, named))
    signs = sum(1 for cell in named if cell[0] in "[(%°" or cell.casefold() in UNITS)
    return 2 * signs >= len(named) and all(map(_UNIT.fullmatch, named))
