# SPDX-License-Identifier: Apache-2.0
"""A program's databases as another process and the operating system see them, without the program's own objects."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest


def rows(path: Path, sql: str, *values: object) -> list[Any]:
    """What a query finds in the file, over a connection of its own: what is committed."""
    with closing(sqlite3.connect(path)) as database:
        return database.execute(sql, values).fetchall()


def change(path: Path, sql: str) -> None:
    """Change the file behind the program's back, as a power cut or another version may have left it."""
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(sql)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another process has the file's write lock: commits wait for it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("BEGIN IMMEDIATE")
        yield
        database.execute("ROLLBACK")


class Disk:
    """A disk for SQLite that can be full: every connection opened after it was made finds no room for another page."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._open: list[sqlite3.Connection] = []
        connect, opened = sqlite3.connect, self._open

        class Connection(sqlite3.Connection):
            def close(self) -> None:
                if self in opened:
                    opened.remove(self)
                super().close()

        def connect_and_note(path: Any, *values: Any, **options: Any) -> sqlite3.Connection:
            opened.append(connect(path, *values, **{"factory": Connection, **options}))
            return opened[-1]

        monkeypatch.setattr(sqlite3, "connect", connect_and_note)

    def fill(self, pages_left: int = 0) -> None:
        """From now on SQLITE_FULL, once so many pages of 4 KiB more are written."""
        for connection in self._open:
            pages = connection.execute("PRAGMA page_count").fetchone()[0]
            connection.execute(f"PRAGMA max_page_count = {pages + pages_left}")

    def free(self) -> None:
        """Somebody has made room."""
        for connection in self._open:
            connection.execute("PRAGMA max_page_count = 1000000")
