# SPDX-License-Identifier: Apache-2.0
"""The last rows of a file, read from its end: what a long file looks like today, without reading all of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path

from fedge_models.errors import ConfigError, DataError

from ...types import Reading
from . import records
from .encoding import Encoding
from .faults import Faults
from .first_values import how_many
from .form import Form
from .lines import WholeFile
from .opened import open_file
from .rows import Rows

SMALL = 1 << 18  # bytes; a file that has no more is read as a whole
MOST = 1 << 24  # bytes that are read of the end
MOST_PACKED = 1 << 22  # bytes of a compressed file, all of which is unpacked


def timed(path: Path, form: Form, tags: Sequence[str]) -> list[tuple[int, list[Reading]]]:
    """The last rows with their times, and readings of these times; none of a compressed file that is too long."""
    size = path.stat().st_size
    if path.suffix == ".gz" and size > MOST_PACKED:
        return []
    table = WholeFile(path, form, Faults())
    try:
        first = next(iter(table), None)
        if first is None:
            return []
        rows = Rows(path, table.header, tags, form, Faults(), table.delimiter)
        few = how_many(form, tags)
        whole = path.suffix != ".gz" and size <= SMALL
        found = None if whole or table.encoding is None else _at_the_end(path, form, table, rows, few)
        if found is None:
            found = deque((row.cells for row in chain([first], table)), few)
        return list(_read(found, rows))
    finally:
        table.close()


def tags_there(path: Path, form: Form, tags: Sequence[str]) -> set[str]:
    """Which of the tags the last rows have; none of a file that cannot be read."""
    try:
        return {reading.tag for _, readings in timed(path, form, tags) for reading in readings}
    except (ConfigError, DataError, OSError):  # the first rows say why
        return set()


def _read(cells: Iterable[list[str]], rows: Rows) -> Iterator[tuple[int, list[Reading]]]:
    for row in cells:
        at = rows.time_ns(row) if rows.fits(row) else None
        if at is not None and (found := rows.readings(row, at)):
            yield at, found


def _at_the_end(path: Path, form: Form, table: WholeFile, rows: Rows, few: int) -> deque[list[str]] | None:
    """The cells of the last rows; None: all of the file has to be read."""
    assert table.encoding is not None
    lines = _lines(path, table.encoding, few)
    if lines is None:
        return None
    if form.comment:
        lines = [line for line in lines if not line.startswith(form.comment)]
    made: deque[list[str]] = deque(maxlen=few)
    for line in records.mended(lines, len(table.header), table.delimiter)[0]:
        try:
            made.append(rows.cells(line))
        except DataError:  # the first rows say so
            continue
    return made


def _lines(path: Path, encoding: Encoding, few: int) -> list[str] | None:
    """Whole lines at the end of the file, as many or more; None: they begin at its beginning."""
    file = open_file(path)
    try:
        end, size, unit = file.size(), SMALL, len(encoding.newline)
        while size < end - encoding.mark:
            begin = end - size
            begin -= (begin - encoding.mark) % unit
            data = file.pread(end - begin, begin)
            data = data[encoding.first_end(data) : encoding.cut(data)]  # the first line may be half of one
            lines = [line for line in encoding.lines(data) if line.strip()]
            if len(lines) > few or size >= MOST:
                return lines
            size *= 4
        return None
    finally:
        file.close()
