# SPDX-License-Identifier: Apache-2.0
"""SQLite databases that survive a power cut: the one way to open, write and, when damaged, set aside a file.

Promises: what a transaction committed with ``synchronous=EXTRA`` is there after a power cut (in WAL mode NORMAL and
FULL do not promise that); a connection that could not be made usable is closed; a file is set aside only for what
SQLite's error code calls damaged. Leaves to the caller which thread uses a connection when: each has its own lock.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from ..errors import StorageError
from . import files

logger = logging.getLogger(__name__)

BUSY_MS = 10_000  # how long a statement waits for another process
DAMAGED = (11, 26)  # SQLITE_CORRUPT, SQLITE_NOTADB (sqlite.org/rescode.html)

Durability = Literal["EXTRA", "NORMAL"]


def open_database(
    path: Path, schema: str, synchronous: Durability = "EXTRA", page_bytes: int = 4096
) -> sqlite3.Connection:
    """A connection in WAL mode with the schema applied; autocommit, usable from any thread under a lock.

    EXTRA: a commit survives a power cut. NORMAL: the newest commits may not, but the database stays whole. page_bytes:
    of a new file; large values are the cheaper the larger its pages.
    Raises StorageError, also for a file that is no database.
    """
    try:
        return _open(path, schema, synchronous, page_bytes)
    except (sqlite3.Error, OSError) as e:
        raise StorageError(_why_not_opened(path, e)) from e


def open_or_set_aside(path: Path, schema: str, synchronous: Durability = "EXTRA") -> sqlite3.Connection:
    """Open a database; a damaged file is renamed to ``NAME.damaged-TIME``, reported, and a new one begun.

    A file that is sound but cannot be opened (a full disk, no permission, a schema that does not fit) raises
    StorageError and stays where it is.
    """
    try:
        database = _open(path, schema, synchronous, 4096)
        with closed_on_error(database):
            sound = database.execute("PRAGMA quick_check(1)").fetchone()[0] == "ok"
        if sound:
            return database
        database.close()
    except (sqlite3.Error, OSError) as e:
        if not is_damage(e):
            raise StorageError(f"{path}: cannot be opened: {e}") from e
    aside = set_aside(path)
    logger.error("%s was damaged; it is set aside as %s and a new one begun", path, aside.name)
    return open_database(path, schema, synchronous)


def _why_not_opened(path: Path, error: Exception) -> str:
    """Why a file cannot be opened; SQLite does not say that it was not permitted."""
    for place, mode in ((path.parent, os.W_OK | os.X_OK), (path, os.R_OK | os.W_OK)):
        try:
            denied = place.exists() and not os.access(place, mode) and not _read_only(place)
        except PermissionError:  # of a folder above
            denied = True
        if denied:
            return files.explain(PermissionError(), place)
    return f"{path}: cannot be opened: {error}"


def _read_only(place: Path) -> bool:
    """Whether the file system cannot be written, by nobody."""
    return bool(os.statvfs(place).f_flag & os.ST_RDONLY)


def is_damage(error: BaseException) -> bool:
    """Whether SQLite's error code says that the file itself is damaged."""
    if not isinstance(error, sqlite3.Error):
        return False
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:  # Python 3.10 gives no code; it raises this very class for those two and hardly for any other
        return type(error) is sqlite3.DatabaseError
    return int(code) & 0xFF in DAMAGED


def set_aside(path: Path) -> Path:
    """Rename a damaged file and drop its log; its new name. Raises StorageError."""
    aside = path.with_name(f"{path.name}.damaged-{int(time.time())}")
    try:
        path.replace(aside)
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        files.sync_folder(path.parent)
    except OSError as e:
        raise StorageError(f"{path}: is damaged and cannot be set aside: {e.strerror}") from e
    return aside


def damaged_before(path: Path) -> str | None:
    """Name of a file that was set aside from this path and is still there."""
    return min((p.name for p in path.parent.glob(f"{path.name}.damaged-*")), default=None)


@contextmanager
def transaction(database: sqlite3.Connection, what: str) -> Iterator[sqlite3.Connection]:
    """All or nothing, durable on return; the caller holds its lock. Raises StorageError naming `what`."""
    try:
        database.execute("BEGIN IMMEDIATE")
        yield database
        database.execute("COMMIT")
    except BaseException as e:
        with suppress(sqlite3.Error):
            if database.in_transaction:
                database.execute("ROLLBACK")
        if isinstance(e, sqlite3.Error):
            raise StorageError(f"{what} cannot be written: {e}") from e
        raise


@contextmanager
def closed_on_error(database: sqlite3.Connection) -> Iterator[None]:
    """Close the connection when the block raises: nobody else will own it."""
    try:
        yield
    except BaseException:
        database.close()
        raise


def _open(path: Path, schema: str, synchronous: Durability, page_bytes: int) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=BUSY_MS / 1000, isolation_level=None, check_same_thread=False)
    with closed_on_error(database):
        path.chmod(0o600)
        files.hand_over(path)  # before the first page: SQLite gives the files beside it to the owner of this one
        database.execute(f"PRAGMA page_size={page_bytes}")
        database.execute("PRAGMA journal_mode=WAL")
        database.execute(f"PRAGMA synchronous={synchronous}")
        database.execute("PRAGMA foreign_keys=ON")
        database.executescript(schema)
        files.sync_folder(path.parent)
    return database
