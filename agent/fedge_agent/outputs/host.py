# SPDX-License-Identifier: Apache-2.0
"""Runs an output: a thread that delivers its events from the spool, with back-off for each asset, and counters.

While no event is due, it collects labels from the target and shows the newest decisions. `lanes` decides what may be
tried when; the spool keeps what became of each event.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from fedge_models.errors import (
    ConflictError,
    FedgeError,
    RefusedError,
    RetryError,
    StopError,
    StorageError,
    UnavailableError,
    UnclearError,
    UnreachableError,
)
from fedge_models.system.worker import Worker

from ..durable.event_queue import Entry, Outcome
from ..durable.spool import Spool
from ..types import Decision, Label, Output, Receipt
from . import host_status, lanes

logger = logging.getLogger(__name__)

FIRST_WAIT_S, LONGEST_WAIT_S = lanes.FIRST_S, lanes.LONGEST_S
LOOK_S = 5.0  # how often to look without being woken
SHOW_S = 0.1  # between two decisions shown
UNEXPECTED_TRIES = 5  # of an event that raises what is no error of ours: then it is set aside
CONFLICT_TRIES = 12  # of an event that meets another's work each time: about 20 minutes
UNCLEAR_TRIES = 3  # of an event whose answers tell nothing: more might be as many orders, where no key is honoured
WHOLE_TARGET = (UnreachableError, UnavailableError, StorageError, StopError)  # no event fares better than this one


class HostedOutput:
    """An output in its own thread.

    `folder`: for the output's own state; without one `begin` is not called. `store_label`: stores a collected label
    durably; without it no labels are collected.
    """

    def __init__(
        self,
        name: str,
        output: Output,
        spool: Spool,
        folder: Path | None = None,
        store_label: Callable[[Label], None] | None = None,
    ) -> None:
        self.name = name
        self._output, self._spool, self._folder, self._store_label = output, spool, folder, store_label
        self._newest: dict[str, Decision] = {}  # asset -> decision that is not shown yet
        self._begun = folder is None
        self._collected_at, self._labels = time.monotonic(), 0
        self._worker = Worker(f"output-{name}", self._step, output.end)
        self._lanes, self._shown_at = lanes.Lanes(FIRST_WAIT_S, LONGEST_WAIT_S), 0.0  # monotonic, s
        self._unrecorded: tuple[Entry, Receipt] | None = None  # delivered, while the spool could not be written
        self._counts = {"delivered": 0, "skipped": 0, "withheld": 0, "retries": 0}
        self.asks_not_of: set[str] = set()  # models whose questions nobody at the target could answer
        self._error: str | None = None  # of the target as a whole, of a label or decision

    def start(self) -> None:
        """Start delivering."""
        self._worker.start()

    def wake(self) -> None:
        """Look into the spool now."""
        self._worker.wake()

    def show(self, decision: Decision) -> None:
        """Show a decision soon, unless a newer one of the asset comes first. Never blocks."""
        if self._output.shows_decisions:
            self._newest[decision.asset] = decision
            self._worker.wake()

    def stop(self, timeout: float) -> None:
        """End after the current delivery; other events stay in the spool."""
        self._worker.stop(timeout)

    def status(self, overflowed: int = 0) -> dict[str, Any]:
        """Figures for the status page. overflowed: events that came while the queue was full."""
        failing = host_status.failing(self._lanes, time.monotonic())
        queue = host_status.queue(self._spool, self.name, time.time())
        found: dict[str, Any] = {
            **queue,
            "labels": self._labels,
            **self._own_status(),
            **self._counts,
            "overflowed": overflowed,
            "asks_not_of": sorted(self.asks_not_of),
        }
        found["failing"] = failing
        error = self._error or host_status.in_words(failing)
        return {**found, "error": error, "problems": host_status.problems(found, error)}

    def failing(self) -> list[dict[str, Any]]:
        """Each asset's event that failed and is tried again, for `fedge-agent order`."""
        return host_status.failing(self._lanes, time.monotonic(), most=None)

    @property
    def answers(self) -> Sequence[str]:
        """Labels that somebody at its target can answer a question with."""
        return self._output.answers

    @property
    def storage_problem(self) -> str | None:
        """Why the output's own state is not written at the moment."""
        return self._output.storage_problem

    def _own_status(self) -> dict[str, Any]:
        try:
            return self._output.status()
        except StorageError as e:
            return {"problem": str(e)}

    def _step(self) -> float:
        """Make one attempt; seconds until the next one."""
        try:
            return self._attempt(time.monotonic())
        except Exception as e:  # of beginning, of showing, of the spool
            self._note(e)
            self._lanes.target_failed(time.monotonic(), getattr(e, "wait_s", 0.0))
            return LOOK_S

    def _attempt(self, now: float) -> float:
        """Deliver the oldest event that is due; if none is, collect labels and show decisions.

        Returns the seconds until the next attempt. Whoever wakes the thread shortens no back-off.
        """
        self._record()
        if not self._begun and not self._begin(now):
            return min(LOOK_S, self._lanes.closed_s(now))
        if (pause := self._lanes.closed_to_fresh_s(now)) > 0:
            return min(LOOK_S, pause)
        self._forget_dropped()
        entry = self._spool.next_event(self.name, self._lanes.blocked(now))
        if entry is not None:
            self._take(entry)
            return 0.0
        if (pause := self._shown_at + SHOW_S - now) > 0:  # not the back-off of an event: it would starve these
            return pause
        self._collect_labels()
        self._show_newest()
        self._output.rest()
        return min(LOOK_S, self._lanes.next_s(time.monotonic()))

    def _begin(self, now: float) -> bool:
        """Have the output prepare, if it is time to; whether it has."""
        if self._lanes.closed_s(now) > 0:
            return False
        assert self._folder is not None
        self._output.begin(self._folder)
        self._begun = True
        self._answered()
        return True

    def _take(self, entry: Entry) -> None:
        """Deliver an event, or store why it is not sent."""
        if (outcome := self._spool.without_opened(entry)) is not None:
            self._spool.withheld(entry, outcome)
            self._counts["withheld"] += outcome == Outcome.WITHHELD
            return
        try:
            receipt = self._output.deliver(entry.event) or Receipt()
        except RefusedError as e:
            self._set_aside(entry, str(e), [])
            self._answered()
        except Exception as e:
            self._failed(entry, e)
        else:
            self._unrecorded = entry, receipt
            if not receipt.skipped:
                self._answered()
            self._record()

    def _answered(self) -> None:
        self._lanes.answered()
        self._error = None

    def _record(self) -> None:
        """Store that an event was delivered. Raises StorageError; it is then not sent again, but stored later."""
        if self._unrecorded is None:
            return
        entry, receipt = self._unrecorded
        if receipt.skipped:
            self._spool.skipped(entry, receipt.skipped)
        else:
            self._spool.delivered(entry, receipt.reference)
        self._counts["skipped" if receipt.skipped else "delivered"] += 1
        self._unrecorded = None
        self._lanes.done(entry.event.lane)

    def _failed(self, entry: Entry, error: Exception) -> None:
        """Let an event wait for its next try, or set it aside after too many."""
        now, text = time.monotonic(), _in_words(error)
        if not isinstance(error, FedgeError):
            logger.error("output %s: event %s", self.name, entry.event.key, exc_info=error)
        self._counts["retries"] += 1
        lane = self._lanes.failed(entry.event.lane, entry.id, text, now, entry.tries)
        if (most := _most_tries(error)) < math.inf:  # an hour without the target uses up no try
            lane.limited = max(lane.limited, entry.tries) + 1
            with suppress(StorageError):  # counted in this run then
                self._spool.tried(entry)
        if lane.limited >= most:
            self._set_aside(entry, f"{text} (tried {lane.limited} times)", lane.answers)
        elif isinstance(error, WHOLE_TARGET):
            self._lanes.target_failed(now, getattr(error, "wait_s", 0.0))

    def _set_aside(self, entry: Entry, error: str, answers: list[str]) -> None:
        """Store why a person has to look at an event."""
        logger.error("output %s: event %s is set aside: %s", self.name, entry.event.key, error)
        self._spool.refused(entry, error, answers or [error])
        self._lanes.done(entry.event.lane)

    def _forget_dropped(self) -> None:
        """A person may have dropped an event that is tried again: those behind it need not wait any longer."""
        numbers = {lane.number for lane in self._lanes.lanes.values()}
        if numbers:
            self._lanes.keep(self._spool.still_waiting(numbers))

    def _collect_labels(self) -> None:
        """Store the labels that became known at the target, if it is time to ask. A failure delays no event."""
        poll = self._output.poll
        if self._store_label is None or poll is None or time.monotonic() - self._collected_at < poll:
            return
        self._collected_at = time.monotonic()
        try:
            for label in self._output.collect():
                self._store_label(label)
                self._labels += 1
                if self._worker.stopping:
                    break
            self._error = None
        except Exception as e:
            self._note(e)

    def _show_newest(self) -> None:
        """Show new decisions. One that fails is shown later, unless there is a newer one by then."""
        if not self._newest:
            return
        error: str | None = None
        for asset in list(self._newest):  # assets that arrive meanwhile are shown next time
            decision = self._newest.pop(asset)
            try:
                self._output.show(decision)
            except RefusedError as e:  # this decision only; the next may be accepted
                error = str(e)
            except BaseException:
                self._newest.setdefault(asset, decision)
                raise
        self._lanes.answered()
        self._error = error
        self._shown_at = time.monotonic()

    def _note(self, error: Exception) -> None:
        """Show the error in `status`; log its traceback if it is not one of ours."""
        if not isinstance(error, FedgeError):
            logger.error("output %s", self.name, exc_info=error)
        self._error = _in_words(error)


def _most_tries(error: Exception) -> float:
    """How often an event is tried that fails in this way."""
    if isinstance(error, ConflictError):
        return CONFLICT_TRIES
    if isinstance(error, UnclearError):
        return UNCLEAR_TRIES
    return math.inf if isinstance(error, FedgeError) else UNEXPECTED_TRIES


def _in_words(error: Exception) -> str:
    """An error as `status` shows it."""
    if isinstance(error, (RetryError, RefusedError, StopError)):
        return str(error)
    return f"unexpected {type(error).__name__}: {error}; see the log"
