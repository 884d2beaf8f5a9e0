# SPDX-License-Identifier: Apache-2.0
"""Turn rows of a table into readings. What cannot be used is counted by what is wrong with it, and stops nothing.

A row with another number of cells than the header, or without a time, is left out: its values may be those of other
columns. An empty cell (unless it means "unchanged") or a marker of no value is a bad reading (a gap). A cell without a
number, in a column that had numbers, is counted and passed on as text: an asset uses it as a label, and counts it as a
channel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from fedge_models.errors import ConfigError
from fedge_models.system.choices import hint

from ...types import Quality, Reading
from . import quality
from .cells import Header, Times, numbered, parse
from .faults import Faults
from .form import Form
from .headings import Headings, Kind, bare
from .numbers import reader

UNSEEN = 1000  # rows after which a tag of which none was is a problem
SHOWN = 60


class Rows:
    """The wanted columns of one file. Raises ConfigError when one is missing or not unique."""

    def __init__(
        self,
        path: Path,
        header: Sequence[str],
        tags: Sequence[str],
        form: Form,
        faults: Faults,
        delimiter: str = "",
        among: bool = False,
    ) -> None:
        """`delimiter`: of the rows, where the form names none. `among`: rows were read before."""
        self._path, self._form, self._faults, self._tags = path, form, faults, list(tags)
        self._own, self._among = form.delimiter or delimiter or ",", among
        self._headings = Headings(form, tags, Header(path, header).names)
        self.delimiter = self._own  # of the rows behind the last header, or still the first one
        self._number = reader(form)
        self._markers = {m.strip().casefold() for m in form.markers}
        self._quality = quality.reader(form)
        self._textual = set(tags)  # columns in which there was no number yet
        self._wanted = frozenset(tags)
        self._unseen, self._others, self._rows = set(tags) if form.tag_column else set(), dict[str, None](), 0
        self.renamed = 0  # headers within the file that changed the columns
        self.words = ""  # a line that may be a header which nobody knows; whoever takes it withdraws it
        self._map(Header(path, header))

    def _map(self, found: Header) -> None:
        """Find the wanted columns."""
        form = self._form
        times = Times(found, form) if form.time_column else None
        for name in (*form.quality_columns, *form.quality_columns.values()):
            found.at(name)  # a misspelt one is refused
        self._tag_at = found.at(form.tag_column) if form.tag_column else None
        self._places = [] if self._tag_at is not None else [found.at(tag) for tag in self._tags]
        self._value_at = found.at(form.value_column) if form.value_column else 0
        self._names, self._width = found.names, len(found.names)
        self._header = found.names  # that has the wanted columns
        self._quality_at = (
            [self._quality_place(found, i) for i in range(len(self._tags))]
            if form.quality_column or form.quality_columns
            else []
        )
        self._plan = list(zip(self._tags, self._places, strict=False))
        self._times = times
        self._untimed_at = self._places[0] if times is None and self._places else None

    def begin(self) -> None:
        """Note that the next row is the first one of a file: one of units has no numbers, either."""
        self._among = False

    def _is_header(self, row: Sequence[str]) -> bool:
        """Whether a row has names of columns, as where a writer began again: it is counted, and the rows behind it are
        read by its names. Words of which nobody knows any are left out, too."""
        if self._names and numbered(self._headings.known(bare(row))) == self._names:
            self._note_again(row)
            return True
        suspect = self._among and self._tag_at is None
        found = self._headings.find(row, self._own, self._width, suspect, self._is_row)
        if found is None:
            return False
        if found.kind is Kind.WORDS:
            self._note_words(row)
        elif numbered(found.cells) == self._names and found.delimiter == self.delimiter:
            self._note_again(row)
        else:
            self._note_header("header lines among the rows that change the columns", row)
            self.renamed += 1
            self._rename(found.cells, found.delimiter)
        return True

    def _is_row(self, cells: Sequence[str]) -> bool:
        """Whether cells have a time, or a number in a wanted column: what names columns has neither."""
        if self._times is not None:
            with suppress(ValueError, IndexError):
                Times(Header(self._path, self._header), self._form).parse(cells)
                return True
            if any(map(self._headings.is_wanted, self._times.cells(cells))):
                return False
        places = self._places if self._tag_at is None else [self._value_at]
        values = [cells[at] for at in places if at < len(cells)]
        return any(self._headings.is_number(c) and not self._headings.is_wanted(c) for c in values)

    def _note_words(self, row: Sequence[str]) -> None:
        """Count a line of words; it may be a header which changes the columns."""
        line = repr(self._own.join(row).strip()[:SHOWN])
        self._faults.note("lines of words among the rows", line)
        self.words = (
            f"a line of words among the rows, {line}: if it is a header, columns may have changed; the rows behind it "
            "are read by the names before. Expected names that are known: if columns changed, have the writer begin a "
            "new file"
        )
        self._faults.state("header", self.words)

    def _note_again(self, row: Sequence[str]) -> None:
        self._note_header("header lines among the rows", row)
        self._faults.state("header", None)

    def _note_header(self, what: str, row: Sequence[str]) -> None:
        self._among = False  # units may stand behind it
        self._faults.note(what, repr(self._own.join(row).strip()[:SHOWN]))

    def rename(self, line: str) -> None:
        """Read on by the names of a later line within the file."""
        self._rename(*self._headings.read(line, self._own))

    def _rename(self, names: Sequence[str], delimiter: str) -> None:
        """Read on by these names; while a wanted one is missing, all rows are left out, and that is a problem."""
        self.delimiter = delimiter
        try:
            self._map(Header(self._path, names))
        except ConfigError as e:
            self._width, self._names = -1, []
            what = "Expected the names of its first line: have the writer begin a new file with the new ones"
            self._faults.state("header", f"another header came within the file: {e}; its rows are left out. {what}")
        else:
            self._faults.state("header", None)

    def _quality_place(self, header: Header, i: int) -> int | None:
        """The column of a tag's quality; None: it has none."""
        if self._form.quality_columns:
            own = self._form.quality_columns.get(self._tags[i])
            return None if own is None else header.at(own)
        if self._form.quality_column == "next":
            if self._places[i] + 1 >= self._width:
                raise ConfigError(f'column {self._tags[i]!r} is the last: quality_column = "next" has none behind it')
            return self._places[i] + 1
        return header.at(self._form.quality_column.replace("{tag}", self._tags[i]))

    def fits(self, row: list[str]) -> bool:
        """Whether the row has the header's cells, but for empty ones at its end; else it is counted."""
        if len(row) == self._width:
            if self._untimed_at is not None:
                if self._may_name(row[self._untimed_at]) and self._is_header(row):
                    return False
                self._among = True
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
            f"{len(row)} cells instead of {self._width}: {self._own.join(row)[:SHOWN]!r}",
            "cells",
        )
        return False

    def cells(self, line: str) -> list[str]:
        """The cells of a line behind a header with another delimiter than the first: of the one that fits. Raises
        DataError."""
        row = parse(line, self.delimiter)
        return row if len(row) == self._width else parse(line, self._own)

    def _may_name(self, cell: str) -> bool:
        """Whether a row without a time may be one of names, by its first wanted cell."""
        return (not self._textual or self._headings.is_wanted(cell)) and self._number(cell) is None

    def time_ns(self, row: list[str]) -> int | None:
        """The time of a row that fits; None and counted when it cannot be read."""
        assert self._times is not None
        before = self._times.clock.repeated
        try:
            found = self._times.parse(row, row[self._tag_at] if self._tag_at is not None else "")
        except ValueError as e:
            self._untimed(row, e)
            return None
        self._among = True
        self._faults.end("time")
        if self._times.clock.repeated > before:
            kind = f"times in the hour that {self._form.time_zone} has twice, told apart by their order"
            self._faults.note(kind, self._times.text(row))
        return found

    def _untimed(self, row: list[str], why: ValueError) -> None:
        """Count a row without a time by what it is."""
        if self._is_header(row):
            return
        tag = row[self._tag_at].strip() if self._tag_at is not None else None
        if tag is None or tag in self._wanted:
            assert self._times is not None
            self._faults.add(f"column {self._times.column!r}: no time", str(why), "time")
        else:
            self._faults.note("rows of other tags without a time", f"{tag}: {why}")
            self._look_for_unseen(tag)

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
            rated = zip(made, self._quality_at, strict=True)
            made = [r if at is None else self._rated(r, row[at].strip()) for r, at in rated]
        return made if self._form.empty == "gap" else self._written(made, row)

    def _written(self, made: list[Reading], row: list[str]) -> list[Reading]:
        """The readings but for those of empty cells, unless their quality says that they are bad."""
        ratings = self._quality_at or [None] * len(made)
        return [
            r
            for r, (_, place), at in zip(made, self._plan, ratings, strict=True)
            if row[place].strip() or (at is not None and self._quality(row[at].strip()) in (None, Quality.BAD))
        ]

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
        if self._form.empty == "unchanged" and not row[self._value_at].strip():
            return []
        value = self._number(row[self._value_at])
        if value is None:
            made = self._odd(tag, row[self._value_at], time_ns)
        else:
            self._textual.discard(tag)
            self._faults.end(tag)
            made = Reading(tag, time_ns, value)
        at = self._quality_at[0] if self._quality_at else None
        return [made if at is None else self._rated(made, row[at].strip())]

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
        rated = self._quality(cell)
        if rated is None or rated is Quality.BAD:
            self._faults.note("values of a quality that is not good", f"{reading.tag}: {cell[:SHOWN]!r}")
            return reading._replace(value=math.nan, quality=Quality.BAD)
        return reading if rated is Quality.GOOD or reading.quality is Quality.BAD else reading._replace(quality=rated)
