# SPDX-License-Identifier: Apache-2.0
"""Copies of a database: in memory, to continue while its disk takes nothing, and in a scratch folder, to read it."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from . import damage
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
        made = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    made.execute(f"PRAGMA max_page_count = {MOST_PAGES}")
    made.executescript(schema)
    return made, whole


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
