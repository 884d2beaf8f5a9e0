# SPDX-License-Identifier: Apache-2.0
"""The table of labels: every statement on it. No threads: the caller holds the lock of its connection."""

from __future__ import annotations

import sqlite3
import time

from ..types import Label
from .sample_table import Arrived

DAY_S = 86_400  # a label that had no sample for so long will hardly get one
_COLUMNS = "id, asset, start_ns, end_ns, value, origin, part"


def insert(db: sqlite3.Connection, label: Label, now_s: int, most: int) -> None:
    """Store a label, unless the last of the same origin and span has the same value; beyond `most` the oldest go."""
    sql = """SELECT value FROM labels WHERE asset = ? AND part = ? AND end_ns = ? AND start_ns = ? AND origin = ?
        ORDER BY id DESC LIMIT 1"""
    same = db.execute(sql, (label.asset, label.part, label.end_ns, label.start_ns, label.origin)).fetchone()
    if same is not None and same[0] == label.value:
        return
    columns = "asset, start_ns, end_ns, value, origin, part, noted"
    made = db.execute(f"INSERT INTO labels ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?)", (*label, now_s))  # noqa: S608
    db.execute("DELETE FROM labels WHERE id <= ?", (int(made.lastrowid or 0) - most,))


def after(db: sqlite3.Connection, asset: str, number: int, limit: int) -> list[tuple[int, Label]]:
    """The asset's labels with a number above this one, in order."""
    sql = f"SELECT {_COLUMNS} FROM labels WHERE asset = ? AND id > ? ORDER BY id LIMIT ?"  # noqa: S608
    return [(row[0], Label(*row[1:])) for row in db.execute(sql, (asset, number, limit))]


def near(db: sqlite3.Connection, asset: str, arrived: Arrived, until: int) -> list[tuple[int, Label]]:
    """The labels with a number up to `until` that may apply to these samples, in order."""
    sql = f"SELECT {_COLUMNS} FROM labels WHERE asset = ? AND part = ? AND end_ns >= ? AND start_ns <= ? AND id <= ?"  # noqa: S608
    found = []
    for part in ("", *arrived.parts):
        rows = db.execute(sql, (asset, part, arrived.start_ns, arrived.end_ns, until))
        found += [(int(row[0]), Label(*row[1:])) for row in rows]
    return sorted(found)


def mark_matched(db: sqlite3.Connection, number: int, matched: bool) -> None:
    """Note whether a label has had a sample. Its value is known now, perhaps since `label.map` was corrected."""
    sql = "UPDATE labels SET matched = 1 WHERE id = ? AND matched < 1"
    db.execute(sql if matched else "UPDATE labels SET matched = 0 WHERE id = ? AND matched < 0", (number,))


def mark_unknown(db: sqlite3.Connection, number: int) -> None:
    """Note that the model does not know the label's value."""
    db.execute("UPDATE labels SET matched = -1 WHERE id = ?", (number,))


def count(db: sqlite3.Connection, asset: str) -> int:
    """How many labels of the asset are stored."""
    return int(db.execute("SELECT count(*) FROM labels WHERE asset = ?", (asset,)).fetchone()[0])


def unmatched(db: sqlite3.Connection, asset: str, newest_ns: int | None) -> tuple[dict[str, int], Label | None]:
    """How many labels wait for their samples, and how many will hardly get any; the last of the latter."""
    now = int(time.time())  # a label that was noted after it was noted before the clock was set: long ago
    gone = f"(end_ns <= {newest_ns or -1} OR noted NOT BETWEEN {now - DAY_S} AND {now})"
    where = "FROM labels WHERE asset = ? AND matched = 0"
    waiting, without = db.execute(f"SELECT total(NOT {gone}), total({gone}) {where}", (asset,)).fetchone()
    row = db.execute(f"SELECT {_COLUMNS} {where} AND {gone} ORDER BY id DESC LIMIT 1", (asset,)).fetchone()
    return {"waiting": int(waiting), "unmatched": int(without)}, Label(*row[1:]) if row else None
