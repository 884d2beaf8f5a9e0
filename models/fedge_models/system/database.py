# SPDX-License-Identifier: Apache-2.0
"""SQLite databases that survive a power cut: the one way to open and write a file, and the meaning of its errors.

Promises: what a transaction committed with ``synchronous=EXTRA`` is there after a power cut (in WAL mode NORMAL and
FULL do not promise that); a connection that could not be made usable is closed; an error is told apart by SQLite's
code: damaged, or a disk that takes nothing, or neither. A file of another program or of a newer format, or with other
tables, is refused and left as it is. Leaves to the caller which thread uses a connection when, and to `healing` what
follows from damage.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Literal

from ..errors import StorageError
from . import disk, files, salvage

BUSY_MS = 10_000  # how long a statement waits for another process
APPLICATION = 0x66656467  # "fedg" in the header of our files; 0 in those of versions up to 0.1
FORMAT = 1  # also in the header (`user_version`), 0 in older files; raise it when what is stored would mislead them
DAMAGED = (11, 26)  # SQLITE_CORRUPT, SQLITE_NOTADB (sqlite.org/rescode.html)
_NEWER = (
    f"a newer version of fedge wrote it: format {{}}, this version knows up to {FORMAT}; install that version again or "
    "a newer one, or restore a backup of the state folder"
)
BUSY = (5, 6)  # SQLITE_BUSY, SQLITE_LOCKED
READ_ONLY = 8  # SQLITE_READONLY
_DISK = {  # the disk takes nothing now; the texts for Python 3.10, which gives no code
    3: "access permission denied",  # SQLITE_PERM
    READ_ONLY: "attempt to write a readonly database",
    10: "disk I/O error",  # SQLITE_IOERR
    13: "database or disk is full",  # SQLITE_FULL
    14: "unable to open database file",  # SQLITE_CANTOPEN
    15: "locking protocol",  # SQLITE_PROTOCOL: no room for the index of the log
}

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


def _why_not_opened(path: Path, error: Exception) -> str:
    """Why a file cannot be opened; SQLite does not say that it was not permitted."""
    return _denied(path) or f"{path}: cannot be opened: {explain(error, path)}"


def explain(error: BaseException, path: Path) -> str:
    """What an error of SQLite means, and what to do; its own text stands in brackets."""
    if is_damage(error):
        return f"the file is damaged ({' '.join(str(error).split())})"
    if is_busy(error):
        return f"another program writes to it without end ({error}); try again"
    if not isinstance(error, sqlite3.Error) or not is_disk_failure(error):
        return str(error)
    if path.is_dir():
        return f"a folder; expected a file ({error})"
    why = disk.trouble(path) or _denied(path) or "the disk fails; look at the kernel's log"
    return f"{why} ({error})"


def _denied(path: Path) -> str | None:
    """Which right is missing to write the file; None if none is, or nobody may write there."""
    beside = (path.with_name(path.name + end) for end in ("-wal", "-shm"))  # SQLite gives them the rights of the file
    for place, mode in ((path.parent, os.W_OK | os.X_OK), *((p, os.R_OK | os.W_OK) for p in (path, *beside))):
        try:
            denied = place.exists() and not os.access(place, mode) and not _read_only(place)
        except PermissionError:  # of a folder above
            denied = True
        if denied:
            return files.explain(PermissionError(), place, ours=place if place == path.parent else path)
    return None


def _read_only(place: Path) -> bool:
    """Whether the file system cannot be written, by nobody."""
    return bool(os.statvfs(place).f_flag & os.ST_RDONLY)


def is_busy(error: BaseException) -> bool:
    """Whether another process held the file for longer than `BUSY_MS`."""
    code = getattr(error, "sqlite_errorcode", None)
    if not isinstance(error, sqlite3.OperationalError):
        return False
    return str(error).endswith("is locked") if code is None else int(code) & 0xFF in BUSY


def is_damage(error: BaseException) -> bool:
    """Whether SQLite's error code says that the file itself is damaged."""
    if not isinstance(error, sqlite3.Error):
        return False
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:  # Python 3.10 gives no code; it raises this very class for those two and hardly for any other
        return type(error) is sqlite3.DatabaseError
    return int(code) & 0xFF in DAMAGED


def is_read_only(error: sqlite3.Error) -> bool:
    """Whether a file that was opened while its disk could only be read is that for as long as it is open."""
    code = getattr(error, "sqlite_errorcode", None)
    return str(error) == _DISK[READ_ONLY] if code is None else int(code) & 0xFF == READ_ONLY


