"""Events on their way into the spool, in a thread of their own: a commit waits for the disk, a decision must not.

An event is raised once the spool has it. Until then a kill forgets it together with the alert state it led to, so that
a condition that lasts raises it again, under the same key. While the disk takes nothing, events wait here, in order.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence

from fedge_models.errors import StorageError

from ..types import AlertState, Event
from .spool import Spool

logger = logging.getLogger(__name__)

MAX_WAITING = 1000
RETRY_S = 1.0
LAST_S = 5.0  # for what still waits at the end


class Recorder:
    """`put` never waits; `wake` is called whenever the spool has something new."""

    def __init__(self, spool: Spool, outputs: Sequence[str], wake: Callable[[], None]) -> None:
        self.lost = 0  # events that some output will never see
        self.problem: str | None = None
        self._spool, self._outputs, self._wake = spool, outputs, wake
        self._waiting: deque[tuple[Event, AlertState]] = deque()
        self._there, self._stop = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="events", daemon=True)

    @property
    def waiting(self) -> int:
        """Events that are not in the spool yet."""
        return len(self._waiting)

    def start(self) -> None:
        """Record from now on."""
        self._thread.start()

    def put(self, event: Event, state: AlertState) -> None:
        """Take an event and the alert state that goes with it."""
        if len(self._waiting) >= MAX_WAITING:
            self._lose(event, f"{MAX_WAITING} others wait for the disk")
            return
        self._waiting.append((event, state))
        self._there.set()

    def stop(self) -> None:
        """Record what waits; what the disk does not take is lost, and said so."""
        self._stop.set()
        self._there.set()
        self._thread.join(LAST_S)
        for event, _ in self._waiting:
            self._lose(event, self.problem or "the disk is too slow")

    def _run(self) -> None:
        ending = False
        while not ending:
            self._there.wait()
            self._there.clear()
            ending = self._stop.is_set()
            while self._waiting:
                if self._record(*self._waiting[0]):
                    self._waiting.popleft()
                elif ending or self._stop.wait(RETRY_S):
                    ending = True
                    break

    def _record(self, event: Event, state: AlertState) -> bool:
        """Whether the event is done with."""
        try:
            full = self._spool.put_event(self._outputs, event, state)
        except StorageError as e:
            if self.problem is None:
                logger.error("event %s cannot be written: %s; it waits, and is tried again", event.key, e)
            self.problem = str(e)
            return False
        if full:
            self._lose(event, f"too many others wait for {', '.join(full)}")
        self.problem = None
        self._wake()
        return True

    def _lose(self, event: Event, why: str) -> None:
        self.lost += 1
        logger.error("event %s %s is lost: %s", event.key, event.state, why)
