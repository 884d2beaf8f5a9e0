# SPDX-License-Identifier: Apache-2.0
"""A database in memory that stands in for a file while its disk takes nothing, and is written to it afterwards."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from ..errors import StorageError
from . import copies, database, salvage
from .database_file import DatabaseFile, inode


class Holding(NamedTuple):
    """What is held in memory of a file, and how it comes back; without functions, all of a small file or nothing.

    fill: (file, memory) copies what is needed of a file of any size; whether that was all of it. merge: (memory, file)
    adds what is new, in a transaction, beside what other processes wrote meanwhile; how many rows of each table were
    new. pages: of 4 KiB, that memory may have.
    """

    fill: Callable[[sqlite3.Connection, sqlite3.Connection], bool] | None = None
    merge: Callable[[sqlite3.Connection, sqlite3.Connection], Mapping[str, int]] | None = None
    pages: int = copies.MOST_PAGES


PLAIN = Holding()


class StandIn:
    """What stands in for a file; it begins with what the file holds, as far as that can be read and there is room."""

    def __init__(self, file: DatabaseFile, holding: Holding = PLAIN) -> None:
        self._copied, self._holding = file.inode, holding
        if holding.fill is None:
            self.connection, self.whole = copies.in_memory(file.connection, file.path, file.tables.schema)
        else:
            self.connection, self.whole = copies.empty_in_memory(file.tables.schema, holding.pages), False
        with database.closed_on_error(self.connection):
            if holding.fill is not None:
                with suppress(sqlite3.Error, StorageError), _opened(file) as source:
                    self.whole = holding.fill(source, self.connection)
            file.tables.make_ready(self.connection)

    def before_reopening(self, path: Path) -> None:
        """Look at the file before it is opened again: the rows of another one than was copied count too."""
        self.whole = self.whole and inode(path) in (None, self._copied)

    def write_back(self, file: DatabaseFile) -> Mapping[str, int]:
        """Write what came to the file, which is open; how many rows of each table were new, where they are merged.

        Raises sqlite3.Error while the disk takes nothing.
        """
        target = file.connection
        assert target is not None
        if self._holding.merge is not None:
            with database.undone_on_error(target):
                return self._holding.merge(self.connection, target)
        if self.whole:
            with _quick(target):
                self.connection.backup(target)
        else:
            with database.undone_on_error(target):
                salvage.copy(self.connection, target, new_ids=True)
        return {}


@contextmanager
def _opened(file: DatabaseFile) -> Iterator[sqlite3.Connection]:
    """A connection to read the file from. Raises StorageError."""
    if file.connection is not None:
        yield file.connection
        return
    made = copies.open_to_read(file.path, file.tables.schema)
    try:
        yield made
    finally:
        made.close()


@contextmanager
def _quick(connection: sqlite3.Connection) -> Iterator[None]:
    """Wait for no other process meanwhile: `backup` would wait without end."""
    connection.execute("BEGIN IMMEDIATE")  # raises when the disk, or another process, does not let us
    connection.execute("ROLLBACK")
    yield