def is_disk_failure(error: BaseException) -> bool:
    """Whether the disk is full, read-only or failing: the file may be sound, and the disk may heal."""
    if isinstance(error, OSError):
        return True
    if not isinstance(error, sqlite3.OperationalError):
        return False
    code = getattr(error, "sqlite_errorcode", None)
    return str(error) in _DISK.values() if code is None else int(code) & 0xFF in _DISK


@contextmanager
def transaction(database: sqlite3.Connection, what: str) -> Iterator[sqlite3.Connection]:
    """All or nothing, durable on return; the caller holds its lock. Raises StorageError naming `what`."""
    try:
        with undone_on_error(database):
            yield database
    except sqlite3.Error as e:
        raise StorageError(f"{what} cannot be written: {explain(e, file_of(database))}") from e


def file_of(database: sqlite3.Connection) -> Path:
    """The file of a connection; "." for one in memory."""
    try:
        return Path(database.execute("PRAGMA database_list").fetchone()[2])
    except sqlite3.Error:
        return Path()


@contextmanager
def undone_on_error(database: sqlite3.Connection) -> Iterator[None]:
    """A transaction: undone when the block raises. Raises sqlite3.Error."""
    try:
        database.execute("BEGIN IMMEDIATE")
        yield
        database.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):
            if database.in_transaction:
                database.execute("ROLLBACK")
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
    _free_beside(path)
    database = sqlite3.connect(path, timeout=BUSY_MS / 1000, isolation_level=None, check_same_thread=False)
    with closed_on_error(database):
        check_ours(database, schema)
        with suppress(OSError):  # a disk that can only be read; another user's file, which SQLite may still write
            path.chmod(path.stat().st_mode & 0o600)  # a file that somebody made read-only stays that
        files.hand_over(path)  # before the first page: SQLite gives the files beside it to the owner of this one
        database.execute(f"PRAGMA page_size={page_bytes}")
        database.execute("PRAGMA journal_mode=WAL")
        database.execute(f"PRAGMA synchronous={synchronous}")
        database.execute("PRAGMA foreign_keys=ON")
        _apply(database, schema)
        files.sync_folder(path.parent)
    return database


def _free_beside(path: Path) -> None:
    """Make what SQLite left beside a file writable, if the file is again: it made it while the file was read-only."""
    for beside in (path.with_name(path.name + end) for end in ("-wal", "-shm")):
        with suppress(OSError):
            if path.stat().st_mode & 0o200 and not beside.stat().st_mode & 0o200:
                beside.chmod(0o600)


def check_ours(database: sqlite3.Connection, schema: str) -> None:
    """Raise sqlite3.Error for a file of another program or a newer format, or tables with other columns. Nothing has
    been written to it."""
    with closing(sqlite3.connect(":memory:")) as expected:
        with suppress(sqlite3.OperationalError):  # what is wrong with the schema shows when it is applied
            expected.executescript(schema)
        found, ours = set(salvage.tables(database)), set(salvage.tables(expected))
        number = database.execute("PRAGMA application_id").fetchone()[0]
        if number not in (0, APPLICATION) or (found and ours and not found & ours):
            raise sqlite3.ProgrammingError("it belongs to another program; move it away")
        if (newer := _format(database)) > FORMAT:
            raise sqlite3.ProgrammingError(_NEWER.format(newer))
        for table in found & ours:
            if missing := salvage.columns(expected, table).keys() - salvage.columns(database, table).keys():
                names = ", ".join(sorted(missing))
                raise sqlite3.ProgrammingError(
                    f"another version made it: table {table} has no column {names}; move it away"
                )


def why_newer(path: Path) -> str | None:
    """Why a closed file cannot be used, if a newer version wrote it; read without SQLite, which may write beside it."""
    try:
        with path.open("rb") as file:
            header = file.read(100)  # sqlite.org/fileformat.html: `user_version` is at 60
    except OSError:
        return None
    found = int.from_bytes(header[60:64], "big", signed=True)
    return f"{path}: {_NEWER.format(found)}" if header.startswith(b"SQLite format 3\0") and found > FORMAT else None


def _format(database: sqlite3.Connection) -> int:
    return int(database.execute("PRAGMA user_version").fetchone()[0])


def _apply(database: sqlite3.Connection, schema: str) -> None:
    """Make the tables that are missing, and note in the header that the file is ours, and of which format."""
    database.executescript(schema)
    if not salvage.tables(database):
        return
    if database.execute("PRAGMA application_id").fetchone()[0] != APPLICATION:
        database.execute(f"PRAGMA application_id={APPLICATION}")
    if _format(database) < FORMAT:
        try:
            database.execute(f"PRAGMA user_version={FORMAT}")
        except sqlite3.Error as e:
            if not is_read_only(e):  # then nothing of this format is written either
                raise
