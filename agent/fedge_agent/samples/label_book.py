# SPDX-License-Identifier: Apache-2.0
"""Labels that become known later: stored durably, matched to the stored samples by time or by part.

Promises: a label that `put` returned from survives a power cut and is matched to every sample it applies to, whichever
came first; the same label again changes nothing. A sample takes its value from the label with the highest origin (hand,
inspection, MES, PLC in this order) and, of one origin, from the one that came last. A label that is unknown, malformed,
contradictory or without samples is counted and shown with its last example. A relabelled sample counts as new, so that
training becomes due.

Progress of matching is not stored: at start every label is matched again, in order, which changes nothing where nothing
is missing. One thread does it; the main thread only appends to a queue (`offer`).
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from fedge_models.errors import StorageError
from fedge_models.graph.card import Card
from fedge_models.system import times
from fedge_models.system.healing import HealingDatabase
from fedge_models.system.worker import Worker

from ..config.schema import LabelConfig
from ..types import Label
from . import closings, label_table, sample_table
from .closings import Closing
from .label_counts import LabelCounts
from .label_values import TargetValue, accepted_values, describe, label_text, target_value, why_malformed
from .sample_table import Arrived, Match
from .tables import LAST_S, TableWriter, open_tables

logger = logging.getLogger(__name__)

MAX_LABELS = 100_000  # stored; the oldest go first
MAX_OFFERED = 10_000  # not yet on disk
AT_ONCE = 200  # labels matched in one transaction: the samples' writer waits meanwhile
SAMPLES_AT_ONCE = 5000
LOOK_S = 1.0  # for labels by hand, which another process writes
EXPIRE_S = 60.0
STRANGER = "not configured"  # where labels of machines that this gateway does not have are counted


class Subject(NamedTuple):
    """A machine that can be labelled."""

    model: str
    card: Callable[[], Card | None]  # None: the model is not known yet
    label: LabelConfig | None = None

    def target_value(self, card: Card, value: float | str) -> TargetValue:
        """The target value that a label's value stands for; None when the model does not know it."""
        return target_value(value, card, self.label.map if self.label else {})


class Follower(Protocol):
    """Something outside that labels are read from, once a round."""

    asset: str  # whose labels they are

    def follow(self, book: LabelBook) -> None:
        """Put what is new. Raises StorageError."""

    def close(self) -> None:
        """Release what is open."""


