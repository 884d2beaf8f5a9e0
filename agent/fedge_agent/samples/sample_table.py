# SPDX-License-Identifier: Apache-2.0
"""The table of samples: every statement on it, for the store that fills it and for the labels that change it.

No threads: the caller holds the lock of its connection. A sample itself says whose value it has (`origin`, a rank) and
from which label (`label`, an id). So a label that is applied twice changes nothing the second time, in whatever order
samples and labels come.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..types import Label
from .label_values import RANKS

MAX_CLASSES = 256  # more distinct values are numbers, not classes
ORIGINS = {rank: name for name, rank in RANKS.items()}

_COVER = """
INSERT INTO baselines VALUES (:model, :asset, :bytes, :ns) ON CONFLICT DO UPDATE SET
    covered_ns = iif(bytes = :bytes, covered_ns, 0) + :ns, bytes = :bytes RETURNING covered_ns
"""
# A "+" keeps SQLite from using an index of that column: the ones of time and part are the good ones.
_BY_PART = "asset = :asset AND part = :part AND part != '' AND +time_ns BETWEEN :start AND :end"
# Windows in the label, or the label in a window. A window is of (time_ns - span_ns, time_ns]: its grid's value at its
# end is its own, so a moment on the edge of two windows of a table is of the one that ends there.
_BY_TIME = """asset = :asset AND time_ns BETWEEN :start AND :end + :longest AND (
    (time_ns <= :end AND time_ns - span_ns >= :start)
    OR (time_ns >= :end AND time_ns - span_ns <= :start AND time_ns - span_ns < :end))"""
SINCE = """coalesce((SELECT max(r.since) FROM sample_recipes r
    WHERE r.model = samples.model AND r.asset IN ('', samples.asset)), 0)"""
USED = f"id > {SINCE}"  # samples that were made as they are made now
# Samples that somebody is asked about are kept while the question is open.
NOT_ASKED = """id NOT IN (SELECT s.id FROM questions q JOIN samples s ON s.asset = q.asset AND s.time_ns = q.end_ns
    WHERE q.state = 'open')"""
_WINS = "(origin < :rank OR (origin = :rank AND label < :id))"
_OTHERWISE = "y IS NOT NULL AND y IS NOT :y AND label != :id"


class Sample(NamedTuple):
    """One window's features before standardisation."""

    model: str
    asset: str
    time_ns: int
    x: NDArray[Any]  # float32, or float64 where that is too coarse; a picture stays bytes: a quarter of the disk
    # Class index; anomaly: 0 normal, 1 anomaly; multilabel: 0 or 1 of each label; regress: in the targets' units.
    y: float | tuple[float, ...] | None
    held: int  # what it is for by blocks of time: `units.LEARN`, `HOLD` or `NEITHER`
    span_ns: int = 0  # from the window's first sample to its last
    part: str = ""  # what was made at its end
    covers_ns: int = 0  # operation since the asset's sample before it, counted towards its baseline


def begin(db: sqlite3.Connection, model: str, asset: str, recipe: bytes) -> int:
    """Have the samples that follow be made by this recipe, of all assets of the model ("") or of one; those before it
    count for nothing when it is another one than before, and baselines begin again.

    How many samples of the model there are that a version stored which noted no recipe; they are used.
    """
    key = model, asset
    known = db.execute("SELECT recipe FROM sample_recipes WHERE model = ? AND asset = ?", key).fetchone()
    if known is None:
        db.execute("INSERT INTO sample_recipes VALUES (?, ?, ?, 0)", (*key, recipe))
        return 0 if asset else _count(db, model)
    if known[0] == recipe:
        return 0
    of, args = ("", (model,)) if not asset else (" AND asset = ?", key)
    since = db.execute(f"SELECT coalesce(max(id), 0) FROM samples WHERE model = ?{of}", args).fetchone()[0]  # noqa: S608
    db.execute("UPDATE sample_recipes SET recipe = ?, since = ? WHERE model = ? AND asset = ?", (recipe, since, *key))
    db.execute(f"DELETE FROM baselines WHERE model = ?{of}", args)  # noqa: S608
    db.execute("DELETE FROM scalings WHERE model = ?", (model,))
    return 0


