# SPDX-License-Identifier: Apache-2.0
"""Check that the first rows of a file are read right, before anything depends on it: each problem with row and column.

A number in another form, a time of another century, a row with other cells: what would be believed or lost in silence.
"""

from __future__ import annotations

import re
from collections.abc import Container, Sequence
from itertools import accumulate, islice
from pathlib import Path

import msgspec
from fedge_models.errors import ConfigError
from fedge_models.system import times
from fedge_models.system.choices import hint

from ...types import Quality
from . import order
from .cells import Header, Times, numbered, one_line
from .faults import Faults
from .form import Form
from .guess_times import format_of
from .lines import COMMENTS, Row, WholeFile
from .numbers import reader
from .rows import SHOWN, Rows

ROWS = 1000
FEW = 10  # one row in so many is left out and counted, and stops nothing
_ORDERS = {
    "newest first": "the newest rows are first",
    "tag by tag": "it goes tag by tag",
    "hour again": "an hour comes again",
    "unsorted": "rows are not in the order of time",
}
MOST = 5  # problems that are named
_NO_TABLE = ("cannot be read", "not a text table")  # `browse` says no more of it
_LIKE_A_NUMBER = re.compile(r"[+-]?(?=.*\d)[\d.,'’ \u00a0\u202f]+(?:[eE][+-]?\d+)?(?:\s*(?:%|°C|[A-Za-z]{1,3}))?", re.A)


def problems(
    path: Path,
    form: Form,
    tags: Sequence[str],
    follow: bool,
    advise: bool = True,
    notes: list[str] | None = None,
    later: Container[str] = (),
) -> list[str]:
    """What is wrong with the first rows, in the operator's words. follow: the file is read as it grows. notes: gets
    what is left out and counted, and keeps nobody from deciding; None: it is among the problems."""
    advice = f". fedge-agent browse '{path}' shows how it is written" if advise else ""
    counted: dict[str, list[str]] = {}

    def count(what: str, by: int = 1, example: str = "") -> None:
        counted.setdefault(what, []).append(example)

    faults = Faults(count)
    try:
        with_header = WholeFile(path, form, faults)
        try:
            rows = list(islice(with_header, ROWS))
            if not rows and (why := _left_out(path, form, tags, with_header.header)):
                return [f"{path}: {why}"]
            check = _Check(path, form, tags, with_header.header)
            found = check.problems(rows, follow, later)
            if notes is None:
                found = check.notes + found
            else:
                notes += [f"{path}: {text}" for text in check.notes]
        finally:
            with_header.close()
    except ConfigError as e:
        return [f"{e}{'' if any(words in str(e) for words in _NO_TABLE) else advice}"]
    # A power cut leaves lines of NUL: some of them stop nothing. Comments are as they should be, if there are rows.
    often = [
        what
        for what, examples in counted.items()
        if what != COMMENTS and ("bytes that are not" in what or len(examples) * FEW > len(rows))
    ]
    found += [f"{what}: {counted[what][0]}" for what in often]
    if len(found) > MOST:
        found = [*found[:MOST], f"and {len(found) - MOST} more"]
    return [f"{path}: {text}" for text in found[:-1]] + [f"{path}: {text.rstrip('.')}{advice}" for text in found[-1:]]


def _left_out(path: Path, form: Form, tags: Sequence[str], header: list[str]) -> str:
    """Which key leaves out what would be rows: no row is left, and without the key there are some; "": none does."""
    for key, nothing in (("comment", ""), ("skip_after", 0)):
        value = getattr(form, key)
        if value == nothing:
            continue
        others = msgspec.structs.replace(form, **{key: nothing})
        table = WholeFile(path, others, Faults())
        try:
            read = Rows(path, header, tags, others, Faults())
            rows = [r for r in islice(table, ROWS) if any(_is_row(c, read, form) for c in _readable(r.cells, value))]
        finally:
            table.close()
        if rows:
            shown = _toml(value) if isinstance(value, str) else value
            return (
                f"has no rows: {key} = {shown} leaves out all lines behind the header, e.g. row {rows[0].number}: "
                f"{(form.delimiter or ', ').join(rows[0].cells)[:SHOWN]!r}"
            )
    return ""


