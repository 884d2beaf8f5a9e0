# SPDX-License-Identifier: Apache-2.0
"""The queue of events on their way to outputs, in order for each asset, and what became of the newest ones.

Promises: an event waits until an outcome is stored for it; order is kept per output and asset, so an event that has to
wait holds up its own asset only. A "cleared" is handed out only if the output delivered an earlier event of the same
key: while that one is set aside it is held, and without it, it is withheld and counted. Leaves the database to `spool`,
and what a person does with events to `event_desk`.
"""

from __future__ import annotations

import abc
import enum
import sqlite3
import time
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager, suppress
from typing import Any, NamedTuple

import msgspec

from ..types import ALERT, AlertState, DriftState, Event, EventState, SilenceState
from . import event_record

SPOOL_FILE = "spool.sqlite"  # in the state folder
MAX_EVENTS = 100_000  # waiting or set aside, per output; further events are refused and counted
MAX_FINISHED = 500  # per output: what became of the newest events
MAX_DROPPED = 10_000  # per output: those that a person dropped, with the reason
MAX_OPENED = 10_000  # per output: keys whose "cleared" is still to come
SPARE_FINISHED = 50  # above these bounds before the oldest are deleted: not with each event

SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
    id INTEGER PRIMARY KEY, output TEXT NOT NULL, event BLOB NOT NULL, error TEXT,
    refused INTEGER NOT NULL DEFAULT 0);
CREATE INDEX IF NOT EXISTS waiting ON events (output, refused, id);
CREATE TABLE IF NOT EXISTS opened (
    output TEXT NOT NULL, key TEXT NOT NULL, asset TEXT NOT NULL, PRIMARY KEY (output, key));
