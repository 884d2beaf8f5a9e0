# SPDX-License-Identifier: Apache-2.0
"""A database that goes on: set aside when it is damaged, begun anew with what can still be read, and, where the caller
wants that, continued in memory while the disk takes nothing.

Promises: a file is set aside only for what SQLite's error code calls damaged, whenever that shows; one that is busy,
full, read-only, of another program or version is never renamed and never deleted. What is held in memory is written to
the file as soon as the disk takes it. `problem` says what is wrong now; what was set aside is in `damage`'s reports.
Leaves to the caller what the rows mean: a row may be well-formed and wrong.
"""

from __future__ import annotations

import functools
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from pathlib import Path
from types import FunctionType
from typing import Any, TypeVar

from ..errors import StorageError
from . import damage, database, salvage
from .copies import in_memory, scratch_copy
from .database import Durability

logger = logging.getLogger(__name__)

CHECK_S = 1.0  # how long a file is checked when it is opened; what shows later is handled then
TRY_S = 5.0  # how often a disk that failed is tried again
NOWHERE = Path("/dev/null/none")  # no file can be there
_abandoned: list[sqlite3.Connection] = []  # see `_abandon_file`; few, and closed with the process
_STEPS = 20_000  # of SQLite's machine, between two looks at the clock

Class = TypeVar("Class", bound=type)


class MovedError(StorageError):
    """The call failed and changed nothing; another file, or memory, takes its place now. Once more is worth it."""


def retried(store: Class) -> Class:
    """A class decorator: call each public method once more when the database has moved."""
    for name in dir(store):
        method = getattr(store, name)
        if not name.startswith("_") and isinstance(method, FunctionType):
            setattr(store, name, _once_more(method))
    return store


