# SPDX-License-Identifier: Apache-2.0
"""Tell a line of names within a file from a row, where a writer began again: in other letters, with another delimiter.
Pure.

The number of cells proves nothing: two columns that changed places have as many. Names that are known prove a header,
words alone do not: an operator's remark must not end the reading of a machine.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from typing import NamedTuple

from .cells import one_line, parse
from .form import Form
from .numbers import reader

DELIMITERS = ",;\t|"
_TIME = re.compile(r"\d{1,4}[-./]\d{1,2}[-./]\d|\d{1,2}:\d\d")
_NUMBER = re.compile(r"[+-]?\d[\d.,' \u00a0\u202f]*(?:[eE][+-]?\d+)?", re.A)


class Kind(Enum):
    """What a line among the rows is."""

    NAMES = "names of columns"
    WORDS = "words that may be names, none of which is known"


class Found(NamedTuple):
    """A line that is no row: its kind, its cells, and the delimiter by which it has them."""

    kind: Kind
    cells: list[str]
    delimiter: str


class Headings:
    """Whether a row names the columns of one file. `header`: the names that it has so far."""

    def __init__(self, form: Form, tags: Sequence[str], header: Sequence[str]) -> None:
        named = (form.time_column, form.date_column, form.tag_column, form.value_column, form.quality_column)
        columns = named if form.tag_column else (*named, *tags)
        self._wanted = {name.casefold(): name for name in columns if name}
        self._first = (header[0] if header else "").casefold()
        self._known = {name.casefold() for name in header if name} | self._wanted.keys()
        self._key = (form.time_column or form.value_column or (tags[0] if tags else "")).casefold()
        self._markers = {marker.strip().casefold() for marker in form.markers}
        self._number = reader(form)

    def find(
        self,
        row: Sequence[str],
        delimiter: str,
        width: int,
        suspect: bool,
        is_row: Callable[[Sequence[str]], bool],
    ) -> Found | None:
        """What a line is that is no row; None: it is a row like others. width: of the rows; suspect: several words of
        this width may be names; is_row: says whether cells have a time or numbers where a row has them."""
        words = None
        for cells, sign in _split(row, delimiter):
            if self._is_cut(cells, width) or (self._names(cells) and not is_row(cells)):
                return Found(Kind.NAMES, self.known(cells), sign)
            if suspect and words is None and self._words(cells, width) and not is_row(cells):
                words = Found(Kind.WORDS, cells, sign)
        return words

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

    def is_wanted(self, cell: str) -> bool:
        """Whether a cell is the name of a wanted column."""
        return cell.strip().casefold() in self._wanted

    def is_number(self, cell: str) -> bool:
        """Whether a cell has a number of any style."""
        return self._number(cell) is not None or _NUMBER.fullmatch(cell) is not None

    def _has_known(self, cells: Sequence[str]) -> bool:
        return any(cell.casefold() in self._known for cell in cells)

    def _names(self, cells: Sequence[str]) -> bool:
        """Whether two of the cells are known names, or one is that of the time and the others are words."""
        known = {name for cell in cells if (name := cell.casefold()) in self._known}
        if len(known) > 1:  # a row that was cut off may stand before them
            return True
        if len(cells) < 2 < len(self._wanted) + 1 or self._key not in known:
            return False
        return not any(map(_TIME.search, cells)) and not any(map(self.is_number, cells))

    def _words(self, cells: Sequence[str], width: int) -> bool:
        """Whether each of the cells is another word."""
        texts = [text for cell in cells if (text := cell.casefold()) and text not in self._markers]
        is_full = len(cells) == width == len(set(texts)) > 1
        return is_full and not any(map(_TIME.search, cells)) and not any(map(self.is_number, cells))

    def _is_cut(self, cells: Sequence[str], width: int) -> bool:
        """Whether a header of known names stands behind a row that was cut off, in one line with it."""
        for i, cell in enumerate(cells[: len(cells) - width + 1] if self._first and width > 0 else ()):
            name = cell.casefold()
            if name != self._first and name.endswith(self._first) and self._has_known(cells[i + 1 :]):
                return True
        return False


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
