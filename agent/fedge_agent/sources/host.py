# SPDX-License-Identifier: Apache-2.0
"""Runs a source: a thread, back-off with jitter, counters, and the bounded queue that all sources share."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from fedge_models.errors import FedgeError, RetryError, StorageError
from fedge_models.system import times
from fedge_models.system.files import try_folder
from fedge_models.system.text import printable
from fedge_models.system.worker import BackOff, Worker

from ..durable.inbox import Inbox
from ..machines.condition import SourceFacts
from ..types import Batch, Quality, Reading, Source
from .naming import Names
from .order import in_time_order, pieces

logger = logging.getLogger(__name__)

# A PLC is on the same floor: back within ten seconds of being usable, of which a source's last attempt may take four.
FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 4.0
PERSON_WAIT_S = 6.0  # a person has to change something first; with jitter and connecting within ten seconds
MAX_BYTES = 64 * 2**20  # of pictures and waveforms in the queue
AHEAD = 2  # pieces of a long batch that wait: others come in between
ROOM_S = 0.005  # how often a source that may wait looks for room in the queue
GOOD_RUN_S = 60.0  # after a connection that lasted this long, the waits start from the first


class Queue:
    """A queue of batches, bounded in number and in bytes of arrays, from which sources are served in turn.

    A source that delivers too much delays and displaces only itself: when the queue is full, the oldest batch of the
    source that has the most in it is dropped. The last value of each scalar tag in a dropped batch moves into the
    source's next batch: a tag that seldom changes would otherwise be wrong until it changes again.

    held: sources whose batches wait, because a machine could not decide on them yet, and why.
    """

    def __init__(self, size: int) -> None:
        self._waiting: dict[str, deque[Batch]] = {}  # of each source that has any; the next one first
        self._size, self._ready = size, threading.Condition()
        self._count, self._bytes = 0, Counter[str]()  # of arrays, by source
        self.dropped = 0
        self.dropped_of: Counter[str] = Counter()  # the same, by source
        self.held: Mapping[str, str] = {}  # source -> why it is not served
        self._released: dict[str, int] = {}  # source -> when it was held last, monotonic ns

    def hold(self, held: Mapping[str, str]) -> None:
        """Serve these sources no more, for the time being. Main thread."""
        now = time.monotonic_ns()
        with self._ready:
            self._released.update((source, now) for source in self.held if source not in held)
            self.held = held

    def count(self, source: str) -> int:
        """Batches of one source that wait."""
        return len(self._waiting.get(source, ()))

    def put(self, batch: Batch) -> None:
        """Append a batch. Never blocks."""
        with self._ready:
            self._waiting.setdefault(batch.source, deque()).append(batch)
            self._count += 1
            self._bytes[batch.source] += _bytes(batch)
            while self._count > self._size:
                self._drop(max(self._waiting, key=lambda name: len(self._waiting[name])))
            while self._bytes.total() > MAX_BYTES and self._count > 1:
                self._drop(self._bytes.most_common(1)[0][0])
            self._ready.notify()

    def _drop(self, source: str) -> None:
        """Drop the source's oldest batch; its next batch inherits the last values."""
        old = self._take(source)
        self.dropped += 1
        self.dropped_of[source] += 1
        if source not in self._waiting:
            return
        heir = self._waiting[source][0]
        newer = {r.tag for r in heir.readings}
        last = {r.tag: r for r in old.readings if r.tag not in newer and not isinstance(r.value, np.ndarray)}
        self._waiting[source][0] = heir._replace(
            readings=[*last.values(), *heir.readings], fresh=heir.fresh or old.fresh
        )

    def _take(self, source: str) -> Batch:
        """Remove and return the source's oldest batch."""
        batches = self._waiting[source]
        batch = batches.popleft()
        if not batches:
            del self._waiting[source]
        self._count -= 1
        self._bytes[source] -= _bytes(batch)
        return batch

    def __len__(self) -> int:
        """Batches that the main thread has to take in; those of held sources are not among them."""
        return self._count - sum(self.count(source) for source in self.held)

    @property
    def full(self) -> bool:
        """Whether another batch would drop one."""
        return self._count >= self._size or self._bytes.total() >= MAX_BYTES

    def full_for(self, source: str) -> bool:
        """Whether another batch of the source would drop one, and the source has its share already."""
        sources = max(1, len(self._waiting))
        crowds = len(self._waiting.get(source, ())) >= self._size // sources
        return self.full and (crowds or self._bytes[source] >= MAX_BYTES / sources)

    def get(self, timeout: float) -> Batch | None:
        """Remove and return the oldest batch of the source whose turn it is, or None if none arrives in time."""
        with self._ready:
            if self._next() is None and not self._ready.wait_for(lambda: self._next() is not None, timeout):
                return None
            source = self._next()
            assert source is not None
            batch = self._take(source)
            if source in self._waiting:  # the others come first now
                self._waiting[source] = self._waiting.pop(source)
            released = self._released.get(source, 0)  # the latency of a decision counts from then
            return batch if batch.received_ns >= released else batch._replace(received_ns=released)

    def _next(self) -> str | None:
        """The source whose turn it is."""
        return next((source for source in self._waiting if source not in self.held), None)


