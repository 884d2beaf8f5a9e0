# SPDX-License-Identifier: Apache-2.0
"""A database in memory that stands in for a file while its disk takes nothing, and is written to it afterwards."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from . import database, salvage
from .copies import in_memory
from .database_file import DatabaseFile, inode


class StandIn:
    """What stands in for a file; it begins as a copy of the whole file where that can be read and is small enough."""

    def __init__(self, file: DatabaseFile) -> None:
        self._file, self._copied = file, file.inode
        self.connection, self.whole = in_memory(file.connection, file.path, file.tables.schema)
        with database.closed_on_error(self.connection):
            file.tables.make_ready(self.connection)

    def before_reopening(self) -> None:
        """Look at the file before it is opened again: the rows of another one than was copied count too."""
        self.whole = self.whole and inode(self._file.path) in (None, self._copied)

    def write_back(self) -> None:
        """Write what came to the file, which is open. Raises sqlite3.Error while the disk takes nothing."""
        target = self._file.connection
        assert target is not None
        if self.whole:
            with _quick(target):
                self.connection.backup(target)
        else:
            with database.undone_on_error(target):
                salvage.copy(self.connection, target, new_ids=True)


@contextmanager
def _quick(connection: sqlite3.Connection) -> Iterator[None]:
    """Wait for no other process meanwhile: `backup` would wait without end."""
    connection.execute("BEGIN IMMEDIATE")  # raises when the disk, or another process, does not let us
    connection.execute("ROLLBACK")
    yield
