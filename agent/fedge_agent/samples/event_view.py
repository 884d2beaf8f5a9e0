# SPDX-License-Identifier: Apache-2.0
"""What is shown of the events: read from a file that need not be writable, or from what its writer still holds.

Leaves what people do with events to `event_book`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from fedge_models.errors import StorageError
from fedge_models.system import database, salvage
from fedge_models.system.copies import open_to_read

from . import event_table, tables
from .event_table import Note, Row, Shelf

SHOWN = ("events", "withheld", "event_notes", "shelves")  # tables


class View(NamedTuple):
    """Events, newest first; notes, oldest first; what is shelved; windows that each event withholds."""

    rows: list[Row]
    notes: list[Note]
    shelves: list[Shelf]
    withheld: dict[str, int]
    problem: str = ""  # why it is not in the file


def of(db: sqlite3.Connection, samples: sqlite3.Connection | None = None) -> View:
    """What a connection shows; samples: where the windows are, if not there. Raises sqlite3.Error."""
    found = event_table.withheld_by_event(db, samples)
    return View(event_table.events(db), event_table.notes(db), event_table.shelves(db), found)


def of_file(path: Path) -> View:
    """What a file shows. Raises StorageError."""
    opened = open_to_read(path, tables.SCHEMA)
    try:
        without = not set(SHOWN) <= set(salvage.tables(opened))  # of a version that had no events
        return View([], [], [], {}) if without else of(opened)
    except sqlite3.Error as e:
        raise StorageError(f"{path}: cannot be read: {database.explain(e, path)}") from e
    finally:
        opened.close()


def of_waiting(
    stored: sqlite3.Connection | None, writes: Iterable[Callable[[sqlite3.Connection], object]], problem: str
) -> View:
    """What the file would show if it had taken the writes that wait; without one, what they alone show."""
    made = sqlite3.connect(":memory:", isolation_level=None)
    try:
        made.executescript(tables.SCHEMA)
        if stored is not None:
            salvage.copy(stored, made, only=SHOWN)
        for write in writes:
            write(made)
        return of(made, stored)._replace(problem=problem)
    finally:
        made.close()
