"""Files and databases that survive a power cut.

A file is written whole beside its place, fsynced, renamed over it, and its folder fsynced: a reader sees the old or the
new, and what was acknowledged after the write is there after a power cut. SQLite in WAL mode needs
``synchronous=EXTRA`` for the same promise.

What root makes belongs to whom the folder belongs: an operator's command (`join`, `model add`) works on the state of a
service that runs as a user of its own, and what it leaves there must be the service's to read.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from ..errors import StorageError

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
            _hand_over(Path(temporary))
            os.fsync(file.fileno())
        Path(temporary).replace(path)
        sync_folder(path.parent)
    except OSError as e:
        with suppress(OSError):
            Path(temporary).unlink()
        raise StorageError(f"{path}: cannot be written: {e.strerror}") from e


def make_folder(path: Path) -> None:
    """A folder of mode 0700, and those above it that are missing. OSError when it cannot be made."""
    if not path.is_dir():
        make_folder(path.parent)
        path.mkdir(mode=0o700, exist_ok=True)
        _hand_over(path)


def _hand_over(path: Path) -> None:
    """Give what root made to the owner of its folder."""
    if os.geteuid() == 0:
        owner = path.parent.stat()
        with suppress(PermissionError):  # root of a container without CAP_CHOWN, or of another machine over NFS
            os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)


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


@contextmanager
def closed_on_error(database: sqlite3.Connection) -> Iterator[None]:
    """Close the connection when the block raises: nobody else will own it."""
    try:
        yield
    except BaseException:
        database.close()
        raise


def open_database(
    path: Path, schema: str, synchronous: Literal["EXTRA", "NORMAL"] = "EXTRA", page_bytes: int = 4096
) -> sqlite3.Connection:
    """A SQLite connection in WAL mode with the schema applied; autocommit, usable from any thread under a lock.

    EXTRA: a commit survives a power cut. NORMAL: the newest commits may not, but the database stays whole. page_bytes:
    of a new file; large values are the cheaper the larger its pages.
    Raises StorageError, also for a file that is no database.
    """
    try:
        database = sqlite3.connect(path, timeout=BUSY_MS / 1000, isolation_level=None, check_same_thread=False)
        with closed_on_error(database):
            path.chmod(0o600)
            _hand_over(path)  # before the first page: SQLite gives the files beside it to the owner of this one
            database.execute(f"PRAGMA page_size={page_bytes}")
            database.execute("PRAGMA journal_mode=WAL")
            database.execute(f"PRAGMA synchronous={synchronous}")
            database.execute("PRAGMA foreign_keys=ON")
            database.executescript(schema)
            sync_folder(path.parent)
    except (sqlite3.Error, OSError) as e:
        raise StorageError(f"{path}: cannot be opened: {e}") from e
    return database