def _bytes(batch: Batch) -> int:
    """Size of the batch's pictures and waveforms."""
    return sum(r.value.nbytes for r in batch.readings if isinstance(r.value, np.ndarray))


class Retries:
    """How long to wait before a source runs again."""

    def __init__(self) -> None:
        self._back_off = BackOff(FIRST_WAIT_S, LONGEST_WAIT_S)
        self._person = BackOff(PERSON_WAIT_S, PERSON_WAIT_S)

    def wait_after(self, error: Exception, ran_s: float) -> float:
        """Seconds to wait after a run of `ran_s` seconds that ended with the error."""
        if ran_s > GOOD_RUN_S:
            self._back_off.reset()
        wait = self._back_off.next()
        heals = isinstance(error, RetryError) or not isinstance(error, FedgeError)
        return wait if heals else self._person.next()


class HostedSource:
    """A source in its own thread; implements `SourceHost` for it.

    `state`: the agent's folder, None for a source that stores nothing.
    """

    def __init__(
        self,
        name: str,
        source: Source,
        tags: Sequence[str],
        queue: Queue,
        state: Path | None = None,
        inbox: Inbox | None = None,
        names: Names | None = None,
    ) -> None:
        self.name = name
        self.stop = threading.Event()
        self._source, self._tags, self._queue, self._inbox = source, list(tags), queue, inbox
        self._worker, self._retries = Worker(f"source-{name}", self._step), Retries()
        self._state = state
        self._names = names or Names({})
        self._problems: dict[str, str] = {}
        self._notes: dict[str, str] = {}
        self._mistimed: dict[str, tuple[int, int]] = {}  # tags whose newest time was out of range: how many, which
        self._ended = False
        self._counts: dict[str, int] = {}
        self._examples: dict[str, str] = {}  # of what is counted, the last
        self._readings = self._bad = self._failures = 0
        self._last: float | None = None  # monotonic, of the last reading
        self._fresh = True

    def start(self) -> None:
        """Start the source."""
        self._worker.start()

    def join(self, timeout: float) -> None:
        """Stop the source and wait for it."""
        self.stop.set()
        self._worker.stop(timeout)

    def emit(
        self,
        readings: Sequence[Reading],
        alive_ns: int | None = None,
        unsure: frozenset[str] = frozenset(),
        origin: str | None = None,
        history: bool = False,
    ) -> None:
        """Hand readings to the main thread."""
        readings = in_time_order(self._in_range(readings))
        self._hand_over(readings, alive_ns, self._fresh and not history, 0, unsure, origin, history)

    def store(
        self,
        readings: Sequence[Reading],
        alive_ns: int | None = None,
        receipts: Sequence[bytes] = (),
        continued: bool = False,
        origin: str | None = None,
    ) -> None:
        """Store readings durably, then hand them to the main thread."""
        readings = in_time_order(self._in_range(readings))
        fresh, row = self._fresh and not continued, 0
        try:
            row = self._inbox.store(self.name, readings, alive_ns, fresh, receipts, origin) if self._inbox else 0
            self.problem("inbox", None)
        except StorageError as e:
            self.count("unkept", len(readings))
            self.problem("inbox", f"{e}; readings are used without being stored: those of now would not survive a kill")
        parts = [readings] if alive_ns is not None else list(pieces(readings))
        for i, part in enumerate(parts):
            while self._is_full(i > 0) and not self.stop.wait(ROOM_S):
                pass
            # Only with its last piece a row of the inbox is done: a restart before begins with all of it again.
            last = i == len(parts) - 1
            self._hand_over(part, alive_ns, fresh and i == 0, row if last else 0, origin=origin)

    def _is_full(self, goes_on: bool) -> bool:
        """Whether the next piece has to wait; goes_on: of a batch of which the queue has some already."""
        mine = self._queue.count(self.name) if self.held() else len(self._queue)
        return self._queue.full_for(self.name) or (goes_on and mine >= AHEAD)

    def receipts(self) -> list[bytes]:
        """Receipts of the newest messages that were stored; none while they cannot be read: deciding goes on."""
        try:
            return self._inbox.receipts(self.name) if self._inbox else []
        except StorageError as e:
            self.problem("inbox", f"{e}; what was taken in before the start may be taken in again")
            return []

    def _in_range(self, readings: Sequence[Reading]) -> Sequence[Reading]:
        """Return the readings whose time lies in the range of sensible times; the others are counted and reported."""
        latest = times.latest_ns()
        good = [r for r in readings if 0 <= r.time_ns < latest]
        if len(good) < len(readings):
            bad = [r for r in readings if not 0 <= r.time_ns < latest]
            for tag, time_ns in ((r.tag, r.time_ns) for r in bad):
                self._mistimed[tag] = (self._mistimed.get(tag, (0, 0))[0] + 1, time_ns)
            self.count("time_out_of_range", len(bad))
            self.problem("time", _mistimed(bad[0]))
        elif self._mistimed:
            for reading in good:
                self._mistimed.pop(reading.tag, None)
            if not self._mistimed:
                self.problem("time", None)
        return good

    def _hand_over(
        self,
        readings: Sequence[Reading],
        alive_ns: int | None,
        fresh: bool,
        row: int,
        unsure: frozenset[str] = frozenset(),
        origin: str | None = None,
        history: bool = False,
    ) -> None:
        now = time.monotonic_ns()
        if readings:
            self._readings += len(readings)
            self._bad += sum(1 for r in readings if r.quality is Quality.BAD)
            self._last = now / 1e9
        self._queue.put(Batch(self.name, readings, alive_ns, now, fresh, row, unsure, origin, history))
        self._fresh = self._fresh and history

    def problem(self, subject: str, text: str | None) -> None:
        """State or withdraw a problem."""
        self._state_in(self._problems, subject, text)

    def note(self, subject: str, text: str | None) -> None:
        """State or withdraw what is no problem."""
        self._state_in(self._notes, subject, text)

    def _state_in(self, stated: dict[str, str], subject: str, text: str | None) -> None:
        if text is None:
            stated.pop(subject, None)
        elif stated.get(subject) != (text := printable(text)):
            stated[subject] = text
            logger.warning("source %s: %s", self.name, text)

    def about(self, tags: Sequence[str]) -> str:
        """Some tags with asset and channel, and how many more there are."""
        return self._names.about(tags)

    def count(self, what: str, by: int = 1, example: str = "") -> None:
        """Count input that could not be used."""
        self._counts[what] = self._counts.get(what, 0) + by
        if example:
            self._examples[what] = example

    def waiting(self) -> int:
        """Batches that wait for the agent; those of held sources do not delay the others."""
        return len(self._queue)

    @property
    def can_wait(self) -> bool:
        """Whether what it reads waits where it is stored."""
        return self._source.can_wait

    def held(self) -> bool:
        """Whether to read no further for now."""
        return self.name in self._queue.held

    @property
    def folder(self) -> Path:
        """A folder of this source's own."""
        if self._state is None:
            raise RuntimeError(f"source {self.name} was built without a folder")
        folder = self._state / "sources" / self.name
        try_folder(folder)
        return folder

    def facts(self) -> SourceFacts:
        """What its readings do not say."""
        examples = {what: f", e.g. {text}" for what, text in self._examples.items()}
        counted = [f"{n:,} {what}{examples.get(what, '')}" for what, n in list(self._counts.items())]
        return SourceFacts(dict(self._problems), self._ended, dict(self._mistimed), counted)

    def status(self) -> dict[str, Any]:
        """Figures for the status page."""
        dropped = self._queue.dropped_of[self.name]
        age = None if self._last is None else round(time.monotonic() - self._last, 3)
        return {
            "readings": self._readings,
            "bad": self._bad,
            "age_s": age,
            "reconnects": self._failures,
            "counts": {**self._counts, **({"batches dropped": dropped} if dropped else {})},
            "examples": dict(self._examples),
            "held": self._queue.held.get(self.name),
            "problems": self._names.grouped(dict(self._problems)),
            "notes": dict(self._notes),
        }

    def _step(self) -> float | None:
        """Run the source until it ends; seconds until the next run. None: there is nothing more to read."""
        began, self._fresh = time.monotonic(), True
        try:
            self._source.run(self._tags, self)
            if not self.stop.is_set():
                self._ended = True
                logger.info("source %s: at its end", self.name)
            return None
        except FedgeError as e:
            error: Exception = e
            self.problem("connection", str(e))
        except Exception as e:
            error = e
            logger.exception("source %s failed", self.name)
            self.problem("connection", f"unexpected {type(e).__name__}: {e}; see the log")
        self._failures += 1
        return self._retries.wait_after(error, time.monotonic() - began)


def _mistimed(reading: Reading) -> str:
    """A time that cannot be one, and what may be wrong with it."""
    when = f"{times.shown(reading.time_ns)}, {reading.time_ns} ns"
    advice = "correct the source's clock, or the unit of its times (milliseconds taken for seconds?)"
    own = f"by this machine's clock, {times.shown(time.time_ns())[:10]}"
    return f"tag {reading.tag}: its time, {when}, lies outside of {times.years()} {own}; {advice}"
