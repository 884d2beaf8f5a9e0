"""The gateway's own training samples: bounded, local, never sent anywhere.

Samples are written by a thread of their own from a bounded queue, so that a slow or full disk never delays a decision;
what cannot be kept is counted. They are not acknowledged to anybody, so the database runs with ``synchronous=NORMAL``:
a power cut may cost the last second, not the file. The held-back part is chosen by contiguous blocks of time, and
windows that would straddle two parts are not kept, so that overlapping windows never sit on both sides. What a sample
is taught with may become known later: `labels.py` writes it into the same file, over a connection of its own.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections import Counter, deque
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from fedge_models.errors import StorageError
from fedge_models.graph.card import Card
from fedge_models.system.database import closed_on_error, open_database
from fedge_models.training import standardise
from fedge_models.training.standardise import Scale
from numpy.typing import NDArray

logger = logging.getLogger(__name__)

SAMPLES_FILE = "samples.sqlite"  # in the state folder; labels are in it too
QUEUE = 4096
QUEUE_BYTES = 32 * 2**20
BATCH = 256
WRITE_S = 0.25
MAX_CLASSES = 256  # more distinct labels are values

Kind = type[np.float32] | type[np.uint8]  # of the numbers of a sample

_SCHEMA = """
CREATE TABLE IF NOT EXISTS samples (
    id INTEGER PRIMARY KEY AUTOINCREMENT, model TEXT NOT NULL, asset TEXT NOT NULL, time_ns INTEGER NOT NULL,
    y INTEGER, held INTEGER NOT NULL, origin INTEGER NOT NULL DEFAULT 0, label INTEGER NOT NULL DEFAULT 0,
    span_ns INTEGER NOT NULL DEFAULT 0, part TEXT NOT NULL DEFAULT '', x BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS by_model ON samples (model, held);
CREATE TABLE IF NOT EXISTS scalings (
    model TEXT PRIMARY KEY, shape TEXT NOT NULL, scale BLOB NOT NULL, samples INTEGER NOT NULL);
"""
# Who said what is taught (`joining.RANKS`; 0: nobody), which label that was (0: a tag), how long the window is, which
# part was made. They stand before the features, which may fill pages.
_LATER = {
    "origin": "INTEGER NOT NULL DEFAULT 0",
    "label": "INTEGER NOT NULL DEFAULT 0",
    "span_ns": "INTEGER NOT NULL DEFAULT 0",
    "part": "TEXT NOT NULL DEFAULT ''",
}
_INDEXES = """
CREATE INDEX IF NOT EXISTS by_time ON samples (asset, time_ns);
CREATE INDEX IF NOT EXISTS by_part ON samples (asset, part) WHERE part != '';
"""
_INSERT = """
INSERT INTO samples (model, asset, time_ns, x, y, held, origin, span_ns, part) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
"""


class Sample(NamedTuple):
    """One window's features before standardisation."""

    model: str
    asset: str
    time_ns: int
    x: NDArray[Any]  # float32; a picture stays bytes: a quarter of the disk
    y: float | tuple[float, ...] | None  # class index; anomaly: 0 normal, 1 anomaly; regress: in the targets' units
    held: bool
    span_ns: int = 0  # from the window's first sample to its last
    part: str = ""  # what was made at its end


class SampleStore:
    """All samples of the agent. Thread-safe."""

    def __init__(self, path: Path, limits: dict[str, int], most_bytes: dict[str, int] | None = None) -> None:
        self._limits, self._most_bytes = limits, most_bytes or {}  # of each model
        self._lock, self._flushing = threading.Lock(), threading.Lock()
        self._db = _open(path)
        self._waiting: deque[Sample] = deque()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._write, name="samples", daemon=True)
        self.lost = 0
        self.total: dict[str, int] = dict(self._rows("SELECT model, count(*) FROM samples GROUP BY model"))

    def start(self) -> None:
        """Write from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Write what is queued and close."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(5)
        self.flush()
        with self._lock:
            self._db.close()

    def put(self, sample: Sample) -> None:
        """Queue a sample; neither blocks nor wakes anybody, so that the next decision is not held up."""
        if len(self._waiting) < min(QUEUE, QUEUE_BYTES // sample.x.nbytes or 1):
            self._waiting.append(sample)
        else:
            self.lost += 1

    def retaught(self, model: str, count: int) -> None:
        """So many samples have another label now: for whoever counts, they are new."""
        with self._lock:
            self.total[model] = self.total.get(model, 0) + count

    def flush(self) -> None:
        """What was put before is written, or counted as lost, when this returns."""
        with self._flushing:
            while self._waiting:
                self._keep([self._waiting.popleft() for _ in range(min(len(self._waiting), BATCH))])

    def last_of(self, model: str, asset: str) -> int | None:
        """Time (ns) of the asset's sample that was written last."""
        sql = "SELECT time_ns FROM samples WHERE model = ? AND asset = ? ORDER BY id DESC LIMIT 1"
        rows = self._rows(sql, model, asset)
        return int(rows[0][0]) if rows else None

    def load(
        self,
        model: str,
        shape: tuple[int, ...],
        held: bool | None,
        targets: int = 0,
        kind: Kind = np.float32,
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """(x (n, *shape), y (n,) with -1 for unknown), oldest first: the held-back ones, the others, or (None) all.

        With `targets` (regress), y are float64 (n,) or, of several, (n, targets), NaN for unknown. x are of `kind`, as
        they were put. Samples of another shape are left out.
        """
        size = np.dtype(kind).itemsize * int(np.prod(shape))
        sql = "SELECT x, y FROM samples WHERE model = ? AND held IN (?, ?) AND length(x) = ? ORDER BY id"
        parts = (0, 1) if held is None else (int(held), int(held))
        rows = self._rows(sql, model, *parts, size)
        x = np.frombuffer(b"".join(r[0] for r in rows), kind).reshape(len(rows), *shape)
        if targets:
            return x, _values([r[1] for r in rows], targets)
        return x, np.array([-1 if r[1] is None else r[1] for r in rows], np.int64)

    def history(
        self, model: str, shape: tuple[int, ...], since_ns: int, most: int, kind: Kind = np.float32
    ) -> list[tuple[str, int, NDArray[Any]]]:
        """(asset, time in ns, x (*shape)) of at most about `most` samples since then, oldest first, evenly taken."""
        size = np.dtype(kind).itemsize * int(np.prod(shape))
        sql = "FROM samples WHERE model = ? AND length(x) = ? AND time_ns >= ?"
        count = self._rows(f"SELECT count(*) {sql}", model, size, since_ns)[0][0]
        step = max(1, -(-count // most))
        rows = self._rows(
            f"SELECT asset, time_ns, x {sql} AND id % ? = 0 ORDER BY time_ns",
            model, size, since_ns, step,
        )  # fmt: skip
        return [(asset, time_ns, np.frombuffer(x, kind).reshape(shape)) for asset, time_ns, x in rows]

    def newest(self, model: str) -> int:
        """Time (ns) of the model's newest sample; 0: there is none."""
        return int(self._rows("SELECT coalesce(max(time_ns), 0) FROM samples WHERE model = ?", model)[0][0])

    def labels(self, model: str) -> dict[str, int]:
        """How many samples of each label ("-": unknown); where labels are values, how many have one."""
        sql = "SELECT coalesce(y, '-'), count(*) FROM samples WHERE model = ? GROUP BY y"
        rows = self._rows(sql, model)
        found = {str(y): n for y, n in rows}
        if len(found) <= MAX_CLASSES and not any(isinstance(y, bytes) for y, _ in rows):
            return found
        unknown = found.pop("-", 0)
        return {"values": sum(found.values()), "-": unknown}

    def scale(self, model: str, shape: tuple[int, ...]) -> tuple[Scale, int] | None:
        """The model's standardisation and how many samples it was fitted on."""
        rows = self._rows("SELECT shape, scale, samples FROM scalings WHERE model = ?", model)
        if not rows or rows[0][0] != str(shape):
            return None
        return standardise.decode(rows[0][1]), int(rows[0][2])

    def fit_scale(self, model: str, x: NDArray[Any], card: Card | None = None) -> Scale:
        """Fit the standardisation on x (n, *shape) and keep it with the samples."""
        made = standardise.fit(x, card)
        values = (model, str(x.shape[1:]), standardise.encode(made), len(x))
        try:
            with self._lock:
                self._db.execute("INSERT OR REPLACE INTO scalings VALUES (?, ?, ?, ?)", values)
        except sqlite3.Error as e:
            raise StorageError(f"samples cannot be written: {e}") from e
        return made

    def _rows(self, sql: str, *values: object) -> list[Any]:
        with self._lock:
            try:
                return self._db.execute(sql, values).fetchall()
            except sqlite3.Error as e:
                raise StorageError(f"samples cannot be read: {e}") from e

    def _write(self) -> None:
        """Write what has come, several times a second, until stopped."""
        while not self._stop.wait(WRITE_S):
            self.flush()
        self.flush()

    def _keep(self, batch: list[Sample]) -> None:
        rows = [
            (
                s.model,
                s.asset,
                s.time_ns,
                s.x.tobytes(),
                _stored(s.y),
                int(s.held),
                int(s.y is not None),
                s.span_ns,
                s.part,
            )
            for s in batch
        ]
        try:
            with self._lock:
                self._db.execute("BEGIN IMMEDIATE")
                self._db.executemany(_INSERT, rows)
                for model, size in {s.model: s.x.size for s in batch}.items():
                    self._bound(model, size)
                self._db.execute("COMMIT")
        except sqlite3.Error as e:
            with self._lock:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
            self.lost += len(batch)
            logger.warning("%d samples could not be kept: %s", len(batch), e)
            return
        for model, count in Counter(s.model for s in batch).items():
            self.retaught(model, count)

    def _bound(self, model: str, size: int) -> None:
        """Above the limit, of samples or of what their `size` numbers take in training, the oldest of the commonest
        label go; where labels are values, the oldest."""
        count = self._db.execute("SELECT count(*) FROM samples WHERE model = ?", (model,)).fetchone()[0]
        most = self._most_bytes.get(model, 4 * size * count) // (4 * size)
        excess = count - min(self._limits.get(model, count), max(1, most))
        distinct = "SELECT count(DISTINCT y) FROM samples WHERE model = ?"
        if excess > 0 and self._db.execute(distinct, (model,)).fetchone()[0] > MAX_CLASSES:
            first = "SELECT id FROM samples WHERE model = ? ORDER BY id LIMIT ?"
            self._db.execute(f"DELETE FROM samples WHERE id IN ({first})", (model, excess))  # noqa: S608
            return
        while excess > 0:
            sql = "SELECT y, count(*) FROM samples WHERE model = ? GROUP BY y ORDER BY 2 DESC LIMIT 2"
            common = self._db.execute(sql, (model,)).fetchall()
            drop = min(excess, max(1, common[0][1] - (common[1][1] if len(common) > 1 else 0)))
            oldest = "SELECT id FROM samples WHERE model = ? AND y IS ? ORDER BY id LIMIT ?"
            self._db.execute(f"DELETE FROM samples WHERE id IN ({oldest})", (model, common[0][0], drop))  # noqa: S608
            excess -= drop


def _open(path: Path) -> sqlite3.Connection:
    """Open, adding the columns that a file of an earlier version does not have."""
    database = open_database(path, _SCHEMA, synchronous="NORMAL")
    try:
        with closed_on_error(database):
            has = {row[1] for row in database.execute("PRAGMA table_info(samples)")}
            for column in [c for c in _LATER if c not in has]:
                database.execute(f"ALTER TABLE samples ADD COLUMN {column} {_LATER[column]}")
            database.executescript(_INDEXES)
    except sqlite3.Error as e:
        raise StorageError(f"{path}: cannot be opened: {e}") from e
    return database


def _stored(y: float | tuple[float, ...] | None) -> float | bytes | None:
    return np.array(y, "<f8").tobytes() if isinstance(y, tuple) else y


def _values(stored: list[float | bytes | None], targets: int) -> NDArray[np.float64]:
    """(n,) or (n, targets); NaN for what is unknown, or of another number of targets."""
    y = np.full((len(stored), targets), np.nan)
    for row, value in zip(y, stored, strict=True):
        if isinstance(value, bytes) and len(value) == 8 * targets:
            row[:] = np.frombuffer(value, "<f8")
        elif isinstance(value, (int, float)) and targets == 1:
            row[0] = value
    return y[:, 0] if targets == 1 else y


class Split(NamedTuple):
    """Which part of time is held back: every `every`-th block of `block_ns`."""

    block_ns: int
    every: int

    def held(self, start_ns: int, end_ns: int) -> bool | None:
        """Whether the window from start to end is held back; None when it straddles both parts."""
        first = start_ns // self.block_ns % self.every == self.every - 1
        last = end_ns // self.block_ns % self.every == self.every - 1
        return first if first == last else None


def split(rate_hz: float, length: int, hop: int, holdout: float) -> Split:
    """Blocks of twenty windows' worth of time, and never shorter than four windows."""
    samples = max(20 * hop, 4 * length)
    return Split(round(samples / rate_hz * 1e9), max(2, round(1 / holdout)) if holdout > 0 else 1 << 60)