class LabelBook(TableWriter):
    """All labels of the agent. Thread-safe. Without `start` it only stores them: for `fedge-agent label`."""

    def __init__(
        self,
        path: Path,
        subjects: Mapping[str, Subject],
        count_as_new: Callable[[str, int], None],
        beside: HealingDatabase | None = None,
        tables: HealingDatabase | None = None,
    ) -> None:
        """beside: the samples of the same file, in the agent; without it, another process may use the file too.

        tables: the file's acknowledged part, opened (and to be closed) by the book of events.
        """
        self._subjects, self._count_as_new = subjects, count_as_new
        self._flushing = threading.Lock()
        self._owns = tables is None
        opened = tables or open_tables(path, "labels", "EXTRA", beside, heals=beside is not None)
        super().__init__(opened, Worker("labels", self._round, self._finish))
        self._offered: deque[Label] = deque()
        self._followers: list[Follower] = []
        self._counts: dict[str, LabelCounts] = {}
        self._matched: dict[str, int] = {}  # asset -> the last label that was matched to all its samples
        self._longest: dict[str, int] = {}  # asset -> length of its longest window, ns
        self.closings: dict[str, tuple[Closing, ...]] = {}  # asset -> what was found of its alarms
        self._closings_at: dict[str, object] = {}  # asset -> what they were read at
        self._seen = 0  # the last sample that older labels were matched to
        self._file: object = None  # whose numbers these are
        self._expired = -EXPIRE_S
        self.lost = 0  # offered, but too many were waiting

    def follow(self, followers: Sequence[Follower]) -> None:
        """Let each follower put what it finds, about once a second; before `start`."""
        self._followers = list(followers)

    def start(self) -> None:
        """Match from now on."""
        with suppress(StorageError), self.tables.reading() as db:
            self._file, self._seen = db, sample_table.last_id(db)
        super().start()

    def stop(self) -> None:
        """Store what was offered, and close."""
        self._worker.stop(LAST_S)
        if self._owns:
            self.tables.close()

    def put(self, label: Label) -> None:
        """Store a label: durable on return. A malformed one is counted instead. Raises StorageError."""
        self.put_all([label])

    def put_all(self, labels: Sequence[Label]) -> None:
        """Store labels in one transaction. Raises StorageError."""
        now = time.time_ns()
        good = [label for label in labels if self._is_sound(label, now)]
        if good:
            with self._on_disk() as db:
                for label in good:
                    label_table.insert(db, label, now // 10**9, MAX_LABELS)
            self._worker.wake()

    @contextmanager
    def _on_disk(self) -> Iterator[sqlite3.Connection]:
        """A transaction that is durable on return. Raises StorageError."""
        with self.tables.transaction() as db:
            if self.tables.in_memory:
                raise StorageError(f"labels wait until they can be stored: {self.tables.problem}")
            yield db

    def offer(self, label: Label) -> None:
        """Store a label soon; neither blocks nor raises, for the main thread."""
        if len(self._offered) < MAX_OFFERED:
            self._offered.append(label)
        else:
            self.lost += 1

    def flush(self) -> None:
        """Store what was offered; it stays in the queue while the disk is full. Raises StorageError."""
        with self._flushing:
            while self._offered:
                batch = [self._offered[i] for i in range(min(len(self._offered), AT_ONCE))]
                self.put_all(batch)
                for _ in batch:
                    self._offered.popleft()

    def count_matching(self, label: Label) -> int:
        """How many stored samples a label applies to."""
        with self.tables.reading() as db:
            return sample_table.count_matching(db, label)

    def count_malformed(self, asset: str, example: str) -> None:
        """Count something that should be a label and cannot be read as one."""
        self._count(asset).add("malformed", example)

    def count_skipped(self, asset: str, example: str) -> None:
        """Count a row of a station's file that is of another machine."""
        self._count(asset).add("skipped", example)

    def state_problem(self, asset: str, text: str | None) -> None:
        """State (or with None: withdraw) that the asset's labels do not come, in the operator's words."""
        self._count(asset).state(asset, text)

    def status(self) -> dict[str, Any]:
        """For the status page: each asset that can be labelled, or was. Empty while the file cannot be read."""
        try:
            return {name: self._status(name) for name in dict.fromkeys((*self._subjects, *list(self._counts)))}
        except StorageError:
            return {}

    def match_new(self) -> None:
        """Match what came since the last time: old labels to new samples, then new labels to all samples."""
        with self.tables.reading() as db:
            if db is not self._file:  # the last one was damaged: in the new one, numbers may begin again
                self._file, self._seen = db, 0
                self._matched.clear()
            self._seen, arrived = sample_table.arrived_after(db, self._seen, SAMPLES_AT_ONCE)
        for asset, subject in self._subjects.items():
            card = subject.card()
            if card is None:
                continue  # once it is known, its labels are matched from the first on
            if asset not in self._matched:
                self._matched[asset] = 0
                with self.tables.reading() as db:
                    self._longest[asset] = sample_table.longest_window(db, asset)
            if asset in arrived:
                self._longest[asset] = max(self._longest[asset], arrived[asset].longest_ns)
                self._match_old_labels(asset, subject, card, arrived[asset])
            while not self._worker.stopping and self._match_new_labels(asset, subject, card):
                continue
        self._expire()

    def look_at_closings(self) -> None:
        """Read what people found of alarms, where that may have changed. Raises StorageError."""
        cards = {asset: card for asset, subject in self._subjects.items() if (card := subject.card()) is not None}
        with self.tables.reading() as db:
            of_all, alarms = (id(db), closings.mark(db)), None
            for asset, card in cards.items():
                now = (of_all, closings.mark_of(db, asset), card.labels)
                if now == self._closings_at.get(asset) or card.task not in ("anomaly", "classify"):
                    continue
                alarms = closings.alarms(db) if alarms is None else alarms
                is_fault = partial(_is_fault, self._subjects[asset], card)
                found = tuple(closings.of_asset(db, asset, alarms.get(asset, ()), is_fault))
                self.closings, self._closings_at[asset] = {**self.closings, asset: found}, now

    def _round(self) -> float:
        """One round of the thread; seconds until the next."""
        failed = [e for e in (self._try_flush(),) if e is not None]
        failed += [e for follower in self._followers if (e := self._follow(follower)) is not None]
        self.match_new()
        self.look_at_closings()
        if failed:
            raise failed[0]
        return LOOK_S

    def _try_flush(self) -> StorageError | None:
        """Store what was offered; why not."""
        try:
            self.flush()
        except StorageError as e:
            return e
        return None

    def _follow(self, follower: Follower) -> StorageError | None:
        """Let one follower put what it finds. Whatever is wrong with it is its asset's problem, and stops no other."""
        try:
            follower.follow(self)
        except StorageError as e:
            return e
        except Exception as e:
            text = f"unexpected {type(e).__name__}: {e}; see the log"
            if self._count(follower.asset).problem != text:
                logger.exception("labels of %s", follower.asset)
            self.state_problem(follower.asset, text)
            with suppress(Exception):
                follower.close()  # it begins again at its stored position
        return None

    def _finish(self) -> None:
        try:
            self.flush()
        finally:
            for follower in self._followers:
                follower.close()

    def _is_sound(self, label: Label, now: int) -> bool:
        """Whether the label can be stored; counted if not."""
        why, known = why_malformed(label), label.asset in self._subjects
        if why is None and self._is_ahead(label, now):
            why = f"begins {times.shown(label.start_ns)}, which is more than a day ahead"
        if why is None and not known:
            why = f"asset {label.asset!r}: no such [asset] here"
        if why is not None:
            self._count(label.asset if known else STRANGER).add("malformed", why)
        return why is None

    def _is_ahead(self, label: Label, now: int) -> bool:
        """Whether a label is of a time to come; a clock that does not know the year cannot tell."""
        newest = self._newest(label.asset)
        known = now >= times.RELEASED_S * 10**9 or newest is not None
        return known and label.start_ns > max(now, newest or 0) + times.DAY_NS

    def _newest(self, asset: str) -> int | None:
        with self.tables.reading() as db:
            return sample_table.newest(db, asset)

    def _match_old_labels(self, asset: str, subject: Subject, card: Card, arrived: Arrived) -> None:
        """Match labels that were there before to samples that arrived."""
        with self.tables.reading() as db:
            labels = label_table.near(db, asset, arrived, self._matched[asset])
        for i in range(0, len(labels), AT_ONCE):
            self._match(asset, subject, card, labels[i : i + AT_ONCE], arrived.first - 1)

    def _match_new_labels(self, asset: str, subject: Subject, card: Card) -> bool:
        """Match labels that came to all samples; whether there may be more."""
        with self.tables.reading() as db:
            labels = label_table.after(db, asset, self._matched[asset], AT_ONCE)
        if labels:
            self._match(asset, subject, card, labels, 0)
            self._matched[asset] = labels[-1][0]
        return len(labels) == AT_ONCE

    def _match(self, asset: str, subject: Subject, card: Card, labels: list[tuple[int, Label]], after: int) -> None:
        """Match labels to the samples above `after`, in one transaction; then count."""
        count = self._count(asset)
        found: list[tuple[Label, Match]] = []
        with self.tables.transaction() as db:
            for number, label in labels:
                y = subject.target_value(card, label.value)
                if not after:
                    count.note(y is not None)
                if y is None:
                    if not after:  # counted once
                        label_table.mark_unknown(db, number)
                        count.add("unknown", f"{describe(label)}: expected {accepted_values(card)}")
                    continue
                match = sample_table.apply_label(db, number, label, subject.model, y, self._longest[asset], after)
                label_table.mark_matched(db, number, match.matched > 0)
                found.append((label, match))
        for label, match in found:
            if match.example is not None:
                count.add("contradictory", _contradiction(label, match.example, card), match.contradicted)
        relabelled = sum(match.relabelled for _, match in found)
        count.relabelled += relabelled
        if relabelled:
            self._count_as_new(subject.model, relabelled)

    def _expire(self) -> None:
        """Delete samples that waited for their label for longer than `label.late`."""
        if time.monotonic() - self._expired < EXPIRE_S:
            return
        self._expired = time.monotonic()
        for asset, subject in self._subjects.items():
            if subject.label and subject.label.late is not None:
                late = round(subject.label.late * 1e9)
                with self.tables.transaction() as db:
                    self._count(asset).expired += sample_table.expire(db, asset, subject.model, late)

    def _count(self, asset: str) -> LabelCounts:
        return self._counts.setdefault(asset, LabelCounts())

    def _status(self, asset: str) -> dict[str, Any]:
        newest = self._newest(asset)
        with self.tables.reading() as db:
            stored = label_table.count(db, asset)
            unmatched, last = label_table.unmatched(db, asset, newest)
        return self._counts.get(asset, LabelCounts()).status(stored, unmatched, last)


def _is_fault(subject: Subject, card: Card, value: float | str) -> bool | None:
    """Whether a label says that something is wrong; None: the model does not know it."""
    y = subject.target_value(card, value)
    return None if y is None else y != (0 if card.task == "anomaly" else card.normal_index)


def _contradiction(label: Label, example: tuple[Any, str, int], card: Card) -> str:
    y, origin, time_ns = example
    if isinstance(y, bytes):
        y = sample_table.values_of(y)
        was = repr(label_text(y, card.labels)) if card.task == "multilabel" else f"{y}"
        return f"{describe(label)}, {origin} said {was} of the window that ends {times.shown(time_ns)} UTC"
    names = {"classify": card.labels, "anomaly": ("normal", "anomaly")}.get(card.task, ())
    was = repr(names[y]) if isinstance(y, int) and y < len(names) else f"{y!r}"
    return f"{describe(label)}, {origin} said {was} of the window that ends {times.shown(time_ns)} UTC"
