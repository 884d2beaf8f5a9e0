"""Files and databases that survive a power cut.

A file is written whole beside its place, fsynced, renamed over it, and its folder fsynced: a reader sees the old or the
new, and what was acknowledged after the write is there after a power cut. SQLite in WAL mode needs
``synchronous=EXTRA`` for the same promise.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from .errors import StorageError

BUSY_MS = 10_000


def write(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Replace `path` durably. Raises StorageError when the disk is full or failing."""
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as e:
        raise StorageError(f"{path}: cannot be written: {e.strerror}") from e
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        Path(temporary).replace(path)
        sync_folder(path.parent)
    except OSError as e:
        with suppress(OSError):
            Path(temporary).unlink()
        raise StorageError(f"{path}: cannot be written: {e.strerror}") from e


def sync_folder(folder: Path) -> None:
    """Make names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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


def open_database(path: Path, schema: str, synchronous: Literal["EXTRA", "NORMAL"] = "EXTRA") -> sqlite3.Connection:
    """A SQLite connection in WAL mode with the schema applied; autocommit, usable from any thread under a lock.

    EXTRA: a commit survives a power cut. NORMAL: the newest commits may not, but the database stays whole.
    Raises StorageError, also for a file that is no database.
    """
    try:
        database = sqlite3.connect(path, timeout=BUSY_MS / 1000, isolation_level=None, check_same_thread=False)
        path.chmod(0o600)
        database.execute("PRAGMA journal_mode=WAL")
        database.execute(f"PRAGMA synchronous={synchronous}")
        database.execute("PRAGMA foreign_keys=ON")
        database.executescript(schema)
        sync_folder(path.parent)
    except (sqlite3.Error, OSError) as e:
        raise StorageError(f"{path}: cannot be opened: {e}") from e
    return database
