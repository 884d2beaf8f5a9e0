# SPDX-License-Identifier: Apache-2.0
"""The gateway's own training samples: bounded, local, never sent anywhere.

Promises: `put` never waits, because a thread of its own writes from a bounded queue; what cannot be stored is counted
(`lost`). An asset that delivers too much displaces no sample of another: neither in the queue nor in the table. Windows
of a machine without labels are stored so far apart that they cover its baseline. A power cut may cost the samples of
the last half minute (`SYNC_S`). While the file cannot be used, samples are held in memory, within smaller bounds
(`held_rows`), so that a machine learns and is decided on; they come to the file when it can be used again. A label that
becomes known later changes a stored sample through `label_book`, which counts it here as new (`count_as_new`).
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
import zipfile
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from fedge_models.errors import StorageError
from fedge_models.system.floats import is_exact
from fedge_models.system.moved import once_more
from fedge_models.system.worker import Worker
from fedge_models.training import standardise
from fedge_models.training.standardise import Scale
from numpy.typing import NDArray

from . import baseline, held_rows, label_order, sample_table, stored_once
from .baseline import Plan
from .held_units import PURPOSE
from .label_order import LabelOrder
from .label_values import label_text
from .sample_table import MAX_CLASSES, USED, Sample, values_of
from .stored_once import Inserted
from .tables import LAST_S, TableWriter, open_tables
from .units import HOLD, LEARN, NEITHER

logger = logging.getLogger(__name__)

QUEUE = 4096
QUEUE_BYTES = 32 * 2**20
BATCH = 256
WRITE_S = 0.25
SYNC_S = 30.0  # how much a power cut may cost: with NORMAL, nothing else makes a commit durable for as long as it likes

Kind = type[np.float32] | type[np.uint8]  # of the numbers of a sample; where float32 is too coarse, float64


class Rows(NamedTuple):
    """Stored samples, oldest first."""

    x: NDArray[Any]  # (n, *shape)
    y: NDArray[Any]  # (n,) or (n, targets)
    assets: NDArray[np.str_]  # (n,)
    times: NDArray[np.int64]  # (n,) ns
    numbers: NDArray[np.int64]  # (n,) in the table

    def part(self, keep: NDArray[np.bool_]) -> Rows:
        """Some of them."""
        return Rows(self.x[keep], self.y[keep], self.assets[keep], self.times[keep], self.numbers[keep])


class SampleStore(TableWriter):
    """All samples of the agent. Thread-safe. plans: of each asset, by model."""

    def __init__(
        self,
        path: Path,
        limits: dict[str, int],
        most_bytes: dict[str, int] | None = None,
        plans: Mapping[str, Mapping[str, Plan]] | None = None,
    ) -> None:
        super().__init__(open_tables(path, "samples", "NORMAL"), Worker("samples", self._write, self.flush))
        self._plans = plans or {}
        self._queued: Counter[str] = Counter()  # asset -> samples that wait
        self._strides: dict[tuple[tuple[str, str], int], int] = {}  # (model, asset), size -> `_stride_ns`
        self._kept: dict[tuple[str, str], tuple[int, int]] = {}  # (model, asset) -> time of the last, operation since
        self.thinned: Counter[str] = Counter()  # asset -> windows that were too close to the last stored one
        self.repeated: Counter[str] = Counter()  # asset -> windows that were stored already: they were read again
        self.crowded: Counter[str] = Counter()  # asset -> samples that are lost because it delivered too many
        self._limits, self._most_bytes = limits, most_bytes or {}  # of each model
        self._widest: dict[str, int] = {}  # bytes of the largest sample of each model since the start
        self._lock, self._flushing = threading.Lock(), threading.Lock()
        self._waiting: deque[Sample] = deque()
        self.lost = 0
        self._losing = False  # the newest batch was lost
        self._synced = time.monotonic()
        self.total: dict[str, int] = {}
        self._covered: dict[tuple[str, str], int] = {}  # (model, asset) -> operation, ns
        self._known = Counter[tuple[str, str]]()  # (model, asset) -> samples that were put, with those that wait
        self._all_known = Counter[str]()  # of each model
        self._cover_known = Counter[tuple[str, str]]()  # their operation, ns
        # Of these, those that were lost; counted apart, because the main thread counts what it puts without a lock.
        # Below zero where samples are there that were not put.
        self._lost_of, self._cover_lost = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
        self._lost_of_all = Counter[str]()
        self._written = Counter[tuple[str, str]]()  # (model, asset) -> samples that were stored, deleted by now or not
        self._held = self._moved = 0  # samples that are in memory only; samples that came from there to the file
        self._counted: object = None  # the connection to what was counted
        self._fine: dict[str, bool] = {}  # model -> whether float32 is enough for its samples
        self._recipes: dict[str, dict[str, bytes]] = {}  # model -> asset ("": all) -> how its samples are made
        self._since: dict[tuple[str, str], int] = {}  # (model, asset) -> the highest id of those made in another way
        self._begun: object = None  # the connection on which this was looked up
        self._orders: dict[str, LabelOrder] = {}  # model -> what the numbers in its samples stand for
        self.without_label = Counter[str]()  # model -> samples whose label its file does not have
        self.unmarked = Counter[str]()  # model -> samples found of a version that did not note how they were made
        with suppress(StorageError), self.tables.reading() as db:
            self._count_stored(db)

    def begin(
        self,
        model: str,
        recipe: bytes,
        of_assets: Mapping[str, bytes] | None = None,
        order: LabelOrder | None = None,
    ) -> int:
        """Use only samples of the model that were made by this recipe, and those of an asset by its own, too, before
        the first of them is put; how many stored ones were made by another, and are left out. Raises StorageError.

        order: what the numbers in samples are to stand for.
        """
        if order is not None:
            self._orders = {**self._orders, model: order}
        self._recipes = {**self._recipes, model: {"": recipe, **(of_assets or {})}}  # the writing thread reads it
        self._begun = None  # where this fails, it is looked up before the next sample is written
        with self.tables.transaction() as db:
            if db is not self._counted:
                self._count_stored(db)
            self._begin(db)
            return sample_table.count_before(db, model)

    def _begin(self, db: sqlite3.Connection) -> None:
        """Look up from where on the samples of each model are made by its recipes."""
        self._begun, last = db, sample_table.last_number(db)
        # In a new database, numbers begin again: none of its samples was left out yet.
        self._since = {key: since for key, since in self._since.items() if since <= last}
        for model, order in self._orders.items():
            self.without_label[model] += label_order.begin(db, model, order)
        for model, recipes in self._recipes.items():
            for asset, recipe in recipes.items():
                self.unmarked[model] += sample_table.begin(db, model, asset, recipe)
            for asset, since in sample_table.since(db, model).items():
                self._leave_out(db, model, asset, since)

    def _leave_out(self, db: sqlite3.Connection, model: str, asset: str, since: int) -> None:
        """Count samples of an asset up to this id as lost: nothing will be made of them."""
        before, key = self._since.get((model, asset), 0), (model, asset)
        if since <= before:
            return
        self._since[key] = since
        count = sample_table.count_between(db, model, asset, before, since)
        self._lost_of[key] += count
        self._lost_of_all[model] += count
        self.count_as_new(model, -count)
        if not db.execute("SELECT 1 FROM baselines WHERE model = ? AND asset = ?", key).fetchone():
            self._covered.pop(key, None)
            self._cover_lost[key] = self._cover_known[key]

    def stop(self) -> None:
        """Write what is queued, also when the thread was never started, and close."""
        self._worker.stop(LAST_S)
        self.flush()
        self.tables.close()
        if self.tables.in_memory and self._held:
            logger.error("%d samples were in memory only, and are lost", self._held)
            self.lost, self._held = self.lost + self._held, 0

    def held(self) -> dict[str, Any] | None:
        """For the status page, what is in memory only; None while the file is used."""
        age = self.tables.in_memory_s
        if age is None:
            return None
        return {"samples": self._held, "age_s": round(age, 1), "bytes": held_rows.budget_bytes()}

    def is_fine(self, model: str, fine: bool) -> None:
        """Say whether float32 is enough for samples of the model; until then they are kept as they are."""
        self._fine[model] = fine

    def as_stored(self, model: str, x: NDArray[Any]) -> NDArray[Any]:
        """A sample in float32 if that is enough, or holds it exactly; else as it is."""
        return x.astype(np.float32) if x.dtype == np.float64 and (self._fine.get(model) or is_exact(x)) else x

    def put(self, sample: Sample) -> None:
        """Queue a sample; neither blocks nor wakes anybody, so that the next decision is not held up.

        Once the queue is half full, an asset may have no more than half of it.
        """
        thinned = self._thin(sample) if sample.covers_ns else sample
        if thinned is None:
            self.thinned[sample.asset] += 1
            return
        room = min(QUEUE, QUEUE_BYTES // sample.x.nbytes or 1)
        if len(self._waiting) >= room:
            self.lost += 1
        elif self._queued[sample.asset] > room // 2 and len(self._plans.get(sample.model, ())) > 1:
            self.lost += 1
            self.crowded[sample.asset] += 1
        else:
            self._queued[sample.asset] += 1
            self._known[sample.model, sample.asset] += 1
            self._all_known[sample.model] += 1
            self._cover_known[sample.model, sample.asset] += thinned.covers_ns
            self._waiting.append(thinned)

    def hurry(self) -> None:
        """Write what was put now: somebody waits for what will be made of it."""
        self._worker.wake()

    def collected(self, model: str, asset: str) -> tuple[int, int]:
        """How many samples of the asset were put and not lost, and how much operation (ns) they cover."""
        key = model, asset
        return self._known[key] - self._lost_of[key], self._cover_known[key] - self._cover_lost[key]

    def all_collected(self, model: str) -> int:
        """How many samples of the model were put and not lost, written yet or not."""
        return self._all_known[model] - self._lost_of_all[model]

    def covered_ns(self, model: str, asset: str) -> int:
        """How much operation of the asset its windows covered so far."""
        return self._covered.get((model, asset), 0)

    def estimate_cover(self, model: str, asset: str, hop_ns: int) -> None:
        """Where nothing was counted yet (samples of an earlier version), take it from the number of samples."""
        if (model, asset) in self._covered:
            return
        sql = f"SELECT count(*), max(length(x)) FROM samples WHERE model = ? AND asset = ? AND {USED}"  # noqa: S608
        try:
            count, size = self._rows(sql, model, asset)[0]
        except StorageError:  # it cannot be read now: its baseline begins again
            return
        if not count:
            return
        with suppress(StorageError), self.tables.transaction() as db:
            db.execute("INSERT OR IGNORE INTO baselines VALUES (?, ?, ?, ?)", (model, asset, size, count * hop_ns))
        self._covered[model, asset] = self._cover_known[model, asset] = count * hop_ns

    def share(self, model: str, size: int) -> int:
        """How many samples of `size` numbers each asset of the model may have when all have many."""
        return max(1, self._most(model, size) // max(1, len(self._plans.get(model, ()))))

    def _thin(self, sample: Sample) -> Sample | None:
        """The sample with the operation since the one before it; None when that one is of the same stride.

        Strides are counted from 1970, so that rows that are read again from elsewhere give the same windows again; only
        the first one after a start may be another.
        """
        key = sample.model, sample.asset
        last_ns, covers = self._kept.get(key, (-(1 << 62), 0))
        covers += sample.covers_ns
        stride = self._strides.get((key, sample.x.size))
        if stride is None:
            stride = self._strides[key, sample.x.size] = self._stride_ns(*key, sample.x.size)
        if stride and sample.time_ns // stride == last_ns // stride:
            self._kept[key] = last_ns, covers
            return None
        self._kept[key] = sample.time_ns, 0
        return sample._replace(covers_ns=covers)

    def _stride_ns(self, model: str, asset: str, size: int) -> int:
        """How far apart (ns) samples of `size` numbers are stored."""
        plan = self._plans.get(model, {}).get(asset, Plan())
        return baseline.stride_ns(plan.span_ns, self.share(model, size)) if plan.thin else 0

    def count_as_new(self, model: str, count: int) -> None:
        """Count samples that were stored or relabelled: training becomes due by this number."""
        with self._lock:
            self.total[model] = self.total.get(model, 0) + count

    def flush(self) -> None:
        """Write what was put before; on return it is written, or counted as lost."""
        with self._flushing:
            if self._counted is not None and (self.tables.in_memory or self._held):
                self._look_for_file()
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), BATCH))]
                self._queued.subtract(s.asset for s in batch)
                self._write_batch(batch)

    def last_id(self, model: str) -> int:
        """The id of the model's sample that was written last; 0: there is none, or it cannot be read."""
        try:
            return int(self._rows("SELECT coalesce(max(id), 0) FROM samples WHERE model = ?", model)[0][0])
        except StorageError:
            return 0

    def count_after(self, model: str, last: int) -> int:
        """How many samples of the model were written after the one of this id; all where no id is as high, as the
        database is a new one. 0 where they cannot be read."""
        since = 0 if self.last_id(model) < last else last
        try:
            sql = f"SELECT count(*) FROM samples WHERE model = ? AND id > ? AND {USED}"  # noqa: S608
            return int(self._rows(sql, model, since)[0][0])
        except StorageError:
            return 0

    def last_of(self, model: str, asset: str) -> int | None:
        """Time (ns) of the asset's sample that was written last."""
        sql = "SELECT time_ns FROM samples WHERE model = ? AND asset = ? ORDER BY id DESC LIMIT 1"
        rows = self._rows(sql, model, asset)
        return int(rows[0][0]) if rows else None

    def rows(
        self,
        model: str,
        shape: tuple[int, ...],
        held: bool | None,
        targets: int = 0,
        kind: Kind = np.float32,
        wide: bool = False,
    ) -> Rows:
        """The held-back samples, those to learn from, or (None) all; y is -1 where it is unknown.

        With `targets` (regress), y are float64 (n,) or, of several, (n, targets), NaN for unknown. x are of `kind`;
        with `wide`, float64 where some were put so. Samples of another shape, and those made by another recipe, are
        left out.
        """
        sizes = sample_table.sizes(kind, shape)
        sql = (
            "SELECT x, y, asset, time_ns, id FROM samples "  # noqa: S608
            f"WHERE model = ? AND {PURPOSE} IN (?, ?, ?) AND length(x) IN (?, ?) AND {USED} ORDER BY id"
        )
        parts = (LEARN, HOLD, NEITHER) if held is None else (HOLD if held else LEARN,) * 3
        rows = self._rows(sql, model, *parts, *sizes)
        x = sample_table.numbers([r[0] for r in rows], kind, shape, wide)
        assets = np.array([r[2] for r in rows], np.str_)
        times, numbers = (np.array([r[i] for r in rows], np.int64) for i in (3, 4))
        if targets:
            return Rows(x, sample_table.target_values([r[1] for r in rows], targets), assets, times, numbers)
        return Rows(x, np.array([-1 if r[1] is None else r[1] for r in rows], np.int64), assets, times, numbers)

    def unlabelled(
        self, model: str, shape: tuple[int, ...], since_ns: int, most: int, kind: Kind = np.float32
    ) -> tuple[NDArray[Any], list[tuple[str, int, int, str]]]:
        """The newest samples without a label since then (n, *shape), and of each (asset, time in ns, span in ns, part).
        Raises StorageError."""
        with self.tables.reading() as db:
            rows = sample_table.unlabelled(db, model, sample_table.sizes(kind, shape), since_ns, most)
        return sample_table.numbers([row[4] for row in rows], kind, shape, wide=False), [row[:4] for row in rows]

    def labelled(self, model: str, shape: tuple[int, ...], most: int, kind: Kind = np.float32) -> NDArray[Any]:
        """The newest samples (n, *shape) whose label is known. Raises StorageError."""
        with self.tables.reading() as db:
            return sample_table.numbers(
                sample_table.labelled(db, model, sample_table.sizes(kind, shape), most), kind, shape, wide=False
            )

    def of_value(
        self, model: str, shape: tuple[int, ...], y: float, most: int, kind: Kind = np.float32
    ) -> tuple[NDArray[Any], list[str], NDArray[np.int64]]:
        """The newest samples (n, *shape) with this value, whose they are, and when (ns). Raises StorageError."""
        with self.tables.reading() as db:
            rows = sample_table.of_value(db, model, sample_table.sizes(kind, shape), y, most)
        x = sample_table.numbers([row[2] for row in rows], kind, shape, wide=False)
        return x, [row[0] for row in rows], np.array([row[1] for row in rows], np.int64)

    def history(
        self, model: str, shape: tuple[int, ...], since_ns: int, most: int, kind: Kind = np.float32
    ) -> list[tuple[str, int, NDArray[Any]]]:
        """(asset, time in ns, x (*shape)) of at most about `most` samples since then, oldest first, evenly taken."""
        sizes = sample_table.sizes(kind, shape)
        sql = "FROM samples WHERE model = ? AND length(x) IN (?, ?) AND time_ns >= ? AND "
        sql += USED
        count = self._rows(f"SELECT count(*) {sql}", model, *sizes, since_ns)[0][0]
        step = max(1, -(-count // most))
        rows = self._rows(
            f"SELECT asset, time_ns, x {sql} AND id % ? = 0 ORDER BY time_ns",
            model, *sizes, since_ns, step,
        )  # fmt: skip
        return [(asset, time_ns, sample_table.numbers([x], kind, shape, wide=True)[0]) for asset, time_ns, x in rows]

    def last_times(self, model: str) -> dict[str, int]:
        """Time (ns) of each asset's sample that was written last."""
        last = "SELECT max(id) FROM samples WHERE model = ? GROUP BY asset"
        return dict(self._rows(f"SELECT asset, time_ns FROM samples WHERE id IN ({last})", model))  # noqa: S608

    def newest(self, model: str) -> int:
        """Time (ns) of the model's newest sample; 0: there is none."""
        return int(self._rows("SELECT coalesce(max(time_ns), 0) FROM samples WHERE model = ?", model)[0][0])

    def labels(self, model: str, several: Sequence[str] = ()) -> dict[str, int]:
        """How many samples have each value ("-": unknown); where values are numbers, how many have one.

        several: the labels of a model of which several may hold: how many samples have each set of them.
        """
        try:
            rows = self._rows("SELECT coalesce(y, '-'), count(*) FROM samples WHERE model = ? GROUP BY y", model)
        except StorageError:  # `tables.problem` says why
            return {}
        if several:
            rows = [(label_text(values_of(y), several) if isinstance(y, bytes) else y, n) for y, n in rows]
        found = {str(y): n for y, n in rows}
        if len(found) <= MAX_CLASSES and not any(isinstance(y, bytes) for y, _ in rows):
            return found
        unknown = found.pop("-", 0)
        return {"values": sum(found.values()), "-": unknown}

    def scale(self, model: str, shape: tuple[int, ...]) -> tuple[Scale, int] | None:
        """The model's standardisation as versions up to 0.1 stored it, and how many samples it was fitted on; None also
        for one that is not finite."""
        try:
            rows = self._rows("SELECT shape, scale, samples FROM scalings WHERE model = ?", model)
        except StorageError:
            return None
        if not rows or rows[0][0] != str(shape):
            return None
        try:
            found = standardise.decode(rows[0][1])
        except (ValueError, KeyError, TypeError, OSError, zipfile.BadZipFile) as e:
            logger.error("the standardisation of model %s cannot be read (%s); it is fitted again", model, e)
            return None
        return (found, int(rows[0][2])) if found.finite else None

    def _rows(self, sql: str, *values: object) -> list[Any]:
        return self.tables.rows(sql, *values)

    def _write(self) -> float:
        """Write what has come; seconds until the next time."""
        self.flush()
        if time.monotonic() - self._synced >= SYNC_S:
            self._synced = time.monotonic()
            self.tables.sync()
        return WRITE_S

    def _write_batch(self, batch: list[Sample]) -> None:
        try:
            covered, stored = self._store(batch)
        except BaseException as e:
            self._note_lost(batch)
            if not isinstance(e, StorageError):
                raise
            if not self._losing:  # once: a log may be on the same disk
                logger.warning("samples are lost from now on: %s", e)
            self._losing = True
            return
        self._losing = False
        self._note_repeated(stored.repeated)
        self._written.update((s.model, s.asset) for s in stored.new)
        self._covered.update({(model, asset): ns for model, asset, ns in covered})
        for model, count in Counter(s.model for s in stored.new + stored.relabelled).items():
            self.count_as_new(model, count)

    @once_more
    def _store(self, batch: list[Sample]) -> tuple[list[tuple[str, str, int]], Inserted]:
        """Write samples; the operation that baselines cover now, and which were new. Raises StorageError."""
        with self.tables.transaction() as db:
            if db is not self._counted:
                self._count_stored(db)
            if db is not self._begun:
                self._begin(db)
            stored = stored_once.insert(db, batch)
            covered = sample_table.cover(db, stored.new)
            for s in batch:
                self._widest[s.model] = max(s.x.nbytes, self._widest.get(s.model, 0))
            for model, x in {s.model: s.x for s in batch}.items():
                sample_table.bound(db, model, self._most(model, x.size, self._widest[model]))
            if self.tables.in_memory:
                self._held += len(stored.new)
        return covered, stored

    def _look_for_file(self) -> None:
        """Use the file again as soon as it can be used, also while nothing comes."""
        with suppress(StorageError), self.tables.reading() as db:
            if db is not self._counted:
                self._count_stored(db)

    def _count_stored(self, db: sqlite3.Connection) -> None:
        """Count what a connection holds that was not put: at the start, and where a file can be used again."""
        self._counted = db
        self._strides.clear()
        if not self.tables.in_memory:
            self._count_moved()
        for model, asset, n in db.execute("SELECT model, asset, count(*) FROM samples GROUP BY model, asset"):
            more = max(0, n - self._written[model, asset])
            self._written[model, asset] += more
            self._lost_of[model, asset] -= more
            self._lost_of_all[model] -= more
            self.count_as_new(model, more)
        for model, asset, ns in db.execute("SELECT model, asset, covered_ns FROM baselines"):
            self._cover_lost[model, asset] -= max(0, int(ns) - self.covered_ns(model, asset))
            self._covered[model, asset] = int(ns)

    def _count_moved(self) -> None:
        """Count as lost what memory had no room for, now that the file is used again."""
        moved, held = self.tables.moved.get("samples", 0), self._held
        lost = max(0, held - (moved - self._moved))
        self._held, self._moved, self.lost = 0, moved, self.lost + lost
        if held:
            logger.warning("of %d samples that were in memory only, %d are in the file now", held, held - lost)

    def _note_lost(self, batch: list[Sample]) -> None:
        """Count samples as lost: nothing will be made of them, so nobody may wait for that."""
        self.lost += len(batch)
        self._take_back(batch)

    def _note_repeated(self, samples: list[Sample]) -> None:
        """Count samples that are stored already: they are no more than there were."""
        self.repeated.update(s.asset for s in samples)
        self._take_back(samples)

    def _take_back(self, samples: list[Sample]) -> None:
        for sample in samples:
            self._lost_of[sample.model, sample.asset] += 1
            self._lost_of_all[sample.model] += 1
            self._cover_lost[sample.model, sample.asset] += sample.covers_ns

    def _most(self, model: str, size: int, sample_bytes: int | None = None) -> int:
        """How many samples of `size` numbers a model may have; sample_bytes: of the largest one, as it is stored.

        While training, numbers are float32, and all float64 where one sample needs that; pictures are float32, too.
        """
        limit = self._limits.get(model, 1 << 62)
        most_bytes = self._most_bytes.get(model)
        if self.tables.in_memory:
            limit = min(limit, held_rows.most_samples(sample_bytes or 4 * size, len(self._limits)))
        return (
            limit if most_bytes is None else min(limit, max(1, most_bytes // max(4 * size, self._widest.get(model, 0))))
        )
