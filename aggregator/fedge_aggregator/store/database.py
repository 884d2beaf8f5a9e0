# SPDX-License-Identifier: Apache-2.0
"""The SQLite file: its tables, locks and transactions.

WAL with ``synchronous=EXTRA``: a commit survives a power cut. One connection writes and another reads, so that readers
do not wait for the disk; a thread sees what it has written in its open transaction. The audit log is append-only:
triggers refuse to change, replace or delete a row, whoever asks.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fedge_models.errors import StorageError
from fedge_models.system.database import closed_on_error, open_database, transaction

FILE = "aggregator.sqlite"
PAGE_BYTES = 16384  # updates and releases are long: a million parameters take a fifth of the time of 4096-byte pages

SCHEMA = """
CREATE TABLE IF NOT EXISTS nodes (
    name TEXT PRIMARY KEY, key BLOB NOT NULL, certificate BLOB NOT NULL, joined REAL NOT NULL, revoked REAL, seen REAL);
CREATE TABLE IF NOT EXISTS members (
    federation TEXT, node TEXT REFERENCES nodes, PRIMARY KEY (federation, node)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS invitations (
    secret BLOB PRIMARY KEY, node TEXT NOT NULL, federations TEXT NOT NULL, expires REAL NOT NULL, spent_by BLOB);
CREATE TABLE IF NOT EXISTS models (
    federation TEXT PRIMARY KEY, graph BLOB NOT NULL, file BLOB NOT NULL, sizes BLOB NOT NULL, names TEXT NOT NULL,
    added REAL NOT NULL);
CREATE TABLE IF NOT EXISTS releases (
    federation TEXT, version INTEGER, kind TEXT NOT NULL, hash BLOB NOT NULL, created REAL NOT NULL, rule TEXT NOT NULL,
    figures TEXT NOT NULL, details TEXT NOT NULL, steps BLOB, full BLOB, PRIMARY KEY (federation, version));
CREATE TABLE IF NOT EXISTS newest (  -- a table of its own: emptying a column rewrites its whole row
    federation TEXT PRIMARY KEY, version INTEGER NOT NULL, difference BLOB, residual BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS rollbacks ON releases (federation, version) WHERE kind = 'rollback';
CREATE INDEX IF NOT EXISTS with_weights ON releases (federation, version) WHERE full IS NOT NULL;
CREATE INDEX IF NOT EXISTS with_steps ON releases (federation, version) WHERE steps IS NOT NULL;
CREATE TABLE IF NOT EXISTS pins (
    federation TEXT PRIMARY KEY, since REAL NOT NULL, operator TEXT NOT NULL, reason TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS asked (
    federation TEXT, node TEXT, since REAL NOT NULL, PRIMARY KEY (federation, node)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS updates (
    federation TEXT, node TEXT, base INTEGER NOT NULL, sequence INTEGER NOT NULL, accepted REAL NOT NULL,
    body BLOB NOT NULL, PRIMARY KEY (federation, node));
CREATE TABLE IF NOT EXISTS sequences (
    federation TEXT, node TEXT, sequence INTEGER NOT NULL, digest BLOB NOT NULL, PRIMARY KEY (federation, node));
CREATE TABLE IF NOT EXISTS standings (
    federation TEXT, node TEXT, data TEXT NOT NULL, PRIMARY KEY (federation, node)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS vectors (
    federation TEXT, name TEXT, data BLOB NOT NULL, PRIMARY KEY (federation, name));
CREATE TABLE IF NOT EXISTS spent (federation TEXT PRIMARY KEY, data TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS seen (federation TEXT PRIMARY KEY, data TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS site_statistics (
    federation TEXT, node TEXT, sequence INTEGER NOT NULL, digest BLOB NOT NULL, received REAL NOT NULL,
    published INTEGER NOT NULL,  -- of no use any more, but older databases have it
    body BLOB NOT NULL, PRIMARY KEY (federation, node));
CREATE TABLE IF NOT EXISTS published_statistics (
    federation TEXT PRIMARY KEY, number INTEGER NOT NULL, created REAL NOT NULL, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS statistics_bases (  -- of sites that have left, too
    federation TEXT, node TEXT, digests BLOB NOT NULL, PRIMARY KEY (federation, node)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS audit (
    id INTEGER PRIMARY KEY AUTOINCREMENT, time REAL NOT NULL, what TEXT NOT NULL, federation TEXT, node TEXT,
    release INTEGER, detail TEXT NOT NULL);
CREATE TRIGGER IF NOT EXISTS audit_no_update BEFORE UPDATE ON audit
    BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
CREATE TRIGGER IF NOT EXISTS audit_no_delete BEFORE DELETE ON audit
    BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
CREATE TRIGGER IF NOT EXISTS audit_no_replace BEFORE INSERT ON audit WHEN EXISTS (SELECT 1 FROM audit WHERE id = NEW.id)
    BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
"""


class Database:
    """The database that all parts of the store share. Thread-safe; a part may call another inside its transaction."""

    def __init__(self, folder: Path) -> None:
        self._writing, self._reading = threading.Lock(), threading.RLock()
        self._writer: int | None = None  # the thread whose transaction is open
        self._db = open_database(folder / FILE, SCHEMA, page_bytes=PAGE_BYTES)
        with closed_on_error(self._db):
            self._reader = open_database(folder / FILE, "PRAGMA query_only=ON")

    def close(self) -> None:
        """Close both connections."""
        with self._writing, self._reading:
            self._reader.close()
            self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Open a transaction, all or nothing and durable on return; or join the open one. Raises StorageError."""
        if self._is_mine():
            yield self._db
            return
        with self._writing:
            self._writer = threading.get_ident()
            try:
                with transaction(self._db, "the aggregator's database") as db:
                    yield db
            finally:
                self._writer = None

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Give this thread one consistent view of the database. Raises StorageError."""
        if self._is_mine():
            yield
            return
        with self._reading:
            outer = not self._reader.in_transaction
            if outer:
                self._reader.execute("BEGIN")
            try:
                yield
            finally:
                if outer:
                    self._reader.execute("COMMIT")

    def all(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """Return the rows of a query. Raises StorageError."""
        try:
            if self._is_mine():
                return self._db.execute(sql, values).fetchall()
            with self._reading:
                return self._reader.execute(sql, values).fetchall()
        except sqlite3.OperationalError as e:
            raise StorageError(f"the aggregator's database cannot be read: {e}") from e

    def _is_mine(self) -> bool:
        """Whether the open transaction is this thread's."""
        return self._writer == threading.get_ident()
