# SPDX-License-Identifier: Apache-2.0
"""How a file writes a table: the keys that sources, stations and `train --data` share, checked when they are read."""

from __future__ import annotations

import codecs
import re
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from fedge_models.system import times
from fedge_models.system.choices import hint
from fedge_models.system.structs import known

from .strptime import Format

# Names of `time_format`; anything else is a format of strptime.
NAMED_FORMATS = (
    *("", "unix", "unix-ms", "unix-us", "unix-ns", "excel", "excel-1904", "wincc", "matlab", "labview", "since-2000"),
    *("since-2001", "filetime", "ticks", "elapsed"),
)
Character = Annotated[str, msgspec.Meta(max_length=1)]
Count = Annotated[int, msgspec.Meta(ge=0)]
# Cells that mean "no value" in a column of numbers, in any letter case.
MARKERS = (
    "bad", "#n/a", "n/a", "na", "nan", "-nan", "--", "---", "----", "-", "null", "none", "no data", "#value!", "#ref!",
    "#div/0!", "#num!", "#null!", "#name?", "error", "inf", "-inf", "1.#qnan", "-1.#ind", "1.#inf", "bad input",
    "i/o timeout", "comm fail", "out of service", "not connect",
)  # fmt: skip
# Codes of OPC UA with 0x and eight digits are known, too.
GOOD = ("good", "g", "ok", "valid", "true", "192", "1", "0xc0", "good, non-specific")
UNCERTAIN = ("uncertain", "questionable", "64", "0x40")


@known
class TableForm(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How the text of a table is written, and where its times are."""

    encoding: str = ""  # e.g. "cp1252", "utf-16-le"; empty: what its byte order mark says, else UTF-8
    delimiter: Character = ""  # "\t": tab, " ": any number of spaces; empty: , ; or tab, which the header has most
    decimal: Literal[".", ","] = "."
    thousands: Literal["", ".", ",", " ", "'"] = ""  # between groups of three digits; " " also without a break
    skip_rows: Count = 0  # lines before the header
    comment: str = ""  # lines that begin with it are left out
    columns: tuple[str, ...] = ()  # names of the columns of a file without a header line
    skip_after: Count = 0  # lines after the header, e.g. units
    time_column: str = ""  # of the times
    date_column: str = ""  # of the dates, where they stand apart; a space is set between both
    time_format: str = ""  # of numbers or text; empty: ISO 8601 or Unix time of any unit
    time_zone: str = "UTC"  # of times without an offset: "Europe/Berlin", or "+01:00" all the year
    sheet: str = ""  # of an .xlsx file; empty: the first

    def __post_init__(self) -> None:
        """Raise ValueError for a key that cannot be meant."""
        for check in (_check_encoding, _check_numbers, _check_times):
            check(self)


@known
class Form(TableForm, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table of readings: a column a tag, or (long) a row a value."""

    tag_column: str = ""  # long: a row has the value of one tag, whose name is in this column
    value_column: str = ""  # long: the values
    quality_column: str = ""  # of the row; with {tag}: of each tag, e.g. "{tag}_quality"; "next": behind each tag's
    quality_columns: dict[str, str] = {}  # per tag, where no pattern names them: { temp = "Status#1" }
    good: tuple[str, ...] = GOOD  # qualities of values that are used, in any letter case
    uncertain: tuple[str, ...] = UNCERTAIN  # used and counted; any other quality is bad
    empty: Literal["gap", "unchanged"] = "gap"  # an empty cell; "unchanged": no new value, the last one counts
    markers: tuple[str, ...] = MARKERS  # cells of numeric columns that mean "no value", in any letter case

    def __post_init__(self) -> None:
        """Raise ValueError for a key that cannot be meant."""
        super().__post_init__()
        if bool(self.tag_column) != bool(self.value_column):
            raise ValueError("tag_column and value_column are given together or not at all")
        if self.tag_column and "{tag}" in self.quality_column:
            raise ValueError("quality_column: with tag_column, each row has one quality; expected a column's name")
        if self.quality_columns and (self.quality_column or self.tag_column):
            raise ValueError("quality_columns: is of tables with a column a tag, and takes the place of quality_column")
        if self.tag_column and self.quality_column == "next":
            raise ValueError('quality_column: "next" is of tables with a column a tag; expected a column\'s name')


def is_workbook(path: Path) -> bool:
    """Whether the file is read as an Excel workbook."""
    return path.suffix.lower() in (".xlsx", ".xlsm")


def _check_encoding(form: TableForm) -> None:
    if not form.encoding:
        return
    try:
        codec = codecs.lookup(form.encoding).name
        plain = "a,1\n".encode(codec)
    except (LookupError, UnicodeError, TypeError) as e:
        raise ValueError(f"encoding: {form.encoding!r} is not known, e.g. utf-8, cp1252, utf-16-le") from e
    if plain != b"a,1\n" and not codec.startswith("utf-16"):
        raise ValueError(f"encoding: {form.encoding!r} is not supported: a line end is not one byte, nor UTF-16")


def _check_numbers(form: TableForm) -> None:
    if form.decimal == form.thousands:
        raise ValueError(f"decimal and thousands are both {form.decimal!r}")
    if form.columns and not form.delimiter:
        raise ValueError("delimiter: missing; without a header line, it cannot be found from that")
    if form.delimiter in ('"', "\r", "\n", "\0"):
        raise ValueError(f"delimiter: {form.delimiter!r} cannot be one")


def _check_times(form: TableForm) -> None:
    if form.date_column and not form.time_column:
        raise ValueError("date_column: time_column is missing; a file with one column for both has only time_column")
    if form.time_format not in NAMED_FORMATS:
        _check_format(form.time_format)
    try:
        times.find_zone(form.time_zone)
    except ValueError as e:
        raise ValueError(f"time_zone: {e}") from e


def _check_format(text: str) -> None:
    if "%" not in text:
        names = [name for name in NAMED_FORMATS if name]
        raise ValueError(f"time_format: {text!r}: {hint(text, names)}, or a format such as '%d.%m.%Y %H:%M:%S'")
    try:
        made = Format(text)
    except (ValueError, re.error) as e:
        raise ValueError(f"time_format: {text!r}: {e}") from e
    if not made.has_date:
        raise ValueError(f"time_format: {text!r} has no year, month and day; a date apart is named by date_column")
