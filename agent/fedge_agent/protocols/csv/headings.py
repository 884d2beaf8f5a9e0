# SPDX-License-Identifier: Apache-2.0
"""Tell a line of names within a file from a row, where a writer began again: in other letters, with another delimiter,
with names that nobody knows. Pure.

The number of cells proves nothing: two columns that changed places have as many.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from .cells import one_line, parse
from .form import Form
from .numbers import reader

DELIMITERS = ",;\t|"
_TIME = re.compile(r"\d{1,4}[-./]\d{1,2}[-./]\d|\d{1,2}:\d\d")
_NUMBER = re.compile(r"[+-]?\d[\d.,' \u00a0\u202f]*(?:[eE][+-]?\d+)?", re.A)


class Headings:
    """Whether a row names the columns of one file."""

    def __init__(self, form: Form, tags: Sequence[str]) -> None:
        named = (form.time_column, form.date_column, form.tag_column, form.value_column, form.quality_column)
        columns = named if form.tag_column else (*named, *tags)
        self._wanted = {name.casefold(): name for name in columns if name}
        self._key = (form.time_column or form.value_column or (tags[0] if tags else "")).casefold()
        self._markers = {marker.strip().casefold() for marker in form.markers}
        self._number = reader(form)

    def find(self, row: Sequence[str], delimiter: str, width: int, suspect: bool) -> tuple[list[str], str] | None:
        """(names, delimiter) of a row that names columns; None: it is a row like others. suspect: one of this width
        without any number, time or known name is one of names, too."""
        for cells, sign in _split(row, delimiter):
            if self._names(cells, width if suspect else 0):
                return self.known(cells), sign
        return None

    def read(self, line: str, delimiter: str) -> tuple[list[str], str]:
        """(names, delimiter) of a line that was found to be one of names."""
        ways = list(_split(parse(line, delimiter), delimiter))
        cells, sign = next((way for way in ways if self._has_known(way[0])), ways[0])
        return self.known(cells), sign

    def known(self, cells: Sequence[str]) -> list[str]:
        """The names; one that differs from a wanted one in the case of its letters alone is that one."""
        there, folded = set(cells), [cell.casefold() for cell in cells]
        return [
            wanted
            if (wanted := self._wanted.get(name)) is not None and wanted not in there and folded.count(name) == 1
            else cell
            for cell, name in zip(cells, folded, strict=True)
        ]

    def _has_known(self, cells: Sequence[str]) -> bool:
        return any(cell.casefold() in self._wanted for cell in cells)

    def _names(self, cells: Sequence[str], width: int) -> bool:
        known = {name for cell in cells if (name := cell.casefold()) in self._wanted}
        if len(known) > 1:  # a row that was cut off may stand before them
            return True
        if len(cells) < 2 < len(self._wanted) + 1 or any(map(_TIME.search, cells)):
            return False
        if self._key in known:
            return True
        if any(map(self._is_number, cells)):
            return False
        texts = [cell.casefold() for cell in cells if cell and cell.casefold() not in self._markers]
        return bool(known) or (len(cells) == width and len(set(texts)) == len(texts) > 1)

    def _is_number(self, cell: str) -> bool:
        return self._number(cell) is not None or _NUMBER.fullmatch(cell) is not None


def _split(row: Sequence[str], delimiter: str) -> Iterator[tuple[list[str], str]]:
    """The cells of a row as they are, and by other delimiters that are in it."""
    yield bare(row), delimiter
    line = delimiter.join(row)
    for sign in DELIMITERS:
        if sign != delimiter and sign in line:
            yield bare(parse(line, sign) if "\0" not in line and "\r" not in line else [line]), sign


def bare(row: Sequence[str]) -> list[str]:
    """The cells without spaces around them, and without empty ones at the end."""
    cells = list(map(one_line, row))
    while cells and not cells[-1]:
        cells.pop()
    return cells
