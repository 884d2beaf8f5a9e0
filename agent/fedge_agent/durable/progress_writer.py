# SPDX-License-Identifier: Apache-2.0
"""Write down how far the main thread has decided, in a thread of its own, so that a restart decides nothing twice.

The main thread reports its progress. Here the samples and events of its decisions are made durable first, then the
progress itself, and the inbox deletes what no coming window needs. The main thread never waits; only its newest report
counts.
"""

from __future__ import annotations

from collections.abc import Callable

from fedge_models.system.worker import Worker

from .inbox import Inbox, Progress

LAST_S = 5.0  # for the last report, at the end


class ProgressWriter:
    """Takes progress from the main thread. `make_durable` makes what was decided durable and returns whether it is."""

    def __init__(self, inbox: Inbox, make_durable: Callable[[], bool]) -> None:
        self._inbox, self._make_durable = inbox, make_durable
        self._newest: Progress | None = None
        self._worker = Worker("progress", self._write, self._write)

    @property
    def problem(self) -> str | None:
        """Why progress is not written at the moment: a restart would decide again what was decided since."""
        return self._worker.problem

    def start(self) -> None:
        """Write from now on."""
        self._worker.start()

    def put(self, progress: Progress) -> None:
        """Take the main thread's progress."""
        self._newest = progress
        self._worker.wake()

    def stop(self) -> None:
        """Write the newest progress and end."""
        self._worker.stop(LAST_S)

    def _write(self) -> None:
        """Write the newest progress, once its decisions are durable; if they are not, the next report will be."""
        progress = self._newest
        if progress is None or not self._make_durable():
            return
        self._inbox.record(progress)
        if self._newest is progress:
            self._newest = None