def since(db: sqlite3.Connection, model: str) -> dict[str, int]:
    """The highest id of the model's samples that count for nothing, of each asset that has samples."""
    sql = f"SELECT asset, max({SINCE}) FROM samples WHERE model = ? GROUP BY asset"  # noqa: S608
    return dict(db.execute(sql, (model,)))


def count_between(db: sqlite3.Connection, model: str, asset: str, after: int, last: int) -> int:
    """How many samples of the asset have an id above `after`, up to `last`."""
    sql = "SELECT count(*) FROM samples WHERE model = ? AND asset = ? AND id > ? AND id <= ?"
    return int(db.execute(sql, (model, asset, after, last)).fetchone()[0])


def count_before(db: sqlite3.Connection, model: str) -> int:
    """How many samples of the model were made by another recipe."""
    return int(db.execute(f"SELECT count(*) FROM samples WHERE model = ? AND NOT {USED}", (model,)).fetchone()[0])  # noqa: S608


def bound(db: sqlite3.Connection, model: str, most: int) -> None:
    """Delete what is more than `most` samples of a model, from the assets that have the most: of each the oldest of its
    commonest value, or, where values are numbers, the oldest. So one asset never displaces the samples of others."""
    excess = _count(db, model) - most
    while excess > 0:
        sql = "SELECT asset, count(*) FROM samples WHERE model = ? GROUP BY asset ORDER BY 2 DESC LIMIT 2"
        drop = _step(excess, largest := db.execute(sql, (model,)).fetchall())
        _bound_asset(db, model, largest[0][0], drop)
        excess -= drop


def _bound_asset(db: sqlite3.Connection, model: str, asset: str, excess: int) -> None:
    distinct = "SELECT count(DISTINCT y) FROM samples WHERE model = ? AND asset = ?"
    if db.execute(distinct, (model, asset)).fetchone()[0] > MAX_CLASSES:
        first = f"SELECT id FROM samples WHERE model = ? AND asset = ? AND {NOT_ASKED} ORDER BY id LIMIT ?"  # noqa: S608
        db.execute(f"DELETE FROM samples WHERE id IN ({first})", (model, asset, excess))  # noqa: S608
        return
    while excess > 0:
        sql = "SELECT y, count(*) FROM samples WHERE model = ? AND asset = ? GROUP BY y ORDER BY 2 DESC LIMIT 2"
        drop = _step(excess, common := db.execute(sql, (model, asset)).fetchall())
        of = f"model = ? AND asset = ? AND y IS ? AND {NOT_ASKED}"
        oldest = f"SELECT id FROM samples WHERE {of} ORDER BY id LIMIT ?"  # noqa: S608
        db.execute(f"DELETE FROM samples WHERE id IN ({oldest})", (model, asset, common[0][0], drop))  # noqa: S608
        excess -= drop


def _step(excess: int, largest: list[tuple[Any, int]]) -> int:
    """How many to delete of the largest group before the next one is as large."""
    return min(excess, max(1, largest[0][1] - (largest[1][1] if len(largest) > 1 else 0)))


def cover(db: sqlite3.Connection, samples: Iterable[Sample]) -> list[tuple[str, str, int]]:
    """Count the operation that samples cover towards the baselines; (model, asset, ns so far) of those that changed.

    An asset whose samples have another size than before has another model or window: its baseline begins again.
    """
    found: dict[tuple[str, str], int] = {}
    for s in samples:
        if s.covers_ns:
            values = {"model": s.model, "asset": s.asset, "bytes": sizes(s.x.dtype, s.x.shape)[0], "ns": s.covers_ns}
            found[s.model, s.asset] = db.execute(_COVER, values).fetchone()[0]
    return [(model, asset, ns) for (model, asset), ns in found.items()]


