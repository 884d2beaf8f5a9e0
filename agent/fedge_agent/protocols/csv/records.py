# SPDX-License-Identifier: Apache-2.0
"""Join lines whose cells have line breaks inside quotes, and part lines that only a carriage return parts. Pure.

Both only where the result has the header's cells: a quote that is never closed must not take other rows with it.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence

from fedge_models.errors import DataError

from .cells import parse

MOST = 20  # lines of one row


def mended(lines: list[str], width: int, delimiter: str) -> tuple[list[str], list[str]]:
    """(lines as rows, the last ones that are still open)."""
    odd = [i for i, line in enumerate(lines) if "\r" in line or ('"' in line and is_open(line))]
    if not odd:
        return lines, []
    made: list[str] = []
    at = 0
    for i in odd:
        if i < at:
            continue
        made += lines[at:i]
        found, at = _mend(lines, i, width, delimiter)
        if not at:
            return made, lines[i:]
        made += found
    return made + lines[at:], []


def is_open(text: str) -> bool:
    """Whether a quote is not closed: two quotes inside of quotes stand for one."""
    return text.count('"') % 2 == 1


def is_header(lines: Sequence[str], delimiter: str) -> bool:
    """Whether the names of the columns end with the last of these lines."""
    whole = "\n".join(lines)
    if len(lines) >= MOST or not is_open(whole):
        return True
    try:
        next(csv.reader([whole], delimiter=delimiter, strict=True), None)
    except csv.Error as e:
        return "unexpected end of data" not in str(e)  # a quote within a name opens nothing
    return True


def joined(lines: Sequence[str], delimiter: str) -> Iterator[str]:
    """The rows of which nothing else is known, joined where a quote opens a cell and is closed on a line behind it."""
    at = 0
    while at < len(lines):
        behind = at + 1
        while behind < len(lines) and not is_header(lines[at:behind], delimiter):
            behind += 1
        if behind - at >= MOST:
            behind = at + 1
        yield "\n".join(lines[at:behind])
        at = behind


def _mend(lines: Sequence[str], i: int, width: int, delimiter: str) -> tuple[list[str], int]:
    """The rows that begin at a line, and the index behind them; index 0: more lines are needed."""
    if not is_open(lines[i]):
        parts = [part for part in lines[i].split("\r") if part]
        return (parts if all(_fits(p, width, delimiter) for p in parts) else [lines[i]]), i + 1
    whole = lines[i]
    for j in range(i + 1, min(len(lines), i + MOST)):
        whole += "\n" + lines[j]
        if not is_open(whole):
            return ([whole], j + 1) if _fits(whole, width, delimiter) else ([lines[i]], i + 1)
    return ([lines[i]], i + 1) if len(lines) >= i + MOST else ([], 0)


def _fits(line: str, width: int, delimiter: str) -> bool:
    try:
        cells = parse(line, delimiter, strict=True)
    except DataError:
        return False
    return len(cells) == width or (len(cells) > width and not any(map(str.strip, cells[width:])))
