"""Labels and samples in one SQLite file: which samples a label is of, and which of them it teaches. No threads.

A sample says itself whose label it has (`origin`, a rank) and which (`label`, an id), so that joining twice is joining
once, in whatever order samples and labels come.
"""

from __future__ import annotations

import sqlite3
import time
from typing import Any, NamedTuple

from ..types import Label
from .label_values import RANKS

DAY_S = 86_400  # a label of no sample for so long will hardly get one
ORIGINS = {rank: name for name, rank in RANKS.items()}
SCHEMA = """
CREATE TABLE IF NOT EXISTS labels (
    id INTEGER PRIMARY KEY AUTOINCREMENT, asset TEXT NOT NULL, start_ns INTEGER NOT NULL, end_ns INTEGER NOT NULL,
    value NOT NULL, origin TEXT NOT NULL, part TEXT NOT NULL, noted INTEGER NOT NULL,
    matched INTEGER NOT NULL DEFAULT 0);
CREATE INDEX IF NOT EXISTS labels_of ON labels (asset);
CREATE INDEX IF NOT EXISTS labels_by_span ON labels (asset, part, end_ns, start_ns);
"""
COLUMNS = "id, asset, start_ns, end_ns, value, origin, part"

# A "+" keeps SQLite from using an index of that column: the ones of time and part are the good ones.
_BY_PART = "asset = :asset AND part = :part AND part != '' AND +time_ns BETWEEN :start AND :end"
_BY_TIME = """asset = :asset AND time_ns BETWEEN :start AND :end + :longest AND (
    (time_ns <= :end AND time_ns - span_ns >= :start) OR (time_ns >= :end AND time_ns - span_ns <= :start))"""
_WINS = "(origin < :rank OR (origin = :rank AND label < :id))"
_OTHERWISE = "y IS NOT NULL AND y IS NOT :y AND label != :id"


class Joined(NamedTuple):
    """What became of a label."""

    matched: int  # samples that it is of
    taught: int  # of those: have another label than before, because of it
    contradicted: int  # of those: had, or keep, another one
    example: tuple[Any, str, int] | None  # of a contradicted one: (y, origin, time_ns)


def join(
    db: sqlite3.Connection, number: int, label: Label, model: str, y: float, longest_ns: int, after: int = 0
) -> Joined:
    """Teach the samples (of an id above `after`) that the label of this number is of. longest_ns: of their windows."""
    where = f"+model = :model AND +id > :after AND {_BY_PART if label.part else _BY_TIME}"
    values = {
        **{"asset": label.asset, "start": label.start_ns, "end": label.end_ns, "part": label.part},
        **{"model": model, "after": after, "rank": RANKS[label.origin], "id": number, "y": y},
        "longest": _room(longest_ns, label),
    }
    counts = f"count(*), total({_OTHERWISE}), total({_WINS}), total({_WINS} AND y IS NOT :y)"
    sql = f"SELECT {counts} FROM samples WHERE {where}"  # noqa: S608
    matched, contradicted, wins, taught = (int(n) for n in db.execute(sql, values).fetchone())
    example = None
    if contradicted:
        sql = f"SELECT y, origin, time_ns FROM samples WHERE {where} AND {_OTHERWISE} ORDER BY id DESC LIMIT 1"  # noqa: S608
        was, origin, time_ns = db.execute(sql, values).fetchone()
        example = (was, ORIGINS.get(origin, "nobody"), time_ns)
    if wins:
        db.execute(f"UPDATE samples SET y = :y, origin = :rank, label = :id WHERE {where} AND {_WINS}", values)  # noqa: S608
    return Joined(matched, taught, contradicted, example)


def count(db: sqlite3.Connection, label: Label) -> int:
    """How many samples a label is of, of whatever model; 0 where none were ever kept."""
    values = {"asset": label.asset, "start": label.start_ns, "end": label.end_ns, "part": label.part}
    try:
        values["longest"] = _room(longest(db, label.asset), label)
        sql = f"SELECT count(*) FROM samples WHERE {_BY_PART if label.part else _BY_TIME}"  # noqa: S608
        return int(db.execute(sql, values).fetchone()[0])
    except sqlite3.OperationalError:
        return 0


def _room(longest_ns: int, label: Label) -> int:
    """How far behind the label's end windows may end that it lies in; sums stay within 64 bits."""
    return min(longest_ns, (1 << 63) - 1 - label.end_ns)


def labels_after(db: sqlite3.Connection, asset: str, after: int, limit: int) -> list[tuple[int, Label]]:
    """The asset's labels of a number above `after`, in order."""
    sql = f"SELECT {COLUMNS} FROM labels WHERE asset = ? AND id > ? ORDER BY id LIMIT ?"  # noqa: S608
    return [(row[0], Label(*row[1:])) for row in db.execute(sql, (asset, after, limit))]


