# SPDX-License-Identifier: Apache-2.0
"""What a person sees of the events on their way to outputs, and does with them; whether the agent runs or not.

Opens the spool of a state folder beside a running agent, which looks at it every few seconds. Promises: nothing is
deleted: what is dropped stays, with who dropped it and why. Never sets a file aside or makes one. Reading needs a file
that can be read, not a disk that can be written.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import msgspec
from fedge_models.errors import ConfigError, StorageError
from fedge_models.system import database
from fedge_models.system.copies import open_to_read
from fedge_models.system.database import open_database, transaction

from ..types import Event
from . import event_queue, event_record
from .event_queue import NAMES, Outcome

_FIELDS = "id, output, asset, key, state, refused, noted, ended, reference, error, answers, event"
_OPEN = (Outcome.WAITING, Outcome.SET_ASIDE, Outcome.HELD)


class Order(NamedTuple):
    """An event at one output, for people. Times are Unix time of this machine, s; 0: not known."""

    id: int
    output: str
    asset: str
    key: str
    state: str  # of the event: opened, raised, cleared
    outcome: Outcome
    noted: float
    ended: float
    reference: str  # the target's own name for it
    text: str  # why it is set aside, skipped, dropped
    answers: list[str]
    event: Event | None  # None: the stored bytes cannot be read

    @property
    def name(self) -> str:
        """Its outcome in words."""
        return NAMES[self.outcome]


def named_by(what: str, orders: Iterable[Order]) -> list[Order]:
    """The orders with this number or key. Raises ConfigError when there is none."""
    found = [order for order in orders if what in (str(order.id), order.key)]
    if not found:
        raise ConfigError(f"there is no order {what!r}: expected a number or a key of: fedge-agent order list")
    return found


Raw = tuple[int, str, str, str, str, int, float, float, str, str | None, str, bytes]  # _FIELDS


class Held(NamedTuple):
    """The events of a spool that is in memory because its file cannot be written."""

    problem: str
    whole: bool  # whether they are all; if not, those of the file are missing
    rows: list[Raw]

    def orders(self) -> list[Order]:
        """The same, decoded."""
        return [_order(row) for row in self.rows]


class Desk:
    """The events of one spool. Raises StorageError, and ConfigError for a number that is not there."""

    def __init__(self, path: Path, changes: bool = False) -> None:
        """changes: whether something is to be changed, for which the disk has to take it."""
        self._path = path
        if not path.exists():
            raise ConfigError(f"{path}: the agent has not yet run with this configuration, so there are no orders")
        if changes:
            self._db = open_database(path, event_queue.SCHEMA)
            with transaction(self._db, "the spool") as db:
                event_queue.prepare(db)
        else:
            self._db = _to_read(path)

    def __enter__(self) -> Desk:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._db.close()

    def orders(self, output: str | None = None, asset: str | None = None) -> list[Order]:
        """Every event that is still known, oldest first."""
        wanted = {"output": output, "asset": asset}
        given = {name: value for name, value in wanted.items() if value is not None}
        where = " AND ".join(["1", *(f"{name} = ?" for name in given)])
        return self._orders(where, *given.values())

    def find(self, what: str) -> list[Order]:
        """The event with this number, or those with this key. Raises ConfigError when there is none."""
        return named_by(what, self._orders("id = ?", int(what)) if what.isdecimal() else self._orders("key = ?", what))

    def retry(self, number: int) -> None:
        """Let an event that was set aside wait again, before those that came after it."""
        self._change(number, Outcome.WAITING, "", (Outcome.SET_ASIDE,))

    def drop(self, number: int, reason: str) -> None:
        """Send an event never; it stays in the list with the reason."""
        self._change(number, Outcome.DROPPED, reason[:500], _OPEN)

    def _change(self, number: int, outcome: Outcome, text: str, from_: tuple[Outcome, ...]) -> None:
        """Store an outcome; a "cleared" that was held because of the event is looked at again."""
        with transaction(self._db, "the spool") as db:
            row = db.execute("SELECT output, key, refused FROM events WHERE id = ?", (number,)).fetchone()
            if row is None or row[2] not in from_:
                is_ = "not there" if row is None else NAMES[Outcome(row[2])]
                raise ConfigError(f"order {number} is {is_}: expected {' or '.join(NAMES[o] for o in from_)}")
            sql = "UPDATE events SET refused = ?, error = ?, ended = ?, tries = 0 WHERE id = ?"
            db.execute(sql, (outcome, text or None, time.time(), number))
            held = "UPDATE events SET refused = 0 WHERE output = ? AND key = ? AND refused = ?"
            db.execute(held, (row[0], row[1], Outcome.HELD))

    def _orders(self, where: str, *values: object) -> list[Order]:
        try:
            return [_order(row) for row in raw(self._db, where, *values)]
        except sqlite3.Error as e:
            raise StorageError(f"{self._path}: cannot be read: {database.explain(e, self._path)}") from e


def raw(spool: sqlite3.Connection, where: str = "1", *values: object) -> list[Raw]:
    """The events of a spool that a condition finds, as they are stored, oldest first. Raises sqlite3.Error."""
    return spool.execute(f"SELECT {_FIELDS} FROM events WHERE {where} ORDER BY id", values).fetchall()  # noqa: S608


def _to_read(path: Path) -> sqlite3.Connection:
    """The spool as it is; that of an earlier version as a copy in memory with what it lacks."""
    opened = open_to_read(path, event_queue.SCHEMA)
    with database.closed_on_error(opened):
        try:
            known = {row[1] for row in opened.execute("PRAGMA table_info(events)")}
            if event_queue.ADDED.keys() <= known:
                return opened
            made = sqlite3.connect(":memory:", isolation_level=None)
            opened.backup(made)
            made.executescript(event_queue.SCHEMA)
            with transaction(made, "the spool") as db:
                event_queue.prepare(db)
        except sqlite3.Error as e:
            raise StorageError(f"{path}: cannot be read: {database.explain(e, path)}") from e
    opened.close()
    return made


def _order(row: Raw) -> Order:
    number, output, asset, key, state, refused, noted, ended, reference, error, answers, body = row
    try:
        event = event_record.decode(body)
    except msgspec.MsgspecError:
        event = None
    outcome = Outcome(refused)
    text = error or (reference if outcome == Outcome.SKIPPED else "")
    id_ = "" if outcome == Outcome.SKIPPED else reference
    decoded = msgspec.json.decode(answers, type=list[str])
    return Order(number, output, asset, key, state, outcome, noted, ended, id_, text, decoded, event)
