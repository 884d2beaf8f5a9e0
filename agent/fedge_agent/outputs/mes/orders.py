# SPDX-License-Identifier: Apache-2.0
"""Store what became of each event at one target: the order's id, a create without an answer, the closing code.

A create is recorded before it is sent. So after a lost answer or `kill -9`, the next attempt knows that an order may
exist although no answer came. SQLite with ``synchronous=EXTRA``; thread-safe. While the disk takes nothing, orders go
on in memory: the key of an event, by which they are searched at the target, keeps them from being made twice.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from fedge_models.system.healing import HealingDatabase

MAX_ORDERS = 10_000  # beyond it the oldest are forgotten, and their closing codes give no labels

_SCHEMA = """
CREATE TABLE IF NOT EXISTS orders (
    key TEXT PRIMARY KEY, asset TEXT NOT NULL, opened_ns INTEGER NOT NULL, noticed REAL NOT NULL, cleared_ns INTEGER,
    id TEXT, token TEXT, asked REAL, doubtful INTEGER NOT NULL DEFAULT 0, code TEXT,
    done INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS duplicates (key TEXT PRIMARY KEY, ids TEXT NOT NULL);
"""
_FIELDS = "key, asset, opened_ns, noticed, cleared_ns, id, token, asked, doubtful, code"


class Order(NamedTuple):
    """One event at the target. Times in ns are source time, others Unix time of this machine, s: people set it, so
    `ages` measures how long ago something was."""

    key: str
    asset: str
    opened_ns: int
    noticed: float  # when the event arrived here
    cleared_ns: int | None
    id: Any  # of the order at the target; None: not known
    token: str | None  # create-once address for it
    asked: float | None  # when a create was sent that has no answer
    doubtful: bool  # a create had no answer, so there may be a second order
    code: str | None  # the last known state or closing code


class Orders:
    """The orders of one output. Every method raises StorageError for what neither disk nor memory takes."""

    def __init__(self, path: Path | None) -> None:
        self._looked = 0  # row of the order that was asked about last
        self._path = path
        self._db = HealingDatabase(path, _SCHEMA, "the orders", memory=True) if path else None

    @property
    def problem(self) -> str | None:
        """Why the file is not written at the moment; orders go on in memory."""
        return self._db.problem if self._db else None

    def close(self) -> None:
        """Close the file, or forget what was in memory."""
        if self._db is not None:
            self._db.close()

    def notice(self, key: str, asset: str, opened_ns: int, now: float) -> Order:
        """The event's order; a new one if the event is new."""
        if (known := self.get(key)) is not None:
            return known
        self._run("INSERT INTO orders (key, asset, opened_ns, noticed) VALUES (?, ?, ?, ?)", key, asset, opened_ns, now)
        self._run("DELETE FROM orders WHERE rowid <= (SELECT max(rowid) FROM orders) - ?", MAX_ORDERS)
        return Order(key, asset, opened_ns, now, None, None, None, None, False, None)

    def get(self, key: str) -> Order | None:
        """The order of an event, or None."""
        rows = self._all(f"SELECT {_FIELDS} FROM orders WHERE key = ?", key)  # noqa: S608
        return _order(rows[0]) if rows else None

    def asking(self, key: str, now: float) -> None:
        """Record that a create is about to be sent."""
        self._run("UPDATE orders SET asked = ? WHERE key = ?", now, key)

    def not_made(self, key: str) -> None:
        """Record that the target refused the create."""
        self._run("UPDATE orders SET asked = NULL WHERE key = ?", key)

    def made(self, key: str, id_: Any, doubtful: bool = False) -> None:
        """Record the order; `doubtful`: a create had no answer, so there may be another."""
        text = msgspec.json.encode(id_).decode()
        sql = "UPDATE orders SET id = ?, doubtful = ?, asked = NULL, token = NULL WHERE key = ?"
        self._run(sql, text, doubtful, key)

    def hold_token(self, key: str, token: str | None) -> None:
        """Store a create-once address for this event."""
        self._run("UPDATE orders SET token = ? WHERE key = ?", token, key)

    def cleared(self, key: str, time_ns: int) -> None:
        """Record that the condition is over."""
        self._run("UPDATE orders SET cleared_ns = ? WHERE key = ?", time_ns, key)

    def due(self, count: int) -> list[Order]:
        """The next orders that are not closed, in turn. Nothing is written for that: flash wears out."""
        where = "id IS NOT NULL AND done = 0 AND rowid > ? ORDER BY rowid LIMIT ?"
        rows = self._all(f"SELECT rowid, {_FIELDS} FROM orders WHERE {where}", self._looked, count)  # noqa: S608
        self._looked = rows[-1][0] if len(rows) == count else 0
        return [_order(row[1:]) for row in rows]

    def doubtful(self, count: int) -> list[Order]:
        """Orders for whose event there may be a second one."""
        sql = f"SELECT {_FIELDS} FROM orders WHERE id IS NOT NULL AND doubtful = 1 LIMIT ?"  # noqa: S608
        return [_order(row) for row in self._all(sql, count)]

    def seen(self, key: str, code: str) -> None:
        """Record a new state at the target."""
        self._run("UPDATE orders SET code = ? WHERE key = ?", code, key)

    def done(self, key: str) -> None:
        """Record that nothing more will be learnt of the order."""
        self._run("UPDATE orders SET done = 1 WHERE key = ?", key)

    def duplicate(self, key: str, ids: list[Any]) -> None:
        """Record that several orders were found for an event."""
        self._run("INSERT OR REPLACE INTO duplicates VALUES (?, ?)", key, msgspec.json.encode(ids).decode())

    def sure(self, key: str) -> None:
        """Record that there is no second order."""
        self._run("UPDATE orders SET doubtful = 0 WHERE key = ?", key)

    def status(self) -> dict[str, Any]:
        """Number of orders, their states, and the duplicates."""
        sql = "SELECT coalesce(code, '?'), count(*) FROM orders WHERE id IS NOT NULL GROUP BY 1"
        states = dict(self._all(sql))
        return {
            "orders": sum(states.values()),
            "states": states,
            "duplicates": {
                k: msgspec.json.decode(ids) for k, ids in self._all("SELECT key, ids FROM duplicates LIMIT 20")
            },
        }

    def _run(self, sql: str, *values: object) -> None:
        """Write; without a file, in memory from the first order on: an output that is only checked opens nothing."""
        self._db = self._db or HealingDatabase(None, _SCHEMA, "the orders", memory=True)
        self._db.run(sql, *values)

    def _all(self, sql: str, *values: object) -> list[Any]:
        return self._db.rows(sql, *values) if self._db else []


def _order(row: tuple[Any, ...]) -> Order:
    order = Order(*row)
    return order._replace(id=None if order.id is None else msgspec.json.decode(order.id), doubtful=bool(order.doubtful))
