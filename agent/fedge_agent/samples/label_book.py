"""Labels that become known later: kept durably, joined to the stored samples by time or by part (docs/labels.md).

Promises: a label that `put` returned from survives a power cut and is joined to every sample it is of, whichever came
first; the same label again changes nothing. Whom a sample believes: hand, inspection, MES, PLC in this order, and of
one origin the label that came last. What is unknown, malformed, contradictory or of no sample is counted and shown
with its last example. A sample that is taught otherwise counts as new, so that training becomes due.

Labels live in the samples' file, over a connection of their own with ``synchronous=EXTRA``. Nothing is kept of the
joining: at start every label is joined again, in order, which changes nothing where nothing is missing. One thread does
it; the main thread only ever appends to a queue (`offer`).
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from fedge_models.errors import StorageError
from fedge_models.graph.card import Card
from fedge_models.system import times
from fedge_models.system.database import open_database, transaction

from ..config.schema import LabelConfig
from ..types import Label
from . import label_matching
from .label_matching import Arrived
from .label_values import Taught, expected, malformed, meaning, told

logger = logging.getLogger(__name__)

MAX_LABELS = 100_000  # kept; the oldest go first
MAX_OFFERED = 10_000  # not yet on disk
AT_ONCE = 200  # labels joined in one transaction: the samples' writer waits meanwhile
SAMPLES_AT_ONCE = 5000
LOOK_S = 1.0  # for labels by hand, which another process writes
EXPIRE_S = 60.0
DAY_NS = 86_400 * 10**9  # a label that begins further ahead of all that is known is a mistake
STRANGER = "not configured"  # where labels of machines that this gateway does not have are counted


class Subject(NamedTuple):
    """A machine that can be labelled."""

    model: str
    card: Callable[[], Card | None]  # None: the model is not known yet
    label: LabelConfig | None = None

    def taught(self, card: Card, value: float | str) -> Taught:
        """What a label's value means to its model."""
        return meaning(value, card, self.label.map if self.label else {})


class Follower(Protocol):
    """Something outside from which labels come."""

    def follow(self, book: LabelBook) -> None:
        """Put what is new. Raises StorageError."""

    def close(self) -> None:
        """All is over."""


class Count:
    """What became of an asset's labels since the start, for `status`."""

    def __init__(self) -> None:
        self.relabelled = self.unknown = self.malformed = self.contradictory = self.expired = 0
        self.examples: dict[str, str] = {}  # kind -> the last one
        self.trouble: str | None = None

    def add(self, kind: str, example: str, count: int = 1) -> None:
        """One more, or more, of a kind that somebody should look at."""
        vars(self)[kind] += count
        self.examples[kind] = example