def _once_more(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(*values: Any, **named: Any) -> Any:
        try:
            return method(*values, **named)
        except MovedError:
            return method(*values, **named)

    return call


class HealingDatabase:
    """One file and its connection. Thread-safe. Never raises when it is made. Without a path, all is in memory.

    name: what messages call it. memory: continue in memory while the disk fails; without, every call then raises
    StorageError. beside: another connection of this process to the same file; the two take turns. heals: whether to
    set a damaged file aside; not while another process may use it. prepare: called in a transaction after the tables
    were made, to change those of an earlier version.
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
    ) -> None:
        self._path, self._schema, self._name, self._synchronous = path or NOWHERE, schema, name, synchronous
        self._to_memory, self._heals, self._prepare = memory, heals, prepare
        self._lock: AbstractContextManager[bool] = beside._lock if beside else threading.RLock()
        self._family: list[HealingDatabase] = beside._family if beside else []
        self._family.append(self)
        self._file: sqlite3.Connection | None = None
        self._inode = 0
        self._held: sqlite3.Connection | None = None  # what stands in for the file
        self._whole = False  # whether that began as a copy of the whole file
        self._copied: int | None = None  # inode of that file
        self._tried = float("-inf")  # monotonic, s
        self._stale = False  # the connection has to be opened again when the disk can be written
        self._closed = False
        self.problem: str | None = None
        if path is None:
            self._tried = float("inf")
            self._hold()
            return
        with self._lock, suppress(StorageError):
            self._connect()

    @property
    def in_memory(self) -> bool:
        """Whether what is written now would not survive the process."""
        return self._held is not None

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection to read from, locked. Raises StorageError, MovedError."""
        with self._lock:
            connection = self._connection()
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
            if connection is self._file:
                self.problem = None

    def rows(self, sql: str, *values: object) -> list[Any]:
        """All rows that a query finds. Raises StorageError."""
        try:
            with self.reading() as db:
                return db.execute(sql, values).fetchall()
        except MovedError:
            with self.reading() as db:
                return db.execute(sql, values).fetchall()

    def run(self, sql: str, *values: object) -> None:
        """Run one statement in a transaction. Raises StorageError."""
        try:
            with self.transaction() as db:
                db.execute(sql, values)
        except MovedError:
            with self.transaction() as db:
                db.execute(sql, values)

    def sync(self) -> None:
        """Make durable what was committed with NORMAL. Raises StorageError."""
        with self.reading() as db:
            db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def close(self) -> None:
        """Close the file, after a last attempt to write what is held in memory."""
        with self._lock:
            if self._held is not None and self._path != NOWHERE:
                self._tried = float("-inf")
                with suppress(StorageError):
                    self._connection()
            self._closed = True
            self._close_file()
            if self._held is not None:
                self._held.close()

    def _recovered(self, error: sqlite3.Error, verb: str) -> StorageError:
        """What to raise, after the connection was replaced if that can help."""
        words = f"{self._name} cannot be {verb}: {error}"
        try:
            if self._recover(error):
                return MovedError(words)
        except (sqlite3.Error, StorageError) as e:
            self.problem = str(e)
        return StorageError(words)

    def _recover(self, error: sqlite3.Error) -> bool:
        """Whether a call is worth repeating, on another connection."""
        if database.is_damage(error):
            return self._replace(error)
        if database.is_disk_failure(error):
            self.problem = f"{self._path}: {error}"
            self._stale = self._stale or database.is_read_only(error)
            return self._held is None and self._hold()
        return False

    # the file

    def _connection(self) -> sqlite3.Connection:
        """The file's connection, or the one in memory that stands in for it. Raises StorageError."""
        if self._closed:
            raise StorageError(f"{self._name} is closed")
        if self._file is not None and self._held is None and self._moved():
            self._follow()
        waits = self._file is None or self._held is not None or self._stale
        if waits and time.monotonic() - self._tried >= TRY_S:
            self._connect()
        if self._held is not None:
            return self._held
        if self._file is None:
            raise StorageError(f"{self._name} cannot be opened: {self.problem}")
        return self._file

    def _connect(self) -> None:
        """Open the file and write to it what was held in memory meanwhile; hold it in memory when that fails."""
        self._tried = time.monotonic()
        try:
            self._open_again()
            try:
                self._return()
            except sqlite3.Error as e:
                if not database.is_damage(e):
                    raise
                self._begin_anew(e)
                self._return()
            self.problem = None
        except (sqlite3.Error, StorageError, OSError) as e:
            if self.problem is None:
                logger.error("%s: %s", self._name, e)
            self.problem = str(e)
            self._stale = self._stale or (isinstance(e, sqlite3.Error) and database.is_read_only(e))
            if not self._hold():
                raise StorageError(f"{self._name} cannot be opened: {e}") from e

    def _open_again(self) -> None:
        """Have the file that has the name now open. Raises StorageError."""
        if self._stale:
            for one in self._family:  # connections of one process share what SQLite opened read-only
                one._stale = False
                if not one._moved():
                    one._close_file()
                    one._tried = float("-inf")
            self._tried = time.monotonic()
        if self._file is not None and not self._moved():
            return
        self._whole = self._whole and _inode(self._path) in (None, self._copied)  # else the file's rows count too
        self._abandon_file()
        try:
            self._open()
        except StorageError as e:
            if not isinstance(e.__cause__, sqlite3.Error) or not database.is_damage(e.__cause__):
                raise
            self._begin_anew(e.__cause__)

    def _open(self) -> None:
        made = database.open_database(self._path, self._schema, self._synchronous)
        with database.closed_on_error(made):
            try:
                _check(made)
                self._make_ready(made)
            except sqlite3.Error as e:
                raise StorageError(f"{self._path}: {e}") from e
        self._file, self._inode = made, self._path.stat().st_ino

    def _make_ready(self, made: sqlite3.Connection) -> None:
        if self._prepare is not None:
            with database.undone_on_error(made):
                self._prepare(made)

    def _moved(self) -> bool:
        """Whether the name stands for another file than the one that is open, or for none."""
        return _inode(self._path) != self._inode

    def _follow(self) -> None:
        """Take the file that has the name now; if there is none, write it again from the one that is open."""
        if not self._path.exists():
            logger.error("%s: %s was removed; it is written again", self._name, self._path)
            self._hold()
        self._abandon_file()
        self._tried = float("-inf")

    def _abandon_file(self) -> None:
        """Leave the connection to a file that lost its name open: closed, SQLite would delete the log of that name,
        which may be another file's by now."""
        if self._file is not None:
            _abandoned.append(self._file)
            self._file = None

    def _close_file(self) -> None:
        if self._file is not None:
            with suppress(sqlite3.Error):
                self._file.close()
            self._file = None

    # damage

    def _replace(self, error: sqlite3.Error) -> bool:
        """Set the damaged file aside and begin a new one, unless another connection has; whether there is one."""
        if self._held is not None:  # no disk damages what is in memory
            return False
        self._tried = float("-inf")
        if self._moved():
            self._abandon_file()
        else:
            self._begin_anew(error)
        return True

    def _begin_anew(self, error: sqlite3.Error) -> None:
        if not self._heals:
            raise StorageError(f"{self._path}: {error}; the agent sets it aside when it starts or uses it") from error
        for one in self._family:
            one._close_file()
            one._tried = float("-inf")
        aside = damage.set_aside(self._path)
        self._open()
        assert self._file is not None
        came = {table: n for table, n in self._salvaged(aside, self._file).items() if n}
        left = ", ".join(f"{n} {table}" for table, n in came.items()) or "nothing"
        damage.report(self._path, aside, f"{error}; a new one is begun with what could be read: {left}")

    def _salvaged(self, aside: Path, target: sqlite3.Connection) -> dict[str, int]:
        try:
            with (
                scratch_copy(aside) as copied,
                closing(sqlite3.connect(copied)) as source,
                database.undone_on_error(target),
            ):
                return salvage.copy(source, target)
        except (sqlite3.Error, OSError):
            return {}

    # memory

    def _hold(self) -> bool:
        """Continue in memory, if that is wanted; whether it is."""
        if self._held is not None or not self._to_memory:
            return self._held is not None
        self._tried = max(self._tried, time.monotonic())
        self._copied = self._inode if self._file is not None else _inode(self._path)
        self._held, self._whole = in_memory(self._file, self._path, self._schema)
        self._make_ready(self._held)
        if self._path == NOWHERE:
            return True
        what = "all of it" if self._whole else "what comes from now on"
        logger.error("%s: %s is held in memory, and would not survive the end of this process", self._name, what)
        return True

    def _return(self) -> None:
        """Write to the file what was held in memory. Raises sqlite3.Error while the disk takes nothing."""
        if self._held is None:
            return
        assert self._file is not None
        if self._whole:
            with _quick(self._file):
                self._held.backup(self._file)
        else:
            with database.undone_on_error(self._file):
                salvage.copy(self._held, self._file, new_ids=True)
        self._held.close()
        self._held = None
        logger.warning("%s: written to %s again", self._name, self._path)


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except OSError:
        return None


def _check(connection: sqlite3.Connection) -> None:
    """Raise sqlite3.DatabaseError for a page that is damaged, as far as that shows within CHECK_S."""
    until = time.monotonic() + CHECK_S
    connection.set_progress_handler(lambda: time.monotonic() > until, _STEPS)
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


@contextmanager
def _quick(connection: sqlite3.Connection) -> Iterator[None]:
    """Wait for no other process meanwhile: `backup` would wait without end."""
    connection.execute("BEGIN IMMEDIATE")  # raises when the disk, or another process, does not let us
    connection.execute("ROLLBACK")
    yield
