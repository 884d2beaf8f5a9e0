# SPDX-License-Identifier: Apache-2.0
"""The durable inbox: readings of sources that acknowledge what they were sent (MQTT), until no window needs them.

Promises: what `store` returned from survives kill -9 and power cuts (SQLite, ``synchronous=EXTRA``), one commit for all
readings that came together. `record` writes how far they were decided on, in one transaction with the checkpoints of
the assets, and deletes what no coming window needs; `replay` returns the rest after a restart. Bounded in bytes and
age: beyond that the oldest readings are deleted and counted. Leaves to `progress_writer` that what was decided is
durable first.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec
import numpy as np
from fedge_models.errors import StorageError
from fedge_models.system import files
from fedge_models.system.healing import HealingDatabase
from fedge_models.system.moved import retried

from ..types import Quality, Reading
from .replay_guard import ReplayGuard

Decoded = TypeVar("Decoded")
logger = logging.getLogger(__name__)

INBOX_FILE = "inbox.sqlite"  # in the state folder
AT_ONCE = 200  # rows in memory while they are replayed
BYTES_AT_ONCE = 4 * 2**20  # of these; one row may be larger
RECEIPTS = 1024  # commits per source whose receipts are stored: more than a broker leaves unacknowledged
ARRAY = 1  # MessagePack extension: dtype, shape and bytes of an array
LOOK_S = 5.0  # how often old readings are looked for

_SCHEMA = """
CREATE TABLE IF NOT EXISTS kept (
    id INTEGER PRIMARY KEY AUTOINCREMENT, source TEXT NOT NULL, fresh INTEGER NOT NULL, alive_ns INTEGER,
    newest_ns INTEGER NOT NULL, at REAL NOT NULL, body BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS by_time ON kept (source, newest_ns, id);
CREATE TABLE IF NOT EXISTS receipts (id INTEGER PRIMARY KEY, source TEXT NOT NULL, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS last (
    source TEXT NOT NULL, tag TEXT NOT NULL, body BLOB NOT NULL, PRIMARY KEY (source, tag));
CREATE TABLE IF NOT EXISTS done (source TEXT PRIMARY KEY, id INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS marks (asset TEXT PRIMARY KEY, mark BLOB NOT NULL);
"""


def _prepare(database: sqlite3.Connection) -> None:
    """Add what a file of an earlier version lacks."""
    if "origin" not in {row[1] for row in database.execute("PRAGMA table_info(kept)")}:
        database.execute("ALTER TABLE kept ADD COLUMN origin TEXT")


class StoredBatch(NamedTuple):
    """Readings that came together."""

    id: int
    source: str
    readings: list[Reading]
    alive_ns: int | None
    fresh: bool  # see `Batch`
    origin: str | None  # see `Batch`
    decided: bool  # before the restart, the windows that they completed were decided


class Progress(NamedTuple):
    """How far the main thread has decided."""

    done: Mapping[str, int]  # source -> the newest row that all its assets have taken in
    checkpoints: Mapping[str, bytes]  # asset -> what it resumes from
    needed: Mapping[str, int]  # source -> readings before this source time (ns) are needed by no coming window


@retried
class Inbox:
    """Thread-safe. Every method raises StorageError when the disk is full or failing."""

    def __init__(self, path: Path, max_bytes: int, max_age_s: float) -> None:
        self._lock = threading.Lock()
        self._max_bytes, self._max_age = max_bytes, max_age_s
        self.aside = path.parent / "set-aside"  # rows whose replay ended the agent
        self._db = HealingDatabase(path, _SCHEMA, "the inbox", prepare=_prepare)
        self._rows = self._bytes = 0
        self._counted: object = None  # the file whose rows and bytes these are
        self._newest = 0  # number of the last row
        # How old a row is counts from when it was stored, or from this start: setting the clock makes no row old.
        self._ages: deque[tuple[float, int]] = deque()  # when (monotonic, s) the last row was which
        self._arrays: set[int] = set()  # rows of this process that hold nothing but arrays
        with suppress(StorageError), self._db.transaction() as db:
            self._take_over(db)
        self._looked = 0.0
        self.dropped = 0  # rows beyond the bounds that a window may still have needed
        self.unreadable = 0  # rows, checkpoints and receipts that a damaged disk has changed

    @property
    def problem(self) -> str | None:
        """Why the file is not written at the moment."""
        return self._db.problem

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def store(
        self,
        source: str,
        readings: Sequence[Reading],
        alive_ns: int | None = None,
        fresh: bool = False,
        receipts: Sequence[bytes] = (),
        origin: str | None = None,
    ) -> int:
        """Store readings, and receipts by which their messages are recognised when they are sent again.

        Returns the row's number, once it is durable.
        """
        body = _encode(readings)
        newest = max((r.time_ns for r in readings), default=alive_ns or 0)
        row = (source, fresh, alive_ns, newest, 0.0, body, origin)  # `at` was the wall clock
        with self._transaction() as db:
            sql = "INSERT INTO kept (source, fresh, alive_ns, newest_ns, at, body, origin) VALUES (?, ?, ?, ?, ?, ?, ?)"
            number = int(db.execute(sql, row).lastrowid or 0)
            if receipts:
                db.execute("INSERT INTO receipts VALUES (?, ?, ?)", (number, source, msgspec.msgpack.encode(receipts)))
            self._count(1, len(body))
            self._bound(db)
        self._newest = max(self._newest, number)
        if readings and all(isinstance(r.value, np.ndarray) for r in readings):
            self._arrays.add(number)
        return number

    def receipts(self, source: str) -> list[bytes]:
        """Receipts of the newest messages of a source, oldest first."""
        rows = self._db.rows("SELECT body FROM receipts WHERE source = ? ORDER BY id", source)
        found = (self._decoded(lambda b: msgspec.msgpack.decode(b, type=list[bytes]), body) for (body,) in rows)
        return [r for receipts in found for r in receipts or ()]

    def checkpoint(self, asset: str) -> bytes | None:
        """The asset's checkpoint of the last `record`; None: there is none."""
        rows = self._db.rows("SELECT mark FROM marks WHERE asset = ?", asset)
        return bytes(rows[0][0]) if rows and isinstance(rows[0][0], bytes) else None

    def record(self, progress: Progress) -> None:
        """Write how far the main thread has decided, and delete what no window needs any more."""
        with self._transaction() as db:
            db.executemany("INSERT OR REPLACE INTO done VALUES (?, ?)", progress.done.items())
            db.executemany("INSERT OR REPLACE INTO marks VALUES (?, ?)", progress.checkpoints.items())
            for source, needed in progress.needed.items():
                self._trim(db, source, progress.done.get(source, 0), needed)
            if time.monotonic() - self._looked > LOOK_S:
                self._looked = time.monotonic()
                self._drop_old(db, self._looked)

    def replay(self, guard: ReplayGuard | None = None) -> Iterator[StoredBatch]:
        """All stored readings in the order in which they came, after the last values of tags that were deleted. One
        that cannot be read is left out and counted; one that the guard leaves out is moved to the folder `aside`."""
        for source, body in self._db.rows("SELECT source, body FROM last"):
            yield StoredBatch(0, source, self._decoded(_decode, body) or [], None, False, None, True)
        done, number = dict(self._db.rows("SELECT source, id FROM done")), -1
        sql = "SELECT id, source, body, alive_ns, fresh, origin FROM kept WHERE id > ? ORDER BY id LIMIT ?"
        while rows := self._db.rows(sql, number, self._how_many_after(number)):
            for number, source, body, alive, fresh, origin in rows:
                if guard is not None and number in guard.left_out:
                    self._set_aside(number, body)
                    continue
                if guard is not None:
                    guard.mark(number)
                readings = self._decoded(_decode, body) or []
                yield StoredBatch(number, source, readings, alive, bool(fresh), origin, number <= done.get(source, 0))

    def _how_many_after(self, number: int) -> int:
        """How many rows fit into memory at once."""
        sizes = self._db.rows("SELECT length(body) FROM kept WHERE id > ? ORDER BY id LIMIT ?", number, AT_ONCE)
        whole = accumulate(size for (size,) in sizes)
        return max(1, sum(1 for size in whole if size <= BYTES_AT_ONCE))

    def _set_aside(self, number: int, body: bytes) -> None:
        """Move a row to a file of its own; while that fails it stays, and is left out again."""
        logger.error("the inbox: row %d ended the agent twice while it was replayed; it is set aside", number)
        try:
            files.make_folder(self.aside)
            files.write(self.aside / f"inbox-{number}.msgpack", body, 0o600)
            with self._transaction() as db:
                db.execute("DELETE FROM kept WHERE id = ?", (number,))
                self._count(-1, -len(body))
        except (OSError, StorageError) as e:
            logger.error("the inbox: row %d cannot be set aside: %s", number, e)

    def status(self) -> dict[str, Any]:
        """For the status page."""
        return {
            "set_aside": self._count_aside(),
            "aside": str(self.aside),
            "commits": self._rows,
            "bytes": self._bytes,
            "dropped": self.dropped,
            "unreadable": self.unreadable,
        }

    def _count_aside(self) -> int:
        with suppress(OSError):  # a folder that this user may not look into
            return sum(1 for _ in self.aside.glob("inbox-*.msgpack"))
        return 0

    def _trim(self, db: sqlite3.Connection, source: str, done: int, needed: int) -> None:
        """Delete rows that were used and are too old for a coming window, but for the last value of each tag."""
        sql = "SELECT id, length(body) FROM kept WHERE source = ? AND id <= ? AND newest_ns < ? ORDER BY id"
        rows = db.execute(sql, (source, done, needed)).fetchall()
        last: dict[str, Reading] = {}
        for number, _ in rows:
            if number in self._arrays:  # there is nothing to carry over, and a picture is large
                self._arrays.discard(number)
                continue
            body = db.execute("SELECT body FROM kept WHERE id = ?", (number,)).fetchone()[0]
            last |= {r.tag: r for r in self._decoded(_decode_scalars, body) or []}
        values = [(source, tag, _encode([reading])) for tag, reading in last.items()]
        db.executemany("INSERT OR REPLACE INTO last VALUES (?, ?, ?)", values)
        db.executemany("DELETE FROM kept WHERE id = ?", [(number,) for number, _ in rows])
        self._count(-len(rows), -sum(size for _, size in rows))
        newest = "SELECT id FROM receipts WHERE source = ? ORDER BY id DESC LIMIT 1 OFFSET ?"
        db.execute(f"DELETE FROM receipts WHERE source = ? AND id <= ({newest})", (source, source, RECEIPTS))  # noqa: S608

    def _bound(self, db: sqlite3.Connection) -> None:
        while self._bytes > self._max_bytes and self._rows > 1:
            self._drop(db, 1 + db.execute("SELECT min(id) FROM kept").fetchone()[0])

    def _drop_old(self, db: sqlite3.Connection, now: float) -> None:
        """Drop the rows that were stored longer ago than the bound, on a clock that nobody sets."""
        if not self._ages or now - self._ages[-1][0] >= self._max_age / 100:
            self._ages.append((now, db.execute("SELECT coalesce(max(id), 0) FROM kept").fetchone()[0]))
        while self._ages and now - self._ages[0][0] > self._max_age:
            self._drop(db, 1 + self._ages.popleft()[1])

    def _drop(self, db: sqlite3.Connection, before: int) -> None:
        sizes = db.execute("SELECT length(body) FROM kept WHERE id < ?", (before,)).fetchall()
        db.execute("DELETE FROM kept WHERE id < ?", (before,))
        self._count(-len(sizes), -sum(size for (size,) in sizes))
        self._arrays = {number for number in self._arrays if number >= before}
        self.dropped += len(sizes)

    def _count(self, rows: int, size: int) -> None:
        self._rows, self._bytes = self._rows + rows, self._bytes + size

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            before = self._rows, self._bytes, self.dropped
            try:
                with self._db.transaction() as db:
                    if db is not self._counted:  # another file: the last one was damaged
                        self._take_over(db)
                    yield db
            except BaseException:
                self._rows, self._bytes, self.dropped = before
                raise

    def _take_over(self, db: sqlite3.Connection) -> None:
        """Count what a file holds, and number its rows above all that the agent has seen: a row of a lower number than
        one that was decided on would count as decided."""
        sql = "SELECT count(*), coalesce(sum(length(body)), 0) FROM kept"
        self._rows, self._bytes = (int(n) for n in db.execute(sql).fetchone())
        if not self._rows:
            sql = "SELECT coalesce(max(id), 0) FROM done UNION ALL SELECT coalesce(max(seq), 0) FROM sqlite_sequence"
            last = max(self._newest, *(number for (number,) in db.execute(sql).fetchall()))
            db.execute("DELETE FROM sqlite_sequence")
            db.execute("INSERT INTO sqlite_sequence VALUES ('kept', ?)", (last,))
        self._counted = db

    def _decoded(self, decode: Callable[[bytes], Decoded], body: bytes) -> Decoded | None:
        """What stored bytes mean; None, and counted, when a damaged disk has changed them."""
        try:
            return decode(body)
        except Exception as e:  # whatever a decoder raises for any bytes
            self.unreadable += 1
            logger.error("the inbox: a row cannot be read and is left out: %s", e)
            return None


def _encode(readings: Sequence[Reading]) -> bytes:
    return msgspec.msgpack.encode(readings, enc_hook=_array)


def _array(value: object) -> msgspec.msgpack.Ext:
    if not isinstance(value, np.ndarray):
        raise TypeError(f"a reading cannot be of type {type(value).__name__}")
    return msgspec.msgpack.Ext(ARRAY, msgspec.msgpack.encode((value.dtype.str, value.shape, value.tobytes())))


def _decode(body: bytes) -> list[Reading]:
    rows = msgspec.msgpack.decode(body, ext_hook=_from_array)
    return [Reading(tag, time_ns, value, Quality(quality)) for tag, time_ns, value, quality in rows]


def _decode_scalars(body: bytes) -> list[Reading]:
    """The readings that are no arrays; those are not unpacked."""
    rows = msgspec.msgpack.decode(body, ext_hook=lambda _code, _data: None)
    return [
        Reading(tag, time_ns, value, Quality(quality)) for tag, time_ns, value, quality in rows if value is not None
    ]


def _from_array(_code: int, data: memoryview) -> Any:
    dtype, shape, body = msgspec.msgpack.decode(data, type=tuple[str, tuple[int, ...], bytes])
    return np.frombuffer(body, dtype).reshape(shape)
