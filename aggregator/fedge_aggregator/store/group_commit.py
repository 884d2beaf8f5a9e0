"""The work of many threads in one transaction: one fsync for all who wait at the same time.

Group commit (DeWitt et al. 1984, "Implementation techniques for main memory database systems", section 5): whoever has
the turn does what all who wait want done, each in a savepoint of its own, and commits once; meanwhile the next ones
gather. Promises that what was done is durable when `run` returns, and that what one thread's work raises undoes that
work alone. A fault of the database itself fails all of them.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Generic, TypeVar

from .database import Database

MOST = 64  # in one transaction: its bodies are in memory twice

T = TypeVar("T")


class _Work(Generic[T]):
    """What one thread wants done."""

    value: T

    def __init__(self, what: Callable[[], T]) -> None:
        self._what = what
        self.error: Exception | None = None
        self.done = False

    def attempt(self, db: sqlite3.Connection) -> None:
        db.execute("SAVEPOINT one")
        try:
            self.value = self._what()
        except sqlite3.Error:  # it may have rolled back everything
            raise
        except Exception as e:
            self.error = e
            db.execute("ROLLBACK TO one")
        db.execute("RELEASE one")


class Joint:
    """Transactions that are shared, each inside `gate`. Thread-safe."""

    def __init__(self, database: Database, gate: AbstractContextManager[Any]) -> None:
        self._database, self._gate = database, gate
        self._waiting: deque[_Work[Any]] = deque()
        self._turn = threading.Lock()

    def run(self, work: Callable[[], T]) -> T:
        """What `work` returns, durable; it may run in another thread. Raises what it raises, and StorageError."""
        mine = _Work(work)
        self._waiting.append(mine)
        with self._turn:
            while not mine.done:
                self._lead()
        if mine.error is not None:
            raise mine.error
        return mine.value

    def _lead(self) -> None:
        batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), MOST))]
        try:
            with self._gate, self._database.transaction() as db:
                for one in batch:
                    one.attempt(db)
        except Exception as e:
            for one in batch:
                one.error = one.error or e
        for one in batch:
            one.done = True