CREATE TABLE IF NOT EXISTS alerts (asset TEXT PRIMARY KEY, state BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS silences (asset TEXT PRIMARY KEY, state BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS drifts (asset TEXT PRIMARY KEY, state BLOB NOT NULL);
"""
TABLES: dict[type[EventState], str] = {AlertState: "alerts", SilenceState: "silences", DriftState: "drifts"}
ADDED = {  # columns that a file of an earlier version lacks
    "asset": "TEXT NOT NULL DEFAULT ''",
    "key": "TEXT NOT NULL DEFAULT ''",
    "state": "TEXT NOT NULL DEFAULT ''",
    "noted": "REAL NOT NULL DEFAULT 0",  # Unix time of this machine when it came, s; only shown
    "ended": "REAL NOT NULL DEFAULT 0",  # when its outcome was stored, or it was set aside
    "reference": "TEXT NOT NULL DEFAULT ''",  # the target's own name for what the event became
    "answers": "TEXT NOT NULL DEFAULT '[]'",  # the last answers before it was set aside
    "lane": "TEXT NOT NULL DEFAULT ''",  # among which events it keeps its order (`Event.lane`); '': those of its asset
    "tries": "INTEGER NOT NULL DEFAULT 0",  # that failed in a way that has a limit, of all runs of the agent
}

_NEXT = """
SELECT id, event, noted, tries FROM events
WHERE output = ? AND refused = 0 AND coalesce(nullif(lane, ''), asset) NOT IN (SELECT value FROM json_each(?))
ORDER BY id LIMIT 1
"""


class Outcome(enum.IntEnum):
    """What became of an event at one output: the column `refused`."""

    WAITING = 0
    SET_ASIDE = 1  # the target refused it, or it failed too often
    DELIVERED = 2  # it was sent, and the target answered
    SKIPPED = 3  # there was nothing to send
    DROPPED = 4  # by a person
    WITHHELD = 5  # a "cleared" of which the target never got the "opened"
    HELD = 6  # a "cleared" whose "opened" is set aside


NAMES = {outcome: outcome.name.lower().replace("_", " ") for outcome in Outcome}


class Entry(NamedTuple):
    """An event waiting for one output."""

    id: int
    output: str
    event: Event
    noted: float = 0.0  # Unix time, s
    tries: int = 0  # that failed in a way that has a limit, before this one


def prepare(database: sqlite3.Connection) -> None:
    """Add what a file of an earlier version lacks. Call it within a transaction, after `SCHEMA` was applied."""
    known = {row[1] for row in database.execute("PRAGMA table_info(events)")}
    for name in ADDED.keys() - known:
        database.execute(f"ALTER TABLE events ADD COLUMN {name} {ADDED[name]}")
    if "asset" in known:
        return
    for number, body in database.execute("SELECT id, event FROM events").fetchall():
        with suppress(msgspec.MsgspecError):  # the output that comes to it sets it aside
            event = event_record.decode(body)
            sql = "UPDATE events SET asset = ?, key = ?, state = ? WHERE id = ?"
            database.execute(sql, (event.decision.asset, event.key, event.state, number))
    for asset, state in database.execute("SELECT asset, state FROM alerts").fetchall():
        if msgspec.json.decode(state, type=AlertState).opened:  # every output of that version got its "opened"
            database.execute("INSERT OR REPLACE INTO opened VALUES ('', ?, ?)", (asset, asset))


class EventQueue(abc.ABC):
    """The part of the spool that outputs and the writer of events use. Every method raises StorageError."""

    @abc.abstractmethod
    def _transaction(self) -> AbstractContextManager[sqlite3.Connection]:
        """All or nothing, durable at its end."""

    @abc.abstractmethod
    def _all(self, sql: str, *values: object) -> list[Any]:
        """The rows of a query."""

    def put_event(self, outputs: Sequence[str], event: Event, state: EventState | None) -> list[str]:
        """Store an event for each output, and the state it led to (None: as it is), in one transaction.

        Returns the outputs that have too many waiting to get another.
        """
        body, asset, full = event_record.encode(event), event.decision.asset, []
        row = (body, asset, event.lane, event.key, event.state, time.time())
        with self._transaction() as db:
            for output in outputs:
                sql = "SELECT count(*) FROM events WHERE output = ? AND refused IN (0, 1, 6)"
                if db.execute(sql, (output,)).fetchone()[0] >= MAX_EVENTS:
                    full.append(output)
                    continue
                sql = "INSERT INTO events (output, event, asset, lane, key, state, noted) VALUES (?, ?, ?, ?, ?, ?, ?)"
                db.execute(sql, (output, *row))
            if event.state == "opened" and event.kind == ALERT:
                db.execute("DELETE FROM opened WHERE output = '' AND asset = ?", (asset,))
            if state is None:
                return full
            table = TABLES[type(state)]
            sql = f"INSERT OR REPLACE INTO {table} VALUES (?, ?)"  # noqa: S608
            db.execute(sql, (asset, msgspec.json.encode(state)))
        return full

    def next_event(self, output: str, but_not: Collection[str] = ()) -> Entry | None:
        """The oldest event that the output has to deliver, of a lane that is not in `but_not`."""
        blocked = msgspec.json.encode(list(but_not)).decode()
        while rows := self._all(_NEXT, output, blocked):
            number, body, noted, tries = rows[0]
            try:
                return Entry(number, output, event_record.decode(body), noted, tries)
            except msgspec.MsgspecError as e:
                self._set_aside(number, f"the stored event cannot be read: {e}", ())
        return None

    def tried(self, entry: Entry) -> None:
        """Record a try that failed in a way that has a limit: a restart begins no new count."""
        with self._transaction() as db:
            db.execute("UPDATE events SET tries = tries + 1 WHERE id = ?", (entry.id,))

    def still_waiting(self, ids: Collection[int]) -> set[int]:
        """Which of these events still wait: a person may have dropped one."""
        sql = "SELECT id FROM events WHERE refused = 0 AND id IN (SELECT value FROM json_each(?))"
        return {row[0] for row in self._all(sql, msgspec.json.encode(list(ids)).decode())}

    def delivered(self, entry: Entry, reference: str = "") -> None:
        """Record that the target has the event, and its name there."""
        self._finish(entry, Outcome.DELIVERED, reference[:200])

    def skipped(self, entry: Entry, why: str) -> None:
        """Record that there was nothing to send."""
        self._finish(entry, Outcome.SKIPPED, why[:200])

    def withheld(self, entry: Entry, outcome: Outcome) -> None:
        """Record that a "cleared" is not sent, as `without_opened` said."""
        self._finish(entry, outcome, "")

    def refused(self, entry: Entry, error: str, answers: Sequence[str] = ()) -> None:
        """Set an event aside for a person to look at: the target never takes it, or it failed too often."""
        self._set_aside(entry.id, error, answers)

    def without_opened(self, entry: Entry) -> Outcome | None:
        """What becomes of a "cleared" whose "opened" the output did not deliver; None for any other event."""
        if entry.event.state != "cleared":
            return None
        output, key, asset = entry.output, entry.event.key, entry.event.decision.asset
        if self._all("SELECT 1 FROM opened WHERE output = ? AND key = ?", output, key):
            return None
        if self._all("SELECT 1 FROM events WHERE output = ? AND key = ? AND refused = 1", output, key):
            return Outcome.HELD
        before = self._all("SELECT 1 FROM opened WHERE output = '' AND asset = ?", asset)
        return None if before else Outcome.WITHHELD

    def counts(self, output: str) -> dict[str, int]:
        """Count the events of an output that wait, and those that are set aside."""
        found = self._counts(output)
        return {"pending": found.get(Outcome.WAITING, 0), "refused": found.get(Outcome.SET_ASIDE, 0)}

    def held(self, output: str) -> int:
        """How many "cleared" wait for what becomes of an "opened" that is set aside."""
        return self._counts(output).get(Outcome.HELD, 0)

    def _counts(self, output: str) -> dict[int, int]:
        rows = self._all("SELECT refused, count(*) FROM events WHERE output = ? GROUP BY refused", output)
        return {int(r): int(n) for r, n in rows}

    def oldest(self, output: str) -> float | None:
        """When the event that waits longest came (Unix time, s)."""
        rows = self._all("SELECT noted FROM events WHERE output = ? AND refused = 0 ORDER BY id LIMIT 1", output)
        return float(rows[0][0]) if rows else None

    def _set_aside(self, number: int, error: str, answers: Sequence[str]) -> None:
        sql = "UPDATE events SET refused = 1, error = ?, answers = ?, ended = ? WHERE id = ?"
        with self._transaction() as db:
            db.execute(sql, (error[:500], msgspec.json.encode(list(answers)).decode(), time.time(), number))

    def _finish(self, entry: Entry, outcome: Outcome, text: str) -> None:
        """Store an outcome, and what it means for the "cleared" to come; forget the oldest ones."""
        event, output = entry.event, entry.output
        with self._transaction() as db:
            sql = "UPDATE events SET refused = ?, reference = ?, error = NULL, ended = ? WHERE id = ?"
            db.execute(sql, (outcome, text, time.time(), entry.id))
            if event.state == "cleared":
                db.execute("DELETE FROM opened WHERE output = ? AND key = ?", (output, event.key))
            elif outcome == Outcome.DELIVERED:
                db.execute("INSERT OR REPLACE INTO opened VALUES (?, ?, ?)", (output, event.key, event.decision.asset))
            _forget(db, output)


def _forget(database: sqlite3.Connection, output: str) -> None:
    """Delete the oldest finished events of an output, and the oldest opened keys, when there are enough of them."""
    for outcomes, most in (("[2, 3, 5]", MAX_FINISHED), ("[4]", MAX_DROPPED)):
        finished = "output = ? AND refused IN (SELECT value FROM json_each(?))"
        sql = f"SELECT count(*) FROM events WHERE {finished}"  # noqa: S608
        count = database.execute(sql, (output, outcomes)).fetchone()[0]
        if count > most + SPARE_FINISHED:
            oldest = f"SELECT id FROM events WHERE {finished} ORDER BY id LIMIT ?"  # noqa: S608
            sql = f"DELETE FROM events WHERE id IN ({oldest})"  # noqa: S608
            database.execute(sql, (output, outcomes, count - most))
    count = database.execute("SELECT count(*) FROM opened WHERE output = ?", (output,)).fetchone()[0]
    if count > MAX_OPENED:
        oldest = "SELECT rowid FROM opened WHERE output = ? ORDER BY rowid LIMIT ?"
        database.execute(f"DELETE FROM opened WHERE rowid IN ({oldest})", (output, count - MAX_OPENED))  # noqa: S608