class LabelBook:
    """All labels of the agent. Thread-safe. Without `start` it only keeps them: for `fedge-agent label`."""

    def __init__(self, path: Path, subjects: Mapping[str, Subject], retaught: Callable[[str, int], None]) -> None:
        self._subjects, self._retaught = subjects, retaught
        self._lock, self._flushing = threading.Lock(), threading.Lock()
        self._db = open_database(path, label_matching.SCHEMA)
        self._offered: deque[Label] = deque()
        self._followers: list[Follower] = []
        self._wake, self._stop = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="labels", daemon=True)
        self._counts: dict[str, Count] = {}
        self._joined: dict[str, int] = {}  # asset -> the last label joined to all its samples
        self._longest: dict[str, int] = {}  # asset -> ns, of its windows
        self._seen = 0  # the last sample that labels before it were joined to
        self._expired = -EXPIRE_S
        self.lost = 0  # offered, but too many were waiting
        self.problem: str | None = None

    def start(self, followers: Sequence[Follower] = ()) -> None:
        """Join from now on, and let each follower put what it finds, about once a second."""
        self._followers = list(followers)
        self._seen = self._top()
        self._thread.start()

    def stop(self) -> None:
        """Keep what was offered, and close."""
        self._stop.set()
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join(5)
        with self._lock:
            self._db.close()

    def put(self, label: Label) -> None:
        """Keep a label: durable on return. What is malformed is counted instead. Raises StorageError."""
        self.put_all([label])

    def put_all(self, labels: Sequence[Label]) -> None:
        """Keep labels in one transaction. Raises StorageError."""
        now = time.time_ns()
        good = [label for label in labels if self._sound(label, now)]
        if good:
            with self._lock, transaction(self._db, "labels") as db:
                for label in good:
                    label_matching.insert(db, label, now // 10**9, MAX_LABELS)
            self._wake.set()

    def offer(self, label: Label) -> None:
        """Keep a label soon; neither blocks nor raises, for the main thread."""
        if len(self._offered) < MAX_OFFERED:
            self._offered.append(label)
        else:
            self.lost += 1

    def matching(self, label: Label) -> int:
        """How many stored samples a label is of."""
        with self._lock:
            return label_matching.count(self._db, label)

    def mistake(self, asset: str, example: str) -> None:
        """Count what was to be a label and cannot be read as one."""
        self._count(asset).add("malformed", example[:300])

    def trouble(self, asset: str, text: str | None) -> None:
        """State (or with None: withdraw) that the asset's labels do not come, in the operator's words."""
        count = self._count(asset)
        if text and text != count.trouble:
            logger.warning("asset %s: no labels: %s", asset, text)
        count.trouble = text

    def status(self) -> dict[str, Any]:
        """For the status page: of each asset that can be labelled, or was."""
        try:
            return {name: self._status(name) for name in dict.fromkeys((*self._subjects, *list(self._counts)))}
        except sqlite3.Error as e:
            self.problem = f"labels cannot be read: {e}"
            return {}

    # keeping

    def _sound(self, label: Label, now: int) -> bool:
        """Whether it can be kept; counted if not."""
        why = malformed(label)
        if why is None and label.start_ns > max(now, self._newest(label.asset) or 0) + DAY_NS:
            why = f"begins {times.shown(label.start_ns)}, which is more than a day ahead"
        if why is None and label.asset in self._subjects:
            return True
        if why is None:
            self._count(STRANGER).add("malformed", f"asset {label.asset!r}: no such [asset] here")
        else:
            self._count(label.asset if label.asset in self._subjects else STRANGER).add("malformed", why)
        return False

    def _newest(self, asset: str) -> int | None:
        with self._lock:
            try:
                return label_matching.newest(self._db, asset)
            except sqlite3.Error:  # no samples were ever kept here
                return None

    def _top(self) -> int:
        with self._lock:
            row = self._db.execute("SELECT max(id) FROM samples").fetchone()
        return int(row[0] or 0)

    # the thread

    def _run(self) -> None:
        while not self._stop.is_set():
            self._guard(self._round)
            self._wake.wait(LOOK_S)
            self._wake.clear()
        self._guard(self.flush)
        for follower in self._followers:
            follower.close()

    def _round(self) -> None:
        self.flush()
        for follower in self._followers:
            follower.follow(self)
        self.look()
        self.problem = None

    def _guard(self, step: Callable[[], None]) -> None:
        """Nothing that goes wrong here ends the thread; it is stated, and tried again."""
        try:
            step()
        except (StorageError, sqlite3.Error) as e:
            self._state(f"labels wait: {e}")
        except Exception as e:
            logger.exception("labels")
            self._state(f"unexpected {type(e).__name__}: {e}; see the log")

    def _state(self, problem: str) -> None:
        if problem != self.problem:
            logger.warning("%s", problem)
        self.problem = problem

    def flush(self) -> None:
        """What was offered goes onto the disk; it stays in the queue while the disk is full. Raises StorageError."""
        with self._flushing:
            while self._offered:
                batch = [self._offered[i] for i in range(min(len(self._offered), AT_ONCE))]
                self.put_all(batch)
                for _ in batch:
                    self._offered.popleft()

    def look(self) -> None:
        """Join what came since the last look: old labels to new samples, then new labels to all samples."""
        with self._lock:
            self._seen, arrived = label_matching.samples_after(self._db, self._seen, SAMPLES_AT_ONCE)
        for asset, subject in self._subjects.items():
            card = subject.card()
            if card is None:
                continue  # once it is known, its labels are joined from the first on
            if asset not in self._joined:
                self._joined[asset] = 0
                with self._lock:
                    self._longest[asset] = label_matching.longest(self._db, asset)
            if asset in arrived:
                self._longest[asset] = max(self._longest[asset], arrived[asset].longest_ns)
                self._join_old(asset, subject, card, arrived[asset])
            while not self._stop.is_set() and self._join_new(asset, subject, card):
                pass
        self._expire()

    def _join_old(self, asset: str, subject: Subject, card: Card, arrived: Arrived) -> None:
        with self._lock:
            labels = label_matching.labels_of(self._db, asset, arrived, self._joined[asset])
        for i in range(0, len(labels), AT_ONCE):
            self._join(asset, subject, card, labels[i : i + AT_ONCE], arrived.first - 1)

    def _join_new(self, asset: str, subject: Subject, card: Card) -> bool:
        """Whether there may be more."""
        with self._lock:
            labels = label_matching.labels_after(self._db, asset, self._joined[asset], AT_ONCE)
        if labels:
            self._join(asset, subject, card, labels, 0)
            self._joined[asset] = labels[-1][0]
        return len(labels) == AT_ONCE

    def _join(self, asset: str, subject: Subject, card: Card, labels: list[tuple[int, Label]], after: int) -> None:
        """Join labels to the samples above `after`, in one transaction; then count."""
        count, taught = self._count(asset), 0
        found: list[tuple[Label, label_matching.Joined]] = []
        with self._lock, transaction(self._db, "labels") as db:
            for number, label in labels:
                y = subject.taught(card, label.value)
                if y is None:
                    if not after:  # told once
                        db.execute("UPDATE labels SET matched = -1 WHERE id = ?", (number,))
                        count.add("unknown", f"{told(label)}: expected {expected(card)}")
                    continue
                became = label_matching.join(db, number, label, subject.model, y, self._longest[asset], after)
                label_matching.mark(db, number, became.matched > 0)
                found.append((label, became))
        for label, became in found:
            taught += became.taught
            if became.example is not None:
                count.add("contradictory", _contradiction(label, became, card), became.contradicted)
        count.relabelled += taught
        if taught:
            self._retaught(subject.model, taught)

    def _expire(self) -> None:
        """Let go of samples that waited for their label for longer than `late`."""
        if time.monotonic() - self._expired < EXPIRE_S:
            return
        self._expired = time.monotonic()
        for asset, subject in self._subjects.items():
            if subject.label and subject.label.late is not None:
                late = round(subject.label.late * 1e9)
                with self._lock, transaction(self._db, "labels") as db:
                    self._count(asset).expired += label_matching.expire(db, asset, subject.model, late)

    # what is shown

    def _count(self, asset: str) -> Count:
        return self._counts.setdefault(asset, Count())

    def _status(self, asset: str) -> dict[str, Any]:
        newest = self._newest(asset)
        with self._lock:
            kept = self._db.execute("SELECT count(*) FROM labels WHERE asset = ?", (asset,)).fetchone()[0]
            still, last = label_matching.unmatched(self._db, asset, newest)
        count = self._count(asset) if asset in self._subjects or asset == STRANGER else Count()
        examples = {**count.examples, **({"unmatched": told(last)} if last else {})}
        return {
            "labels": kept,
            "relabelled": count.relabelled,
            "waiting": still["waiting"],
            "unmatched": still["unmatched"],
            "unknown": count.unknown,
            "malformed": count.malformed,
            "contradictory": count.contradictory,
            "expired": count.expired,
            "examples": examples,
            "problem": count.trouble,
        }


def _contradiction(label: Label, became: label_matching.Joined, card: Card) -> str:
    assert became.example is not None
    y, origin, time_ns = became.example
    names = {"classify": card.labels, "anomaly": ("normal", "anomaly")}.get(card.task, ())
    was = repr(names[y]) if isinstance(y, int) and y < len(names) else f"{y!r}"
    return f"{told(label)}, {origin} said {was} of the window that ends {times.shown(time_ns)} UTC"
