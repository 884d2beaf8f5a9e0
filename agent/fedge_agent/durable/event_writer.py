# SPDX-License-Identifier: Apache-2.0
"""Write events to the spool, in a thread of its own: a commit waits for the disk, a decision must not.

Promises: `put` never waits; an event is raised once the spool has it, together with the state it led to. A kill
before that forgets both, so that a condition that lasts raises the event again. While the disk takes nothing, the spool
holds events in memory, and outputs deliver them from there. While another process locks it, events wait here, in order;
what is lost is counted and logged.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence

from fedge_models.errors import FedgeError
from fedge_models.system.worker import Worker

from ..types import QUESTION, Event, EventState
from .spool import Spool

logger = logging.getLogger(__name__)

MAX_WAITING = 1000
LAST_S = 5.0  # for what still waits at the end


class EventWriter:
    """Takes events from the main thread; `wake` is called whenever the spool has something new."""

    def __init__(
        self,
        spool: Spool,
        outputs: Sequence[str],
        wake: Callable[[], None],
        asking: Callable[[Event], Sequence[str]] = lambda _: (),
    ) -> None:
        """asking: the outputs that get a question."""
        self.lost = 0  # events that some output will never see
        self.overflowed = dict.fromkeys(outputs, 0)  # those that an output had no more room for
        self._spool, self._outputs, self._asking, self._wake = spool, outputs, asking, wake
        self._waiting: deque[tuple[Event, EventState | None, bool]] = deque()
        self._worker = Worker("events", self._write, self._write)

    @property
    def problem(self) -> str | None:
        """Why events wait at the moment."""
        return self._worker.problem

    @property
    def waiting(self) -> int:
        """How many events are not in the spool yet."""
        return len(self._waiting)

    def start(self) -> None:
        """Write from now on."""
        self._worker.start()

    def put(self, event: Event, state: EventState | None, send: bool = True) -> None:
        """Take an event and the alert state that it led to; None: the state was stored before. send: to the outputs."""
        if len(self._waiting) >= MAX_WAITING:
            self._lose(event, f"{MAX_WAITING} others wait for the disk")
            return
        self._waiting.append((event, state, send))
        self._worker.wake()

    def stop(self) -> None:
        """Write what waits; count what the disk does not take as lost."""
        self._worker.stop(LAST_S)
        for event, *_ in self._waiting:
            self._lose(event, self.problem or "the disk is too slow")

    def _write(self) -> None:
        """Write all that waits, oldest first. Raises StorageError; the event at hand then stays first in line."""
        while self._waiting:
            event, state, send = self._waiting[0]
            try:
                outputs = self._asking(event) if event.kind == QUESTION else self._outputs
                full = self._spool.put_event(outputs if send else (), event, state)
            except FedgeError:
                raise
            except Exception as e:  # of this event: it must not hold up all others
                logger.error("event %s", event.key, exc_info=e)
                self._waiting.popleft()
                self._lose(event, f"it cannot be stored: {type(e).__name__}: {e}")
                continue
            self._waiting.popleft()
            for output in full:
                self.overflowed[output] += 1
            if full:
                self._lose(event, f"too many others wait for {', '.join(full)}")
            self._wake()

    def _lose(self, event: Event, why: str) -> None:
        self.lost += 1
        logger.error("event %s %s is lost: %s", event.key, event.state, why)
