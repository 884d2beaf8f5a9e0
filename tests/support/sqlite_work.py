# SPDX-License-Identifier: Apache-2.0
"""How much work SQLite does: instructions of its virtual machine, which depend on no clock and on no machine."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager


class Work:
    """Instructions so far."""

    def __init__(self) -> None:
        self.instructions = 0

    def count(self) -> int:
        """Called by SQLite at each; 0 lets it go on."""
        self.instructions += 1
        return 0


@contextmanager
def counted(*databases: sqlite3.Connection) -> Iterator[Work]:
    """Count what these connections do within the block."""
    work = Work()
    for database in databases:
        database.set_progress_handler(work.count, 1)
    try:
        yield work
    finally:
        for database in databases:
            database.set_progress_handler(None, 0)
