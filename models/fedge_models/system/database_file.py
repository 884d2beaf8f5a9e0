# SPDX-License-Identifier: Apache-2.0
"""One database file and the connection to it: opened, checked, replaced by a new one when it is damaged.

Promises: a connection is checked before it is used; it is noticed when the name stands for another file by now; the
rows of a damaged file that can still be read are in the one that replaces it. Leaves to `healing` when to open, to
replace and to close.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple

from ..errors import StorageError
from . import damage, database, salvage
from .copies import open_to_read, scratch_copy
from .database import Durability

CHECK_S = 1.0  # how long a file is checked when it is opened; what shows later is handled then
STEPS = 20_000  # of SQLite's machine, between two looks at the clock
AT_ONCE = 1 << 20  # bytes
_abandoned: list[sqlite3.Connection] = []  # see `DatabaseFile.abandon`; few, and closed with the process


class Tables(NamedTuple):
    """The tables of a database; prepare: called in a transaction, to change those of an earlier version."""

    schema: str
    prepare: Callable[[sqlite3.Connection], None] | None = None

    def make_ready(self, connection: sqlite3.Connection) -> None:
        """Change tables of an earlier version. Raises sqlite3.Error."""
        if self.prepare is not None:
            with database.undone_on_error(connection):
                self.prepare(connection)


class DatabaseFile:
    """The file at a path; closed until `open`."""

    def __init__(self, path: Path, tables: Tables, synchronous: Durability) -> None:
        self.path, self.tables, self._synchronous = path, tables, synchronous
        self.connection: sqlite3.Connection | None = None
        self._reader: sqlite3.Connection | None = None
        self._inode = 0
        self._looked: tuple[int, int] | None = None  # inode and handle, see `why_not_read`

    @property
    def moved(self) -> bool:
        """Whether the name stands for another file than the one that was opened, or for none."""
        return inode(self.path) != self._inode

    @property
    def inode(self) -> int | None:
        """The inode of the file that is open, or else of the one that has the name; None: there is none."""
        return self._inode if self.connection is not None else inode(self.path)

    def open(self) -> None:
        """Open the file that has the name, or a new one. Raises StorageError, caused by sqlite3.Error."""
        made = database.open_database(self.path, self.tables.schema, self._synchronous)
        with database.closed_on_error(made):
            try:
                _check(made)
                self.tables.make_ready(made)
            except sqlite3.Error as e:
                raise StorageError(f"{self.path}: {self.explain(e)}") from e
        self.connection, self._inode = made, self.path.stat().st_ino
        self._close_reader()

    def explain(self, error: BaseException) -> str:
        """What an error of this file means."""
        return database.explain(error, self.path)

    def why_not_read(self) -> OSError | None:
        """Why the disk does not read the file, which SQLite calls damage, too (SQLITE_IOERR_CORRUPTFS); None if it
        reads it."""
        try:
            handle, place = self._handle(), 0
            while found := len(os.pread(handle, AT_ONCE, place)):
                place += found
        except FileNotFoundError:
            return None
        except OSError as e:
            return e
        return None

    def _handle(self) -> int:
        """The file, left open: to close it would end the locks that SQLite holds on it for this process (fcntl(2))."""
        now = self.path.stat().st_ino
        if self._looked is None or self._looked[0] != now:
            self._looked = now, os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        return self._looked[1]

    def reader(self) -> sqlite3.Connection | None:
        """A connection that only reads, for while the file cannot be written; None if that cannot be read either."""
        if self._reader is None:
            with suppress(StorageError):
                self._reader = open_to_read(self.path, self.tables.schema)
        return self._reader

    def _close_reader(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def close(self) -> None:
        """Close the connections."""
        self._close_reader()
        if self.connection is not None:
            with suppress(sqlite3.Error):
                self.connection.close()
            self.connection = None

    def abandon(self) -> None:
        """Leave the connection to a file that lost its name open: closed, SQLite would delete the log of that name,
        which may be another file's by now."""
        if self.connection is not None:
            _abandoned.append(self.connection)
            self.connection = None

    def replace(self, error: Exception) -> None:
        """Set the damaged file aside and open a new one with the rows that can be read; no connection may be open.

        Raises StorageError.
        """
        aside = damage.set_aside(self.path)
        self.open()
        assert self.connection is not None
        came = {table: n for table, n in _salvaged(aside, self.connection).items() if n}
        left = ", ".join(f"{n} {table}" for table, n in came.items()) or "nothing"
        damage.report(self.path, aside, f"{error}; a new one is begun with what could be read: {left}")


def inode(path: Path) -> int | None:
    """The inode of the file that has the name; None: there is none, or it cannot be seen."""
    try:
        return path.stat().st_ino
    except OSError:
        return None


def _check(connection: sqlite3.Connection) -> None:
    """Raise sqlite3.DatabaseError for a page that is damaged, as far as that shows within CHECK_S."""
    until = time.monotonic() + CHECK_S
    connection.set_progress_handler(lambda: time.monotonic() > until, STEPS)
    try:
        found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.OperationalError as e:
        if str(e) != "interrupted":
            raise
        found = "ok"
    finally:
        connection.set_progress_handler(None, 0)
    if found != "ok":
        raise sqlite3.DatabaseError(found)


def _salvaged(aside: Path, target: sqlite3.Connection) -> dict[str, int]:
    """Copy what can be read of a file that was set aside; how many rows of each table came."""
    try:
        with (
            scratch_copy(aside) as copied,
            closing(sqlite3.connect(copied)) as source,
            database.undone_on_error(target),
        ):
            return salvage.copy(source, target)
    except (sqlite3.Error, OSError):
        return {}
