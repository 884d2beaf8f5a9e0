# SPDX-License-Identifier: Apache-2.0
"""Group commit: the work of threads that wait at the same time goes into one transaction, with one fsync.

DeWitt et al. 1984, "Implementation techniques for main memory database systems", section 5. The thread whose turn it
is does the work of all that wait, each in a savepoint, and commits once; meanwhile the next ones queue. Promises that
what was done is durable when `run` returns, and that an error of one thread's work undoes that work alone. A fault of
the database itself fails all of them.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Generic, TypeVar

from .database import Database

MOST = 64  # works in one transaction: it holds their bodies in memory twice

T = TypeVar("T")


class _Work(Generic[T]):
    """The work of one thread, and its result."""

    value: T

    def __init__(self, call: Callable[[], T]) -> None:
        self._call = call
        self.error: Exception | None = None
        self.done = False

    def attempt(self, db: sqlite3.Connection) -> None:
        db.execute("SAVEPOINT one")
        try:
            self.value = self._call()
        except sqlite3.Error:  # it may have rolled back everything
            raise
        except Exception as e:
            self.error = e
            db.execute("ROLLBACK TO one")
        db.execute("RELEASE one")


class GroupCommit:
    """Transactions that threads share, each inside `gate`. Thread-safe."""

    def __init__(self, database: Database, gate: AbstractContextManager[Any]) -> None:
        self._database, self._gate = database, gate
        self._waiting: deque[_Work[Any]] = deque()
        self._turn = threading.Lock()

    def run(self, work: Callable[[], T]) -> T:
        """Run `work`, perhaps in another thread; return its result once it is durable.

        Raises what it raises, and StorageError.
        """
        own = _Work(work)
        self._waiting.append(own)
        with self._turn:
            while not own.done:
                self._commit_batch()
        if own.error is not None:
            raise own.error
        return own.value

    def _commit_batch(self) -> None:
        """Do the work of those that wait, in one transaction."""
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
