# SPDX-License-Identifier: Apache-2.0
"""The durable outbox: events on their way to outputs, the update on its way to the aggregator, and what must not be
forgotten between them (sequence numbers, error feedback, alert states, what was spent of a privacy budget).

One SQLite file, ``synchronous=EXTRA``: what a method returned from survives a power cut. While the disk takes nothing,
events go on in memory (`in_memory`), and are written when it does again; updates wait, because a sequence number and a
privacy budget must never be spent twice. A sequence number is committed before it is used, and is at least the clock
(Unix time in us): a spool that is lost, restored from a backup or copied repeats none. A damaged file is set aside, and
its events that can still be read are delivered.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from fedge_models.errors import BudgetError, StorageError
from fedge_models.privacy.budget import Charge, Spent
from fedge_models.system import damage
from fedge_models.system.healing import HealingDatabase
from fedge_models.system.moved import retried

from ..types import AlertState, DriftState, SilenceState
from . import event_desk, event_queue
from .event_desk import Held
from .event_queue import EventQueue

logger = logging.getLogger(__name__)

FURTHEST_US = 2**52  # the year 2112; a sequence number on the wire ends at 2**53

_SCHEMA = """
CREATE TABLE IF NOT EXISTS sequences (federation TEXT PRIMARY KEY, last INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS updates (
    federation TEXT PRIMARY KEY, base INTEGER NOT NULL, sequence INTEGER NOT NULL, body BLOB, outcome TEXT);
CREATE TABLE IF NOT EXISTS residuals (federation TEXT PRIMARY KEY, graph BLOB NOT NULL, residual BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS ledger (
    federation TEXT PRIMARY KEY, rho REAL NOT NULL, updates INTEGER NOT NULL, unprotected INTEGER NOT NULL,
    sequence INTEGER);
"""


class PendingUpdate(NamedTuple):
    """The newest update of a federation; `body` is None once the aggregator has accepted or refused it."""

    base: int
    sequence: int
    body: bytes | None
    outcome: str | None


@retried
class Spool(EventQueue):
    """Thread-safe. Every method raises StorageError when neither the disk nor, for events, the memory takes it."""

    def __init__(self, path: Path, clock_us: Callable[[], int] = lambda: time.time_ns() // 1000) -> None:
        """clock_us: Unix time, us."""
        self._path, self._clock_us = path, clock_us
        schema = event_queue.SCHEMA + _SCHEMA
        self._db = HealingDatabase(path, schema, "the spool", memory=True, prepare=event_queue.prepare)

    @property
    def problem(self) -> str | None:
        """Why the file is not written at the moment."""
        return self._db.problem

    @property
    def in_memory(self) -> bool:
        """Whether events are held in memory because of that."""
        return self._db.in_memory

    @property
    def renewed(self) -> int:
        """How often a file that was damaged or removed was replaced by a new one, which may lack events."""
        return self._db.renewed

    def held_in_memory(self) -> Held | None:
        """The events, while they are held in memory: who reads the file does not see them."""
        if not self._db.in_memory:
            return None
        with self._db.reading() as db:
            return Held(str(self._db.problem), self._db.whole, event_desk.raw(db))

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def alert_state(self, asset: str) -> AlertState:
        """The state saved with the asset's last event."""
        rows = self._all("SELECT state FROM alerts WHERE asset = ?", asset)
        try:
            return msgspec.json.decode(rows[0][0], type=AlertState) if rows else AlertState()
        except (msgspec.MsgspecError, UnicodeDecodeError) as e:
            logger.error("asset %s: its stored alert cannot be read (%s); it begins again", asset, e)
            return AlertState()

    def silence_state(self, asset: str) -> SilenceState:
        """The state saved with the asset's last event about its silence."""
        rows = self._all("SELECT state FROM silences WHERE asset = ?", asset)
        try:
            return msgspec.json.decode(rows[0][0], type=SilenceState) if rows else SilenceState()
        except (msgspec.MsgspecError, UnicodeDecodeError) as e:
            logger.error("asset %s: its stored silence cannot be read (%s); it begins again", asset, e)
            return SilenceState()

    def drift_state(self, asset: str) -> DriftState:
        """The state saved with the asset's last event about its inputs."""
        rows = self._all("SELECT state FROM drifts WHERE asset = ?", asset)
        try:
            return msgspec.json.decode(rows[0][0], type=DriftState) if rows else DriftState()
        except (msgspec.MsgspecError, UnicodeDecodeError) as e:
            logger.error("asset %s: its stored drift cannot be read (%s); it begins again", asset, e)
            return DriftState()

    def reserve_sequence(self, federation: str) -> int:
        """Reserve the next sequence number; it is never used again, whatever happens next. At least the clock, so that
        none repeats after the file was lost or restored. Raises StorageError while the disk takes nothing."""
        with self._on_disk() as db:
            row = db.execute("SELECT last FROM sequences WHERE federation = ?", (federation,)).fetchone()
            number = next_number(int(row[0]) if row else 0, self._clock_us())
            db.execute("INSERT OR REPLACE INTO sequences VALUES (?, ?)", (federation, number))
        return number

    def raise_sequence(self, federation: str, last: int) -> None:
        """Reserve only numbers above one that the aggregator has seen."""
        with self._on_disk() as db:
            db.execute("INSERT OR IGNORE INTO sequences VALUES (?, 0)", (federation,))
            db.execute("UPDATE sequences SET last = max(last, ?) WHERE federation = ?", (last, federation))

    def renumber_update(self, federation: str, old: int, new: int, body: bytes) -> None:
        """Replace a waiting update by the same one under another sequence number; its cost in privacy stays."""
        with self._on_disk() as db:
            db.execute(
                "UPDATE updates SET sequence = ?, body = ? WHERE federation = ? AND sequence = ?",
                (new, body, federation, old),
            )
            sql = "UPDATE ledger SET sequence = ? WHERE federation = ? AND sequence = ?"
            db.execute(sql, (new, federation, old))

    def put_update(
        self,
        federation: str,
        base: int,
        sequence: int,
        body: bytes,
        graph: bytes,
        residual: bytes,
        charge: Charge | None = None,
    ) -> None:
        """Store a signed update, the error feedback it leaves and its cost in privacy, in one transaction. It replaces
        an older update; without a charge it counts as unprotected.

        Raises BudgetError, and stores nothing, when the charge is more than is left; StorageError while the disk takes
        nothing.
        """
        with self._on_disk() as db:
            spent = _charged(self._spent(federation), sequence, charge)
            db.execute("INSERT OR REPLACE INTO ledger VALUES (?, ?, ?, ?, ?)", (federation, *spent[:4]))
            db.execute("INSERT OR REPLACE INTO updates VALUES (?, ?, ?, ?, NULL)", (federation, base, sequence, body))
            db.execute("INSERT OR REPLACE INTO residuals VALUES (?, ?, ?)", (federation, graph, residual))

    def privacy_spent(self, federation: str) -> Spent:
        """What this gateway has spent of its privacy budget for the federation."""
        return self._spent(federation)

    def _spent(self, federation: str) -> Spent:
        sql = "SELECT rho, updates, unprotected, sequence FROM ledger WHERE federation = ?"
        rows = self._all(sql, federation)
        spent = Spent(*rows[0]) if rows else Spent()
        return spent._replace(lost=damage.before(self._path))

    def update(self, federation: str) -> PendingUpdate | None:
        """The newest update of a federation."""
        rows = self._all("SELECT base, sequence, body, outcome FROM updates WHERE federation = ?", federation)
        return PendingUpdate(*rows[0]) if rows else None

    def finish_update(self, federation: str, sequence: int, outcome: str) -> None:
        """Delete the bytes of an update that the aggregator has, or will never take; note the outcome."""
        sql = "UPDATE updates SET body = NULL, outcome = ? WHERE federation = ? AND sequence = ?"
        self._run(sql, outcome[:500], federation, sequence)

    def residual(self, federation: str, graph: bytes) -> bytes | None:
        """Error feedback of the federation, if it belongs to this graph."""
        sql = "SELECT residual FROM residuals WHERE federation = ? AND graph = ?"
        rows = self._all(sql, federation, graph)
        return bytes(rows[0][0]) if rows else None

    def _transaction(self) -> AbstractContextManager[sqlite3.Connection]:
        return self._db.transaction()

    @contextmanager
    def _on_disk(self) -> Iterator[sqlite3.Connection]:
        """A transaction that is durable on return. Raises StorageError."""
        with self._db.transaction() as db:
            if self._db.in_memory:
                raise StorageError(f"the spool cannot be written: {self._db.problem}")
            yield db

    def _run(self, sql: str, *values: object) -> None:
        with self._transaction() as db:
            db.execute(sql, values)

    def _all(self, sql: str, *values: object) -> list[Any]:
        return self._db.rows(sql, *values)


def next_number(last: int, clock_us: int) -> int:
    """The number after `last`, at least the clock, unless that is far ahead: numbers would run out."""
    return max(last + 1, clock_us if clock_us < FURTHEST_US else 0)


def _charged(spent: Spent, sequence: int, charge: Charge | None) -> Spent:
    """What is spent after one more update. Raises BudgetError."""
    if charge is None:
        return spent._replace(unprotected=spent.unprotected + 1)
    if not charge.affordable(spent):
        now = f"rho {spent.rho:.4g} of {charge.limit:.4g}" if spent.lost is None else f"unknown ({spent.lost})"
        raise BudgetError(f"update {sequence} costs rho {charge.rho:.4g}; spent is {now}; it is not stored or sent")
    return spent._replace(rho=spent.rho + charge.rho, updates=spent.updates + 1, sequence=sequence)