def _readable(cells: list[str], comment: object) -> list[list[str]]:
    """A line as it is, and without the mark of a comment before it."""
    return [cells] if not isinstance(comment, str) else [cells, [cells[0].removeprefix(comment), *cells[1:]]]


def _is_row(cells: list[str], read: Rows, form: Form) -> bool:
    """Whether a line that is left out has a value of a wanted tag, and a time where rows have one."""
    if not read.fits(cells):
        return False
    at = read.time_ns(cells) if form.time_column else 0
    return at is not None and any(r.quality is not Quality.BAD for r in read.readings(cells, at))


def _is_like_a_number(cell: str) -> bool:
    return len(cell) <= SHOWN and _LIKE_A_NUMBER.fullmatch(cell) is not None


class _Check:
    """The checks of one file's first rows."""

    def __init__(self, path: Path, form: Form, tags: Sequence[str], header: list[str]) -> None:
        self._path, self._form, self._tags, self._header = path, form, list(tags), Header(path, header)
        try:
            Rows(path, header, tags, form, Faults())
        except ConfigError as e:
            raise ConfigError(f"{e}{self._one_cell(header)}") from e
        self._width = len(self._header.names)
        self.notes: list[str] = []  # what is left out and counted

    def _one_cell(self, header: Sequence[str]) -> str:
        """Advice for a header that another delimiter would split."""
        other = max(";\t,|", key="".join(header).count)
        if len(header) == 1 and other in header[0]:
            return f". The header is one cell, {header[0][:SHOWN]!r}: say delimiter = {_toml(other)}"
        return ""

    def problems(self, rows: list[Row], follow: bool, later: Container[str]) -> list[str]:
        """The problems of some rows; each kind with the first row that has it."""
        if not rows:
            return [] if follow else ["has no rows"]
        rows = [r for r in rows if numbered(list(map(one_line, r.cells))) != self._header.names]  # it may come again
        made = self._unless_few([text for row in rows if (text := self._cells(row))], len(rows))
        rows = [r for r in rows if not self._cells(r)]
        if self._form.time_column:
            made += self._times(self._of_tags(rows), follow)
        made += self._qualities(rows)
        return [*made, *(self._tags_of(rows, later) if self._form.tag_column else self._values(rows))]

    def _unless_few(self, wrong: list[str], rows: int) -> list[str]:
        """The first of these problems; none, and a note, where few of the rows have one."""
        if not wrong or len(wrong) * FEW > rows:
            return wrong[:1]
        self.notes.append(f"{wrong[0].rstrip('.')}. {_of(len(wrong), rows)} left out")
        return []

    def _qualities(self, rows: list[Row]) -> list[str]:
        """A problem when no value has a quality that is used."""
        form, examples = self._form, list[str]()

        def count(what: str, by: int = 1, example: str = "") -> None:
            examples.append(example)

        if not (form.quality_column or form.quality_columns):
            return []
        read = Rows(self._path, self._header.names, self._tags, form, Faults(count))
        made = [reading for row in rows for reading in read.readings(row.cells, 0)]
        if not examples or any(r.quality is not Quality.BAD for r in made):
            return []
        used = ", ".join(map(_toml, (*form.good, *form.uncertain)))
        return [f"no value has a quality that is used, e.g. {examples[0]}; used are (good, uncertain): {used}"]

    def _of_tags(self, rows: list[Row]) -> list[Row]:
        """The rows of the wanted tags; those of others need no time."""
        if not self._form.tag_column:
            return rows
        at = self._header.at(self._form.tag_column)
        return [row for row in rows if row.cells[at].strip() in self._tags]

    def _cells(self, row: Row) -> str:
        cells = row.cells
        if len(cells) == self._width or (len(cells) > self._width and not any(map(str.strip, cells[self._width :]))):
            return ""
        why = " A decimal comma beside the delimiter ',' needs quotes." if self._form.delimiter == "," else ""
        return f"row {row.number} has {len(cells)} cells, the header {self._width}.{why}"

    def _times(self, rows: list[Row], follow: bool) -> list[str]:
        clock, form = Times(self._header, self._form), self._form
        tag_at = self._header.at(form.tag_column) if form.tag_column else None
        timed, wrong = list[tuple[Row, int]](), list[str]()
        for row in rows:
            try:
                timed.append((row, clock.parse(row.cells, row.cells[tag_at] if tag_at is not None else "")))
            except ValueError as e:
                wrong.append(self._where(row) + self._no_time(clock.text(row.cells), e))
        if made := self._unless_few(wrong, len(rows)):
            return made
        rows, times_ns = [row for row, _ in timed], [at for _, at in timed]
        tags = [row.cells[tag_at] for row in rows] if tag_at is not None else []
        found = order.of_rows(times_ns, tags)
        again = order.runs(tags) > len(set(tags))  # a writer comes back to a tag; an export is whole
        return self._back(rows, times_ns, clock, found, again) if follow else []

    def _where(self, row: Row) -> str:
        return f"row {row.number}, column {self._form.time_column!r}: "

    def _back(self, rows: list[Row], times_ns: list[int], clock: Times, found: order.Order, again: bool) -> list[str]:
        """Words about rows that go back in a file that is followed: whether they come too late, windows tell."""
        if found.at < 0:
            return []
        row, hint = rows[found.at], "; a file that is followed grows with newer rows at its end"
        if found.kind == "hour again" and self._form.time_zone == "UTC":
            hint = '; if clocks were set back there, say time_zone, e.g. "Europe/Berlin"'
        text = f"{clock.text(row.cells)[:SHOWN]!r} is before the row above it"
        text = f"{self._where(row)}{text}: {_ORDERS[found.kind]}{hint}. Without tail, it is sorted and replayed"
        behind = sum(at < newest for at, newest in zip(times_ns, accumulate(times_ns, max), strict=True))
        harmless = again if found.kind == "tag by tag" else found.kind == "unsorted" and 2 * behind <= len(rows)
        if not harmless:
            return [text]
        self.notes.append(f"{text}. {_of(behind, len(rows))} behind those above, and dropped where too late")
        return []

    def _no_time(self, cell: str, why: ValueError) -> str:
        if (
            isinstance(why, times.OutOfRangeError)
            or self._form.time_format
            or "time_format" in str(why)
            or "time_zone" in str(why)
        ):
            return str(why)
        if not any(map(str.isdigit, cell)):
            return f"{cell[:SHOWN]!r} is no time: such rows are left out; leave them out of the file"
        guessed = format_of([cell])
        return f"{cell[:SHOWN]!r} is no time; say time_format" + (f" = {_toml(guessed)}" if guessed else "")

    def _values(self, rows: list[Row]) -> list[str]:
        """Cells that would be numbers in another form."""
        number = reader(self._form)
        made = []
        for tag in self._tags:
            place = self._header.at(tag)
            for row in rows:
                cell = row.cells[place].strip()
                if number(cell) is None and _is_like_a_number(cell):
                    text = f"{cell[:SHOWN]!r} is not a number{self._other(cell)}"
                    made.append(f"row {row.number}, column {tag!r}: {text}")
                    break
        return made

    def _other(self, cell: str) -> str:
        comma, dot = cell.rfind(","), cell.rfind(".")
        if comma >= 0 and self._form.decimal == "." and not self._form.thousands:
            return '; say decimal = ","' + (', thousands = "."' if 0 <= dot < comma else "")
        return "; say decimal and thousands" if comma >= 0 or dot >= 0 else ""

    def _tags_of(self, rows: list[Row], later: Container[str]) -> list[str]:
        """Wanted tags that no row has; and values that would be numbers in another form."""
        at, value_at = self._header.at(self._form.tag_column), self._header.at(self._form.value_column)
        there = {row.cells[at].strip() for row in rows}
        number = reader(self._form)
        made = []
        for row in rows:
            cell = row.cells[value_at].strip()
            if row.cells[at].strip() in self._tags and number(cell) is None and _is_like_a_number(cell):
                text = f"{cell[:SHOWN]!r} is not a number{self._other(cell)}"
                made.append(f"row {row.number}, column {self._form.value_column!r}: {text}")
                break
        missing = [tag for tag in self._tags if tag not in there and tag not in later]
        return made + [f"column {self._form.tag_column!r} has no tag {t!r}; {hint(t, there)}" for t in missing]


def _of(count: int, rows: int) -> str:
    return f"{count:,} of the first {rows:,} rows {'is' if count == 1 else 'are'}"


def _toml(text: str) -> str:
    """Text as TOML writes it."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\t", "\\t") + '"'
