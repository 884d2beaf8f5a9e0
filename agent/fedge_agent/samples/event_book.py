# SPDX-License-Identifier: Apache-2.0
"""The book of events: which windows each withholds from training, what people did with it, what is shelved.

Promises: windows of an alarm are withheld from the moment that it is seen, before anything is on disk; what a person
decided is durable when the command returns (SQLite, ``synchronous=EXTRA``), and a running agent follows it within about
a second. What a shelf keeps from the outputs is counted, and an event that is still open when the shelf ends is sent
then. A shelf ends at its time of this machine's clock, and never after more running time than it was shelved for, so a
clock that is set back prolongs none. The main thread never waits: it writes in memory, a thread writes to disk.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from sqlite3 import Connection
from typing import Any

import msgspec
from fedge_models.errors import DataError, FedgeError, StorageError
from fedge_models.system.choices import hint
from fedge_models.system.healing import HealingDatabase
from fedge_models.system.worker import Worker

from ..durable import event_record
from ..types import ALERT, DRIFT, AlertState, Event, kind_of
from . import event_table, event_view
from .event_table import Note, Row, Shelf
from .event_view import View
from .tables import TableWriter, open_tables
from .withholding import FAULT, FOREVER_NS, NORMAL, Hold

logger = logging.getLogger(__name__)

LOOK_S = 1.0  # for what people decide, in another process
TRIM_S = 60.0
MAX_WAITING = 10_000  # changes that the disk has not taken
SHOWN = 20  # holds in status
WITHHELD_SHARE = 4  # withheld windows may take one part in so many of an asset's samples

Write = Callable[[Connection], object]


class EventBook(TableWriter):
    """All events of the agent. Thread-safe. Without `start` it only stores: for `fedge-agent event`.

    before_ns: of each asset, the stretch before an alarm whose windows are withheld too; share: how many samples an
    asset may have; send: gives the outputs an event that was shelved.
    """

    def __init__(
        self,
        path: Path,
        before_ns: Mapping[str, int] | None = None,
        beside: HealingDatabase | None = None,
        share: Callable[[str], int] = lambda _: 1 << 62,
        send: Callable[[Event], None] = lambda _: None,
    ) -> None:
        self._before_ns, self._share, self._send = before_ns or {}, share, send
        tables = open_tables(path, "events", "EXTRA", beside, heals=beside is not None)
        super().__init__(tables, Worker("event book", self._round, self._finish))
        self._lock = threading.Lock()
        self._flushing = threading.Lock()
        self._writes: deque[Write] = deque()
        self._shelves: dict[str, Shelf] = {}
        self._ends: dict[tuple[str, float], float] = {}  # (subject, when it was shelved) -> monotonic end, s
        self._holds: dict[str, Hold] = {}
        self._trimmed_at, self.trimmed = 0.0, 0  # withheld windows that were deleted
        self.lost = 0  # changes that are not in the book
        self.read_again = 0  # events of rows that were read again: their key was in the book
        self._keys: set[str] = set()
        self._read_from: object = None  # the connection whose keys these are
        self.accepted = 0  # grows when windows of an alarm become data
        self._load()

    # the main thread: nothing here waits

    def note(self, event: Event) -> bool:
        """Note an event; whether the outputs get it. One that is shelved is counted instead."""
        if event.state == "opened" and event.kind == ALERT:
            self._note_key(event)
        shelf = self._shelves.get(event.decision.asset) or self._shelves.get(event.key)
        sent = shelf is None or event.state == "cleared"
        if shelf is not None and not sent:
            with self._lock:
                counted = self._shelves[shelf.subject] = shelf._replace(suppressed=shelf.suppressed + 1)
                self._put(lambda db: event_table.update_shelf(db, counted))
        body = event_record.encode(event)
        self._put(lambda db: event_table.put_event(db, event, body, sent))
        return sent

    def _note_key(self, event: Event) -> None:
        """Count an event that was raised before. The outputs get it nevertheless, under the same key: whether they had
        it, they know best."""
        if event.key in self._keys:
            self.read_again += 1
            logger.warning("event %s: the same rows were read before; its key is the same", event.key)
        self._keys.add(event.key)

    def begin(self, asset: str, key: str, since_ns: int) -> None:
        """Withhold the asset's windows from the stretch before `since_ns` on, for the event of that key."""
        with self._lock:
            hold = next((h for h in self._of_alarms(asset)), None)
            if hold is None:
                hold = Hold(f"{key}@{since_ns}", key, asset, since_ns - self._before_ns.get(asset, 0))
            made = hold._replace(key=key)
            self._holds[made.name] = made
            self._put(lambda db: event_table.put_holds(db, [made]))

    def end(self, asset: str, time_ns: int) -> None:
        """Withhold no window of the asset that ends after `time_ns`: its alarm is over."""
        with self._lock:
            ended = [h._replace(end_ns=time_ns) for h in self._of_alarms(asset)]
            self._holds.update({h.name: h for h in ended})
            self._put(lambda db: event_table.put_holds(db, ended))

    def _of_alarms(self, asset: str) -> list[Hold]:
        """The holds of the asset's alarm that lasts; a drift of its inputs has one of its own (`withhold`)."""
        return [h for h in self._holds.values() if h.asset == asset and h.open and kind_of(h.key) != DRIFT]

    def resume_drifts(self, asset: str, opened: Mapping[str, int], time_ns: int, severity: str) -> None:
        """Make the book agree with the drifts of an asset (key -> since when) that a restart found open; the others
        ended then, at the latest."""
        with self._lock:
            drifts = [h for h in self._holds.values() if h.asset == asset and h.open and kind_of(h.key) == DRIFT]
            ended = [h._replace(end_ns=max(h.start_ns, time_ns)) for h in drifts if h.key not in opened]
            self._holds.update({h.name: h for h in ended})
            self._put(lambda db: event_table.put_holds(db, ended))
        self._put(lambda db: event_table.end_others(db, asset, tuple(opened), time_ns, DRIFT))
        self._put(lambda db: event_table.ensure_drifts(db, asset, opened, severity))

    def withhold(self, asset: str, key: str, since_ns: int, until_ns: int) -> None:
        """Withhold the asset's windows of a span that is over, besides those of an alarm that lasts. Called again with
        the same beginning, it sets another end."""
        name = f"{key}@{since_ns}"
        with self._lock:
            made = Hold(name, key, asset, since_ns - self._before_ns.get(asset, 0), until_ns, self._verdict(name))
            self._holds[name] = made
            self._put(lambda db: event_table.put_holds(db, [made]))

    def resume(self, asset: str, key: str, state: AlertState, lasts: bool) -> None:
        """Make the book agree with the alert that a restart found; lasts: the alarm was not over then."""
        if not lasts:
            self.end(asset, state.time_ns)
        open_key = key if state.opened else ""
        self._put(lambda db: event_table.end_others(db, asset, (open_key,), state.time_ns))
        if state.opened:
            self._put(lambda db: event_table.ensure_open(db, key, asset, state))

    def open_event(self, asset: str) -> Event | None:
        """The opening of the asset's alert that is open and was sent to the outputs; None also if it cannot be read."""
        try:
            with self.tables.reading() as db:
                body = event_table.open_alert(db, asset)
            return None if body is None else msgspec.structs.replace(event_record.decode(body), state="opened")
        except (StorageError, msgspec.MsgspecError) as e:
            logger.error("asset %s: its open event cannot be read: %s", asset, e)
            return None

    def _put(self, write: Write) -> None:
        if len(self._writes) < MAX_WAITING:
            self._writes.append(write)
        else:
            self.lost += 1

    def is_accepted(self, key: str) -> bool:
        """Whether somebody took what this event is about for the new normal."""
        return any(h.key == key and h.verdict == NORMAL for h in list(self._holds.values()))

    def has_hold(self, key: str) -> bool:
        """Whether an event withholds windows, or did."""
        return any(h.key == key for h in list(self._holds.values()))

    # what is learnt

    def holds(self) -> list[Hold]:
        """All holds. Any thread."""
        with self._lock:
            return list(self._holds.values())

    def alert_spans(self, asset: str, since_ns: int) -> list[tuple[int, int]]:
        """Times (ns) of which events ask already: those of the asset's alerts, and those that they withhold."""
        with self.tables.reading() as db:
            alerts = event_table.alert_times(db, asset, since_ns)
        return [*alerts, *((h.start_ns, h.end_ns) for h in self.holds() if h.asset == asset)]

    def close_order(self, asset: str, start_ns: int, end_ns: int, normal: bool) -> None:
        """Take the MES's word for the alarms of that time. Raises StorageError."""
        verdict = NORMAL if normal else FAULT
        self.flush()
        with self.tables.transaction() as db:
            event_table.decide_span(db, asset, start_ns, end_ns, verdict)
        self._load()

    # people; durable on return, raises StorageError

    def acknowledge(self, key: str, who: str, text: str, verdict: str) -> None:
        """Note that somebody has seen the event, and whether it is a fault or the new normal. Raises DataError."""
        row = self._known(key)
        if verdict == NORMAL and kind_of(key) == DRIFT and not self.has_hold(key):  # of a model that has labels
            accepted = Hold(f"{key}@{row.opened_ns}", key, row.asset, row.opened_ns, row.cleared_ns or FOREVER_NS)
            with self.tables.transaction() as db:
                event_table.put_holds(db, [accepted])
        elif verdict == NORMAL and not self.has_hold(key):
            raise DataError(
                f"event {key} withholds nothing from training, so there is nothing to accept: a model with labels "
                "learns from these (fedge-agent label)"
            )
        note = Note(key, time.time(), who, "accept" if verdict == NORMAL else "ack", text)
        with self.tables.transaction() as db:
            event_table.acknowledge(db, key, note.at, who, verdict)
            event_table.put_note(db, note)

    def comment(self, key: str, who: str, text: str) -> None:
        """Note what somebody says about an event. Raises DataError."""
        self._known(key)
        with self.tables.transaction() as db:
            event_table.put_note(db, Note(key, time.time(), who, "comment", text))

    def shelve(self, subject: str, seconds: float, who: str, text: str) -> None:
        """Raise nothing of an asset or an event for so long; 0: end that."""
        now = time.time()
        with self.tables.transaction() as db:
            if seconds > 0:
                event_table.put_shelf(db, Shelf(subject, now + seconds, seconds, who, text, 0, now))
            else:
                event_table.end_shelf(db, subject)
            event_table.put_note(db, Note(subject, now, who, "shelve", f"{seconds:g} s {text}".strip()))

    def listed(self) -> tuple[list[Row], list[Note], list[Shelf]]:
        """Events, newest first; notes, oldest first; what is shelved. Raises StorageError."""
        with self.tables.reading() as db:
            return event_table.events(db), event_table.notes(db), event_table.shelves(db)

    def withheld(self) -> dict[str, int]:
        """How many stored windows each event withholds from training for now. Raises StorageError."""
        with self.tables.reading() as db:
            return event_table.withheld_by_event(db)

    def held(self) -> View | None:
        """The events, while some are not in the file because the disk does not take them."""
        problem, writes = self.problem, list(self._writes)
        if not problem or not (writes or self.tables.in_memory):
            return None
        try:
            with self.tables.reading() as db:
                return event_view.of_waiting(db, writes, problem)
        except StorageError:
            return event_view.of_waiting(None, writes, problem)

    def status(self) -> dict[str, Any]:
        """For the status page. Empty counts while the file cannot be read."""
        withheld, in_all = dict[str, int](), 0
        with suppress(StorageError), self.tables.reading() as db:
            withheld, in_all = event_table.withheld_by_event(db), event_table.withheld_in_all(db)
        shelves = [s._asdict() for s in list(self._shelves.values())]
        return {
            "withheld": withheld,
            "withheld_windows": in_all,
            "trimmed": self.trimmed,
            "shelved": shelves,
            "read_again": self.read_again,
            "suppressed": sum(s["suppressed"] for s in shelves),
            "problem": self.problem,
        }

    def _known(self, key: str) -> Row:
        rows = {row.key: row for row in self.listed()[0]}
        if key not in rows:
            raise DataError(f"there is no event {key!r}" + (f"; {hint(key, list(rows))}" if rows else ""))
        return rows[key]

    # the thread

    def _round(self) -> float:
        self.flush()
        self._end_shelves()
        self._load()
        self._send_unshelved()
        if time.monotonic() - self._trimmed_at > TRIM_S:
            self._trimmed_at = time.monotonic()
            self._trim()
        return LOOK_S

    def _finish(self) -> None:
        self.flush()
        with self.tables.transaction() as db:
            for shelf in self._counted_down():
                event_table.update_shelf(db, shelf)

    def flush(self) -> None:
        """Write what waits, in order; it stays in line when the disk takes nothing."""
        with self._flushing:  # the writer of progress flushes too
            while self._writes:
                try:
                    with self.tables.transaction() as db:
                        self._writes[0](db)
                except FedgeError:
                    raise
                except Exception:  # of this one: it must not hold up all others
                    logger.exception("event book")
                    self.lost += 1
                self._writes.popleft()

    def _load(self) -> None:
        """Take over what people decided; what waits to be written is newer than what is stored."""
        try:
            with self.tables.reading() as db:
                stored, shelves = event_table.holds(db), event_table.shelves(db)
                if db is not self._read_from:
                    self._keys.update(event_table.keys(db))
                    self._read_from = db
        except StorageError:
            return
        lacks_some = self.tables.in_memory and not self.tables.whole
        with self._lock:
            waiting = self._holds if self._writes or lacks_some else {}
            fresh = {h.name: h for h in stored}
            for name, hold in waiting.items():
                fresh[name] = hold._replace(verdict=fresh[name].verdict if name in fresh else hold.verdict)
            became = [h for n, h in fresh.items() if h.verdict == NORMAL and self._verdict(n) != NORMAL]
            self._holds, self.accepted = fresh, self.accepted + len(became)
            counted = {s.subject: s for s in self._counted_down()}
            known = counted if lacks_some else {}
            self._shelves = {**known, **{s.subject: _newer(s, counted.get(s.subject)) for s in shelves}}
            for shelf in self._shelves.values():
                self._ends.setdefault((shelf.subject, shelf.at), time.monotonic() + _left_s(shelf, time.time()))

    def _verdict(self, name: str) -> str:
        return self._holds[name].verdict if name in self._holds else ""

    def _counted_down(self) -> Sequence[Shelf]:
        now, wall = time.monotonic(), time.time()
        left = [(s, max(0.0, self._end_of(s, now) - now)) for s in self._shelves.values()]
        return [s._replace(left_s=left_s, until=wall + left_s) for s, left_s in left]

    def _end_of(self, shelf: Shelf, now: float) -> float:
        return self._ends.get((shelf.subject, shelf.at), now + shelf.left_s)

    def _end_shelves(self) -> None:
        ended = [s for s in self._counted_down() if s.left_s <= 0]
        with self._lock:
            for shelf in ended:
                self._shelves.pop(shelf.subject, None)
        if ended:
            with self.tables.transaction() as db:
                for shelf in ended:
                    event_table.end_shelf(db, shelf.subject, shelf.at)
            logger.info("no longer shelved: %s", ", ".join(s.subject for s in ended))

    def _send_unshelved(self) -> None:
        """Give the outputs what was shelved, lasts, and is shelved no more."""
        with self.tables.reading() as db:
            waiting = event_table.unsent(db)
        for key, asset, body in waiting:
            if asset in self._shelves or key in self._shelves:
                continue
            self._send(event_record.decode(body))
            with self.tables.transaction() as db:
                event_table.mark_sent(db, key)

    def _trim(self) -> None:
        by_asset: dict[str, list[Hold]] = {}
        for hold in self.holds():
            by_asset.setdefault(hold.asset, []).append(hold)
        with self.tables.transaction() as db:
            for asset, holds in by_asset.items():
                most = max(1, self._share(asset) // WITHHELD_SHARE)
                self.trimmed += event_table.trim_withheld(db, asset, holds, most)
            event_table.forget_old(db)
            for shelf in self._counted_down():
                event_table.update_shelf(db, shelf)


def _left_s(shelf: Shelf, wall: float) -> float:
    """What is left of a shelf that this process sees first: it ends while the gateway is off, too, and a wall clock
    that was set back makes it no longer."""
    return max(0.0, min(shelf.left_s, shelf.until - wall))


def _newer(stored: Shelf, known: Shelf | None) -> Shelf:
    """The stored shelf, with what this process counted on it."""
    return known if known is not None and known.at == stored.at else stored
