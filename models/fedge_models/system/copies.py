# SPDX-License-Identifier: Apache-2.0
"""Copies of a database: in memory, to continue while its disk takes nothing, and in a scratch folder, to read it."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from ..errors import StorageError
from . import damage, database, files, salvage
from .database import check_ours

MOST_BYTES = 32 * 2**20  # of a file that is copied: a gateway has 512 MB
MOST_PAGES = 12_000  # of 4 KiB, in memory; then nothing more is taken
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  # a folder without a disk


def in_memory(opened: sqlite3.Connection | None, path: Path, schema: str) -> tuple[sqlite3.Connection, bool]:
    """A database in memory, and whether it holds all that the file does. Without, it has only the tables.

    opened: the file's connection, if it could be opened before its disk failed.
    """
    made = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    whole = False
    with suppress(sqlite3.Error, OSError):
        if opened is not None and _bytes(opened) <= MOST_BYTES:
            opened.backup(made)
            whole = True
        elif opened is None and path.stat().st_size <= MOST_BYTES:
            with scratch_copy(path) as copied, closing(sqlite3.connect(copied)) as source:
                source.backup(made)
            check_ours(made, schema)
            whole = True
    if not whole:
        made.close()
        return empty_in_memory(schema), False
    made.execute(f"PRAGMA max_page_count = {MOST_PAGES}")
    made.executescript(schema)
    return made, whole


def empty_in_memory(schema: str, pages: int = MOST_PAGES) -> sqlite3.Connection:
    """A database in memory that has the tables, and room for so many pages of 4 KiB."""
    made = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    with database.closed_on_error(made):
        made.execute(f"PRAGMA max_page_count = {pages}")
        made.execute("PRAGMA temp_store = MEMORY")
        made.executescript(schema)
    return made


def open_to_read(path: Path, schema: str) -> sqlite3.Connection:
    """A connection that only reads, also a file that cannot be written, beside a program that uses it.

    SQLite writes beside a file that it only reads; where the disk or missing rights forbid that, a copy is read.
    Raises StorageError, also for a file of another program or one that holds nothing.
    """
    try:
        try:
            return _checked(f"{path.absolute().as_uri()}?mode=ro", schema)
        except sqlite3.Error as e:
            if not database.is_disk_failure(e):
                raise
        with scratch_copy(path) as copied:  # what is open needs no name
            return _checked(copied.as_uri(), schema)
    except PermissionError as e:
        raise StorageError(files.explain(e, path)) from e
    except OSError as e:
        raise StorageError(f"{path}: cannot be read, nor copied to read the copy: {e.strerror}") from e
    except sqlite3.Error as e:
        raise StorageError(f"{path}: cannot be read: {database.explain(e, path)}") from e


def _checked(address: str, schema: str) -> sqlite3.Connection:
    """A connection to one of our databases that has tables. Raises sqlite3.Error."""
    wait = database.BUSY_MS / 1000
    made = sqlite3.connect(address, timeout=wait, uri=True, isolation_level=None, check_same_thread=False)
    with database.closed_on_error(made):
        check_ours(made, schema)
        if not salvage.tables(made):
            raise sqlite3.ProgrammingError("it holds nothing: its writer could not write to it yet")
    return made


@contextmanager
def scratch_copy(path: Path) -> Iterator[Path]:
    """A copy of a file and its write-ahead log that may be written: SQLite cannot read a log on a read-only disk."""
    folder = SHARED_MEMORY if SHARED_MEMORY.is_dir() and path.stat().st_size <= MOST_BYTES else None
    with tempfile.TemporaryDirectory(prefix="fedge-", dir=folder) as scratch:
        copied = Path(scratch) / "copy"
        shutil.copyfile(path, copied)
        with suppress(FileNotFoundError):
            shutil.copyfile(path.with_name(path.name + damage.LOG), copied.with_name(copied.name + damage.LOG))
        yield copied


def _bytes(connection: sqlite3.Connection) -> int:
    pages, size = (connection.execute(f"PRAGMA {what}").fetchone()[0] for what in ("page_count", "page_size"))
    return int(pages) * int(size)
