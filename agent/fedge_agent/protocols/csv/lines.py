# SPDX-License-Identifier: Apache-2.0
"""Read a whole file as rows of cells: plain, .gz or .xlsx, in bounded memory, each row with its number in the file."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, NamedTuple, cast

from fedge_models.errors import ConfigError, DataError
from fedge_models.system.plain_file import require_plain

from . import foreign, records
from .cells import Header, delimiter_of, parse
from .encoding import Encoding, find
from .faults import Faults
from .form import TableForm, is_workbook

CHUNK = 1 << 18
COMMENTS = "lines left out as comments"
MAX_LINE = 1 << 20  # bytes; a longer line is left out and counted


class Row(NamedTuple):
    """One row: its number as people count, the first line of the file being 1."""

    number: int
    cells: list[str]


class WholeFile:
    """A file from its beginning. Iterating gives the rows behind the header; close it after.

    Raises ConfigError when it cannot be read, or has no header.
    """

    def __init__(self, path: Path, form: TableForm, faults: Faults, strict: bool = False) -> None:
        self.path, self._form, self._faults, self._strict = path, form, faults, strict
        self._file: IO[bytes] | None = None
        self.encoding: Encoding | None = None
        self.delimiter = form.delimiter
        self._width, self._before = len(form.columns), 0  # lines before the rows
        try:
            rows = self._workbook() if is_workbook(path) else self._text()
            self.header, self._rest = self._split(self._guarded(rows))
        except BaseException:
            self.close()
            raise

    def __iter__(self) -> Iterator[Row]:
        return self._rest

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def _split(self, rows: Iterator[Row]) -> tuple[list[str], Iterator[Row]]:
        """The names of the columns, and the rows behind them."""
        form = self._form
        if form.columns:
            return list(form.columns), rows
        first = next(rows, None)
        if first is None or not form.skip_after:
            return first.cells if first is not None else [], rows
        behind = first.number + form.skip_after
        return first.cells, (row for row in rows if row.number > behind)

    def _guarded(self, rows: Iterable[Row]) -> Iterator[Row]:
        try:
            yield from rows
        except (OSError, EOFError, zlib.error) as e:
            why = (e.strerror if isinstance(e, OSError) else None) or e
            raise ConfigError(f"{self.path}: cannot be read as CSV: {why}") from e

    def _workbook(self) -> Iterator[Row]:
        from .xlsx import rows

        form, width = self._form, len(self._form.columns)
        for number, cells in rows(self.path, form):
            comment = form.comment and cells and cells[0].startswith(form.comment)
            if comment and width:
                note_comment(";".join(cells), self._faults)
            if number > form.skip_rows and any(cells) and not comment:
                width = width or len(cells)
                yield Row(number, cells + [""] * (width - len(cells)))

    def _text(self) -> Iterator[Row]:
        form, number, header = self._form, 0, not self._form.columns
        skip, comment, delimiter = form.skip_rows, form.comment, form.delimiter
        try:
            for lines in self._whole_lines():
                for line in lines:
                    number += 1
                    if number <= skip or not line or line.isspace():
                        continue
                    if comment and line.startswith(comment):
                        if not header:
                            note_comment(line, self._faults)
                        continue
                    if not delimiter:
                        delimiter = self.delimiter = delimiter_of(form, line)
                    at, number = number, number + line.count("\n")
                    try:
                        cells = parse(line, delimiter, self._strict)
                    except DataError as e:
                        if header:
                            raise ConfigError(f"{self.path}: {header_is(at, e)}") from e
                        self._faults.add("lines that are no CSV", f"row {at}: {e}", "lines")
                        continue
                    if header:
                        self._width = len(Header(self.path, cells).names)
                    if header or any(cells):
                        yield Row(at, cells)
                    header = False
        finally:
            self.close()

    def _whole_lines(self) -> Iterator[list[str]]:
        """The lines, those of one row together."""
        rest: list[str] = []
        for lines in self._lines():
            at = 0
            while at < len(lines) and not self._width:  # whoever takes the header sets it
                rest.append(lines[at])
                at += 1
                if self._is_whole(rest):
                    yield ["\n".join(rest)]
                    rest = []
            if self._width:
                made, rest = records.mended(rest + lines[at:], self._width, self.delimiter)
                yield made
        if rest:
            yield rest

    def _is_whole(self, lines: list[str]) -> bool:
        """Whether these lines are the header, or one that stands before it."""
        self._before += 1
        comment = self._form.comment
        if self._before <= self._form.skip_rows or (comment and lines[0].startswith(comment)):
            return True
        return records.is_header(lines, self.delimiter or delimiter_of(self._form, lines[0]))

    def _lines(self) -> Iterator[list[str]]:
        require_plain(self.path)
        opened = gzip.open if self.path.suffix == ".gz" else Path.open
        self._file = file = cast(IO[bytes], opened(self.path, "rb"))
        rest = file.read(CHUNK)
        encoding = self.encoding = named(self.path, self._form, rest)
        rest = rest[encoding.mark :]
        encoding = encoding.ended(rest) or encoding
        while True:
            whole = encoding.cut(rest)
            if whole:
                yield _decoded(encoding, rest[:whole], self._faults)
                rest = rest[whole:]
            data = file.read(CHUNK)
            if not data:
                break
            rest += data
            if len(rest) > MAX_LINE and not encoding.cut(rest):
                rest = self._skipped(encoding, file)
                yield [""]
        if rest:
            yield _decoded(encoding, rest, self._faults)

    def _skipped(self, encoding: Encoding, file: IO[bytes]) -> bytes:
        """Leave out the rest of a line that is too long; what is read of the next ones."""
        self._faults.add(f"lines of more than {MAX_LINE} bytes", "", "lines")
        data = b""
        while part := file.read(CHUNK):
            data += part
            if end := encoding.first_end(data):
                return data[end:]
            data = data[len(data) & ~1 :]
        return b""


def named(path: Path, form: TableForm, start: bytes) -> Encoding:
    """The encoding of a file that begins so. Raises ConfigError, also when it is no text table."""
    try:
        foreign.refuse(start, form.encoding)
        return find(form.encoding, start)
    except DataError as e:
        raise ConfigError(f"{path}: {e}") from e


def header_is(number: int, why: object) -> str:
    """Words for a header that cannot be read."""
    which = "its first line" if number == 1 else f"line {number}"
    return f"{which} is {why}; expected the names of the columns"


def note_comment(line: str, faults: Faults) -> None:
    """Count a line behind the header that is left out as a comment."""
    faults.note(COMMENTS, repr(line[:60]))


def _decoded(encoding: Encoding, data: bytes, faults: Faults) -> list[str]:
    made = encoding.lines(data)
    count_undecodable(encoding, data, made, faults)
    return made


def count_undecodable(encoding: Encoding, data: bytes, lines: Iterable[str], faults: Faults) -> None:
    """Count the lines that have bytes which are not of the encoding."""
    try:
        data.decode(encoding.name)
    except UnicodeDecodeError:
        for line in lines:
            if "\ufffd" in line:
                faults.note(f"lines with bytes that are not {encoding.name}", repr(line[:60]))