def _count(db: sqlite3.Connection, model: str) -> int:
    return int(db.execute("SELECT count(*) FROM samples WHERE model = ?", (model,)).fetchone()[0])


class Match(NamedTuple):
    """What became of a label."""

    matched: int  # samples that it applies to
    relabelled: int  # of those: have another value than before, because of it
    contradicted: int  # of those: had, or keep, another value
    example: tuple[Any, str, int] | None  # of a contradicted one: (y, origin, time_ns)


def apply_label(
    db: sqlite3.Connection,
    number: int,
    label: Label,
    model: str,
    y: float | tuple[float, ...],
    longest_ns: int,
    after: int = 0,
) -> Match:
    """Give y to the samples (of an id above `after`) that the label of this number applies to, unless they believe
    another more. longest_ns: of their windows."""
    where = f"+model = :model AND +id > :after AND {_BY_PART if label.part else _BY_TIME}"
    values = {
        **_span(label, longest_ns),
        **{"model": model, "after": after, "rank": RANKS[label.origin], "id": number, "y": stored_value(y)},
    }
    counts = f"count(*), total({_OTHERWISE}), total({_WINS}), total({_WINS} AND y IS NOT :y)"
    sql = f"SELECT {counts} FROM samples WHERE {where}"  # noqa: S608
    matched, contradicted, wins, relabelled = (int(n) for n in db.execute(sql, values).fetchone())
    example = None
    if contradicted:
        sql = f"SELECT y, origin, time_ns FROM samples WHERE {where} AND {_OTHERWISE} ORDER BY id DESC LIMIT 1"  # noqa: S608
        was, origin, time_ns = db.execute(sql, values).fetchone()
        example = (was, ORIGINS.get(origin, "nobody"), time_ns)
    if wins:
        db.execute(f"UPDATE samples SET y = :y, origin = :rank, label = :id WHERE {where} AND {_WINS}", values)  # noqa: S608
    return Match(matched, relabelled, contradicted, example)


def count_matching(db: sqlite3.Connection, label: Label) -> int:
    """How many samples a label applies to, of whatever model."""
    values = _span(label, longest_window(db, label.asset))
    sql = f"SELECT count(*) FROM samples WHERE {_BY_PART if label.part else _BY_TIME}"  # noqa: S608
    return int(db.execute(sql, values).fetchone()[0])


def _span(label: Label, longest_ns: int) -> dict[str, Any]:
    """The label's part and time as parameters, with how far behind its end a window that holds it may end; the sum
    stays within 64 bits."""
    room = min(longest_ns, (1 << 63) - 1 - label.end_ns)
    return {"asset": label.asset, "start": label.start_ns, "end": label.end_ns, "part": label.part, "longest": room}


class Arrived(NamedTuple):
    """New samples of one asset."""

    first: int  # the lowest id
    start_ns: int
    end_ns: int
    longest_ns: int  # window
    parts: frozenset[str]


def arrived_after(db: sqlite3.Connection, after: int, limit: int) -> tuple[int, dict[str, Arrived]]:
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


def expire(db: sqlite3.Connection, asset: str, model: str, late_ns: int) -> int:
    """Delete the samples that waited so long for a label, counted back from the asset's newest; how many."""
    sql = f"""DELETE FROM samples WHERE asset = :asset AND model = :model AND y IS NULL AND {NOT_ASKED}
        AND time_ns < (SELECT max(time_ns) FROM samples WHERE asset = :asset) - :late"""  # noqa: S608
    return db.execute(sql, {"asset": asset, "model": model, "late": late_ns}).rowcount


def unlabelled(db: sqlite3.Connection, model: str, bytes_: tuple[int, int], since_ns: int, most: int) -> list[Any]:
    """(asset, time in ns, span in ns, part, x) of the newest samples of a model that have no label, since then."""
    sql = f"""SELECT asset, time_ns, span_ns, part, x FROM samples
        WHERE model = ? AND y IS NULL AND time_ns >= ? AND length(x) IN (?, ?) AND {USED} ORDER BY id DESC LIMIT ?"""  # noqa: S608
    return db.execute(sql, (model, since_ns, *bytes_, most)).fetchall()