class Arrived(NamedTuple):
    """New samples of one asset."""

    first: int  # the lowest id
    start_ns: int
    end_ns: int
    longest_ns: int  # window
    parts: frozenset[str]


def samples_after(db: sqlite3.Connection, after: int, limit: int) -> tuple[int, dict[str, Arrived]]:
    """The highest id, and the samples of an id above `after` by asset."""
    sql = "SELECT id, asset, time_ns - span_ns, time_ns, part FROM samples WHERE id > ? ORDER BY id LIMIT ?"
    found: dict[str, Arrived] = {}
    for number, asset, start, end, part in db.execute(sql, (after, limit)):
        had = found.get(asset, Arrived(number, start, end, 0, frozenset()))
        parts = had.parts | {part} if part else had.parts
        longest = max(had.longest_ns, end - start)
        found[asset] = Arrived(had.first, min(had.start_ns, start), max(had.end_ns, end), longest, parts)
        after = number
    return after, found


def labels_of(db: sqlite3.Connection, asset: str, arrived: Arrived, until: int) -> list[tuple[int, Label]]:
    """The labels of a number up to `until` that may be of these samples, in order."""
    sql = f"SELECT {COLUMNS} FROM labels WHERE asset = ? AND part = ? AND end_ns >= ? AND start_ns <= ? AND id <= ?"  # noqa: S608
    found = []
    for part in ("", *arrived.parts):
        rows = db.execute(sql, (asset, part, arrived.start_ns, arrived.end_ns, until))
        found += [(int(row[0]), Label(*row[1:])) for row in rows]
    return sorted(found)


def expire(db: sqlite3.Connection, asset: str, model: str, late_ns: int) -> int:
    """Drop the samples that waited for a label for so long, counted back from the asset's newest; how many."""
    sql = """DELETE FROM samples WHERE asset = :asset AND model = :model AND y IS NULL
        AND time_ns < (SELECT max(time_ns) FROM samples WHERE asset = :asset) - :late"""
    return db.execute(sql, {"asset": asset, "model": model, "late": late_ns}).rowcount


def longest(db: sqlite3.Connection, asset: str) -> int:
    """How long the longest window of the asset's samples is, ns."""
    return int(db.execute("SELECT max(span_ns) FROM samples WHERE asset = ?", (asset,)).fetchone()[0] or 0)


def newest(db: sqlite3.Connection, asset: str) -> int | None:
    """Source time of the asset's newest sample."""
    found: int | None = db.execute("SELECT max(time_ns) FROM samples WHERE asset = ?", (asset,)).fetchone()[0]
    return found


def insert(db: sqlite3.Connection, label: Label, now_s: int, keep: int) -> None:
    """Keep it unless it says what the last of the same origin and span says already; beyond `keep` the oldest go."""
    sql = """SELECT value FROM labels WHERE asset = ? AND part = ? AND end_ns = ? AND start_ns = ? AND origin = ?
        ORDER BY id DESC LIMIT 1"""
    same = db.execute(sql, (label.asset, label.part, label.end_ns, label.start_ns, label.origin)).fetchone()
    if same is not None and same[0] == label.value:
        return
    columns = "asset, start_ns, end_ns, value, origin, part, noted"
    made = db.execute(f"INSERT INTO labels ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?)", (*label, now_s))  # noqa: S608
    db.execute("DELETE FROM labels WHERE id <= ?", (int(made.lastrowid or 0) - keep,))


def mark(db: sqlite3.Connection, number: int, matched: bool) -> None:
    """Whether it has had a sample; -1: its value was unknown, until somebody corrected `label.map`."""
    sql = "UPDATE labels SET matched = 1 WHERE id = ? AND matched < 1"
    db.execute(sql if matched else "UPDATE labels SET matched = 0 WHERE id = ? AND matched < 0", (number,))


def unmatched(db: sqlite3.Connection, asset: str, newest: int | None) -> tuple[dict[str, int], Label | None]:
    """How many labels wait for their samples and how many will hardly get any; the last of the latter."""
    gone = f"(end_ns <= {newest or -1} OR noted < {int(time.time()) - DAY_S})"
    where = "FROM labels WHERE asset = ? AND matched = 0"
    waiting, unmatched = db.execute(f"SELECT total(NOT {gone}), total({gone}) {where}", (asset,)).fetchone()
    row = db.execute(f"SELECT {COLUMNS} {where} AND {gone} ORDER BY id DESC LIMIT 1", (asset,)).fetchone()
    return {"waiting": int(waiting), "unmatched": int(unmatched)}, Label(*row[1:]) if row else None
