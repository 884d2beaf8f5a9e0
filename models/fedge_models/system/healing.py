# SPDX-License-Identifier: Apache-2.0
"""A database that goes on: set aside when it is damaged, started over with what can still be read, and, where the
caller wants that, continued in memory while the disk takes nothing.

Promises: a file that cannot be written is still read; it is set aside only for what SQLite's error code calls damaged,
whenever that shows; one that is busy, full, read-only, of another program or version is never renamed and never
deleted. All connections of a process to one file continue in memory together, in one database (`sharing`). What is held
in memory is written to the file as soon as the disk takes it. `problem` says what is wrong now; what was set aside is
in `damage`'s reports. Leaves to the caller what the rows mean: a row may be well-formed and wrong.

This file decides what follows from an error; `database_file` opens and replaces, `stand_in` continues in memory.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..errors import StorageError
from . import damage, database, files
from .database import Durability
from .database_file import DatabaseFile, Tables
from .moved import MovedError, once_more
from .sharing import Sharing
from .stand_in import PLAIN, Holding, StandIn

logger = logging.getLogger(__name__)

TRY_S = 5.0  # how often a disk that failed is tried again
NOWHERE = Path("/dev/null/none")  # no file can be there
AT_ONCE, NEVER = float("-inf"), float("inf")  # when the disk was tried last, for when to try it next


class HealingDatabase:
    """One file and its connection. Thread-safe. Never raises when it is made. Without a path, all is in memory.

    name: what messages call it. memory: continue in memory while the disk fails; without, every call then raises
    StorageError. beside: another connection of this process to the same file; the two take turns, and continue in
    memory together. heals: whether to set a damaged file aside; not while another process may use it. prepare: called
    in a transaction after the tables were made, to change those of an earlier version. holding: what is held in memory.
    """

    def __init__(
        self,
        path: Path | None,
        schema: str,
        name: str,
        synchronous: Durability = "EXTRA",
        memory: bool = False,
        beside: HealingDatabase | None = None,
        heals: bool = True,
        prepare: Callable[[sqlite3.Connection], None] | None = None,
        holding: Holding = PLAIN,
    ) -> None:
        self._file = DatabaseFile(path or NOWHERE, Tables(schema, prepare), synchronous)
        self._name, self._heals = name, heals
        self._shared: Sharing = beside._shared if beside else Sharing(memory, holding)
        self._family: list[HealingDatabase] = beside._family if beside else []
        self._family.append(self)
        self._lock = self._shared.lock
        self._tried = AT_ONCE  # monotonic, s
        self._read_only = False  # it was opened so: it has to be opened again when the disk can be written
        self._closed = False
        self.renewed = 0  # how often a file that was damaged or removed was replaced by a new one
        if path is None:
            self._tried = NEVER
            self._continue_in_memory()
            return
        with self._lock, suppress(StorageError):
            self._connect()

    @property
    def problem(self) -> str | None:
        """Why the file is not written now."""
        return self._shared.problem

    @property
    def _stand_in(self) -> StandIn | None:
        return self._shared.stand_in

    @property
    def in_memory(self) -> bool:
        """Whether what is written now would not survive the process."""
        return self._stand_in is not None

    @property
    def in_memory_s(self) -> float | None:
        """For how long it has been so; None: it is not."""
        return None if self._stand_in is None else time.monotonic() - self._shared.began

    @property
    def moved(self) -> dict[str, int]:
        """How many rows of each table were moved from memory to the file so far, where `holding` merges them."""
        return dict(self._shared.moved)

    @property
    def whole(self) -> bool:
        """Whether what is in memory holds all that the file does."""
        return self._stand_in is not None and self._stand_in.whole

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection to read from, locked; of a file that cannot be written, too. Raises StorageError, MovedError."""
        with self._lock:
            connection = self._connection_to_read()
            try:
                yield connection
            except sqlite3.Error as e:
                raise self._recovered(e, "read") from e

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing, durable on return unless `in_memory`; locked. Raises StorageError, MovedError."""
        with self._lock:
            connection = self._connection()
            try:
                with database.undone_on_error(connection):
                    yield connection
            except sqlite3.Error as e:
                raise self._recovered(e, "written") from e
            if connection is self._file.connection:
                self._shared.problem = None

    @once_more
    def rows(self, sql: str, *values: object) -> list[Any]:
        """All rows that a query finds. Raises StorageError."""
        with self.reading() as db:
            return db.execute(sql, values).fetchall()

    @once_more
    def run(self, sql: str, *values: object) -> None:
        """Run one statement in a transaction. Raises StorageError."""
        with self.transaction() as db:
            db.execute(sql, values)

    def sync(self) -> None:
        """Make durable what was committed with NORMAL. Raises StorageError."""
        with self.reading() as db:
            db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def close(self) -> None:
        """Close the file, after a last attempt to write what is held in memory."""
        with self._lock:
            if self._stand_in is not None and self._file.path != NOWHERE:
                self._tried = AT_ONCE
                with suppress(StorageError):
                    self._connection()
            self._closed = True
            self._file.close()
            if self._stand_in is not None and all(one._closed for one in self._family):
                self._stand_in.connection.close()

    # what follows from an error

    def _recovered(self, error: sqlite3.Error, verb: str) -> StorageError:
        """What to raise, after the connection was replaced if that can help."""
        if self._stand_in is not None:  # no disk is part of this
            return StorageError(f"{self._name} cannot be {verb} in memory: {error}")
        words = f"{self._name} cannot be {verb}: {self._explain(error)}"
        try:
            if self._recover(error):
                return MovedError(words)
        except (sqlite3.Error, StorageError) as e:
            self._shared.problem = self._file.explain(e)
        return StorageError(words)

    def _recover(self, error: sqlite3.Error) -> bool:
        """Whether a call is worth repeating, on another connection."""
        if self._is_damage(error):
            return self._leave_damaged(error)
        if database.is_disk_failure(error) or database.is_damage(error):
            words = self._explain(error)
            self._shared.unread = self._file.why_not_read() is not None
            self._shared.problem = words if words.startswith(str(self._file.path)) else f"{self._file.path}: {words}"
            self._read_only = self._read_only or database.is_read_only(error)
            return self._continue_in_memory()
        return False

    def _is_damage(self, error: BaseException) -> bool:
        """Whether the file is damaged: SQLite says so too of a page that the disk does not read."""
        return database.is_damage(error) and self._file.why_not_read() is None

    def _explain(self, error: BaseException) -> str:
        """What an error means."""
        unread = self._file.why_not_read() if database.is_damage(error) else None
        return self._file.explain(error) if unread is None else f"the disk does not read the file: {unread.strerror}"

    def _leave_damaged(self, error: sqlite3.Error) -> bool:
        """Replace the damaged file, unless another connection has; whether there is a sound one."""
        self._tried = AT_ONCE
        if self._file.moved:
            self._file.abandon()
        else:
            self._replace(error)
        return True

    def _replace(self, error: sqlite3.Error) -> None:
        """Begin a new file in place of the damaged one. Raises StorageError."""
        if not self._heals:
            words = f"{self._file.path}: {self._file.explain(error)}"
            raise StorageError(f"{words}; the agent sets it aside when it starts or uses it") from error
        for one in self._family:
            one._file.close()
            one._tried = AT_ONCE
        self._file.replace(error)
        self.renewed += 1

    def _continue_in_memory(self) -> bool:
        """Continue in memory, if that is wanted; whether it is."""
        if self._stand_in is not None or not (self._shared.to_memory or self._file.path == NOWHERE):
            return self._stand_in is not None
        for one in self._family:
            one._tried = max(one._tried, time.monotonic())
        made = self._shared.begin(StandIn(self._file, self._shared.holding))
        if self._file.path != NOWHERE:
            what = "all of it" if made.whole else "what comes from now on"
            logger.error("%s: %s is held in memory, and would not survive the end of this process", self._name, what)
        return True

    # which connection

    def _connection(self) -> sqlite3.Connection:
        """The file's connection, or the one in memory that stands in for it. Raises StorageError."""
        if self._closed:
            raise StorageError(f"{self._name} is closed")
        if self._file.connection is not None and self._stand_in is None and self._file.moved:
            self._follow()
        waits = self._file.connection is None or self._stand_in is not None or self._read_only
        if waits and time.monotonic() - self._tried >= TRY_S * (self._shared.rarer if self._stand_in else 1):
            self._connect()
        if self._stand_in is not None:
            return self._stand_in.connection
        if self._file.connection is None:
            raise StorageError(f"{self._name} cannot be opened: {self.problem}")
        return self._file.connection

    def _connection_to_read(self) -> sqlite3.Connection:
        """The same, or one that only reads while the file cannot be opened to be written. Raises StorageError."""
        try:
            return self._connection()
        except StorageError:
            reader = None if self._closed else self._file.reader()
            if reader is None:
                raise
            return reader

    def _follow(self) -> None:
        """Take the file that has the name now; if there is none, write it again from the one that is open."""
        if not self._file.path.exists():
            if self._continue_in_memory() and self.whole:
                logger.error("%s: %s was removed; it is written again", self._name, self._file.path)
            elif self._heals:
                self._report_removed("without" if self._stand_in is None else "with the newest of")
        self._file.abandon()
        self._tried = AT_ONCE

    def _report_removed(self, what: str) -> None:
        """Report that the file was removed while it was in use, with what it held."""
        try:
            damage.report_gone(self._file.path, f"it was removed; a new one is begun {what} what it held")
            self.renewed += 1
        except StorageError as e:
            logger.error("%s: %s", self._name, e)

    def _connect(self) -> None:
        """Open the file and write to it what was held in memory meanwhile; hold it in memory when that fails."""
        self._tried = time.monotonic()
        try:
            self._look_whether_it_reads()
            self._open_again()
            try:
                self._write_back()
            except sqlite3.Error as e:
                if not self._is_damage(e):
                    raise
                self._replace(e)
                self._write_back()
            self._shared.problem = None
        except (sqlite3.Error, StorageError, OSError) as e:
            words = self._file.explain(e)
            if self.problem is None:
                logger.error("%s: %s", self._name, words)
            self._shared.problem = words
            self._read_only = self._read_only or (isinstance(e, sqlite3.Error) and database.is_read_only(e))
            if not self._continue_in_memory():
                raise StorageError(f"{self._name} cannot be opened: {words}") from e

    def _look_whether_it_reads(self) -> None:
        """Raise OSError while the disk does not read a file that it did not read before: it may take what is written,
        and what was learnt in memory would be gone with the stand-in."""
        if self._shared.unread and self._stand_in is not None and (error := self._file.why_not_read()) is not None:
            raise OSError(f"{self._file.path}: the disk does not read the file: {error.strerror}")

    def _open_again(self) -> None:
        """Have the file that has the name now open. Raises StorageError."""
        if self._read_only:
            self._close_read_only()
        if self._file.connection is not None and not self._file.moved:
            return
        if self._stand_in is not None:
            self._stand_in.before_reopening(self._file.path)
        self._file.abandon()
        if self._heals:  # the disk may not have taken the folder either
            with suppress(OSError):
                files.make_folder(self._file.path.parent)
        try:
            self._file.open()
        except StorageError as e:
            if not isinstance(e.__cause__, sqlite3.Error) or not self._is_damage(e.__cause__):
                raise
            self._replace(e.__cause__)

    def _close_read_only(self) -> None:
        """Close all connections to the file: those of one process share what SQLite opened read-only."""
        for one in self._family:
            one._read_only = False
            if not one._file.moved:
                one._file.close()
                one._tried = AT_ONCE
        self._tried = time.monotonic()

    def _write_back(self) -> None:
        """Write to the file what was held in memory. Raises sqlite3.Error while the disk takes nothing."""
        if self._stand_in is not None and self._file.path != NOWHERE:
            self._shared.end(self._stand_in.write_back(self._file))
            for one in self._family:
                one._tried = AT_ONCE
            logger.warning("%s: written to %s again", self._name, self._file.path)