def labelled(db: sqlite3.Connection, model: str, bytes_: tuple[int, int], most: int) -> list[bytes]:
    """The newest samples of a model that have a label."""
    sql = f"SELECT x FROM samples WHERE model = ? AND y IS NOT NULL AND length(x) IN (?, ?) AND {USED}"  # noqa: S608
    return [row[0] for row in db.execute(f"{sql} ORDER BY id DESC LIMIT ?", (model, *bytes_, most))]


def of_value(
    db: sqlite3.Connection, model: str, bytes_: tuple[int, int], y: float, most: int
) -> list[tuple[str, int, bytes]]:
    """(asset, time in ns, x) of the newest samples of a model with this value."""
    sql = f"SELECT asset, time_ns, x FROM samples WHERE model = ? AND y = ? AND length(x) IN (?, ?) AND {USED}"  # noqa: S608
    return db.execute(f"{sql} ORDER BY id DESC LIMIT ?", (model, y, *bytes_, most)).fetchall()


def longest_window(db: sqlite3.Connection, asset: str) -> int:
    """Length of the longest window of the asset's samples, ns."""
    return int(db.execute("SELECT max(span_ns) FROM samples WHERE asset = ?", (asset,)).fetchone()[0] or 0)


def newest(db: sqlite3.Connection, asset: str) -> int | None:
    """Source time of the asset's newest sample, ns."""
    found: int | None = db.execute("SELECT max(time_ns) FROM samples WHERE asset = ?", (asset,)).fetchone()[0]
    return found


def last_id(db: sqlite3.Connection) -> int:
    """Id of the sample that was written last; 0: there is none."""
    return int(db.execute("SELECT max(id) FROM samples").fetchone()[0] or 0)


def last_number(db: sqlite3.Connection) -> int:
    """The highest id that a sample ever had in this database, also when it was deleted."""
    found = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'samples'").fetchone()
    return int(found[0]) if found else 0


def stored_value(y: float | tuple[float, ...] | None) -> float | bytes | None:
    """A value, or several of one sample, as a column holds it."""
    return np.array(y, "<f8").tobytes() if isinstance(y, tuple) else y


def values_of(stored: bytes) -> tuple[float, ...]:
    """Several values of one sample, as they were stored."""
    return tuple(np.frombuffer(stored, "<f8").tolist())


def sizes(kind: Any, shape: tuple[int, ...]) -> tuple[int, int]:
    """How many bytes a stored sample has: bytes of a picture; of numbers float32, or float64."""
    size = math.prod(shape)
    return (size, size) if kind == np.uint8 else (4 * size, 8 * size)


def numbers(stored: list[bytes], kind: Any, shape: tuple[int, ...], wide: bool) -> NDArray[Any]:
    """Stored samples as an array (n, *shape) of `kind`; with `wide`, of float64 where one of them is."""
    size, larger = sizes(kind, shape)
    if all(len(x) == size for x in stored):
        return np.frombuffer(b"".join(stored), kind).reshape(len(stored), *shape)
    found = np.empty((len(stored), math.prod(shape)), np.float64 if wide else np.float32)
    for row, x in zip(found, stored, strict=True):
        row[:] = np.frombuffer(x, "<f8" if len(x) == larger else "<f4")
    return found.reshape(len(stored), *shape)


def target_values(stored: list[float | bytes | None], targets: int) -> NDArray[np.float64]:
    """Stored values as an array (n,) or (n, targets); NaN for what is unknown, or of another number of targets."""
    y = np.full((len(stored), targets), np.nan)
    for row, value in zip(y, stored, strict=True):
        if isinstance(value, bytes) and len(value) == 8 * targets:
            row[:] = np.frombuffer(value, "<f8")
        elif isinstance(value, (int, float)) and targets == 1:
            row[0] = value
    return y[:, 0] if targets == 1 else y
