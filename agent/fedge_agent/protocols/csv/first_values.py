# SPDX-License-Identifier: Apache-2.0
"""The values in the first rows of a file, as a follower or a replay would deliver them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path

from ...types import Quality, Reading
from .faults import Faults
from .first_rows import ROWS
from .form import Form
from .lines import WholeFile
from .rows import Rows

MOST_TAGS = 50  # for each of which so many rows are read, where a row is a value


def how_many(form: Form, tags: Sequence[str]) -> int:
    """Of how many rows windows are made."""
    return ROWS * min(len(tags), MOST_TAGS) if form.tag_column else ROWS


def timed(path: Path, form: Form, tags: Sequence[str]) -> list[tuple[int, list[Reading]]]:
    """The first rows with their times, and readings of these times; more of them in a table with a row a value."""
    table, made = WholeFile(path, form, Faults()), list[tuple[int, list[Reading]]]()
    try:
        rows = Rows(path, table.header, tags, form, Faults())
        for row in islice(table, how_many(form, tags)):
            at = rows.time_ns(row.cells) if rows.fits(row.cells) else None
            if at is not None and (found := rows.readings(row.cells, at)):
                made.append((at, found))
    finally:
        table.close()
    return made


def values(path: Path, form: Form, tags: Sequence[str]) -> dict[str, Reading]:
    """A reading of each tag in the first rows, of the kind that most of them have."""
    table = WholeFile(path, form, Faults())
    try:
        rows = Rows(path, table.header, tags, form, Faults())
        return usual(r for row in islice(table, ROWS) if rows.fits(row.cells) for r in rows.readings(row.cells, 0))
    finally:
        table.close()


def usual(readings: Iterable[Reading]) -> dict[str, Reading]:
    """A reading of each tag, of the kind that most of them have: a number, or text."""
    found: dict[tuple[str, type], list[Reading]] = {}
    for reading in readings:
        if reading.quality is not Quality.BAD:
            found.setdefault((reading.tag, type(reading.value)), []).append(reading)
    most = sorted(found.items(), key=lambda item: len(item[1]))
    return {tag: readings[0] for (tag, _), readings in most}
