"""Writes down how far decisions are durable, in a thread of its own, so that a restart decides nothing twice.

The main thread says where it is; here its samples and events are made durable first, then that it was there, and the
inbox lets go of what no coming window needs. The main thread never waits; only the newest of what it said counts.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from fedge_models.errors import StorageError

from .inbox import Inbox, Progress

logger = logging.getLogger(__name__)

LAST_S = 5.0


class Settling:
    """`durable` makes what was decided durable and says whether it is."""

    def __init__(self, inbox: Inbox, durable: Callable[[], bool]) -> None:
        self.problem: str | None = None
        self._inbox, self._durable = inbox, durable
        self._newest: Progress | None = None
        self._there, self._stop = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="settling", daemon=True)

    def start(self) -> None:
        """Write from now on."""
        self._thread.start()

    def put(self, progress: Progress) -> None:
        """Where the main thread is now."""
        self._newest = progress
        self._there.set()

    def stop(self) -> None:
        """Write the newest down and end."""
        self._stop.set()
        self._there.set()
        self._thread.join(LAST_S)

    def _run(self) -> None:
        ending = False
        while not ending:
            self._there.wait()
            self._there.clear()
            ending = self._stop.is_set()
            progress, self._newest = self._newest, None
            if progress is not None:
                self._settle(progress)

    def _settle(self, progress: Progress) -> None:
        try:
            if self._durable():  # else the next one will be
                self._inbox.settle(progress)
                self.problem = None
        except StorageError as e:
            if self.problem is None:
                logger.error("what was decided cannot be written down: %s; a restart would decide it again", e)
            self.problem = str(e)
